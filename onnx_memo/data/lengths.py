"""How many tokens a text may have: what the user, the tokenizer and the model allow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_memo.data.samples import ModelInput
from onnx_memo.errors import MemoError, reason_of
from onnx_memo.words import counted

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CONFIG = "tokenizer_config.json"  # of Hugging Face tokenizers, beside them
SENTENCE_CONFIGS = "sentence_*_config.json"  # of sentence-transformers, beside them
POSITIONS = "position_ids"  # the name that exporters use for the input
MOST = 1_000_000  # where there is no limit, that file holds some huge number


@dataclass(frozen=True)
class Limit:
    """So many tokens a text may have.

    Attributes:
        tokens: how many, those that the tokenizer adds included.
        whose: who says so, as in "were cut to the 128 tokens that ...".
    """

    tokens: int
    whose: str


def cut_to(
    loaded: Tokenizer, path: Path, inputs: Sequence[ModelInput], asked: int | None, pairs: bool
) -> Limit | None:
    """Make a tokenizer cut texts to the length that is asked for, or else the least limit there is.

    Args:
        loaded: the tokenizer.
        path: of its file.
        inputs: what the model takes.
        asked: by the user, in place of what the tokenizer's files say.
        pairs: whether there are pairs of texts.

    Returns:
        The limit; None: there is none.

    Raises:
        MemoError: the model has not so many positions, or no token of a text would be left.
    """
    has = _of_model(inputs)
    if asked is not None:
        if has is not None and asked > has.tokens:
            raise MemoError(
                f"--max-length {asked} is more than the {has.tokens} tokens that {has.whose}: give at most "
                "these"
            )
        limits = [Limit(asked, "--max-length allows")]
    else:
        # sentence-transformers puts its own in the place of what the tokenizer's files say. Of equal limits
        # the tokenizer's own is named: it is the one that can be changed.
        sentences = _of_sentences(path)
        said = [_own(loaded), _configured(path)] if sentences is None else [sentences]
        limits = [limit for limit in (*said, has) if limit is not None]
    if not limits:
        return None
    limit = min(limits, key=lambda limit: limit.tokens)
    added = loaded.num_special_tokens_to_add(pairs)
    if limit.tokens <= added:
        raise MemoError(
            f"{counted(limit.tokens, 'token leaves', 'tokens leave')} no room for text, to which the "
            f"tokenizer adds {added}: give --max-length a larger number"
        )
    own = loaded.truncation or {}
    loaded.enable_truncation(
        limit.tokens,
        strategy=own.get("strategy", "longest_first"),
        direction=own.get("direction", "right"),
    )
    return limit


def limiting_files(tokenizer: Path) -> list[Path]:
    """The files beside a tokenizer that say how many tokens a text may have."""
    config = tokenizer.parent / CONFIG
    return [file for file in (config, *_sentence_configs(tokenizer)) if file.is_file()]


def _sentence_configs(tokenizer: Path) -> list[Path]:
    return sorted(tokenizer.parent.glob(SENTENCE_CONFIGS))


def _own(loaded: Tokenizer) -> Limit | None:
    truncation = loaded.truncation
    return None if truncation is None else Limit(truncation["max_length"], "the tokenizer allows")


def _configured(path: Path) -> Limit | None:
    """What stands in the configuration beside the tokenizer."""
    config = path.parent / CONFIG
    return _said(config, "model_max_length") if config.is_file() else None


def _of_sentences(path: Path) -> Limit | None:
    """What sentence-transformers' configuration beside the tokenizer says."""
    found = (_said(file, "max_seq_length") for file in _sentence_configs(path))
    return next((limit for limit in found if limit is not None), None)


def _said(config: Path, name: str) -> Limit | None:
    """The limit of that name in a file of JSON, if there is one."""
    try:
        most = json.loads(config.read_text(encoding="utf-8")).get(name)
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise MemoError(
            f"'{config}' is not readable ({reason_of(error)}): mend it, or move it away"
        ) from error
    if not isinstance(most, int | float) or isinstance(most, bool) or not 1 <= most <= MOST:
        return None
    return Limit(int(most), f"{config.name} allows")


def _of_model(inputs: Sequence[ModelInput]) -> Limit | None:
    """How many positions the model has, where that is known."""
    known = [i.longest for i in inputs] + [i.rows for i in inputs if i.positions or i.name == POSITIONS]
    tokens = min((number for number in known if number is not None), default=None)
    return None if tokens is None else Limit(tokens, "the model has positions for")
