"""From texts to tokens, and what is lost on that way: tokenizers say nothing of it themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onnx_memo.data.distinct import content
from onnx_memo.data.samples import Arrays, ModelInput, Samples, mask_name
from onnx_memo.errors import MemoError, reason_of

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

# What a tokenizer gives, by the names that exporters use for the model's inputs.
MASK = "attention_mask"
POSITIONS = "position_ids"
TOKENIZER_FIELDS = ("input_ids", MASK, "token_type_ids", POSITIONS)
MOST_UNKNOWN = 0.1  # of all tokens; with more, the tokenizer is hardly the text's


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer in a `tokenizer.json`, without padding; it truncates as its file says.

    Raises:
        MemoError: there is no such file, or it holds no tokenizer.
    """
    from tokenizers import Tokenizer  # here, so that only who reads text pays for the import

    if not path.is_file():
        raise MemoError(f"'{path}' is not a file: name the model's tokenizer.json")
    with _answering(f"'{path}' is not a tokenizer", "name the model's tokenizer.json"):
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_padding()
    return tokenizer


@contextmanager
def _answering(what: str, what_next: str) -> Iterator[None]:
    """Turn whatever the tokenizers library raises into a MemoError; its panics are no Exceptions."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise MemoError(f"{what} ({reason_of(error)}): {what_next}") from error


def tokenized(
    path: Path,
    lines: Mapping[int, str],
    inputs: Sequence[ModelInput],
    tokenizer: Path | None,
    allow_unknown: bool,
) -> Samples:
    """A sample of each text; those without a token are left out.

    Args:
        path: where the texts are from.
        lines: the texts, by the numbers of their lines.
        inputs: what the model takes.
        tokenizer: a `tokenizer.json`.
        allow_unknown: go on where more than `MOST_UNKNOWN` of the tokens are unknown to the tokenizer.

    Raises:
        MemoError: there is no tokenizer, it does not go with the texts, or the model takes more than tokens.
    """
    if tokenizer is None:
        raise MemoError(
            f"'{path}' is text, and no tokenizer.json stands beside the model: name it with --tokenizer"
        )
    others = [str(i) for i in inputs if _field(i) not in TOKENIZER_FIELDS]
    if others:
        raise MemoError(
            f"text cannot serve the model's input '{others[0]}': give arrays for all inputs as .npz"
        )
    loaded = load_tokenizer(tokenizer)
    with _answering(f"'{tokenizer}' cannot read '{path}'", "name the model's tokenizer.json"):
        encoded = dict(zip(lines, loaded.encode_batch(list(lines.values())), strict=True))
    kept = {number: encoding for number, encoding in encoded.items() if encoding.ids}
    arrays = [_arrays(encoding, inputs) for encoding in kept.values()]
    for number, sample in zip(kept, arrays, strict=True):
        for wanted in inputs:
            _check_fit(path, number, wanted, sample, tokenizer)
    notes = [
        *_note_vocabulary(inputs, loaded),
        *_note_unknown(path, encoded, loaded, tokenizer, allow_unknown),
        *_note_truncated(encoded, loaded),
        *_note_alike({number: lines[number] for number in kept}, arrays),
    ]
    if len(kept) < len(encoded):
        first = min(encoded.keys() - kept.keys())
        notes.append(
            f"{len(encoded) - len(kept)} inputs left out: no token is left of them, first line {first}"
        )
    lengths = [len(encoding.ids) for encoding in kept.values()]
    return Samples(arrays, lengths, mask_name(inputs), notes, [lines[number] for number in kept], [*kept])


def _arrays(encoding: Encoding, inputs: Sequence[ModelInput]) -> Arrays:
    size = len(encoding.ids)
    fields = {
        "input_ids": encoding.ids,
        MASK: [1] * size,
        "token_type_ids": encoding.type_ids,
        POSITIONS: range(size),
    }
    return {i.name: np.asarray([fields[_field(i)]], i.dtype) for i in inputs}


def _field(wanted: ModelInput) -> str:
    """What an input is given: by what it does, where that is known, else by its name."""
    if wanted.mask:
        return MASK
    return POSITIONS if wanted.positions else wanted.name


def _check_fit(path: Path, number: int, wanted: ModelInput, sample: Arrays, tokenizer: Path) -> None:
    """Raises MemoError if what a text became cannot go into the model."""
    array, length = sample[wanted.name], sample[wanted.name].shape[1]
    if len(wanted.shape) != 2:
        raise MemoError(f"text cannot serve the model's input {wanted}: give arrays for all inputs as .npz")
    if wanted.shape[1] not in (None, length):
        raise MemoError(
            f"'{path}' line {number} has {length} tokens, and the model takes {wanted}: text is not padded; "
            "give arrays, padded and with a mask, as .npz"
        )
    beyond = wanted.beyond(array)
    if beyond is None:
        return
    if _field(wanted) == POSITIONS:
        raise MemoError(
            f"'{path}' line {number} is longer than the model allows: {length} tokens, and the model has "
            f"{wanted.rows} positions; shorten it"
        )
    raise MemoError(
        f"'{tokenizer}' is not the model's tokenizer: it makes the token {beyond} ('{path}' line {number}), "
        f"and the model looks '{wanted.name}' up in {wanted.rows} rows; name the model's own"
    )


def _note_vocabulary(inputs: Sequence[ModelInput], loaded: Tokenizer) -> list[str]:
    """Says so where tokens that did not occur would not fit: the tokenizer may be another model's."""
    rows = min((i.rows for i in inputs if i.name == "input_ids" and i.rows is not None), default=None)
    size = loaded.get_vocab_size()
    if rows is None or size <= rows:
        return []
    return [f"the tokenizer has {size} tokens, and the model's embedding {rows} rows: is it the model's own?"]


