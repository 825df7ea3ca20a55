"""The report: every picture is there whatever the evidence, text stays text, nothing is fetched."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html import escape, unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from support_report import make_evidence, make_rows_evidence, with_first, with_requests

from onnx_memo.proof import decisions
from onnx_memo.report import write_report
from onnx_memo.report.charts import WIDTH
from onnx_memo.report.errors import DECISIONS, MOST_RINGS
from onnx_memo.report.evidence import Evidence, Machine, Worst
from onnx_memo.report.numbers import figure, most_outside, percent
from onnx_memo.report.scales import scale
from onnx_memo.report.ways import COLOURS

OF_SITES = ("latency", "length", "error", "strictness", "site-hits", "site-saving", "ways")
OF_ROWS = ("latency", "length", "error", "rows", "ways", "strictness", "site-hits", "site-saving")
SVG = "http://www.w3.org/2000/svg"
MOST_BYTES = 1_500_000
EVIL = "<script>alert(1)</script>\"'&\x00\x1b]]>\ud800"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


# ---- Evidence at the edges


def all_misses() -> Evidence:
    nothing = {"distance": math.inf, "error": 0.0, "token_error": 0.0}
    evidence = with_requests(make_evidence(40, 3, hit_rate=0), lambda number, request: nothing)
    idle = {"level": None, "hit_rate": 0.0, "saving_us": 0.0, "overhead_us": 0.0}
    sites = [replace(site, **idle) for site in evidence.sites]
    return replace(evidence, sites=sites, worst=Worst(0.0, "line 1", 5, None))


def no_requests() -> Evidence:
    evidence = make_evidence(1, 1)
    return replace(
        evidence,
        **dict.fromkeys(("requests", "sites", "strictness", "alternatives", "notes"), ()),
        promise=replace(evidence.promise, held_out=0, outside=0, p_value=1.0),
        split=replace(evidence.split, store=0, fit=0, held_out=0, repeats=math.nan),
        bytes=0,
        entries=0,
    )


def wild_numbers() -> Evidence:
    wild = (0.0, math.inf, math.nan, -1e-9, 1e-300, 1e9)
    names = ("error", "distance", "original_ms", "bundle_ms", "token_error")
    evidence = with_requests(
        make_evidence(60, 3), lambda number, request: {names[number // 6 % 5]: wild[number % len(wild)]}
    )
    steps = list(evidence.strictness)
    steps[3] = replace(steps[3], seen=replace(steps[3].seen, worst=math.inf, p95=0.0))
    return replace(
        evidence,
        sites=with_first(evidence.sites, saving_us=math.inf, overhead_us=math.nan, hit_rate=math.nan),
        strictness=steps,
        predicted=replace(evidence.predicted, ratio=math.inf, miss_ratio=math.nan),
        worst=replace(evidence.worst, error=math.inf),
    )


def zero_tolerance() -> Evidence:
    evidence = make_evidence(60, 2)
    evidence = replace(evidence, promise=replace(evidence.promise, metric="argmax", tolerance=0.0))
    return with_requests(evidence, lambda number, request: {"error": 0.25 * (number % 9 == 0)})


def hostile_text() -> Evidence:
    long = EVIL * 20_000
    evidence = with_requests(make_evidence(150, 3), lambda number, request: {"text": long, "error": 1.0})
    return replace(
        evidence,
        **dict.fromkeys(("title", "model", "data", "version"), long),
        machine=Machine(long, cores=2, onnxruntime=long, library=long),
        promise=replace(evidence.promise, metric=long),
        split=replace(evidence.split, how=long),
        sites=with_first(evidence.sites, name=long, level=long, reason=long),
        alternatives=with_first(evidence.alternatives, name=long, level=long, reason=long),
        chosen=long,
        worst=replace(evidence.worst, text=long),
        notes=[long],
    )


def fixed_length() -> Evidence:
    return replace(make_evidence(200, 12, lengths=(128, 128)), threshold=0.88)


def wild_rows() -> Evidence:
    evidence = make_rows_evidence(60)
    shares = (math.nan, math.inf, -1.0, 2.0, None)
    evidence = with_requests(
        evidence, lambda number, request: {"rows": shares[number]} if number < len(shares) else {}
    )
    ways = [*evidence.alternatives]
    for number, error in enumerate((math.nan, math.inf, 0.0, -math.inf)):
        ways[number] = replace(ways[number], error=error)
    ways[4] = replace(ways[4], ratio=math.inf)
    ways[5] = replace(ways[5], level=EVIL)
    return replace(evidence, alternatives=ways, strictness=evidence.strictness[::6])


CASES = {
    "usual": make_evidence,
    "rows": make_rows_evidence,
    "rows, all of them stored": lambda: make_rows_evidence(80, literal=1.0),
    "rows, wild numbers": wild_rows,
    "one request, one site": lambda: make_evidence(1, 1, hit_rate=1),
    "all misses, nothing found": all_misses,
    "all hits": lambda: make_evidence(80, 2, hit_rate=1),
    "fixed length": fixed_length,
    "nothing at all": no_requests,
    "zeros, infinities, NaN": wild_numbers,
    "tolerance zero": zero_tolerance,
    "hostile text": hostile_text,
    "10,000 requests, 48 sites": lambda: make_evidence(10_000, 48),
}


@pytest.fixture(scope="module", params=CASES, ids=lambda name: name.replace(" ", "_"))
def report(request, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, CASES[request.param]())
    return path.read_text(encoding="utf-8")


def written(path: Path, evidence: Evidence) -> str:
    write_report(path / "report.html", evidence)
    return (path / "report.html").read_text(encoding="utf-8")


def visible(report: str) -> str:
    """The words of the page, without its markup and style."""
    text = re.sub(r"<style>.*?</style>", "", report, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", text)))


def pictures(rows: bool) -> tuple[str, ...]:
    return OF_ROWS if rows else OF_SITES


def drawings(report: str) -> dict[str, ElementTree.Element]:
    found = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", report, flags=re.DOTALL)]
    return {svg.get("id", ""): svg for svg in found}


# ---- Whatever the evidence


def test_every_picture_is_there_and_says_what_it_shows(report):
    drawn = drawings(report)
    for name in pictures("Rows run" in report):
        title, summary = drawn[name].find(f"{{{SVG}}}title"), drawn[name].find(f"{{{SVG}}}desc")
        assert title is not None and title.text
        assert summary is not None and summary.text
        assert drawn[name].get("role") == "img"
        assert {title.get("id"), summary.get("id")} == set(drawn[name].get("aria-labelledby", "").split())


def test_every_mark_stands_inside_its_picture(report):
    for name in pictures("Rows run" in report):
        picture = drawings(report)[name]
        width, height = (float(part) for part in picture.get("viewBox", "").split()[2:])
        for mark in picture.iter():
            for key in ("x", "y", "cx", "cy", "width", "height"):
                if (value := mark.get(key)) is not None:
                    assert -1 <= float(value) <= (width if key in ("x", "cx", "width") else height) + 1
            assert not re.search("nan|inf", mark.get("d", ""))


def test_nothing_is_fetched(report):
    assert set(re.findall(r"[a-z]+://[^\s\"'<>)]*", report)) <= {SVG}
    assert not re.search(r"@import|@font-face|url\(", report)

    class Tags(HTMLParser):
        def handle_starttag(self, tag, attrs):
            assert tag not in {"script", "link", "img", "iframe", "object", "embed", "base", "use", "image"}
            for name, _ in attrs:
                assert name not in {"src", "href", "xlink:href", "srcset", "data", "action", "background"}
                assert not name.startswith("on")

    Tags().feed(report)


def test_the_page_is_well_formed_and_small(report):
    assert len(report.encode()) < MOST_BYTES
    ElementTree.fromstring(re.sub(r"<meta[^>]*>", "", report.split("\n", 1)[1]))  # every tag is closed


# ---- What it says


def test_the_headline_says_what_was_measured(tmp_path):
    evidence = with_requests(
        make_evidence(100, hit_rate=1.0),
        lambda number, _: {"original_ms": 10.0, "bundle_ms": 6.9, "hit": number < 94, "error": 0.0},
    )
    evidence = replace(evidence, promise=replace(evidence.promise, outside=1, p_value=0.037))
    text = visible(written(tmp_path, evidence))
    assert "31 % lower latency at a 94 % hit rate" in text
    assert "Promise kept. 1 of 100 held-out requests is outside the tolerance (1 allowed" in text
    evidence = with_requests(evidence, lambda number, request: {"bundle_ms": 10.3})
    assert "3 % higher latency" in visible(written(tmp_path, evidence))


def test_a_broken_promise_is_not_called_kept(tmp_path):
    evidence = make_evidence()
    broken = replace(evidence, promise=replace(evidence.promise, outside=9, p_value=0.7))
    assert "Promise not kept. 9 of 150 held-out requests are outside the tolerance (2 allowed" in visible(
        written(tmp_path, broken)
    )
    few = replace(evidence.promise, held_out=40, outside=0, p_value=0.13)
    evidence = replace(evidence, promise=few)
    assert "Promise not proven." in visible(written(tmp_path, evidence))


@pytest.mark.parametrize("decision", DECISIONS)
def test_a_promise_about_decisions_is_told_as_one(tmp_path, decision):
    evidence = make_evidence()
    promise = replace(evidence.promise, metric=decision, tolerance=0.0, outside=2)
    text = visible(written(tmp_path, replace(evidence, promise=promise)))
    assert "2 of 150 held-out requests lead to another decision (" in text
    assert f"lead to the same decision as with the original model: {DECISIONS[decision]}." in text


def test_every_decision_has_its_words():
    assert set(DECISIONS) == set(decisions.DECISIONS)


def test_hostile_text_stays_text(tmp_path):
    report = written(tmp_path, hostile_text())
    assert "<script" not in report
    assert report.count(escape("<script>alert(1)</script>")) > 10
    assert "\x00" not in report and "\x1b" not in report


def test_decisions_split_machine_and_versions_are_named(tmp_path):
    evidence = make_evidence()
    text = visible(written(tmp_path, evidence))
    words = [evidence.split.how, evidence.worst.text, "0.684", "300 stored", "150 held out"]
    words += [evidence.machine.processor, "native library", "1.23.2", "42.1 MiB", "questions.txt"]
    words += [site.reason for site in evidence.sites] + [*evidence.notes]
    words += [way.name for way in evidence.alternatives]
    for word in words:
        assert word in text


def test_without_texts_requests_are_told_by_their_places(tmp_path):
    evidence = with_requests(
        make_evidence(40), lambda number, _: {"error": 1.0, "place": f"line {number + 7}", "text": None}
    )
    evidence = replace(evidence, worst=Worst(1.0, "line 12", 1234, None))
    page = written(tmp_path, evidence)
    text = visible(page)
    assert "100 times the tolerance, at line 12 of the data, of length 1,234." in text
    rings = [ring[0].text or "" for ring in drawings(page)["error"] if ring.get("class") == "ring outside"]
    assert rings[-1].endswith(": line 46") and "line 46" in text
    assert "blockquote>" not in page


def test_dots_left_out_are_counted(tmp_path):
    text = visible(written(tmp_path, make_evidence(10_000)))
    assert "3,000 of 20,000 dots are drawn." in text
    assert "dots are drawn" not in visible(written(tmp_path, make_evidence(1_000)))


def test_misses_hits_and_failures_look_different(tmp_path):
    def change(number, request):
        return {"hit": number < 20, "error": 0.02 if number < 3 else 0.001 if number < 20 else 0.0}

    evidence = with_requests(make_evidence(30, hit_rate=1), change)
    picture = drawings(written(tmp_path, evidence))["error"]
    marks = {mark.get("class"): mark for mark in picture}
    assert len(marks["dots hit solid"]) == 17
    assert marks["cross miss"].get("d", "").count("M") == 10
    assert sum(mark.get("class") == "ring outside" for mark in picture) == 3
    assert "line limit" in marks and "line reach" not in marks
    assert "line reach" in {
        mark.get("class") for mark in drawings(written(tmp_path, fixed_length()))["error"]
    }


def test_of_many_requests_outside_the_worst_are_drawn(tmp_path):
    evidence = with_requests(
        make_evidence(MOST_RINGS + 1, hit_rate=1),
        lambda number, _: {"hit": True, "error": 1.0 + number, "text": f"request {number}"},
    )
    page = written(tmp_path, evidence)
    notes = [ring[0].text or "" for ring in drawings(page)["error"] if ring.get("class") == "ring outside"]
    assert len(notes) == MOST_RINGS
    assert notes[0].endswith(f"request {MOST_RINGS}")
    assert not any(note.endswith("request 0") for note in notes)
    assert f"The {MOST_RINGS} worst of them are drawn." in visible(page)


def test_at_one_length_the_original_stands_left_of_the_bundle(tmp_path):
    picture = drawings(written(tmp_path, fixed_length()))["length"]
    before, after = (group for group in picture if group.tag == f"{{{SVG}}}g")
    assert before.get("class", "").startswith("dots before")
    assert max(float(dot.get("cx", "")) for dot in before) < min(float(dot.get("cx", "")) for dot in after)


def test_the_level_rows_says_how_many_rows_run(tmp_path):
    def change(number, request):
        hit, error = number < 90, 0.02 * (number == 5)
        times = {"original_ms": 10.0, "bundle_ms": 4.0}
        return {**times, "hit": hit, "rows": 0.2 if hit else 1.0, "error": error}

    evidence = with_requests(make_rows_evidence(100), change)
    text = visible(written(tmp_path, evidence))
    assert "60 % lower latency with 28 % of the rows run" in text
    assert "Rows run 28 % 90 % of the requests reuse an entry" in text
    assert "95 % run 100 % or less. 10 requests reused nothing and ran whole." in text
    assert "error rows run length" in text and "distance between the keys" not in text
    assert "The encoder is guarded as a whole: a request runs the rows that differ" in text
    assert "The encoder is guarded as a whole: 94 % of the requests hit." in text
    assert "A mean request is spared 5,900 µs of the encoder's time" in text
    marks = [mark.get("class") for mark in drawings(written(tmp_path, evidence))["rows"]]
    assert "area after" in marks and "area before" in marks


def test_exactness_against_time_draws_what_has_an_error(tmp_path):
    evidence = make_rows_evidence()
    evidence = replace(evidence, alternatives=with_first(evidence.alternatives, error=math.nan))
    page = written(tmp_path, evidence)
    picture = drawings(page)["ways"]
    assert {mark.get("class", ""): len(mark) for mark in picture if mark.tag == f"{{{SVG}}}g"} == {
        "dots level0 solid": 1,
        "dots level1 solid": 1,
        "dots level2 solid": 3,
        "dots level3 solid": 3,
    }
    assert sum(mark.get("class") == "ring chosen" for mark in picture) == 1
    text = visible(page)
    assert "8 ways tried on the fit part." in text
    assert "The one chosen, rows in int8, bound 0.05, takes 0.370 of the original's time there." in text
    assert "The held-out part proves 0.50 of its bound, which is what the bundle uses." in text


def test_ways_that_differ_in_a_setting_are_joined(tmp_path):
    evidence = make_rows_evidence()
    lines = {mark.get("class") for mark in drawings(written(tmp_path, evidence))["ways"]}
    assert {"line level2", "line level3"} <= lines  # by the bound
    assert "line level0" not in lines  # other sites, other lookups


def test_a_level_of_any_name_is_drawn_and_named(tmp_path):
    """The report knows no list of levels: a new one needs no line in it."""
    evidence = make_evidence()
    ways = [
        replace(evidence.alternatives[0], level=f"new level {number}", name=f"new way {number}")
        for number in range(COLOURS + 1)
    ]
    page = written(tmp_path, replace(evidence, alternatives=ways))
    dots = [mark for mark in drawings(page)["ways"] if mark.tag == f"{{{SVG}}}g"]
    assert len(dots) == len(ways)
    classes = {mark.get("class", "").split()[1] for mark in dots}
    assert classes == {f"level{number}" for number in range(COLOURS)}
    assert all(f".{kind} {{" in page for kind in classes)
    assert all(f"new level {number}" in visible(page) for number in range(len(ways)))


def test_what_no_entry_was_found_for_stands_beside_the_scale(tmp_path):
    """An infinite distance takes no part in the scale of the others."""
    lost = with_requests(
        make_evidence(40, hit_rate=0.5), lambda _, r: {} if r.hit else {"distance": math.inf}
    )
    page = written(tmp_path, lost)
    ticks = [mark.text for mark in drawings(page)["error"] if mark.get("class") == "tick"]
    assert "none" in ticks
    assert "nothing was found to compare with" in visible(page)


def test_strictness_with_two_settings_names_none_between(tmp_path):
    evidence = make_rows_evidence()
    evidence = replace(evidence, strictness=evidence.strictness[::6])
    assert "without a new bundle. At" not in visible(written(tmp_path, evidence))


# ---- Figures and scales


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (12.345, "12.3"),
        (1234.5, "1,234"),
        (0.00081, "0.000810"),
        (3.14e-5, "3.1 \N{MULTIPLICATION SIGN} 10⁻⁵"),
        (-2, "\N{MINUS SIGN}2.00"),
        (math.inf, "∞"),
        (math.nan, "\N{EN DASH}"),
    ],
)
def test_figures(value, text):
    assert figure(value).replace("\xa0", " ") == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0 %"),
        (1, "100 %"),
        (0.942, "94 %"),
        (0.9991, "99.9 %"),
        (0.99999, "over 99.9 %"),
        (0.00001, "under 0.1 %"),
        (math.nan, "\N{EN DASH}"),
    ],
)
def test_shares_never_round_to_all_or_nothing(share, text):
    assert percent(share).replace("\xa0", " ") == text


def test_how_many_may_be_outside():
    assert [most_outside(n, 0.95, 0.95) for n in (0, 58, 59, 150)] == [None, None, 0, 2]
    assert most_outside(100_000, 0.95, 0.95) == pytest.approx(4886, abs=2)
    assert most_outside(150, 1.0, 0.95) is None


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    "values", [[], [0], [5], [0, 1e-12], [-3, 8], [1e-7, 1e7], [math.inf], [math.nan, 2], [1e-300, 1e300]]
)
def test_scales_place_every_value_and_have_ticks(values, log):
    made = scale(values, 10, 400, log=log)
    for value in values:
        assert 10 <= made.at(value) <= 400
    ticks = made.ticks()
    assert 2 <= len(ticks) <= 9
    assert len({label for _, label in ticks}) == len(ticks)


def test_what_is_under_the_scale_is_zero_or_less_than_its_low_end():
    """The strip below a logarithmic scale: zeros alone, or small values as well."""
    assert not scale([0, 1, 50], 0, 100, log=True).cut
    assert scale([0, 1e-9, 50], 0, 100, log=True).cut


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
    font: parseFloat(frame.contentWindow.getComputedStyle(texts[0]).fontSize),
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
    probe.write_text(PROBE.format(width=width, page=escape(page)), encoding="utf-8")
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
    assert tuple(found["charts"]) == pictures(case.startswith("rows"))
    for left, right, wide, high in found["charts"].values():
        assert left >= 0 and right <= width and wide >= 300 and high >= 60
    for text, left, right, _, _ in found["texts"]:
        assert left >= 0 and right <= width, text
    assert found["font"] * found["charts"]["latency"][2] / WIDTH >= 10  # of the labels, in pixels
    assert found["page"] <= width  # no scrolling sideways
    assert found["fetched"] == []
