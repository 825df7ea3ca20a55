"""Inputs that are wrong, damaged or hostile get one line that says what is wrong and what to do."""

from __future__ import annotations

import builtins
import gzip
import io
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support_inputs import IDS, TABLES, packed, pair_tokenizer, write_arrow, write_parquet, write_table, zstd

from onnx_memo import MemoError
from onnx_memo.data import arrays, texts, unpacked
from onnx_memo.data.given import Data
from onnx_memo.data.labels import LabelColumn
from onnx_memo.data.readers import read_samples


@pytest.fixture
def words(tmp_path: Path) -> Path:
    return pair_tokenizer(tmp_path / "tokenizer.json")


@pytest.fixture
def refused(words) -> Callable[..., None]:
    def check(data: Data | Path | str, because: str, labels: LabelColumn | None = None) -> None:
        with pytest.raises(MemoError, match=because) as caught:
            read_samples(data, [IDS], words, labels=labels)
        assert "\n" not in str(caught.value)

    return check


def file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


# ---- Columns


@pytest.mark.parametrize("kind", [kind for kind in TABLES if kind != ".jsonl"])
def test_columns_that_are_not_there(tmp_path, refused, kind):
    path = tmp_path / f"x{kind}"
    TABLES[kind](path, {"query": ["a"], "passage": ["b"]})
    refused(path, "no column 'text'; there is 'query', 'passage': name the column of the texts with --column")
    refused(Data(path, ["query", "answer"]), "no column 'answer'; there is 'query', 'passage'")
    refused(Data(path, ["query"]), "no (row|line) of .* has the column 'kind'", LabelColumn("kind", {}))
    refused(Data(path, ["query"]), "--labels 'query' names the text itself", LabelColumn("query", {}))


def test_fields_that_are_not_there(tmp_path, refused):
    path = file(tmp_path / "x.jsonl", b'{"q": "a", "p": "b"}\n{"q": "a"}\n')
    refused(Data(path, ["q", "p"]), "line 2 has no field 'p' that is a string")
    path = file(tmp_path / "x.jsonl", b'{"text": "a", "text_pair": "b"}\n{"text": "a"}\n')
    refused(path, "line 2 has no field 'text_pair' that is a string")
    path = file(tmp_path / "x.jsonl", b'{"text": "a"}\n{"text": "a", "text_pair": "b"}\n')
    refused(path, "line 2 has a field 'text_pair', and those before have none")


def test_columns_that_cannot_be(tmp_path):
    for columns, because in ((["a", "b", "c"], "not 3"), (["a", "a"], "names 'a' twice")):
        with pytest.raises(MemoError, match=because):
            Data(tmp_path / "x.csv", columns)
    with pytest.raises(MemoError, match="--max-length takes a number of tokens, at least 1, not 0"):
        Data(tmp_path / "x.csv", max_length=0)


def test_a_column_that_is_there_twice(tmp_path, refused):
    refused(file(tmp_path / "x.csv", b"text,text\na,b\n"), "has 2 columns 'text'")


@pytest.mark.parametrize(
    ("row", "count"), [(b"a", "1 column"), (b"a,b,c", "3 columns"), (b"a,b,", "3 columns")]
)
@pytest.mark.parametrize("kind", [".csv", ".tsv"])
def test_ragged_rows(tmp_path, refused, kind, row, count):
    content = b"text,n\na,1\n" + row + b"\n"
    path = file(tmp_path / f"x{kind}", content.replace(b",", b"\t") if kind == ".tsv" else content)
    refused(path, f"line 3 has {count}, and the first line 2: quote what holds separators")


@pytest.mark.parametrize(
    ("content", "line"), [(b'text\na\n"b\nc\n', 3), (b'text\n"a"b\n', 2), (b'"text\n', 1)]
)
def test_quotes_that_are_not_closed(tmp_path, refused, content, line):
    refused(
        file(tmp_path / "x.csv", content), f"no table with commas, in the row that begins in line {line} "
    )


def test_cells_that_are_no_texts(tmp_path, refused):
    for write, kind in ((write_parquet, ".parquet"), (write_arrow, ".arrow")):
        write(tmp_path / f"x{kind}", {"text": ["a", None], "n": [1, 2]})
        refused(tmp_path / f"x{kind}", "row 2 has no column 'text' that is a string")
        refused(Data(tmp_path / f"x{kind}", ["n"]), "row 1 has no column 'n' that is a string")