def _note_unknown(
    path: Path, encoded: Mapping[int, Encoding], loaded: Tokenizer, tokenizer: Path, allow_unknown: bool
) -> list[str]:
    """How many tokens are unknown, the tokenizer's own (begin, end, separators) not counted."""
    unknown_id = _unknown_id(loaded)
    unknown: dict[int, int] = {}
    total = 0
    for number, encoding in encoded.items():
        special = encoding.special_tokens_mask
        total += len(special) - sum(special)
        if unknown_id in encoding.ids:
            pairs = zip(encoding.ids, special, strict=True)
            count = sum(token == unknown_id and not own for token, own in pairs)
            unknown |= {number: count} if count else {}
    if not unknown:
        return []
    count = sum(unknown.values())
    text = (
        f"{count} of {total} tokens ({100 * count / total:.3g} %), in {len(unknown)} inputs, are unknown to "
        f"the tokenizer, first line {min(unknown)}"
    )
    if count > MOST_UNKNOWN * total and not allow_unknown:
        raise MemoError(
            f"'{path}' does not go with '{tokenizer}': {text}: name the model's own tokenizer, and write the "
            "text as the model knows it (capitals, spaces), or go on with --allow-unknown"
        )
    return [f"{text}: texts that differ in them alone look the same to the model"]


def _unknown_id(loaded: Tokenizer) -> int | None:
    """The token that stands for what is not in the vocabulary; None where there is none."""
    model = json.loads(loaded.to_str())["model"]
    if model["type"] == "Unigram":  # has the number itself
        number: int | None = model.get("unk_id")
        return number
    name = model.get("unk_token")
    return None if name is None else loaded.token_to_id(name)


def _note_truncated(encoded: Mapping[int, Encoding], loaded: Tokenizer) -> list[str]:
    cut = [number for number, encoding in encoded.items() if encoding.overflowing]
    if not cut:
        return []
    most = (loaded.truncation or {}).get("max_length")
    return [f"{len(cut)} inputs were cut to the {most} tokens that the tokenizer allows, first line {cut[0]}"]


def _note_alike(lines: Mapping[int, str], arrays: Sequence[Arrays]) -> list[str]:
    """Inputs that repeat others only once they are tokens, beside those whose texts are the same."""
    texts: dict[object, dict[str, int]] = {}  # tokens -> their texts, and where each occurs first
    for (number, line), sample in zip(lines.items(), arrays, strict=True):
        texts.setdefault(content(sample), {}).setdefault(line.strip(), number)
    alike = [list(found.values()) for found in texts.values() if len(found) > 1]
    if not alike:
        return []
    count, (first, second, *_) = sum(len(found) - 1 for found in alike), alike[0]
    where = f"first lines {first} and {second}"
    return [f"{count} inputs differ from others in their texts, but not in their tokens, {where}"]
