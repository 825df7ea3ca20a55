"""Every form in which inputs come gives the same samples, packed or not, from a file or a stream."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from support_inputs import (
    IDS,
    MASK,
    PACKED,
    PLAIN,
    TABLES,
    TYPES,
    packed,
    pair_tokenizer,
    write_lines,
    write_sequences,
    write_table,
)
from tokenizers import Tokenizer, models, pre_tokenizers

from onnx_memo import MemoError
from onnx_memo.data.given import Data
from onnx_memo.data.labels import LabelColumn
from onnx_memo.data.readers import READERS, read_samples
from onnx_memo.data.samples import Samples
from onnx_memo.data.text import APART

TEXTS = ["a b", "c", "e, d", 'a "b" c', "ä a", "b a", "c", "d e e", "a b c d", "e", "a a a a a a a a a"]
TOKENS = [[0, 1, 2, 7], [0, 3, 7], [0, 5, 6, 4, 7], [0, 1, 6, 2, 6, 3, 7]]
SECOND = ["c"] * len(TEXTS)


def ids(samples: Samples) -> list[list[int]]:
    return [arrays["input_ids"][0].tolist() for arrays in samples.arrays]


@pytest.fixture
def words(tmp_path: Path) -> Path:
    return pair_tokenizer(tmp_path / "tokenizer.json")


# ---- Texts


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("kind", [*PLAIN, *TABLES])
def test_every_form_of_texts(tmp_path, words, kind, packing):
    path = tmp_path / f"data{kind}"
    (PLAIN | TABLES)[kind](path, {"text": TEXTS, "other": SECOND})
    samples = read_samples(packed(path, packing), [IDS], words, allow_unknown=True)
    assert samples.texts == TEXTS
    assert ids(samples)[:4] == TOKENS
    assert samples.place(2) == {".csv": "line 4", ".tsv": "line 4"}.get(
        kind, "line 3" if kind in (*PLAIN, ".jsonl") else "row 3"
    )
    told = "only 'text' is read; of 11 records there is also 'other' in 11"
    assert (told in samples.notes) == (kind in TABLES)


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("kind", TABLES)
def test_columns_of_other_names(tmp_path, words, kind, packing):
    path = tmp_path / f"data{kind}"
    TABLES[kind](path, {"id": SECOND, "question": TEXTS})
    data = Data(packed(path, packing), ["question"])
    assert read_samples(data, [IDS], words, allow_unknown=True).texts == TEXTS


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("kind", [".fasta", ".fa", ".faa"])
def test_sequences_are_joined_from_their_lines(tmp_path, kind, packing):
    letters = Tokenizer(models.WordLevel({letter: at for at, letter in enumerate("ABCX")}, unk_token="X"))
    letters.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    letters.save(str(tmp_path / "tokenizer.json"))
    path = tmp_path / f"data{kind}"
    write_sequences(path, {"sequence": ["AB CA", "", "B"]})
    path.write_text(path.read_text() + ">last\n; a comment\n\nA C \nB*\n")
    samples = read_samples(packed(path, packing), [IDS], tmp_path / "tokenizer.json")
    assert samples.texts == ["ABCA", "B", "ACB"]
    assert ids(samples) == [[0, 1, 2, 0], [1], [0, 2, 1]]
    assert [samples.place(at) for at in range(3)] == ["line 1", "line 6", "line 8"]


def test_letters_are_set_apart_for_tokenizers_that_know_only_words(tmp_path, words):
    path = tmp_path / "x.fasta"
    path.write_text(">x\nabc\nd\n>y\ne\n")
    samples = read_samples(path, [IDS], words)
    assert ids(samples) == [[0, 1, 2, 3, 4, 7], [0, 5, 7]]
    assert samples.notes == [APART]


@pytest.mark.parametrize("packing", PACKED)
def test_arrays(tmp_path, packing):
    path = tmp_path / "data.npz"
    np.savez_compressed(path, input_ids=np.arange(6).reshape(2, 3))
    assert ids(read_samples(packed(path, packing), [IDS], None)) == [[0, 1, 2], [3, 4, 5]]


def test_every_kind_of_file_is_in_these_tests():
    assert READERS.keys() == {*PLAIN, *TABLES, ".fasta", ".fa", ".faa", ".npz"}


# ---- Pairs


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("names", [("text", "text_pair"), ("query", "passage")])
def test_two_columns_are_a_pair(tmp_path, words, kind, packing, names):
    path = tmp_path / f"data{kind}"
    TABLES[kind](path, dict(zip(names, (["a b", "d"], ["c", "e e"]), strict=True)))
    columns = () if names[0] == "text" else names
    samples = read_samples(Data(packed(path, packing), columns), [IDS, MASK, TYPES], words)
    assert ids(samples) == [[0, 1, 2, 7, 3, 7], [0, 4, 7, 5, 5, 7]]
    assert samples.arrays[0]["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1]]
    assert samples.arrays[1]["token_type_ids"].tolist() == [[0, 0, 0, 1, 1, 1]]
    assert samples.texts == ["a b | c", "d | e e"]
    assert samples.notes == []


def test_of_a_pair_the_longer_text_is_cut(tmp_path, words):
    path = tmp_path / "data.csv"
    write_table(path, {"q": ["a b c d", "a"], "p": ["e e", "b"]})
    samples = read_samples(Data(path, ("q", "p"), max_length=6), [IDS], words)
    assert ids(samples) == [[0, 1, 2, 7, 5, 7], [0, 1, 7, 2, 7]]
    assert samples.notes[0] == "1 input was cut to the 6 tokens that --max-length allows, first line 2"


def test_labels_stand_beside_pairs(tmp_path, words):
    path = tmp_path / "data.csv"
    write_table(path, {"text": ["a", "b"], "text_pair": ["c", "d"], "kind": ["1", "0"]})
    samples = read_samples(path, [IDS], words, labels=LabelColumn("kind", {}))
    assert samples.labels is not None
    assert samples.labels.classes == [1, 0]


@pytest.mark.parametrize("kind", TABLES)
def test_labels_are_a_column_of_every_table(tmp_path, words, kind):
    path = tmp_path / f"data{kind}"
    TABLES[kind](path, {"text": ["a", "b"], "kind": ["yes", "no"], "more": ["x", "y"]})
    samples = read_samples(path, [IDS], words, labels=LabelColumn("kind", {"no": 0, "yes": 1}))
    assert samples.labels is not None
    assert samples.labels.classes == [1, 0]
    assert samples.notes == ["only 'text' and 'kind' are read; of 2 records there is also 'more' in 2"]


# ---- Tables as they are written


def test_a_cell_of_a_csv_may_hold_lines_and_rows_keep_theirs(tmp_path, words):
    (tmp_path / "data.csv").write_bytes(b'\xef\xbb\xbftext,n\r\n"a\r\nb",1\r\n\r\nc,2\r\n')
    samples = read_samples(tmp_path / "data.csv", [IDS], words)
    assert samples.texts == ["a\nb", "c"]
    assert [samples.place(0), samples.place(1)] == ["line 2", "line 5"]


def test_quotes_in_a_tsv_are_letters_but_around_a_whole_cell(tmp_path, words):
    (tmp_path / "data.tsv").write_text('text\tn\n"a" b\t1\n"a ""b"""\t2\n"a\t3\n')
    samples = read_samples(tmp_path / "data.tsv", [IDS], words, allow_unknown=True)
    assert samples.texts == ['"a" b', 'a "b"', '"a']


