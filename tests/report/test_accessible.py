"""The report for everyone: its structure as assistive technology reads it, its colours, its layout."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import escape, unescape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from support_report_cases import CASES, written

from onnx_memo.report.charts import WIDTH
from onnx_memo.report.style import STYLE

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TEXTS = ("ink", "soft", "alert", "good")  # colours that words have
MARKS = ("before", "after", "cost")  # and those that lines, dots and bars have


class Outline(HTMLParser):
    """The elements of a page as they come, with their attributes and the text right after them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs), []))

    def handle_data(self, data):
        if self.found:
            self.found[-1][2].append(data)

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes, _ in self.found if tag in tags]


@pytest.fixture(scope="module", params=CASES, ids=lambda name: name.replace(" ", "_"))
def outline(request, tmp_path_factory) -> Outline:
    return Outline(written(tmp_path_factory.mktemp("report"), CASES[request.param]()))


# ---- Structure


def test_the_page_has_a_language_a_title_and_landmarks(outline):
    assert outline.all("html") == [{"lang": "en"}]
    title = next(text for tag, _, text in outline.found if tag == "title")
    assert "".join(title).strip()
    assert len(outline.all("header")) == len(outline.all("main")) == 1
    viewport = [meta for meta in outline.all("meta") if meta.get("name") == "viewport"]
    assert viewport == [{"name": "viewport", "content": "width=device-width, initial-scale=1"}]  # zoom stays


def test_headings_go_down_one_step_at_a_time(outline):
    levels = [int(tag[1]) for tag, _, _ in outline.found if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(lower - upper <= 1 for upper, lower in pairwise(levels))


def test_every_section_is_named_by_a_heading_of_its_own(outline):
    names = [attributes["aria-labelledby"] for attributes in outline.all("section")]
    assert len(names) == len(set(names)) >= 5
    assert set(names) <= {attributes.get("id") for attributes in outline.all("h2")}


def test_ids_are_unique(outline):
    ids = [attributes["id"] for _, attributes, _ in outline.found if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_every_picture_is_named_or_hidden(outline):
    for svg in outline.all("svg"):
        named = svg.get("role") == "img" and svg.get("aria-labelledby")
        assert named or svg.get("aria-hidden") == "true"


def test_every_heading_of_a_table_says_what_it_is_of(outline):
    for heading in outline.all("th"):
        assert heading.get("scope") in {"col", "row", "rowgroup"}
    assert len(outline.all("caption")) == len(outline.all("table"))
    assert all("".join(text).strip() for tag, _, text in outline.found if tag in {"th", "caption"})


# ---- Colours


def palettes() -> dict[str, dict[str, str]]:
    """The colours by name: in the light, in the dark, in print. The later ones change what the first has."""
    light, dark, printed = (
        dict(re.findall(r"--(\w+): (#[0-9a-f]{3,8})", block))
        for block in re.findall(r":root \{(.*?)\}", STYLE, flags=re.DOTALL)
    )
    return {"light": light, "dark": light | dark, "print": light | printed}


def luminance(colour: str) -> float:
    """Relative luminance, 0 to 1, as WCAG 2 defines it."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_words_and_marks_stand_out(scheme):
    """4.5 for text and 3 for what pictures are drawn with (WCAG 2, 1.4.3 and 1.4.11)."""
    colours = palettes()[scheme]
    for ground in ("page", "panel"):
        for name in TEXTS:
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    for name in MARKS:
        assert contrast(colours[name], colours["page"]) >= 3, name


# ---- In a browser

PROBE = """
<meta charset="utf-8">
<iframe style="border:0;width:{width}px;height:4000px" srcdoc="{page}"></iframe><pre id="found"></pre>
<script>
addEventListener("load", () => {{
  const frame = document.querySelector("iframe"), inside = frame.contentDocument;
  const box = e => {{ const r = e.getBoundingClientRect(); return [r.left, r.right, r.width, r.height]; }};
  const texts = [...inside.querySelectorAll(".chart text")];
  document.getElementById("found").textContent = JSON.stringify({{
    charts: Object.fromEntries([...inside.querySelectorAll(".chart")].map(e => [e.id, box(e)])),
    texts: texts.map(e => [e.textContent, ...box(e)]),
    fonts: texts.map(e => parseFloat(frame.contentWindow.getComputedStyle(e).fontSize)
      * e.ownerSVGElement.getBoundingClientRect().width / WIDTH),
    page: inside.documentElement.scrollWidth,
    fetched: frame.contentWindow.performance.getEntriesByType("resource").map(e => e.name),
  }});
}});
</script>
"""


def browse(page: str, folder: Path, width: int) -> dict[str, Any]:
    """What headless Chromium lays out for a window of this width; no network."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    probe = folder / "probe.html"
    probe.write_text(
        PROBE.replace("WIDTH", str(WIDTH)).format(width=width, page=escape(page)), encoding="utf-8"
    )
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
    flags += ["--disable-background-networking", "--disable-component-update", "--hide-scrollbars"]
    flags += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder / 'profile'}"]
    flags += [f"--window-size={max(width, 600)},900", f"--screenshot={folder / 'page.png'}", "--dump-dom"]
    done = subprocess.run(
        [CHROMIUM, *flags, probe.as_uri()], capture_output=True, encoding="utf-8", timeout=120, check=True
    )
    assert (folder / "page.png").read_bytes().startswith(b"\x89PNG")
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, flags=re.DOTALL)
    assert found is not None
    return json.loads(unescape(found[1]))


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("case", ["usual", "rows", "zeros, infinities, NaN", "hostile text"])
def test_in_a_browser(case, width, tmp_path):
    found = browse(written(tmp_path, CASES[case]()), tmp_path, width)
    assert len(found["charts"]) >= 8
    for left, right, wide, high in found["charts"].values():
        assert left >= 0 and right <= width and wide >= 250 and high >= 60
    for text, left, right, _, _ in found["texts"]:
        assert left >= 0 and right <= width, text
    assert min(found["fonts"]) >= 10  # of the labels, in pixels
    assert found["page"] <= width  # no scrolling sideways
    assert found["fetched"] == []
