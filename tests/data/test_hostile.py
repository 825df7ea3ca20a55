"""Files of inputs from anywhere: whatever is in them, they are read or refused in one line."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_faults import examples

from onnx_memo.data.readers import read_samples
from onnx_memo.data.samples import ModelInput, Samples
from onnx_memo.data.tokens import load_tokenizer
from onnx_memo.errors import MemoError

INPUTS = [ModelInput("input_ids", np.dtype(np.int64), (None, None))]
EXAMPLES = examples(short=300, full=1000)


def outcome(path, inputs=INPUTS, tokenizer=None) -> Samples | str:
    """The samples, or the line with which they were refused."""
    try:
        return read_samples(path, inputs, tokenizer)
    except MemoError as error:
        return str(error)


def check(found: Samples | str) -> None:
    if isinstance(found, str):
        assert found
        assert "\n" not in found.replace("\\n", "")
    else:
        assert found.arrays


def spoiled(data: st.DataObject, whole: bytes) -> bytes:
    """Some bytes changed, perhaps the end missing."""
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    return bytes(content[: data.draw(st.integers(1, len(content)))] if data.draw(st.booleans()) else content)


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, input_ids=np.arange(12, dtype=np.int64).reshape(3, 4))
    return buffer.getvalue()


@pytest.mark.faults
@EXAMPLES
@given(data=st.data())
def test_spoiled_arrays(tmp_path, data):
    path = tmp_path / "x.npz"
    path.write_bytes(spoiled(data, npz()))
    check(outcome(path))


@pytest.mark.faults
@EXAMPLES
@given(data=st.data())
def test_spoiled_text(tmp_path, data, tokenizer):
    path = tmp_path / "x.txt"
    path.write_bytes(spoiled(data, "a b c\nd e\n\nä → e\n".encode()))
    check(outcome(path, tokenizer=tokenizer))


@pytest.mark.faults
@EXAMPLES
@given(data=st.data())
def test_spoiled_objects(tmp_path, data, tokenizer):
    path = tmp_path / "x.jsonl"
    path.write_bytes(spoiled(data, b'{"text": "a b c"}\n{"text": "d e"}\n'))
    check(outcome(path, tokenizer=tokenizer))


@pytest.mark.faults
@EXAMPLES
@given(data=st.data())
def test_spoiled_tokenizers(tmp_path, data, tokenizer):
    path = tmp_path / "spoiled.json"
    path.write_bytes(spoiled(data, tokenizer.read_bytes()))
    with contextlib.suppress(MemoError):
        load_tokenizer(path)


def archive(path, name: str, content: bytes):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(name, content)
    return path


def header(shape: str, descr: str = "'<i8'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        header("(10**12, 10**6)"),
        header("(1000000000000, 1000000)"),
        header("(-1, 4)"),
        header("(2, 3", "'<i8'"),
        header("(2,)", "'O'"),
        header("(2,)", "[('a', '<i8', 99999999999)]"),
        header("'text'"),
        b"\x93NUMPY\x09\x09",
    ],
    ids=range(8),
)
def test_absurd_headers_of_arrays(tmp_path, content):
    found = outcome(archive(tmp_path / "x.npz", "input_ids.npy", content))
    assert isinstance(found, str)
    assert "is not a readable .npz file of plain arrays" in found


def test_members_that_are_no_arrays(tmp_path):
    found = outcome(archive(tmp_path / "x.npz", "input_ids", b"text"))
    assert "'input_ids' in" in str(found)
    assert "is no array" in str(found)


def test_a_tokenizer_that_panics_is_one_line(tmp_path, monkeypatch):
    """What the library throws from its own language is no Exception; an interrupt is none of its."""
    import tokenizers

    class PanicException(BaseException):
        pass

    def panics(path: str) -> None:
        raise PanicException("index out of\nbounds")

    (tmp_path / "t.json").write_text("{}")
    monkeypatch.setattr(tokenizers.Tokenizer, "from_file", panics)
    with pytest.raises(MemoError, match=r"is not a tokenizer \(index out of bounds\)"):
        load_tokenizer(tmp_path / "t.json")

    def interrupted(path: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tokenizers.Tokenizer, "from_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_tokenizer(tmp_path / "t.json")


def test_objects_of_all_kinds_of_json(tmp_path, tokenizer):
    for content in (None, [], {}, 5, {"text": None}, {"text": ["a"]}, "a", {"Text": "a"}):
        path = tmp_path / "x.jsonl"
        path.write_text(json.dumps(content))
        assert "has no field 'text' that is a string" in str(outcome(path, tokenizer=tokenizer))
