"""Inputs as text, one a line, for models whose inputs a tokenizer makes."""

from __future__ import annotations

import codecs
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from onnx_memo.data.labels import LabelColumn
from onnx_memo.data.samples import ModelInput, Samples
from onnx_memo.data.tokens import tokenized
from onnx_memo.errors import MemoError
from onnx_memo.files import LFS_POINTER

FIELD = "text"
MOST_FIELDS, MOST_LETTERS = 3, 30  # of other fields that are named

_UTF16 = "UTF-16 text: convert it to UTF-8, as with iconv -f UTF-16 -t UTF-8"
# How files begin that are not what their names say.
STARTS = {
    b"\x1f\x8b": "compressed (gzip): unpack it first",
    b"PK\x03\x04": "a ZIP archive: unpack it first",
    codecs.BOM_UTF16_LE: _UTF16,
    codecs.BOM_UTF16_BE: _UTF16,
    LFS_POINTER: "a pointer of Git LFS, not the file itself: fetch it with git lfs pull",
}


def read_txt(
    path: Path,
    inputs: Sequence[ModelInput],
    tokenizer: Path | None,
    allow_unknown: bool,
    labels: LabelColumn | None,
) -> Samples:
    """A sample of each line that is not blank (`onnx_memo.data.readers.Reader`)."""
    if labels is not None:
        raise MemoError(
            f"'{path}' holds texts alone, and --labels '{labels.name}' names a column: write one object a "
            f"line, with the text in '{FIELD}' and the label in '{labels.name}', as .jsonl"
        )
    lines = _read_lines(path)
    samples = tokenized(path, lines, inputs, tokenizer, allow_unknown)
    return replace(samples, notes=[*_note_forms(lines), *samples.notes])


def read_jsonl(
    path: Path,
    inputs: Sequence[ModelInput],
    tokenizer: Path | None,
    allow_unknown: bool,
    labels: LabelColumn | None,
) -> Samples:
    """A sample of the field "text" of each line that is not blank (`onnx_memo.data.readers.Reader`)."""
    texts, values = {}, {}
    others: Counter[str] = Counter()
    for number, line in _read_lines(path).items():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise MemoError(
                f"'{path}' line {number} is not JSON ({error}): each line holds a whole object"
            ) from error
        text = record.get(FIELD) if isinstance(record, dict) else None
        if not isinstance(text, str):
            raise MemoError(f"'{path}' line {number} has no field '{FIELD}' that is a string")
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise MemoError(f"'{path}' line {number} escapes half a character (a lone surrogate): fix it")
        texts[number] = text
        others.update(name for name in record if name != FIELD)
        if labels is not None:
            values[number] = record.get(labels.name)
    if labels is not None and texts:
        _check_field(path, labels, others)
        del others[labels.name]
    samples = tokenized(path, texts, inputs, tokenizer, allow_unknown)
    if labels is not None:
        samples = labels.beside(samples, path, values)
    return replace(samples, notes=[*_note_fields(others, len(texts), labels), *samples.notes])


def _check_field(path: Path, labels: LabelColumn, others: Counter[str]) -> None:
    """Raises MemoError if the field of true labels is none of the `others`, beside the text."""
    if labels.name == FIELD:
        raise MemoError(f"--labels '{FIELD}' names the text itself: name the field that holds true labels")
    if labels.name not in others:
        named = ", ".join(f"'{name[:MOST_LETTERS]}'" for name, _ in others.most_common(MOST_FIELDS))
        raise MemoError(
            f"no line of '{path}' has the field '{labels.name}' that --labels names; beside '{FIELD}' there "
            f"is {named or 'nothing'}"
        )


def _note_forms(lines: Mapping[int, str]) -> list[str]:
    """Lines that hold more than one text, by their looks."""
    tabs = [number for number, line in lines.items() if "\t" in line.strip()]
    objects = [number for number, line in lines.items() if line.startswith("{") and line.rstrip()[-1] == "}"]
    notes = []
    if tabs:
        where = f"{len(tabs)} lines hold tabs, first line {tabs[0]}"
        notes.append(f"{where}: a line is one text, not columns or a pair")
    if objects:
        where = f"{len(objects)} lines look like JSON, first line {objects[0]}"
        notes.append(f"{where}: to have only their texts read, call the file .jsonl")
    return notes


def _note_fields(others: Counter[str], records: int, labels: LabelColumn | None) -> list[str]:
    """What else the records hold: half of a pair, perhaps."""
    if not others:
        return []
    named = [f"{name[:MOST_LETTERS]!r} in {count}" for name, count in others.most_common(MOST_FIELDS)]
    more = f" and {len(others) - MOST_FIELDS} more" if len(others) > MOST_FIELDS else ""
    read = f"'{FIELD}' is" if labels is None else f"'{FIELD}' and '{labels.name}' are"
    return [f"only {read} read; of {records} records there is also {', '.join(named)}{more}"]


def _read_lines(path: Path) -> dict[int, str]:
    """The lines that are not blank, by their numbers, from 1."""
    content = path.read_bytes()
    for start, what in STARTS.items():
        if content.startswith(start):
            raise MemoError(f"'{path}' is {what}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise MemoError(
            f"'{path}' is not UTF-8 text (line {line}, byte {error.start}): convert it first"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise MemoError(
            f"'{path}' holds bytes of zero, as in line {line}: it is no text, or not UTF-8; convert it first"
        )
    # Not splitlines(), which also splits at separators that JSON strings and sentences may hold.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return {number: line for number, line in enumerate(lines, 1) if line.strip()}
