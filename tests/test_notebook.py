"""Results in a notebook: tables and sentences as HTML that is safe to show."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support import fixture, original, random_samples, write_samples

import onnx_memo
from onnx_memo.notebook import Table, as_html
from onnx_memo.report.evidence import Predicted
from onnx_memo.store.manifest import parse_manifest

PREDICTED = {"ratio": 0.25, "hit_rate": 0.9, "hit_ratio": 0.1, "miss_ratio": 1.02, "noise": 0.01}
SITE = {"name": "encoder", "softmax": "", "level": "rows", "threshold": 0.1, "lookup": True}
MANIFEST = {
    "version": "0.1.0",
    "source": "model.onnx",
    "entries": 2,
    "tokens": 14,
    "sites": [SITE | {"heads": 4, "width": 32, "share": 1.0}],
    "notes": [],
    "files": {},
}
HOSTILE = "<script>alert(1)</script>\x1b[31m"


def cells(html: str, tag: str) -> list[str]:
    return re.findall(rf"<{tag} [^>]*>(.*?)</{tag}>", html)


def test_a_table_has_its_title_headings_and_rows():
    html = as_html([Table("Sites", ["site", "heads"], [["a", "12"], ["b", "8"]]), "and that is all"])
    assert cells(html, "caption") == ["Sites"]
    assert cells(html, "th") == ["site", "heads"]
    assert cells(html, "td") == ["a", "12", "b", "8"]
    assert html.endswith("<p>and that is all</p>")


def test_figures_stand_to_the_right_of_their_column_and_words_to_the_left():
    sides = re.findall("<td [^>]*text-align:(left|right)", as_html([Table("", "abc", ["xyz"], words=2)]))
    assert sides == ["left", "left", "right"]


@pytest.mark.parametrize(
    "part",
    [HOSTILE, Table(HOSTILE, ["a"], [["b"]]), Table("", [HOSTILE], [["b"]]), Table("", ["a"], [[HOSTILE]])],
)
def test_text_from_anywhere_is_escaped(part):
    html = as_html([part])
    assert "<script" not in html
    assert "\x1b" not in html
    assert "&lt;script&gt;" in html


def test_no_colours_are_set_that_a_light_or_a_dark_page_would_hide():
    html = as_html([Table("a", ["b"], [["c"]]), "d"])
    assert not re.search(r"[^-]color:|background", html)


def test_rows_of_another_length_are_a_mistake_of_ours():
    with pytest.raises(AssertionError, match="as many cells as headings"):
        Table("", ["a", "b"], [["c"]])


def visible(html: str) -> str:
    return "".join(ElementTree.fromstring(f"<div>{html}</div>").itertext())


def test_a_result_shows_itself_and_is_its_manifest(tmp_path):
    data = write_samples(tmp_path / "data.npz", random_samples(original(fixture("bert")), (5, 9), seed=1))
    result = onnx_memo.optimize(fixture("bert"), data, tmp_path / "bundle")
    assert "2 inputs of bert.onnx stored" in visible(result._repr_html_())
    assert result.to_dict() == json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    assert (result.predicted, result.report) == (None, None)


def test_what_was_measured_is_typed():
    manifest = parse_manifest(MANIFEST | {"predicted": PREDICTED, "predicted_with": "native"})
    result = onnx_memo.Result(Path("bundle"), manifest)
    assert result.predicted == Predicted(**PREDICTED)
    assert result.report == Path("bundle/report.html")
    assert "0.250 of the original" in visible(result._repr_html_())


def test_a_comparison_shows_itself(made):
    source = made("bert")
    found = onnx_memo.bench(source.model, source.bundle, source.data, rounds=1)
    shown = visible(found._repr_html_())
    assert "12 requests of 1" in shown
    assert "relative L2 error" in shown
