"""Inputs as text, one a line, for models whose inputs a tokenizer makes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onnx_memo.data.samples import ModelInput, Samples, mask_name
from onnx_memo.errors import MemoError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# What a tokenizer gives, by the names that exporters use for the model's inputs.
TOKENIZER_FIELDS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")


def read_txt(path: Path, inputs: Sequence[ModelInput], tokenizer: Path | None) -> Samples:
    """A sample of each line that is not blank (`onnx_memo.data.readers.Reader`)."""
    return _tokenized(path, list(_read_lines(path).values()), inputs, tokenizer)


def read_jsonl(path: Path, inputs: Sequence[ModelInput], tokenizer: Path | None) -> Samples:
    """A sample of the field "text" of each line that is not blank (`onnx_memo.data.readers.Reader`)."""
    texts = []
    for number, line in _read_lines(path).items():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise MemoError(f"'{path}' line {number} is not JSON ({error})") from error
        text = record.get("text") if isinstance(record, dict) else None
        if not isinstance(text, str):
            raise MemoError(f"'{path}' line {number} has no field 'text' that is a string")
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise MemoError(f"'{path}' line {number} escapes half a character (a lone surrogate): fix it")
        texts.append(text)
    return _tokenized(path, texts, inputs, tokenizer)


def _read_lines(path: Path) -> dict[int, str]:
    """The lines that are not blank, by their numbers, from 1."""
    try:
        # Not splitlines(), which also splits at separators that JSON strings and sentences may hold.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise MemoError(f"'{path}' is not UTF-8 text (byte {error.start}): convert it first") from error
    return {number: line for number, line in enumerate(lines, 1) if line.strip()}


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
        reason = " ".join(str(error).split())[:200]
        raise MemoError(f"{what} ({reason}): {what_next}") from error


def _tokenized(path: Path, lines: list[str], inputs: Sequence[ModelInput], tokenizer: Path | None) -> Samples:
    """A sample of each line; those without a token are left out."""
    if tokenizer is None:
        raise MemoError(f"'{path}' is text: name the model's tokenizer with --tokenizer tokenizer.json")
    unknown = [str(i) for i in inputs if i.name not in TOKENIZER_FIELDS]
    if unknown:
        raise MemoError(
            f"text cannot serve the model's input '{unknown[0]}': give arrays for all inputs as .npz"
        )
    loaded = load_tokenizer(tokenizer)
    with _answering(f"'{tokenizer}' cannot read '{path}'", "name the model's tokenizer.json"):
        encodings = loaded.encode_batch(lines)
    arrays, lengths, texts = [], [], []
    for line, encoding in zip(lines, encodings, strict=True):
        size = len(encoding.ids)
        if not size:
            continue
        fields = {
            "input_ids": encoding.ids,
            "attention_mask": [1] * size,
            "token_type_ids": encoding.type_ids,
            "position_ids": range(size),
        }
        arrays.append({i.name: np.asarray([fields[i.name]], i.dtype) for i in inputs})
        lengths.append(size)
        texts.append(line)
    return Samples(arrays, lengths, mask_name(inputs), len(lines) - len(arrays), texts)
