"""Inputs as tables in text: .csv, and .tsv; the first line names the columns."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence

from onnx_memo.data.samples import Samples
from onnx_memo.data.text import lines_of
from onnx_memo.data.texts import (
    MOST_IN_TEXT,
    Reading,
    Record,
    check_columns,
    default_columns,
    text_samples,
)
from onnx_memo.data.unpacked import Content
from onnx_memo.errors import MemoError
from onnx_memo.words import counted

Row = tuple[int, Sequence[str]]  # the line that it begins in, and its cells

_QUOTED = re.compile(r'"((?:[^"]|"")*)"')


def read_csv(reading: Reading, content: Content) -> Samples:
    """A sample of each row (`onnx_memo.data.readers.Reader`); cells are quoted as RFC 4180 has it."""
    return _read(reading, content, _csv_rows(content))


def read_tsv(reading: Reading, content: Content) -> Samples:
    """A sample of each row (`onnx_memo.data.readers.Reader`), which is a line.

    Quotes are letters, as IANA's text/tab-separated-values has it, but where they enclose a whole cell and
    those inside are doubled: so some write what others write without.
    """
    return _read(reading, content, _tsv_rows(content))


def _read(reading: Reading, content: Content, rows: Iterator[Row]) -> Samples:
    _, names = next(rows, (1, ()))
    if names:  # else it is empty, as the caller says
        check_columns(content.where, reading.data.columns or default_columns(names), names)
    return text_samples(reading, _records(content, names, rows), field="column")


def _records(content: Content, names: Sequence[str], rows: Iterable[Row]) -> Iterator[tuple[int, Record]]:
    for number, row in rows:
        if len(row) != len(names):
            raise MemoError(
                f"{content.where} line {number} has {counted(len(row), 'column')}, and the first line "
                f"{len(names)}: quote what holds separators, as a program that writes such files does"
            )
        yield number, dict(zip(names, row, strict=True))


def _csv_rows(content: Content) -> Iterator[Row]:
    """The rows that are not blank."""
    lines = (f"{line}\n" for _, line in lines_of(content))
    # A cell that is never closed swallows the rest: the module's limit, which is global, is only for us.
    before = csv.field_size_limit()
    reader = csv.reader(lines, strict=True)
    begins = 1
    while True:
        try:
            csv.field_size_limit(MOST_IN_TEXT)
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise MemoError(
                f"{content.where} is no table with commas, in the row that begins in line {begins} "
                f"({error}): close quotes, and double those inside"
            ) from error
        finally:
            csv.field_size_limit(before)
        if row:
            yield begins, row
        begins = reader.line_num + 1


def _tsv_rows(content: Content) -> Iterator[Row]:
    for number, line in lines_of(content):
        if line.strip():
            yield number, [_unquoted(cell) for cell in line.split("\t")]


def _unquoted(cell: str) -> str:
    quoted = _QUOTED.fullmatch(cell)
    return cell if quoted is None else quoted[1].replace('""', '"')
