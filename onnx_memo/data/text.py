"""Inputs as text, one a line (.txt, .jsonl), or over some lines (.fasta)."""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace

from onnx_memo.data.samples import Samples
from onnx_memo.data.texts import FIELD, Gathered, Reading, Record, check_letters, text_samples
from onnx_memo.data.tokens import Text, reads_apart
from onnx_memo.data.unpacked import Content
from onnx_memo.errors import MemoError
from onnx_memo.files import LFS_POINTER
from onnx_memo.words import counted

BLOCK = 1 << 16  # bytes that are decoded at a time
FEW = 64  # letters of a sequence, by which it is seen how a tokenizer reads them
APART = "sequences are read with spaces between their letters, which the tokenizer knows only so"

_UTF16 = "UTF-16 text: convert it to UTF-8, as with iconv -f UTF-16 -t UTF-8"
# How files begin that are not what their names say.
STARTS = {
    b"\x1f\x8b": "compressed (gzip): unpack it first, or call it by its kind and .gz, as x.txt.gz",
    b"\x28\xb5\x2f\xfd": "compressed (zstd): unpack it first, or call it by its kind and .zst, as x.txt.zst",
    b"PK\x03\x04": "a ZIP archive: unpack it first",
    codecs.BOM_UTF16_LE: _UTF16,
    codecs.BOM_UTF16_BE: _UTF16,
    LFS_POINTER: "a pointer of Git LFS, not the file itself: fetch it with git lfs pull",
}


def read_txt(reading: Reading, content: Content) -> Samples:
    """A sample of each line that is not blank (`onnx_memo.data.readers.Reader`)."""
    lines = Gathered(content.where, "line")
    for number, line in lines_of(content):
        if line.strip():
            lines[number] = line
    samples = reading.samples_of(lines)
    return replace(samples, notes=[*_note_forms(lines), *samples.notes])


def read_jsonl(reading: Reading, content: Content) -> Samples:
    """A sample of the object in each line that is not blank (`onnx_memo.data.readers.Reader`)."""
    return text_samples(reading, _objects(content))


def read_fasta(reading: Reading, content: Content) -> Samples:
    """A sample of each sequence (`onnx_memo.data.readers.Reader`): the lines below a `>` joined, as they are.

    A sample's number is that of its `>` line. Lines that begin with `;` are comments, and a `*` at the end,
    where translation stopped, is no residue. Letters are set apart for a tokenizer that knows them only so.
    """
    sequences = Gathered(content.where, "line")
    begun, parts, letters = 0, list[str](), 0
    for number, line in lines_of(content):
        line = line.strip()
        if line.startswith(">"):
            _end_sequence(sequences, begun, parts)
            begun, parts, letters = number, [], 0
        elif line and not line.startswith(";"):
            if not begun:
                raise MemoError(
                    f"{content.where} line {number} belongs to no sequence: in FASTA each begins with a line "
                    "'>name'; one text a line is .txt"
                )
            parts.append("".join(line.split()))
            letters += len(line)
            check_letters(letters, f"{content.where} line {begun}")
    _end_sequence(sequences, begun, parts)
    first = next(iter(sequences.values()), "")
    if reading.tokenizer is None or not reads_apart(reading.tokenizer, str(first)[:FEW]):
        return reading.samples_of(sequences)
    samples = reading.samples_of({number: " ".join(text) for number, text in sequences.items()})
    return replace(samples, notes=[APART, *samples.notes])


def _end_sequence(sequences: Gathered, begun: int, parts: list[str]) -> None:
    """Keep a sequence that is not empty."""
    sequence = "".join(parts).removesuffix("*")
    if sequence:
        sequences[begun] = sequence


def _objects(content: Content) -> Iterator[tuple[int, Record]]:
    for number, line in lines_of(content):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise MemoError(
                f"{content.where} line {number} is not JSON ({error}): each line holds a whole object"
            ) from error
        if not isinstance(record, dict):
            raise MemoError(
                f"{content.where} line {number} has no field '{FIELD}' that is a string: it is no object"
            )
        yield number, record


def _note_forms(lines: Mapping[int, Text]) -> list[str]:
    """Lines that hold more than one text, by their looks."""
    texts = {number: line for number, line in lines.items() if isinstance(line, str)}
    tabs = [number for number, line in texts.items() if "\t" in line.strip()]
    objects = [number for number, line in texts.items() if line.startswith("{") and line.rstrip()[-1] == "}"]
    notes = []
    if tabs:
        where = f"{counted(len(tabs), 'line holds', 'lines hold')} tabs, first line {tabs[0]}"
        notes.append(f"{where}: a line is one text, not columns or a pair")
    if objects:
        where = f"{counted(len(objects), 'line looks', 'lines look')} like JSON, first line {objects[0]}"
        notes.append(f"{where}: to have only their texts read, call the file .jsonl")
    return notes


def lines_of(content: Content) -> Iterator[tuple[int, str]]:
    """The lines of a text in UTF-8, without their ends, by their numbers, from 1.

    Raises:
        MemoError: it is no such text, or a line is too long to be one.
    """
    utf8 = codecs.getincrementaldecoder("utf-8")()
    # Not splitlines(), which also splits at separators that JSON strings and sentences may hold.
    decoder = io.IncrementalNewlineDecoder(utf8, translate=True)
    number, line, position = 1, "", 0  # the line that is being read; where the block begins, in bytes
    while True:
        block = content.stream.read(BLOCK)
        if not position:
            for start, what in STARTS.items():
                if block.startswith(start):
                    raise MemoError(f"{content.where} is {what}")
            mark = codecs.BOM_UTF8 if block.startswith(codecs.BOM_UTF8) else b""
            block, position = block[len(mark) :], len(mark)
        pending = len(utf8.getstate()[0])
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            at = number + error.object.count(b"\n", 0, error.start)
            raise MemoError(
                f"{content.where} is not UTF-8 text (line {at}, byte {position - pending + error.start}): "
                "convert it first"
            ) from error
        if "\0" in text:
            at = number + text.count("\n", 0, text.index("\0"))
            raise MemoError(
                f"{content.where} holds bytes of zero, as in line {at}: it is no text, or not UTF-8; convert "
                "it first"
            )
        *whole, line = (line + text).split("\n")
        for one in whole:
            check_letters(len(one), f"{content.where} line {number}")
            yield number, one
            number += 1
        check_letters(len(line), f"{content.where} line {number}")
        if not block:
            break
        position += len(block)
    if line:
        yield number, line
