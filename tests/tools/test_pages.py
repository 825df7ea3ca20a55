"""The pictures of docs: every mark is inside, every series has a colour in light and in dark."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from tools import pages
from tools.study import page

SVG = "{http://www.w3.org/2000/svg}"
CURVE = [(at / 4, 0.01 * at, 10.0 ** (at - 5)) for at in range(5)]


def bars() -> str:
    series = {"int8": {"a": 0.5, "b & c": 1.2}, "ours": {"a": None, "b & c": 0.3}}
    return pages.bars("Time", series, 1.0, "the original", ".2f")


def curves() -> str:
    panel = {name: [(0.2, 0.1), (1.4, 1e-9)] for name in ("probs", "output")}
    return pages.curves("Error", {"(a)": panel, "(e)": panel}, 0.01, "time", "error")


def study() -> str:
    by_selector = {title: {page.NONE: CURVE, page.CORRECTED: CURVE} for title in page.COLORS}
    return page.picture({name: {"curves": by_selector} for name in "ab"})


every = pytest.mark.parametrize("make", [bars, curves, study])


@every
def test_every_mark_stands_inside_its_picture(make):
    picture = ElementTree.fromstring(make())
    width, height = (float(part) for part in picture.get("viewBox", "").split()[2:])
    for mark in picture.iter():
        points = re.findall(r"(-?[\d.]+) (-?[\d.]+)", mark.get("d", ""))
        points += [(mark.get("x"), mark.get("y"))] if mark.get("x") else []
        for x, y in points:
            assert 0 <= float(x) <= width
            assert 0 <= float(y) <= height


@every
def test_every_series_has_two_colours(make):
    picture = ElementTree.fromstring(make())
    style = picture.findtext(f"{SVG}style") or ""
    kinds = {kind for mark in picture for kind in mark.get("class", "").split()}
    series = {kind for kind in kinds if re.fullmatch(r"[cs]\d", kind)}
    assert series
    assert all(style.count(f".{kind}{{") == 2 for kind in series)  # light and dark


@every
def test_a_picture_says_what_it_shows(make):
    picture = ElementTree.fromstring(make())
    assert picture.get("role") == "img"
    assert picture.get("aria-label")


def test_a_value_that_is_missing_has_no_bar():
    picture = ElementTree.fromstring(bars())
    heights = [float(bar.get("height", "")) for bar in picture.findall(f"{SVG}rect")]
    assert len([height for height in heights if height != 12]) == 3  # 12: the legend's
    assert {text.text for text in picture.findall(f"{SVG}text")} >= {"0.50", "1.20", "0.30", "b & c"}


def test_the_limit_is_dashed_and_stands_at_its_value():
    picture = ElementTree.fromstring(curves())
    limits = [mark for mark in picture.findall(f"{SVG}path") if mark.get("class") == "line limit"]
    labels = {text.text: float(text.get("y", "")) for text in picture.findall(f"{SVG}text")}
    assert len(limits) == 2
    height = float(limits[0].get("d", "").split()[-1])
    assert labels["0.01"] == pytest.approx(height + 4, abs=0.1)
