"""Inputs as tables in columns: Parquet, and Arrow's files and streams (Feather is such a file)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from onnx_memo.data.samples import Samples
from onnx_memo.data.texts import Reading, Record, check_columns, default_columns, text_samples
from onnx_memo.data.unpacked import Content
from onnx_memo.errors import MemoError, reason_of

ROWS = 1024  # that are read at a time
ARROW_FILE = b"ARROW1"  # how Arrow's files begin; its streams do not


def read_parquet(reading: Reading, content: Content) -> Samples:
    """A sample of each row of a Parquet file (`onnx_memo.data.readers.Reader`)."""
    _pyarrow(content)
    from pyarrow import parquet

    with _one_line(content, "Parquet"):
        file = parquet.ParquetFile(content.seekable())
        names = list(file.schema_arrow.names)
    batches = file.iter_batches(ROWS, columns=_wanted(reading, content, names))
    return _read(reading, content, "Parquet", names, batches)


def read_arrow(reading: Reading, content: Content) -> Samples:
    """A sample of each row of an Arrow file or stream (`onnx_memo.data.readers.Reader`)."""
    ipc = _pyarrow(content).ipc
    source = content.seekable()
    is_file = source.read(len(ARROW_FILE)) == ARROW_FILE
    source.seek(0)
    with _one_line(content, "Arrow"):
        batches = ipc.open_file(source) if is_file else ipc.open_stream(source)
        names = list(batches.schema.names)
    blocks = (batches.get_batch(at) for at in range(batches.num_record_batches)) if is_file else batches
    return _read(reading, content, "Arrow", names, blocks)


def _pyarrow(content: Content) -> ModuleType:
    try:
        import pyarrow
    except ImportError as error:
        raise MemoError(
            f"to read {content.where} needs the package pyarrow: pip install 'onnx-memo[data]', or write its "
            "texts as .csv"
        ) from error
    module: ModuleType = pyarrow
    return module


def _wanted(reading: Reading, content: Content, names: list[str]) -> list[str]:
    """The columns to read: of the texts, and of the labels, if these are wanted."""
    columns = [*(reading.data.columns or default_columns(names))]
    check_columns(content.where, columns, names)
    labels = [] if reading.labels is None else [reading.labels.name]
    return columns + [name for name in labels if name in names and name not in columns]


def _read(reading: Reading, content: Content, kind: str, names: list[str], batches: Iterable[Any]) -> Samples:
    wanted = _wanted(reading, content, names)

    def records() -> Iterator[tuple[int, Record]]:
        # The others are not read, but are there, as notes say.
        others, number = dict.fromkeys(names), 0
        blocks = iter(batches)
        while True:
            with _one_line(content, kind):
                batch = next(blocks, None)
                if batch is None:
                    return
                batch = batch.select(wanted)
                batch.validate(full=True)  # what a stranger's file says of its own bytes may be false
            for at in range(0, batch.num_rows, ROWS):
                with _one_line(content, kind):
                    rows = batch.slice(at, ROWS).to_pylist()
                for row in rows:
                    number += 1
                    yield number, others | row

    return text_samples(reading, records(), unit="row", field="column")


@contextmanager
def _one_line(content: Content, kind: str) -> Iterator[None]:
    try:
        yield
    except MemoError:
        raise
    except Exception as error:  # Arrow's own, and those of Python for what is not UTF-8 or too large
        raise MemoError(
            f"{content.where} is no readable {kind} file ({reason_of(error)}): write it again"
        ) from error
