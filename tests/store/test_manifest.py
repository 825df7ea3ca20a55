"""Manifests from anywhere: whatever stands in them, they are read or refused in one line."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_faults import changed_at, examples, places

from onnx_memo.errors import MemoError
from onnx_memo.store.bundle import MANIFEST, read_bundle
from onnx_memo.store.manifest import Manifest, parse_manifest
from onnx_memo.tables import MOST_LETTERS, bundle_tables, printable

WHOLE = {
    "version": "0.1.0",
    "source": "model.onnx",
    "source_file": None,
    "task": None,
    "entries": 3,
    "tokens": 20,
    "sites": [
        {
            "name": "encoder",
            "softmax": "",
            "level": "rows",
            "threshold": 0.25,
            "lookup": True,
            "heads": 4,
            "width": 32,
            "share": 1.0,
        }
    ],
    "notes": ["a note"],
    "files": {
        "model.onnx": {"bytes": 5, "sha256": "ab"},
        "memo-0123456789abcdef.data": {"bytes": 5, "sha256": "0123456789abcdef"},
    },
    "predicted": {"ratio": 0.5, "hit_rate": 1.0},
    "predicted_with": "native",
    "source_sha256": None,
    "checked": {"requests": 3, "libraries": ["stock"], "stored_error": None},
    "promised": {
        "metric": "cosine",
        "tolerance": 0.01,
        "within": 0.95,
        "confidence": 0.95,
        "reference": "fp32.onnx",
        "reference_sha256": "ab",
        "outputs": ["logits"],
        "slack": 1.2,
    },
    "accuracy": {
        "column": "y",
        "requests": 9,
        "lost": 1,
        "gained": 0,
        "before": {"value": 0.8, "low": 0.5, "high": 0.9},
        "after": {"value": 0.7, "low": 0.4, "high": 0.9},
        "difference": {"value": -0.1, "low": -0.3, "high": 0.1},
    },
    "compact": True,
    "format": 2,
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def test_a_whole_one_comes_back():
    assert parse_manifest(WHOLE).as_json() == WHOLE
    assert isinstance(parse_manifest(WHOLE), Manifest)


def read(content) -> Manifest | str:
    """The manifest, or why it is none."""
    try:
        return parse_manifest(content)
    except ValueError as error:
        return str(error)


@pytest.mark.faults
@examples(short=400, full=1000)
@given(st.sampled_from(list(places(WHOLE))), JSON)
def test_whatever_stands_at_a_place_it_is_read_or_refused(path, value):
    found = read(changed_at(WHOLE, path, value))
    if isinstance(found, str):
        assert found
        assert "\n" not in found
        return
    assert json.dumps(found.as_json())
    with contextlib.suppress(MemoError):  # of a level that nobody knows
        assert bundle_tables(Path("bundle"), found)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("version",), 1),
        (("source",), None),
        (("entries",), 3.5),
        (("entries",), True),
        (("entries",), "3"),
        (("sites",), {}),
        (("sites", 0), "encoder"),
        (("sites", 0, "level"), ["rows"]),
        (("sites", 0, "threshold"), "near"),
        (("sites", 0, "lookup"), 1),
        (("notes",), "a note"),
        (("notes", 0), 7),
        (("files",), []),
        (("files", "model.onnx"), 5),
        (("predicted",), []),
        (("predicted", "ratio"), "half"),
        (("predicted", "ratio"), 10**400),
        (("accuracy",), []),
        (("promised",), "yes"),
        (("promised", "tolerance"), "0.01"),
        (("promised", "within"), None),
        (("promised", "reference"), 5),
        (("accuracy", "lost"), 0.5),
        (("accuracy", "before"), 0.5),
        (("accuracy", "after", "low"), 10**400),
        (("source_sha256",), 5),
    ],
    ids=str,
)
def test_a_field_of_another_type_is_named(path, value):
    refused = read(changed_at(WHOLE, path, value))
    assert isinstance(refused, str)
    assert refused.endswith("is of another type")
    assert str(path[-1]) in refused


@pytest.mark.parametrize("field", ["version", "source", "entries", "tokens", "sites", "notes", "files"])
def test_a_field_that_is_missing(field):
    refused = read({key: value for key, value in WHOLE.items() if key != field})
    assert isinstance(refused, str)
    assert field in refused


def test_a_field_that_is_not_known_is_refused_and_cut():
    with pytest.raises(ValueError, match=r"has a field 'x{80}' that is not known"):
        parse_manifest({**WHOLE, "x" * 5000: 1})


@pytest.mark.faults
@examples(short=100, full=1000)
@given(st.data())
def test_damaged_bytes_are_one_line(tmp_path, data):
    text = bytearray(json.dumps(WHOLE).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / MANIFEST).write_bytes(bytes(text))
    with pytest.raises(MemoError) as refused:  # its files are not there in any case
        read_bundle(tmp_path)
    assert str(tmp_path) in str(refused.value)


def test_what_is_shown_has_no_control_characters_and_an_end():
    assert printable("a\x1b[31mred\r\n\u202e") == "a\ufffd[31mred\ufffd\ufffd\ufffd"
    assert len(printable("x" * 10_000)) == MOST_LETTERS + 3
