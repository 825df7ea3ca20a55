"""Pairs of texts, as a reranker gets them: a question, and a text that may answer it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from onnx_memo.data.samples import Arrays
from tools.lookalikes.questions import questions

Pair = tuple[str, str]

CANDIDATES = 10  # that a search finds for each question
POOL = 400  # what it finds them among: questions that were answered before
ALIKE = 60.0  # how much more often a text is found that is about the same: a search finds others, too


def pairs(count: int, seed: int = 0) -> list[Pair]:
    """`count` different pairs of a question and a candidate; those of one question stand together.

    Candidates come from one pool for all questions and seeds, as documents do.
    """
    rng = np.random.default_rng(seed)
    pool = questions(POOL, seed=0)
    texts = {one.text for one in pool}
    asked = questions(count // CANDIDATES + 1 + POOL, seed + 1)
    found: list[Pair] = []
    for question in (one for one in asked if one.text not in texts):
        weights = np.array([ALIKE if one.intent == question.intent else 1.0 for one in pool])
        candidates = rng.choice(POOL, CANDIDATES, replace=False, p=weights / weights.sum())
        found += [(question.text, pool[at].text) for at in candidates]
    return found[:count]


def arrays_of(pairs: Sequence[Pair], tokenizer: Path) -> Arrays:
    """The pairs as a BERT takes them: input_ids, attention_mask, token_type_ids, int64 [n, longest].

    A pair is [CLS] a [SEP] b [SEP], with type 1 from b on, padded at the end with zeros.
    """
    encoded = Tokenizer.from_file(str(tokenizer))
    encoded.no_padding()
    found = encoded.encode_batch(list(pairs))
    fields = {
        "input_ids": [one.ids for one in found],
        "attention_mask": [one.attention_mask for one in found],
        "token_type_ids": [one.type_ids for one in found],
    }
    longest = max((len(one.ids) for one in found), default=0)
    return {
        name: np.array([row + [0] * (longest - len(row)) for row in rows], np.int64).reshape(-1, longest)
        for name, rows in fields.items()
    }
