"""The one drawer: its elements are well-formed whatever the text, and nothing else writes SVG."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from onnx_memo.report.svg import NAMESPACE, Drawing, element

ROOT = Path(__file__).parents[2]
EVIL = "</text><script>\"'&\x00]]>"


def drawn(drawing: Drawing) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(drawing.svg()))


@pytest.mark.parametrize(
    ("given", "want"),
    [
        ({"x": 1.26}, '<a x="1.3"/>'),
        ({"x": 2.04}, '<a x="2"/>'),
        ({"x": -0.5}, '<a x="-0.5"/>'),
        ({"x": None}, "<a/>"),
        ({"class_": "line after"}, '<a class="line after"/>'),
        ({"text_anchor": "end"}, '<a text-anchor="end"/>'),
        ({"aria_label": 'a "<b>" & c'}, '<a aria-label="a &quot;&lt;b&gt;&quot; &amp; c"/>'),
    ],
)
def test_attributes(given, want):
    assert element("a", **given) == want


def test_an_element_holds_markup():
    assert element("g", element("title", "a") + element("a", x=1)) == '<g><title>a</title><a x="1"/></g>'


def test_text_stays_text():
    drawing = Drawing(100, 50)
    drawing.text(1, 2, EVIL, "tick")
    drawing.ring((5, 5), "outside", EVIL)
    drawing.rect((0, 0), (9, 9), "bar", EVIL)
    text, ring, rect = drawn(drawing)
    want = EVIL.replace("\x00", "\N{REPLACEMENT CHARACTER}")
    assert [text.text, ring[0].text, rect[0].text] == [want] * 3


def test_what_is_not_pointed_at_has_no_note():
    drawing = Drawing(100, 50)
    drawing.ring((5, 5), "outside")
    drawing.rect((0, 0), (9, 9), "bar")
    assert [len(mark) for mark in drawn(drawing)] == [0, 0]


def test_a_picture_is_drawn_in_order_after_its_head():
    drawing = Drawing(100, 50.5)
    drawing.line([(0, 1), (2, 3.25)], "after")
    drawing.area([(0, 1), (2, 3)], "before")
    picture = ElementTree.fromstring(drawing.svg(element("title", "a"), id="one", role="img"))
    assert picture.tag == f"{{{NAMESPACE}}}svg"
    assert picture.attrib == {"viewBox": "0 0 100 50.5", "id": "one", "role": "img"}
    assert [mark.tag.partition("}")[2] for mark in picture] == ["title", "path", "path"]
    assert picture[1].attrib == {"class": "line after", "d": "M0 1L2 3.2"}
    assert picture[2].get("class") == "area before"


@pytest.mark.parametrize(
    ("count", "kind"), [(0, " solid"), (19, " solid"), (20, ""), (500, ""), (501, " dense")]
)
def test_many_dots_are_fainter(count, kind):
    drawing = Drawing(10, 10)
    drawing.dots([(1, 1)] * count, "hit")
    (group,) = drawn(drawing)
    assert group.get("class") == f"dots hit{kind}"
    assert len(group) == count


def test_crosses_have_the_size_asked_for():
    drawing = Drawing(12, 12)
    drawing.crosses([(6, 6)], "miss", size=7)
    drawing.crosses([], "miss")
    one, none = drawn(drawing)
    assert one.get("d") == "M2.5 2.5l7 7m0-7l-7 7"
    assert none.get("d") == "M0 0"  # draws nothing, and is a path


def test_nothing_else_writes_svg():
    files = [file for part in ("onnx_memo", "tools") for file in (ROOT / part).rglob("*.py")]
    writers = [file.name for file in files if "<svg" in (text := file.read_text()) or NAMESPACE in text]
    assert writers == ["svg.py"]
