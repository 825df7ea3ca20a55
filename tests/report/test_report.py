"""The report: every picture is there whatever the evidence, text stays text, nothing is fetched."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html import escape
from html.parser import HTMLParser

import pytest
from support_report import make_evidence, make_rows_evidence, with_requests
from support_report_cases import CASES, SVG, all_misses, drawings, hostile_text, visible, written

from onnx_memo.proof import choice
from onnx_memo.proof.measure import Kept
from onnx_memo.report.errors import DECISIONS, RANKINGS
from onnx_memo.report.evidence import Evidence, Worst

MOST_BYTES = 1_500_000


@pytest.fixture(scope="module", params=CASES, ids=lambda name: name.replace(" ", "_"))
def report(request, tmp_path_factory) -> str:
    return written(tmp_path_factory.mktemp("report"), CASES[request.param]())


def pictures(report: str) -> set[str]:
    """The names of the pictures that have to be there."""
    drawn = set(drawings(report)) - {""}
    whole = {"bars", "error", "sorted", "strictness-hits", "strictness-errors", "ways-0"}
    whole |= {"rows"} if "Rows that a request runs" in report else {"site-hits", "site-saving"}
    assert whole <= drawn
    for name in ("latency", "length"):
        assert drawn & {name, f"{name}-hits", f"{name}-misses"}
    return drawn


def test_every_picture_is_there_and_says_what_it_shows(report):
    drawn = drawings(report)
    for name in pictures(report):
        title, summary = drawn[name].find(f"{{{SVG}}}title"), drawn[name].find(f"{{{SVG}}}desc")
        assert title is not None and title.text
        assert summary is not None and summary.text
        assert drawn[name].get("role") == "img"
        assert {title.get("id"), summary.get("id")} == set(drawn[name].get("aria-labelledby", "").split())


def test_every_mark_stands_inside_its_picture(report):
    for name in pictures(report):
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


TIMES = {"original_ms": 10.0, "error": 0.0, "distance": 0.3, "rows": None}


def of_hits_and_misses(hits: float, misses: float, repeats: int = 0) -> Evidence:
    """94 hits and 6 misses of 10 ms, which take the bundle that long; some hits are literal repeats."""

    def change(number, _):
        hit = number < 94
        stored = number < repeats or not hit  # what is stored, and not reused, is none of them
        return {**TIMES, "hit": hit, "bundle_ms": hits if hit else misses, "stored": stored}

    return with_requests(make_evidence(100), change)


def test_the_headline_says_what_was_measured(tmp_path):
    text = visible(written(tmp_path, of_hits_and_misses(5.0, 11.0)))
    assert "46 % less time than the original The bundle takes 0.536 ± 0.002 of the original's time." in text
    assert "7 % more time than the original" in visible(written(tmp_path, of_hits_and_misses(10.7, 10.7)))


def test_a_difference_within_the_spread_is_called_equal(tmp_path):
    text = visible(written(tmp_path, of_hits_and_misses(10.02, 10.02)))
    assert "The same time as the original, within the spread" in text
    assert "equal 1.002 ± 0.004" in text
    assert "equal" not in visible(written(tmp_path, of_hits_and_misses(10.05, 10.05))).replace(
        "called equal", ""
    )


def test_the_first_lines_say_what_did_the_work(tmp_path):
    near = visible(written(tmp_path, of_hits_and_misses(5.0, 11.0)))
    assert (
        "94 % of the requests are nearly stored: they take a stored result for their own (level: output)."
        in near
    )
    assert "the others look up in vain and give 1.3 % of it back." in near
    both = visible(written(tmp_path, of_hits_and_misses(5.0, 10.0, repeats=20)))
    assert "94 % of the requests reuse what is stored: 20 % are stored word for word, 74 % nearly" in both
    assert "All of the time saved is due to these; the others take as long as before." in both
    assert "21 % is saved by those stored word for word and 79 % is saved by those nearly stored" in both
    literal = visible(written(tmp_path, of_hits_and_misses(5.0, 10.0, repeats=94)))
    assert "94 % of the requests are stored word for word: they take the stored result." in literal
    assert "No request was reused" in visible(written(tmp_path, all_misses()))


def test_hits_and_misses_stand_apart_each_time_with_its_spread(tmp_path):
    text = visible(written(tmp_path, of_hits_and_misses(5.0, 11.0)))
    assert "Hits 94 requests original 10.0 10.0 10.0 0.500 ± 0.002" in text
    bundle = "bundle 5.00 ± 0.02 5.00 ± 0.02 5.00 ± 0.02"
    assert f"{bundle} Misses 6 requests original" in text
    assert "1.100 ± 0.004 bundle 11.00 ± 0.04" in text
    assert "All 100 requests" in text


def test_every_decision_that_was_looked_at_is_told(tmp_path):
    kept = [Kept("the nearest neighbour stays", 148, 150), Kept("the best class stays", 150, 150)]
    text = visible(written(tmp_path, replace(make_evidence(), decisions=kept)))
    assert "Decisions kept 98.7 % the nearest neighbour stays: 148 of 150" in text
    assert "Decisions kept 100 % the best class stays: 150 of 150" in text
    assert "Decisions kept" not in visible(written(tmp_path, replace(make_evidence(), decisions=[])))


def test_errors_stand_against_tolerance_and_signal(tmp_path):
    page = written(tmp_path, make_evidence())
    text = visible(page)
    assert "tolerance 0.01; the nearest other input is 0.080 away" in text
    assert "for one in 20 no more than 0.031" in text
    assert "The tolerance of 0.01 is 0.12 times the median" in text
    for name in ("error", "sorted"):
        marks = [mark.get("class") for mark in drawings(page)[name]]
        assert marks.count("line limit") == 1 and marks.count("line signal") == 2
        labels = [mark.text for mark in drawings(page)[name] if mark.get("class") == "tick mark"]
        assert labels == ["signal, median 0.080", "signal, 5th percentile 0.031"]
    unknown = written(tmp_path, replace(make_evidence(), signal=None))
    assert "nearest other" not in visible(unknown) and "signal" not in visible(unknown)
    assert "line signal" not in [mark.get("class") for mark in drawings(unknown)["error"]]


def test_warnings_stand_at_the_top_and_no_second_time(tmp_path):
    notes = ["an ordinary note", "warning: the tolerance is wide"]
    text = visible(written(tmp_path, replace(make_evidence(), notes=notes)))
    assert text.count("the tolerance is wide") == 1
    assert text.index("Warning : the tolerance is wide") < text.index("What did the work")
    assert text.index("an ordinary note") > text.index("How it was measured")


def test_a_broken_promise_is_not_called_kept(tmp_path):
    evidence = make_evidence()
    broken = replace(evidence, promise=replace(evidence.promise, outside=9, p_value=0.7))
    assert "Promise not kept. 9 of 150 held-out requests are outside the tolerance (2 allowed" in visible(
        written(tmp_path, broken)
    )
    few = replace(evidence.promise, held_out=40, outside=0, p_value=0.13)
    evidence = replace(evidence, promise=few)
    assert "Promise not proven." in visible(written(tmp_path, evidence))


@pytest.mark.parametrize("decision", sorted({*DECISIONS} - {*RANKINGS}))
def test_a_promise_about_decisions_is_told_as_one(tmp_path, decision):
    evidence = make_evidence()
    promise = replace(evidence.promise, metric=decision, tolerance=0.0, outside=2)
    text = visible(written(tmp_path, replace(evidence, promise=promise)))
    assert "2 of 150 held-out requests lead to another decision (" in text
    assert f"lead to the same decision as with the original model: {DECISIONS[decision]}." in text
    assert "One of the requests that lead to another decision stands at line" in text
    # Where it is told how often it is kept, it is not told once more how often it is not.
    assert ("Decisions changed 2 of 150 requests" in text) == (decision != "neighbours")


@pytest.mark.parametrize("decision", RANKINGS)
def test_a_promise_about_an_order_is_told_in_pairs(tmp_path, decision):
    evidence = make_evidence()
    promise = replace(evidence.promise, metric=decision, tolerance=1.0, outside=0)
    kept = [Kept("pairs of requests stay in order", 11_000, 11_175)]
    text = visible(written(tmp_path, replace(evidence, promise=promise, decisions=kept)))
    assert "Of 150 held-out requests: pairs of requests stay in order: 98.4% (11,000 of 11,175)." in text
    assert f"at least 95 % of {DECISIONS[decision]}." in text


def test_every_decision_has_its_words():
    assert set(DECISIONS) == set(choice.DECISIONS)


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


def test_the_level_rows_says_how_many_rows_run(tmp_path):
    def change(number, request):
        hit, error = number < 90, 0.02 * (number == 5)
        times = {"original_ms": 10.0, "bundle_ms": 4.0}
        return {**times, "hit": hit, "stored": False, "rows": 0.2 if hit else 1.0, "error": error}

    evidence = with_requests(make_rows_evidence(100), change)
    text = visible(written(tmp_path, evidence))
    assert (
        "90 % of the requests are nearly stored: they run 20 % of their rows (level: rows in int8)." in text
    )
    assert "Requests reused 90 % all requests together run 28 % of their rows" in text
    assert "95 % run 100 % or less. 10 requests reused nothing and ran whole." in text
    assert "request error rows run length" in text and "distance between the keys" not in text
    assert "The encoder is guarded as a whole: a request runs the rows (tokens) that differ" in text
    marks = [mark.get("class") for mark in drawings(written(tmp_path, evidence))["rows"]]
    assert "area after" in marks and "area before" in marks
