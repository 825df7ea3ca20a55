"""The table of forms: what it says of each, and the inputs that forms are tried with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support import FIXTURES, fixture, original

from tools.forms.form import WIDE, Form, Kitchen, NotMade, Scale, by_name
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


def cells(kitchen, row, at_base_width=()):
    text = page(kitchen, [row], at_base_width)
    (line,) = (line for line in text.splitlines() if line.startswith(f"| `{row.name}`"))
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
    assert len(cells(kitchen, row)) == 10
    assert all(cells(kitchen, row))


def test_a_refusal_is_told_without_what_was_looked_for(kitchen):
    row = Row("good", sites=0, size=1, refused=NO_ATTENTION)
    assert cells(kitchen, row)[4] == "refused: 'x': it is / one operator"


@pytest.mark.parametrize(("ratio", "within"), [(0.06, 1), (0.061, 0)])
def test_the_time_at_base_width_stands_beside_what_was_tried(kitchen, ratio, within):
    row = tried(GOOD, kitchen)
    wide = replace(row, ratio=(ratio, 0.001))
    assert cells(kitchen, row, [wide])[-1] == f"{ratio:.3f} ± 0.001"
    assert f"1 of those at `rows` were tried: in {within} of them" in page(kitchen, [row], [wide])


def test_of_some_forms_all_layers_are_tried(kitchen):
    row = tried(GOOD, kitchen)
    wide, deep = replace(row, ratio=(0.08, 0.001)), replace(row, ratio=(0.02, 0.001))
    text = page(kitchen, [row], [wide], [deep])
    assert "| 0.080 ± 0.001; 12 layers: 0.020 ± 0.001 |" in text
    assert "1 of those at `rows` were tried: in 1 of them" in text


def test_what_is_wrong_at_base_width_is_told(kitchen):
    row = tried(GOOD, kitchen)
    wide = replace(row, misses={"1 stock": "off by 0.1"}, ratio=(0.05, 0.001))
    assert cells(kitchen, row, [wide])[-1] == "0.050 ± 0.001; **not right**"
    assert cells(kitchen, row, [Row("good", failed="it crashed")])[-1] == "**defect**: it crashed"
    assert (
        cells(kitchen, row, [Row("good", refused=NO_ATTENTION)])[-1] == "refused: 'x': it is / one operator"
    )


@pytest.mark.parametrize("side", ["left", "right"])
def test_requests_are_padded_on_the_form_s_side(side):
    inputs = Inputs(original(fixture("bert")), replace(GOOD, pad=1), Scale())
    request = inputs.joined(inputs.samples((3, 5), seed=0), side)
    padding = slice(0, 2) if side == "left" else slice(3, 5)
    assert request["attention_mask"].sum(axis=1).tolist() == [3, 5]
    np.testing.assert_array_equal(request["attention_mask"][0, padding], 0)
    np.testing.assert_array_equal(request["input_ids"][0, padding], 1)


@pytest.fixture
def made(tmp_path, monkeypatch):
    """The forms that are tried, in this process, so that they need not be registered, and at which width."""
    found = []

    def once(kitchen, timeout, form):
        found.append((form.name, kitchen.scale.width))
        return Row(form.name, size=1, sites=1, refused=f"it is {kitchen.scale.width} wide")

    monkeypatch.setattr("tools.forms.table._in_a_process", once)
    monkeypatch.setattr("tools.forms.table.PAGE", tmp_path / "models.md")
    return found


def test_what_was_tried_is_kept(kitchen, tmp_path, made):
    for _ in range(2):
        make_table(kitchen, "g*", jobs=1, timeout=9, stale=False)
    assert made == [("good", Scale.width)]
    text = (tmp_path / "models.md").read_text(encoding="utf-8")
    assert "`good`" in text
    assert "Not tried: `bad`." in text


def test_the_page_has_both_widths_whichever_was_tried_last(kitchen, tmp_path, made):
    kitchen = replace(kitchen, forms=by_name(kitchen.forms.values(), [replace(GOOD, name="real", real=True)]))
    for width in (Scale.width, WIDE):
        make_table(replace(kitchen, scale=Scale.of_width(width)), None, jobs=1, timeout=9, stale=False)
    assert [name for name, width in made if width == WIDE] == ["good", "bad"], "a trained model has one width"
    (line,) = (
        s for s in (tmp_path / "models.md").read_text("utf-8").splitlines() if s.startswith("| `good`")
    )
    assert f"it is {Scale.width} wide" in line
    assert line.endswith(f"refused: it is {WIDE} wide |")
