"""Inputs as text, one a line, for models whose inputs a tokenizer makes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from onnx_memo.data.samples import ModelInput, Samples
from onnx_memo.data.tokens import tokenized
from onnx_memo.errors import MemoError

FIELD = "text"
MOST_FIELDS, MOST_LETTERS = 3, 30  # of other fields that are named


def read_txt(
    path: Path, inputs: Sequence[ModelInput], tokenizer: Path | None, allow_unknown: bool
) -> Samples:
    """A sample of each line that is not blank (`onnx_memo.data.readers.Reader`)."""
    lines = _read_lines(path)
    samples = tokenized(path, lines, inputs, tokenizer, allow_unknown)
    columns = [number for number, line in lines.items() if "\t" in line.strip()]
    if not columns:
        return samples
    note = (
        f"{len(columns)} lines hold tabs, first line {columns[0]}: a line is one text, not columns or a pair"
    )
    return replace(samples, notes=[note, *samples.notes])


def read_jsonl(
    path: Path, inputs: Sequence[ModelInput], tokenizer: Path | None, allow_unknown: bool
) -> Samples:
    """A sample of the field "text" of each line that is not blank (`onnx_memo.data.readers.Reader`)."""
    texts = {}
    others: Counter[str] = Counter()
    for number, line in _read_lines(path).items():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise MemoError(f"'{path}' line {number} is not JSON ({error})") from error
        text = record.get(FIELD) if isinstance(record, dict) else None
        if not isinstance(text, str):
            raise MemoError(f"'{path}' line {number} has no field '{FIELD}' that is a string")
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise MemoError(f"'{path}' line {number} escapes half a character (a lone surrogate): fix it")
        texts[number] = text
        others.update(name for name in record if name != FIELD)
    samples = tokenized(path, texts, inputs, tokenizer, allow_unknown)
    return replace(samples, notes=[*_note_fields(others, len(texts)), *samples.notes])


def _note_fields(others: Counter[str], records: int) -> list[str]:
    """What else the records hold: half of a pair, perhaps."""
    if not others:
        return []
    named = [f"{name[:MOST_LETTERS]!r} in {count}" for name, count in others.most_common(MOST_FIELDS)]
    more = f" and {len(others) - MOST_FIELDS} more" if len(others) > MOST_FIELDS else ""
    return [f"only '{FIELD}' is read; of {records} records there is also {', '.join(named)}{more}"]


def _read_lines(path: Path) -> dict[int, str]:
    """The lines that are not blank, by their numbers, from 1."""
    try:
        # Not splitlines(), which also splits at separators that JSON strings and sentences may hold.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise MemoError(f"'{path}' is not UTF-8 text (byte {error.start}): convert it first") from error
    return {number: line for number, line in enumerate(lines, 1) if line.strip()}
