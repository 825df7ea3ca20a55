"""From texts to tokens, and what is lost on that way: tokenizers say nothing of it themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onnx_memo.data.distinct import content
from onnx_memo.data.lengths import POSITIONS, Limit, cut_to
from onnx_memo.data.samples import Arrays, ModelInput, Samples, mask_name
from onnx_memo.errors import MemoError, reason_of
from onnx_memo.words import counted

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

# What a tokenizer gives, by the names that exporters use for the model's inputs.
MASK = "attention_mask"
TOKENIZER_FIELDS = ("input_ids", MASK, "token_type_ids", POSITIONS)
MOST_UNKNOWN = 0.1  # of all tokens; with more, the tokenizer is hardly the text's
BETWEEN = " | "  # the texts of a pair, where people are shown them

Text = str | tuple[str, str]  # or a pair, which the tokenizer joins


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
    except MemoError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise MemoError(f"{what} ({reason_of(error)}): {what_next}") from error


def tokenized(
    where: str,
    texts: Mapping[int, Text],
    inputs: Sequence[ModelInput],
    tokenizer: Path | None,
    allow_unknown: bool,
    *,
    max_length: int | None = None,
    unit: str = "line",
) -> Samples:
    """A sample of each text, or pair of texts; those without a token are left out.

    They are cut to `max_length` tokens, or else to as many as the tokenizer and the model allow
    (`onnx_memo.data.lengths`).

    Args:
        where: the texts are from, as messages name it.
        texts: by their numbers.
        inputs: what the model takes.
        tokenizer: a `tokenizer.json`.
        allow_unknown: go on where more than `MOST_UNKNOWN` of the tokens are unknown to the tokenizer.
        max_length: the most tokens that a text may have.
        unit: what is numbered, as messages name it.

    Raises:
        MemoError: there is no tokenizer, it does not go with the texts, or the model takes more than tokens.
    """
    if tokenizer is None:
        raise MemoError(
            f"{where} is text, and no tokenizer.json stands beside the model: name it with --tokenizer"
        )
    others = [str(i) for i in inputs if _field(i) not in TOKENIZER_FIELDS]
    if others:
        raise MemoError(
            f"text cannot serve the model's input '{others[0]}': give arrays for all inputs as .npz"
        )
    loaded = load_tokenizer(tokenizer)
    with _answering(f"'{tokenizer}' cannot read {where}", "name the model's tokenizer.json"):
        limit = cut_to(
            loaded, tokenizer, inputs, max_length, any(isinstance(t, tuple) for t in texts.values())
        )
        encoded = dict(zip(texts, loaded.encode_batch(list(texts.values())), strict=True))
    kept = {number: encoding for number, encoding in encoded.items() if encoding.ids}
    arrays = [_arrays(encoding, inputs) for encoding in kept.values()]
    for number, sample in zip(kept, arrays, strict=True):
        for wanted in inputs:
            _check_fit(f"{where} {unit} {number}", wanted, sample, tokenizer)
    notes = [
        *_note_vocabulary(inputs, loaded),
        *_note_unknown(where, unit, encoded, loaded, tokenizer, allow_unknown),
        *_note_truncated(encoded, limit, unit),
        *_note_alike({number: texts[number] for number in kept}, arrays, unit),
    ]
    if len(kept) < len(encoded):
        first = min(encoded.keys() - kept.keys())
        notes.append(
            counted(
                len(encoded) - len(kept),
                f"input left out: no token is left of it, {unit} {first}",
                f"inputs left out: no token is left of them, first {unit} {first}",
            )
        )
    lengths = [len(encoding.ids) for encoding in kept.values()]
    shown = [text if isinstance(text, str) else BETWEEN.join(text) for text in map(texts.__getitem__, kept)]
    return Samples(arrays, lengths, mask_name(inputs), notes, shown, [*kept], unit=unit)


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


def _check_fit(place: str, wanted: ModelInput, sample: Arrays, tokenizer: Path) -> None:
    """Raises MemoError if what the text at `place` became cannot go into the model."""
    array, length = sample[wanted.name], sample[wanted.name].shape[1]
    if len(wanted.shape) != 2:
        raise MemoError(f"text cannot serve the model's input {wanted}: give arrays for all inputs as .npz")
    if wanted.shape[1] not in (None, length):
        raise MemoError(
            f"{place} has {length} tokens, and the model takes {wanted}: text is not padded; "
            "give arrays, padded and with a mask, as .npz"
        )
    beyond = wanted.beyond(array)
    if beyond is None:
        return
    raise MemoError(
        f"'{tokenizer}' is not the model's tokenizer: it makes the token {beyond} ({place}), "
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
    where: str,
    unit: str,
    encoded: Mapping[int, Encoding],
    loaded: Tokenizer,
    tokenizer: Path,
    allow_unknown: bool,
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
        f"{count} of {counted(total, 'token')} ({100 * count / total:.3g} %), in "
        f"{counted(len(unknown), 'input')}, {'is' if count == 1 else 'are'} unknown to the tokenizer, first "
        f"{unit} {min(unknown)}"
    )
    if count > MOST_UNKNOWN * total and not allow_unknown:
        raise MemoError(
            f"{where} does not go with '{tokenizer}': {text}: name the model's own tokenizer, and write the "
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


def reads_apart(tokenizer: Path, text: str) -> bool:
    """Whether a tokenizer knows the letters of a text only where spaces stand between them."""
    loaded = load_tokenizer(tokenizer)
    unknown = _unknown_id(loaded)
    with _answering(f"'{tokenizer}' cannot read letters", "name the model's tokenizer.json"):
        joined, apart = loaded.encode(text).ids, loaded.encode(" ".join(text)).ids
    return unknown is not None and joined.count(unknown) > apart.count(unknown)


def _note_truncated(encoded: Mapping[int, Encoding], limit: Limit | None, unit: str) -> list[str]:
    cut = [number for number, encoding in encoded.items() if encoding.overflowing]
    if not cut or limit is None:
        return []
    inputs = counted(len(cut), "input was", "inputs were")
    return [f"{inputs} cut to the {limit.tokens} tokens that {limit.whose}, first {unit} {cut[0]}"]


def _note_alike(texts: Mapping[int, Text], arrays: Sequence[Arrays], unit: str) -> list[str]:
    """Inputs that repeat others only once they are tokens, beside those whose texts are the same."""
    found: dict[object, dict[object, int]] = {}  # tokens -> their texts, and where each occurs first
    for (number, text), sample in zip(texts.items(), arrays, strict=True):
        bare = text.strip() if isinstance(text, str) else tuple(one.strip() for one in text)
        found.setdefault(content(sample), {}).setdefault(bare, number)
    alike = [list(same.values()) for same in found.values() if len(same) > 1]
    if not alike:
        return []
    count, (first, second, *_) = sum(len(same) - 1 for same in alike), alike[0]
    inputs = counted(
        count, "input differs from others in its text", "inputs differ from others in their texts"
    )
    return [f"{inputs}, but not in the tokens, first {unit}s {first} and {second}"]