# ---- Standard input


def stream(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("kind", [".txt", *TABLES])
def test_the_kind_of_standard_input_is_seen(tmp_path, words, monkeypatch, kind, packing):
    path = tmp_path / f"data{kind}"
    (PLAIN | TABLES)[kind](path, {"question": TEXTS, "other": SECOND})
    stream(monkeypatch, packed(path, packing).read_bytes())
    columns = ["question"] if kind in TABLES else []
    samples = read_samples(Data("-", columns), [IDS], words, allow_unknown=True)
    assert samples.texts == TEXTS
    assert samples.notes[0] == f"standard input is read as {kind.replace('feather', 'arrow')}"


@pytest.mark.parametrize("packing", PACKED)
def test_arrays_and_sequences_from_standard_input(tmp_path, words, monkeypatch, packing):
    np.savez(tmp_path / "x.npz", input_ids=np.arange(6).reshape(2, 3))
    stream(monkeypatch, packed(tmp_path / "x.npz", packing).read_bytes())
    assert ids(read_samples("-", [IDS], None)) == [[0, 1, 2], [3, 4, 5]]
    write_sequences(tmp_path / "x.fasta", {"sequence": ["a", "b"]})
    stream(monkeypatch, packed(tmp_path / "x.fasta", packing).read_bytes())
    assert read_samples("-", [IDS], words).texts == ["a", "b"]
    stream(monkeypatch, b"> a b\nc d e\n")
    assert len(read_samples("-", [IDS], words, allow_unknown=True)) == 2, "these are lines of text"


def test_nothing_on_standard_input(words, monkeypatch):
    stream(monkeypatch, b"")
    with pytest.raises(MemoError, match="standard input holds no input that can be used"):
        read_samples("-", [IDS], words)
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(MemoError, match="there is no standard input of bytes"):
        read_samples("-", [IDS], words)


def test_large_streams_are_read_to_their_end(tmp_path, words, monkeypatch):
    write_lines(tmp_path / "x.txt", {"text": ["a b c d e"] * 20_000})
    for packing in PACKED:
        file = packed(tmp_path / "x.txt", packing)
        stream(monkeypatch, file.read_bytes())
        assert len(read_samples("-", [IDS], words)) == 20_000
        write_lines(tmp_path / "x.txt", {"text": ["a b c d e"] * 20_000})