@pytest.mark.parametrize("kind", [".txt", ".fasta", ".npz"])
def test_what_has_no_columns_or_texts(tmp_path, refused, kind):
    path = file(tmp_path / f"x{kind}", b">x\na\n")
    if kind == ".npz":
        np.savez(path, input_ids=np.ones((1, 2), np.int64))
        refused(Data(path, max_length=3), "--max-length cuts texts, and .* read as .npz, holds none")
    else:
        refused(path, "holds texts alone, and --labels 'kind' names a column", LabelColumn("kind", {}))
    refused(Data(path, ["text"]), f"--column 'text' names a column, and .* read as {kind}, has none")
    refused(Data(path, image_processor="x.json"), f"is for a folder of images, and .* is read as {kind}")


def test_a_sequence_without_a_name(tmp_path, refused):
    refused(file(tmp_path / "x.fasta", b"\nABC\n"), "line 2 belongs to no sequence")


# ---- Damaged files


@pytest.mark.parametrize("packing", [".gz", ".zst"])
def test_damaged_packings(tmp_path, refused, packing):
    content = b"".join(b"a b %d\n" % at for at in range(4000))
    whole = gzip.compress(content) if packing == ".gz" else zstd(content)
    kind = "gzip" if packing == ".gz" else "zstd"
    because = f"is no whole {kind} file \\(.*\\): copy or pack it again"
    for damaged in (
        b"",
        b"no packed file",
        whole[: len(whole) // 2],
        whole[:-2],
        whole + b"more",
        whole + whole[:-2],
    ):
        refused(file(tmp_path / f"x.txt{packing}", damaged), because)


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet", "arrow", "feather", "npz", "gz", "zst"])
def test_damaged_streams(tmp_path, refused, monkeypatch, kind):
    """Half of what is a whole file of its kind, and, of tables of text, a row that lacks a column."""
    columns = {"q": ["a b"] * 50, "p": ["c"] * 50}
    if kind == "npz":
        np.savez(tmp_path / "x", input_ids=np.ones((4, 9), np.int64))
        content = (tmp_path / "x.npz").read_bytes()
    elif kind in ("gz", "zst"):
        content = gzip.compress(b"a b\n" * 50) if kind == "gz" else zstd(b"a b\n" * 50)
    else:
        TABLES[f".{kind}"](tmp_path / f"x.{kind}", columns)
        content = (tmp_path / f"x.{kind}").read_bytes()
    half = content[: len(content) // 2 - 3 if kind not in ("csv", "tsv") else content.rindex(b"c") - 1]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(half)))
    because = {
        "csv": "line 51 has 1 column, and the first line 2",
        "tsv": "line 51 has 1 column, and the first line 2",
        "jsonl": "line 25 is not JSON",
        "parquet": "is no readable Parquet file",
        "npz": "is not a readable .npz file",
        "gz": "is no whole gzip file",
        "zst": "is no whole zstd file",
    }
    named = ["q"] if f".{kind}" in TABLES else []
    refused(Data("-", named), f"^standard input {because.get(kind, 'is no readable Arrow file')}")


@pytest.mark.parametrize("packing", [".gz", ".zst"])
def test_packed_files_may_follow_each_other_and_zeros(tmp_path, words, packing):
    pack = gzip.compress if packing == ".gz" else zstd
    path = file(tmp_path / f"x.txt{packing}", pack(b"a\nb") + pack(b" c\n") + bytes(2000))
    assert read_samples(path, [IDS], words).texts == ["a", "b c"]


@pytest.mark.parametrize("kind", [".parquet", ".arrow", ".feather"])
def test_damaged_columns(tmp_path, refused, kind):
    path = tmp_path / f"x{kind}"
    TABLES[kind](path, {"text": ["a b"] * 500})
    whole = path.read_bytes()
    name = "Parquet" if kind == ".parquet" else "Arrow"
    for damaged in (b"", b"text\na\n", whole[: len(whole) // 2], bytes(len(whole))):
        refused(file(path, damaged), f"is no readable {name} file|holds no input|no column 'text'")


@pytest.mark.parametrize(
    ("kind", "package"), [("x.parquet", "pyarrow"), ("x.arrow", "pyarrow"), ("x.txt.zst", "zstandard")]
)
def test_a_package_that_is_not_there(tmp_path, refused, monkeypatch, kind, package):
    real = builtins.__import__

    def without(name: str, *arguments: object) -> object:
        if name.partition(".")[0] in (package, "compression"):
            raise ImportError(f"No module named '{name}'")
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    refused(file(tmp_path / kind, b"x"), rf"needs the package {package}: pip install 'onnx-memo\[data\]', or")


# ---- Hostile files


@pytest.mark.parametrize("kind", [".arrow", ".feather"])
@pytest.mark.parametrize("places", [(0, 3, 1 << 30, 9), (0, 3, 2, 9), (-7, 3, 6, 9)])
def test_texts_that_lie_elsewhere_than_in_their_file(tmp_path, refused, kind, places):
    """Arrow takes the places of a column's texts from the file as they are, were they not checked."""
    path = tmp_path / f"x{kind}"
    write_arrow(path, {"text": ["abc", "def", "ghi"]})
    whole, held = path.read_bytes(), struct.pack("<4i", 0, 3, 6, 9)
    assert whole.count(held) == 1
    path.write_bytes(whole.replace(held, struct.pack("<4i", *places)))
    refused(path, "is no readable Arrow file")


def test_what_unpacks_without_an_end(tmp_path, refused, monkeypatch):
    """Nothing is unpacked beyond the bound, however small the file."""
    monkeypatch.setattr(unpacked, "MOST_BYTES", 1 << 20)
    content = b"a b\n" * (1 << 20)
    assert len(gzip.compress(content)) < 20_000
    for path in (
        file(tmp_path / "x.txt.gz", gzip.compress(content)),
        file(tmp_path / "y.txt.zst", zstd(content)),
        file(tmp_path / "x.npz.gz", gzip.compress(content)),
    ):
        refused(path, "holds more than 1 MiB, unpacked: give a part of it")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(content))))
    refused("-", "standard input holds more than 1 MiB, unpacked")


def test_what_unpacks_is_never_in_memory_as_a_whole(tmp_path):
    pack = zlib.compressobj(wbits=31)
    parts = [pack.compress(bytes(1 << 20)) for _ in range(64)]
    path = file(tmp_path / "x.txt.gz", b"".join([*parts, pack.flush()]))
    with unpacked.opened_file(path) as content:
        raw = content.stream.raw
        largest = 0
        while content.stream.read(1 << 16):
            largest = max(largest, len(raw.ready))
    assert 0 < largest <= 2 << 20


def test_lines_without_an_end(tmp_path, refused, monkeypatch):
    monkeypatch.setattr(texts, "MOST_IN_TEXT", 1 << 18)
    long = b"a" * (1 << 19)
    refused(file(tmp_path / "x.txt", b"a\n" + long), "line 2 is longer than 262,144 letters: split it")
    refused(file(tmp_path / "x.jsonl", long), "line 1 is longer than 262,144 letters")
    refused(file(tmp_path / "x.tsv", b"text\n" + long), "line 2 is longer than 262,144 letters")
    halves = b"a" * (1 << 17) + b"\n"
    refused(file(tmp_path / "x.fasta", b">x\n" + 3 * halves), "line 1 is longer than 262,144 letters")
    write_parquet(tmp_path / "x.parquet", {"text": [long.decode()]})
    refused(tmp_path / "x.parquet", "row 1 is longer than 262,144 letters")


def test_a_quote_does_not_swallow_a_file(tmp_path, refused):
    path = file(tmp_path / "x.csv", b'text\n"' + b"a b c d e f g\n" * (1 << 21))
    refused(path, r"in the row that begins in line 2 \(field larger than field limit")


def test_more_inputs_than_memory_holds(tmp_path, refused, monkeypatch):
    monkeypatch.setattr(texts, "MOST_INPUTS", 3)
    refused(file(tmp_path / "x.txt", b"a\nb\nc\nd\n"), "holds more than 3 inputs, or 1,024 Mi letters")
    write_table(tmp_path / "x.csv", {"text": list("abcd")})
    refused(packed(tmp_path / "x.csv", ".gz"), "holds more than 3 inputs")
    monkeypatch.setattr(texts, "MOST_INPUTS", 9)
    monkeypatch.setattr(texts, "MOST_IN_ALL", 3)
    refused(file(tmp_path / "x.txt", b"ab\ncd\n"), "give some of them, drawn at random")


def test_arrays_that_unpack_without_an_end(tmp_path, refused, monkeypatch):
    monkeypatch.setattr(arrays, "MOST_UNPACKED", 1 << 20)
    many = np.zeros((1 << 9, 1 << 9), np.int64)
    np.savez_compressed(tmp_path / "x.npz", input_ids=many)
    refused(tmp_path / "x.npz", "says that its arrays take 2 MiB, unpacked, of which at most 1 are read")
    np.savez(tmp_path / "x.npz", input_ids=many[:, :4])
    assert len(read_samples(tmp_path / "x.npz", [IDS], None)) == 1 << 9, "what is not packed is as it is"
    with zipfile.ZipFile(tmp_path / "x.npz") as whole:
        assert whole.infolist()[0].compress_type == zipfile.ZIP_STORED
