"""What the report's pictures draw, and what they say of what they leave out."""

from __future__ import annotations

import math
from dataclasses import replace

from support_report import make_evidence, make_rows_evidence, with_first, with_requests
from support_report_cases import SVG, drawings, fixed_length, visible, written

from onnx_memo.report.errors import MOST_RINGS


def test_dots_left_out_are_counted(tmp_path):
    text = visible(written(tmp_path, make_evidence(10_000)))
    assert "1,500 of 9,164 dots are drawn." in text
    assert "dots are drawn" not in visible(written(tmp_path, make_evidence(1_000)))


def test_hits_and_failures_look_different_and_misses_have_no_error_to_draw(tmp_path):
    def change(number, request):
        return {"hit": number < 20, "error": 0.02 if number < 3 else 0.001 if number < 20 else 0.0}

    evidence = with_requests(make_evidence(30, hit_rate=1), change)
    picture = drawings(written(tmp_path, evidence))["error"]
    marks = {mark.get("class"): mark for mark in picture}
    assert len(marks["dots hit solid"]) == 17
    assert sum(mark.get("class") == "ring outside" for mark in picture) == 3
    assert "line limit" in marks and "line reach" not in marks
    assert "line reach" in {
        mark.get("class") for mark in drawings(written(tmp_path, fixed_length()))["error"]
    }


def test_hits_and_misses_have_panels_of_their_own_on_the_same_times(tmp_path):
    evidence = with_requests(make_evidence(40), lambda number, _: {"hit": number < 30})
    drawn = drawings(written(tmp_path, evidence))
    assert "latency" not in drawn
    for name in ("latency", "length"):
        hits, misses = drawn[f"{name}-hits"], drawn[f"{name}-misses"]
        marks = [[m.text for m in panel if m.get("class") == "tick"] for panel in (hits, misses)]
        assert marks[0][-3:] == marks[1][-3:]  # along the bottom
    dots = [len(mark) for mark in drawn["length-misses"] if "dots" in mark.get("class", "")]
    assert dots == [10, 10]
    alone = drawings(written(tmp_path, make_evidence(40, hit_rate=1)))
    assert "latency-hits" in alone and "latency-misses" not in alone


def test_the_time_is_shared_out_among_the_kinds_of_requests(tmp_path):
    def change(number, _):
        hit = number < 3
        times = {"original_ms": 10.0, "bundle_ms": 5.0 if hit else 10.0}
        return {**times, "hit": hit, "stored": number == 0}

    picture = drawings(written(tmp_path, with_requests(make_evidence(4), change)))["bars"]
    bars = [(m.get("class"), float(m.get("width", ""))) for m in picture if "bar" in m.get("class", "")]
    assert [kind for kind, _ in bars] == ["bar literal", "bar near", "bar miss"] * 2
    literal, near, miss, *after = (width for _, width in bars)
    assert abs(near / literal - 2) < 0.01 and abs(miss / literal - 1) < 0.01
    assert [round(width / literal, 2) for width in after] == [0.5, 1.0, 1.0]


def test_a_bundle_that_is_slower_has_the_longer_bar(tmp_path):
    times = {"original_ms": 10.0, "bundle_ms": 30.0, "hit": False}
    picture = drawings(written(tmp_path, with_requests(make_evidence(4), lambda *_: times)))["bars"]
    before, after = (float(m.get("width", "")) for m in picture if "bar" in m.get("class", ""))
    assert abs(after / before - 3) < 0.01


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
    picture = drawings(written(tmp_path, fixed_length()))["length-hits"]
    before, after = (group for group in picture if group.tag == f"{{{SVG}}}g")
    assert before.get("class", "").startswith("dots before")
    assert max(float(dot.get("cx", "")) for dot in before) < min(float(dot.get("cx", "")) for dot in after)


def test_exactness_against_time_draws_what_has_an_error(tmp_path):
    evidence = make_rows_evidence()
    evidence = replace(evidence, alternatives=with_first(evidence.alternatives, error=math.nan))
    page = written(tmp_path, evidence)
    panels = [panel for name, panel in drawings(page).items() if name.startswith("ways-")]
    dots = [sum(len(mark) for mark in panel if "dots" in mark.get("class", "")) for panel in panels]
    assert dots == [1, 1, 3, 3]
    rings = [sum(mark.get("class") == "ring chosen" for mark in panel) for panel in panels]
    assert rings == [0, 0, 1, 0]
    text = visible(page)
    assert "8 ways tried on the fit part." in text
    assert "The one chosen, rows in int8, bound 0.05, takes 0.370 of the original's time there." in text
    assert "On the held-out part 0.50 times its bound is proven, which the bundle uses." in text


def test_ways_that_differ_in_a_setting_are_joined(tmp_path):
    drawn = drawings(written(tmp_path, make_rows_evidence()))
    joined = [any(mark.get("class") == "line joined" for mark in drawn[f"ways-{at}"]) for at in range(4)]
    assert joined == [False, False, True, True]  # by the bound; not other sites, other lookups


def test_a_level_of_any_name_has_a_panel(tmp_path):
    """The report knows no list of levels: a new one needs no line in it."""
    evidence = make_evidence()
    ways = [
        replace(evidence.alternatives[0], level=f"new level {number}", name=f"new way {number}")
        for number in range(7)
    ]
    page = written(tmp_path, replace(evidence, alternatives=ways))
    assert sum(name.startswith("ways-") for name in drawings(page)) == len(ways)
    assert all(f"new level {number}" in visible(page) for number in range(len(ways)))


def test_strictness_with_two_settings_names_none_between(tmp_path):
    evidence = make_rows_evidence()
    evidence = replace(evidence, strictness=evidence.strictness[::6])
    assert "without a new bundle. At" not in visible(written(tmp_path, evidence))
