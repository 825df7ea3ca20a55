"""The evidence of a decision, from a verdict and the times of its bundle, and as JSON."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from onnx_memo.data.samples import Labels
from onnx_memo.levels.base import SiteFigures, StrictnessPoint, Verdict
from onnx_memo.levels.ways import Alternative
from onnx_memo.proof.accuracy import accuracy_of
from onnx_memo.proof.decisions import Label, Neighbours
from onnx_memo.proof.goal import Goal
from onnx_memo.proof.measure import Distance, Judged, Kept, Seen
from onnx_memo.proof.promise import Promise
from onnx_memo.proof.sequence import Calibration
from onnx_memo.proof.thresholds import CurvePoint
from onnx_memo.proof.values import label_value, vector_value
from onnx_memo.report import write_report
from onnx_memo.report.collect import evidence_of
from onnx_memo.report.evidence import Evidence, Machine, Names
from onnx_memo.report.page import page as page_of
from onnx_memo.sessions import Raced

STORED = json.loads((Path(__file__).parent / "evidence.json").read_text(encoding="utf-8"))
TIMES = Raced(np.array([[[8, 1], [8, 2], [8, 3], [8, 9]]]) * 1e-3)
ANGLES = np.radians([0, 10, 30])
NEIGHBOURS = Neighbours(vector_value("states"), vectors=np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1))
LABELS = Goal(Promise(0.0, 0.5, 0.9), None, decision=Label(label_value("logits"), 3))
ROWS, SITES = "rows in int8, bound 0.1", "output at 1 site, one lookup"


def make_verdict(*, rows: bool, stored: int = 8) -> Verdict:
    """Three of four held-out requests are reused; some figures are not finite."""
    sites = [
        SiteFigures("attention.0", "output", 0.75, 500.0, 20.0, "worth it"),
        SiteFigures("attention.1", None, 0.0, 0.0, 0.0, "not worth it"),
    ]
    parts: Any = SimpleNamespace(
        split=SimpleNamespace(store=range(6), fit=range(2), held_out=range(4)),
        stored=[None] * stored,
        counts=np.ones((1, stored), np.int64),
        held_out=SimpleNamespace(
            labels=None,
            extent=lambda at: 10,
            text=lambda at: f"request {at}",
            place=lambda at: f"line {at + 1}",
        ),
        repeats=0.5,
        known=np.array([True, False, False, False]),
        weights=np.array([1.5, 0.5, 0.5, 1.5]),
    )
    blueprint: Any = SimpleNamespace(lengths=np.full(stored, 10))
    return Verdict(
        blueprint=blueprint,
        goal=Goal(Promise(0.01, 0.5, 0.9), Distance(), decision=NEIGHBOURS, neighbours=NEIGHBOURS),
        parts=parts,
        chosen=ROWS if rows else SITES,
        ratio=0.5,
        alternatives=[
            Alternative(ROWS, "rows in int8", 0.5, 0.75, 0.004, "keeps the tolerance"),
            Alternative(SITES, "output", 0.8, 0.5, math.inf, "half of the fit part"),
        ],
        calibration=Calibration(0.5, 1, 4, 0.04, 0.75, ()),
        hits=np.array([True, True, True, False]),
        distances=np.array([0.0, 0.1, 0.3, math.inf]),
        errors=np.array([0.0, 0.001, 0.02, 0.0]),
        token_errors=np.array([0.0, 0.002, math.nan, 0.0]),
        decided=Seen.of([Judged(1 - one, (one, ten)) for one, ten in ((1, 1), (1, 1), (0, 0.5), (1, 1))]),
        rows=np.array([0.0, 0.1, 0.3, 1.0]) if rows else None,
        threshold=None if rows else 0.5,
        strictness=[
            StrictnessPoint(0.0, CurvePoint(0.0, 0.0, 0.0, 0.0, 0.0)),
            StrictnessPoint(1.0, CurvePoint(0.75, math.inf, 0.02, math.inf, 0.25)),
        ],
        sites=[SiteFigures("encoder", "rows", 0.75, 1.0, 2.0, "runs few rows")] if rows else sites,
    )


def make_evidence_of(verdict: Verdict, show_inputs: bool = True) -> Evidence:
    names = Names(title="bundle", model="model.onnx", data="lines.txt")
    made = evidence_of(verdict, TIMES, names, 100, ["one note"], show_inputs)
    return replace(made, version="0", machine=Machine("a processor", 1, "0", "native"))


@pytest.mark.parametrize("kind", STORED)
def test_the_json_object_is_the_stored_one(kind):
    """Scripts read it: no key changes its name, and infinity is a number."""
    made = make_evidence_of(make_verdict(rows=kind == "rows")).as_json()
    assert json.dumps(made, allow_nan=False) == json.dumps(STORED[kind])


def test_without_leave_no_text_is_kept():
    """Requests are told by where they stand in the data."""
    made = make_evidence_of(make_verdict(rows=True), show_inputs=False)
    assert [(request.place, request.text) for request in made.requests[:2]] == [
        ("line 1", None),
        ("line 2", None),
    ]
    assert (made.worst.place, made.worst.length, made.worst.text) == ("line 3", 10, None)
    assert "request" not in json.dumps(made.as_json()["requests"])


def test_infinity_is_infinite_until_it_becomes_json():
    made = make_evidence_of(make_verdict(rows=False))
    assert made.requests[3].distance == math.inf
    assert made.as_json()["requests"][3]["distance"] == 1e30


def test_the_machine_is_this_one():
    machine = evidence_of(make_verdict(rows=False), TIMES, Names("t", "m", "d"), 100, [], False).machine
    assert machine.processor
    assert machine.cores >= 1
    assert machine.library in ("native", "stock")


def test_what_the_encoder_saves_is_what_the_bundle_was_measured_to_save():
    (encoder,) = make_evidence_of(make_verdict(rows=True)).sites
    assert encoder.saving_us == pytest.approx(6000)  # three of four requests reuse 8 ms
    assert encoder.overhead_us == pytest.approx(6000 - (8000 - 3750))


def test_requests_count_by_how_much_of_the_traffic_they_stand_for():
    predicted = make_evidence_of(make_verdict(rows=True)).predicted
    assert predicted.ratio == pytest.approx((1.5 * (1 + 9) + 0.5 * (2 + 3)) / 32)
    assert predicted.hit_rate == pytest.approx((1.5 + 0.5 + 0.5) / 4)


def test_rows_and_what_is_proven_of_their_bound():
    made = make_evidence_of(make_verdict(rows=True))
    assert [request.rows for request in made.requests] == [0.0, 0.1, 0.3, 1.0]
    assert made.proven_share == 0.5
    assert made.threshold is None
    assert made.chosen == made.alternatives[0].name


def test_hits_and_misses_are_measured_apart_with_their_spread():
    rounds = Raced(np.array([[[8, 1], [8, 2], [8, 3], [8, 9]], [[8, 3], [8, 4], [8, 5], [10, 9]]]) * 1e-3)
    names = Names("t", "m", "d")
    hits, misses, whole = evidence_of(make_verdict(rows=True), rounds, names, 100, [], False).groups
    assert [(group.name, group.requests) for group in (hits, misses, whole)] == [
        ("hits", 3),
        ("misses", 1),
        ("all", 4),
    ]
    assert (hits.ratio.value, hits.ratio.spread) == pytest.approx(((2 + 3 + 4) / 24, (12 - 6) / 24 / 2))
    assert (hits.bundle.p50.value, hits.bundle.p50.spread) == pytest.approx((3, 1))
    assert (hits.bundle.p99.value, hits.original.p99.spread) == pytest.approx((4, 0))
    assert (misses.original.p95.value, misses.original.p95.spread) == pytest.approx((9, 1))
    assert whole.ratio.value == pytest.approx(18 / 33)


def test_a_kind_of_request_that_did_not_occur_has_no_group():
    verdict = replace(make_verdict(rows=True), hits=np.ones(4, np.bool_))
    assert [group.name for group in make_evidence_of(verdict).groups] == ["hits", "all"]


def test_the_decision_is_the_nearest_neighbour_and_the_signal_its_distance():
    made = make_evidence_of(make_verdict(rows=True))
    assert made.decisions == [
        Kept("the nearest neighbour stays", 3, 4),
        Kept("of the ten nearest stay", 35, 40),
    ]
    near = 1 - np.cos(np.radians(10))  # of two of the three; 20 degrees of the third
    assert made.signal is not None
    assert made.signal.inputs == 3
    assert made.signal.median == pytest.approx(near)
    assert made.signal.low == pytest.approx(near)


@pytest.mark.parametrize(
    "goal",
    [
        Goal(Promise(0.01, 0.5, 0.9), Distance()),  # no neighbours are known
        Goal(Promise(0.01, 0.5, 0.9), Distance("relative"), neighbours=NEIGHBOURS),
        Goal(Promise(0.0, 0.5, 0.9), Label(label_value("logits")), neighbours=NEIGHBOURS),
    ],
)
def test_without_a_cosine_or_neighbours_there_is_no_signal(goal):
    made = make_evidence_of(replace(make_verdict(rows=True), goal=goal))
    assert made.signal is None
    assert "signal" not in made.as_json()
    assert made.decisions == []


def test_accuracy_is_that_of_the_held_out_part():
    verdict = make_verdict(rows=True)
    verdict.parts.held_out.labels = Labels("y", [2, 1, 0, 2])
    decided = Seen.of([Judged(0.0, (2, 2)), Judged(1.0, (1, 0)), Judged(1.0, (1, 0)), Judged(0.0, (1, 1))])
    made = make_evidence_of(replace(verdict, decided=decided, goal=LABELS))
    assert made.accuracy == accuracy_of("y", [2, 1, 0, 2], [2, 1, 1, 1], [2, 0, 0, 1])
    assert made.as_json()["accuracy"]["before"]["value"] == 0.5
    page = page_of(made).replace("\xa0", " ")
    assert "<dt>Accuracy</dt><dd>50.0 %<small>the original: 50.0 %; no difference was seen" in page
    assert "the original alone is right on 1, the bundle alone on 1: no difference was seen" in page
    assert "Accuracy" not in page_of(replace(made, accuracy=None))


def test_the_column_of_labels_is_escaped():
    found = replace(accuracy_of("y", [1], [1], [1]), column="<script>")
    assert "<script>" not in page_of(replace(make_evidence_of(make_verdict(rows=True)), accuracy=found))


@pytest.mark.parametrize("stored", [4, 8])
def test_the_split_says_what_of_it_is_stored(stored):
    how = make_evidence_of(make_verdict(rows=True, stored=stored)).split.how
    assert ("--max-bytes; they make up 4 of the 8 requests" in how) == (stored == 4)
    assert ("together are the bundle's store" in how) == (stored == 8)


def test_the_report_is_written_from_it(tmp_path):
    write_report(tmp_path / "report.html", make_evidence_of(make_verdict(rows=True)))
    text = (tmp_path / "report.html").read_text(encoding="utf-8").replace("\xa0", " ")
    assert "53 % less time than the original" in text
