"""Files of inputs of every kind, written as people write them, and packed."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from onnx_memo.data.samples import ModelInput

I64 = np.dtype(np.int64)
IDS = ModelInput("input_ids", I64, (None, None))
MASK = ModelInput("attention_mask", I64, (None, None), mask=True)
TYPES = ModelInput("token_type_ids", I64, (None, None), rows=2)

Columns = Mapping[str, Sequence[str]]


def write_lines(path: Path, columns: Columns) -> None:
    """The first column alone, a line each."""
    path.write_text("".join(f"{text}\n" for text in next(iter(columns.values()))), encoding="utf-8")


def write_table(path: Path, columns: Columns) -> None:
    """Commas, or tabs for .tsv."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def write_objects(path: Path, columns: Columns) -> None:
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


def write_sequences(path: Path, columns: Columns) -> None:
    """FASTA of the first column, in which each word of a text is on a line of its own."""
    texts = enumerate(next(iter(columns.values())))
    path.write_text("".join(f">some {at}\n{text.replace(' ', chr(10))}\n" for at, text in texts))


def write_parquet(path: Path, columns: Columns) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra 'data'")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(dict(columns)), path)


def write_arrow(path: Path, columns: Columns) -> None:
    """A file (as Feather), or for .arrow the stream that Hugging Face's datasets write."""
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra 'data'")
    table = pyarrow.table({name: pyarrow.array(texts) for name, texts in columns.items()})
    new = pyarrow.ipc.new_stream if path.suffix == ".arrow" else pyarrow.ipc.new_file
    with new(path, table.schema) as writer:
        writer.write_table(table)


PLAIN: dict[str, Callable[[Path, Columns], None]] = {".txt": write_lines, ".log": write_lines}
TABLES: dict[str, Callable[[Path, Columns], None]] = {
    ".csv": write_table,
    ".tsv": write_table,
    ".jsonl": write_objects,
    ".parquet": write_parquet,
    ".arrow": write_arrow,
    ".feather": write_arrow,
}
PACKED = ("", ".gz", ".zst")


def packed(path: Path, packing: str) -> Path:
    """The file, packed beside itself, which is taken away."""
    if not packing:
        return path
    content = path.read_bytes()
    path.unlink()
    to = path.with_name(path.name + packing)
    to.write_bytes(gzip.compress(content) if packing == ".gz" else zstd(content))
    return to


def zstd(content: bytes) -> bytes:
    return pytest.importorskip("zstandard", reason="needs the extra 'data'").compress(content)


def pair_tokenizer(path: Path) -> Path:
    """Words `a` to `e` are 1 to 5; a text is `[CLS] text [SEP]` (0 and 7), of type 1 what is its second."""
    words = {"[CLS]": 0, "a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "[UNK]": 6, "[SEP]": 7}
    made = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 0), ("[SEP]", 7)],
    )
    made.save(str(path))
    return path
