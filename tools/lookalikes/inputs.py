"""The look-alikes by name: for which models they are, and how they are drawn and written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from models import chatterbot, demo
from models.bring import CACHE
from models.heads import Encoder, Text, made, write_classifier
from tools.lookalikes import pairs, questions, sshd
from tools.workloads import TRASTUZUMAB, single_variants

FITTED = 3000  # questions that the classifier of intents is fitted on
FITTED_SEED = 77  # of them; inputs with another seed are others, but for what is drawn twice
INTENTS_FROM = f"{demo.HASHES['model.onnx']} and {FITTED} questions of seed {FITTED_SEED}, version 2"


@dataclass(frozen=True)
class Inputs:
    """One kind of inputs.

    Attributes:
        title: what they are.
        models: folders in `models/cache` whose models take them.
        draw: `count` different ones, in the order in which they come; from the count and a seed. Raises
            ValueError where there are fewer.
        suffix: of the file that holds them.
    """

    title: str
    models: tuple[str, ...]
    draw: Callable[[int, int], Sequence[Text]]
    suffix: str = ".txt"


def variants(count: int, seed: int = 0) -> list[str]:
    """`count` of the 2,280 single substitutions of trastuzumab's heavy chain."""
    return _drawn(single_variants(TRASTUZUMAB), count, seed)


def utterances(count: int, seed: int = 0) -> list[str]:
    """`count` of the 1,875 utterances of the ChatterBot corpus.

    Raises:
        RecipeError: the corpus is not there and cannot be brought.
    """
    return _drawn(chatterbot.bring(CACHE).read_text(encoding="utf-8").splitlines(), count, seed)


def bank_questions(count: int, seed: int = 0) -> list[str]:
    """The texts of `questions.questions`."""
    return [question.text for question in questions.questions(count, seed)]


INPUTS = {
    "variants": Inputs("variants of an antibody", ("antiberty", "antiberty-mlm"), variants),
    "sshd": Inputs("log lines of an SSH server", ("minilm-demo", "minilm"), sshd.lines),
    "questions": Inputs("questions to a bank", ("minilm-demo", "minilm", "intents"), bank_questions),
    "pairs": Inputs("pairs of a question and a candidate", ("reranker",), pairs.pairs, ".npz"),
    "utterances": Inputs("lines of conversation", ("classifier", "minilm-demo", "minilm"), utterances),
}


def write(inputs: Sequence[Text], to: Path, tokenizer: Path) -> None:
    """Write inputs to the file `to`, as `onnx-memo optimize --data` reads it.

    Pairs become arrays, made by the `tokenizer`, a tokenizer.json; texts become lines.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    couples = [one for one in inputs if not isinstance(one, str)]
    if couples:
        np.savez(to, **cast(Any, pairs.arrays_of(couples, tokenizer)))
    else:
        to.write_text("".join(f"{line}\n" for line in inputs), encoding="utf-8")


def bring_intents(to: Path) -> Path:
    """Make `to`/intents/: the demo model with a head that finds a question's intent; return its path.

    Files and outputs are as those of `models.heads.bring_classifier`.
    """

    def write_intents(work: Path) -> list[Path]:
        fitted = questions.questions(FITTED, FITTED_SEED)
        texts, labels = [one.text for one in fitted], [one.intent for one in fitted]
        return write_classifier(Encoder(demo.bring(to)), texts, labels, work)

    return made(to / "intents", INTENTS_FROM, write_intents)


def _drawn(lines: Sequence[str], count: int, seed: int) -> list[str]:
    if count > len(lines):
        raise ValueError(f"{count} different texts were asked for, and there are {len(lines)}")
    return [lines[at] for at in np.random.default_rng(seed).permutation(len(lines))[:count]]
