"""The documents name files that are there."""

from __future__ import annotations

import re

import pytest
from support import ROOT

PAGES = sorted([*ROOT.glob("docs/*.md"), *ROOT.glob("*.md")])
PLACES = (ROOT, ROOT / "onnx_memo", ROOT / "custom_ops")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_are_there(page):
    named = re.findall(r"`([\w./-]+\.(?:py|md|h|cc))`", page.read_text(encoding="utf-8"))
    missing = {name for name in named if not any((place / name).is_file() for place in PLACES)}
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_rooms_that_a_page_names_are_there(page):
    named = re.findall(r"`((?:onnx_memo|custom_ops|levels|graph|store|proof|data)/[\w/]*)`", page.read_text())
    assert not {name for name in named if not any((place / name).is_dir() for place in PLACES)}


def test_all_rooms_are_described():
    design = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    rooms = design[design.index("## The rooms") : design.index("## The pipeline")]
    for path in (ROOT / "onnx_memo").iterdir():
        if path.suffix == ".py" and path.name != "__init__.py":
            assert f"`{path.name}`" in rooms, path.name
        if (path / "__init__.py").is_file():
            assert f"`{path.name}/`" in rooms, path.name
