"""The table of forms: what it says of each, and the inputs that forms are tried with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support import FIXTURES, fixture, original

from tools.forms.form import Form, Kitchen, NotMade, Scale, by_name
from tools.forms.inputs import Inputs
from tools.forms.page import page
from tools.forms.registry import forms
from tools.forms.small import KEPT
from tools.forms.table import make_table
from tools.forms.trial import EQUAL, Row, tried


def copy(to, kitchen):
    (to / "model.onnx").write_bytes(fixture("bert").read_bytes())


def fail(to, kitchen):
    raise ValueError("this exporter\nfails")


GOOD, BAD = Form("good", "a family", "copied", copy), Form("bad", "a family", "not at all", fail)
NO_ATTENTION = "'model.onnx' has no attention. Looked for: a softmax. Found: 'x': it is | one operator"


@pytest.fixture
def kitchen(tmp_path):
    return Kitchen(by_name([GOOD, BAD]), folder=tmp_path)


def cells(kitchen, row):
    (line,) = (line for line in page(kitchen, [row]).splitlines() if line.startswith(f"| `{row.name}`"))
    return [cell.strip() for cell in line.replace("\\|", "/").strip("|").split("|")]


def test_every_kept_file_is_a_form_that_can_be_made():
    assert set(KEPT) <= set(forms())
    assert {file.stem for file in (FIXTURES / "forms").glob("*.onnx")} == set(KEPT)


def test_a_form_that_works_is_right_in_every_column(kitchen):
    row = tried(GOOD, kitchen)
    assert row.failed is row.refused is row.unmade is None
    assert (row.sites, row.level) == (3, "rows")
    assert set(row.misses.values()) == {EQUAL}
    assert max(row.stored.values()) == 0
    assert row.hits == (1.0, 0.0)
    assert "1 of them right in all columns" in page(kitchen, [row])


def test_misses_that_differ_are_not_right(kitchen):
    row = replace(tried(GOOD, kitchen), misses={"1 stock": EQUAL, "4 stock": "off by 0.1"})
    assert "0 of them right in all columns" in page(kitchen, [row])
    assert cells(kitchen, row)[5] == "identical; off by 0.1"


def test_a_form_that_cannot_be_made_says_why(kitchen):
    with pytest.raises(NotMade, match="ValueError: this exporter fails"):
        kitchen.made("bad")
    row = tried(BAD, kitchen)
    assert "cannot be made here: ValueError: this exporter fails" in cells(kitchen, row)


@pytest.mark.parametrize(
    "row",
    [
        Row("good", sites=0, size=1, refused=NO_ATTENTION),
        Row("good", unmade="it is not there"),
        Row("good", failed="it crashed"),
    ],
)
def test_no_cell_is_empty(kitchen, row):
    assert len(cells(kitchen, row)) == 9
    assert all(cells(kitchen, row))


def test_a_refusal_is_told_without_what_was_looked_for(kitchen):
    row = Row("good", sites=0, size=1, refused=NO_ATTENTION)
    assert cells(kitchen, row)[4] == "refused: 'x': it is / one operator"


@pytest.mark.parametrize("side", ["left", "right"])
def test_requests_are_padded_on_the_form_s_side(side):
    inputs = Inputs(original(fixture("bert")), replace(GOOD, pad=1), Scale())
    request = inputs.joined(inputs.samples((3, 5), seed=0), side)
    padding = slice(0, 2) if side == "left" else slice(3, 5)
    assert request["attention_mask"].sum(axis=1).tolist() == [3, 5]
    np.testing.assert_array_equal(request["attention_mask"][0, padding], 0)
    np.testing.assert_array_equal(request["input_ids"][0, padding], 1)


def test_what_was_tried_is_kept(kitchen, tmp_path, monkeypatch, capsys):
    """In this process, so that the form need not be registered."""
    made = []

    def once(kitchen, timeout, form):
        made.append(form.name)
        return Row(form.name, unmade="no")

    monkeypatch.setattr("tools.forms.table._in_a_process", once)
    monkeypatch.setattr("tools.forms.table.PAGE", tmp_path / "models.md")
    for _ in range(2):
        make_table(kitchen, "g*", jobs=1, timeout=9, stale=False)
    assert made == ["good"]
    text = (tmp_path / "models.md").read_text(encoding="utf-8")
    assert "`good`" in text
    assert "Not tried: `bad`." in text
