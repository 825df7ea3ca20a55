"""What a terminal shows of figures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from onnx_memo.comparison import Comparison, latency_of
from onnx_memo.notebook import Table
from onnx_memo.proof.measure import Kept
from onnx_memo.sessions import Raced
from onnx_memo.tables import bench_tables, shown


def compared(seconds, hits=None, **changes: object) -> Comparison:
    """Of requests that take so many seconds, [rounds][requests][original, bundle]."""
    raced = Raced(np.asarray(seconds, np.float64))
    count = raced.seconds.shape[1]
    latency = latency_of(raced, np.asarray(hits if hits is not None else [True] * count))
    made = Comparison(
        baseline_ms=latency["all"].original.p50.value,
        memo_ms=latency["all"].bundle.p50.value,
        ratio=raced.ratio,
        noise=raced.noise,
        hit_rate=0.5,
        sites={"encoder": 0.5},
        rows_run=0.5,
        outputs={},
        requests=count,
        batch=1,
        threads=1,
        library="native",
        notes=[],
        predicted=None,
        predicted_with="native",
        rounds=len(seconds),
        latency=latency,
        kept=[],
        accuracy=None,
    )
    return replace(made, **changes)


# ---- Times


def test_percentiles_of_hits_and_misses_stand_apart():
    """200 requests of 1 to 200 ms; the even ones hit, in a tenth of the time."""
    original = np.arange(1, 201) / 1e3
    hits = np.arange(200) % 2 == 1
    bundle = np.where(hits, original / 10, original)
    latency = compared([np.stack([original, bundle], axis=1)] * 3, hits).latency
    assert [group.requests for group in latency.values()] == [200, 100, 100]
    assert latency["hits"].ratio.value == pytest.approx(0.1)
    assert latency["misses"].ratio.value == 1
    times = latency["hits"].bundle
    assert [times.p50.value, times.p95.value, times.p99.value] == pytest.approx(
        [10.2, 19.2, 20.0]
    )  # one that occurred
    assert latency["all"].original.p99.value == pytest.approx(199)


def test_a_group_without_requests_is_not_there():
    assert list(compared([[[1, 1]]], [True]).latency) == ["all", "hits"]
    assert list(compared([[[1, 1]]], [False]).latency) == ["all", "misses"]


def test_the_spread_of_a_percentile_is_half_the_range_of_the_rounds():
    times = compared([[[0.010, 1]], [[0.014, 1]], [[0.011, 1]]]).latency["all"].original
    assert (times.p95.value, times.p95.spread) == pytest.approx((11, 2))


@pytest.mark.parametrize(
    ("bundle", "equal"), [((1.01, 0.98), True), ((1.04, 1.03), False), ((0.8, 0.7), False)]
)
def test_a_ratio_within_its_spread_of_1_is_called_equal(bundle, equal):
    made = compared([[[1.0, first]] for first in bundle])
    assert made.latency["all"].equal == equal
    assert made._repr_html_().count(", equal") == 2 * equal  # of all, and of the hits


def test_one_round_says_nothing_of_the_spread():
    made = compared([[[1.0, 1.0]]])
    assert "equal" not in made._repr_html_()
    assert "\N{PLUS-MINUS SIGN}" not in made._repr_html_()
    assert any(
        "of one round no spread is known" in part for part in bench_tables(made) if isinstance(part, str)
    )


def test_a_99th_percentile_of_few_requests_is_said_to_be_the_slowest():
    hits = np.arange(150) < 110
    (said,) = (p for p in bench_tables(compared([[[1.0, 1.0]] * 150] * 2, hits)) if "p99" in str(p))
    assert said.endswith("is the slowest of them (misses)")


# ---- Sentences


def sentences(**changes: object) -> list[str]:
    made = compared([[[1.0, 0.52]] * 200] * 2, **({"predicted": {"ratio": 0.5, "hit_rate": 0.5}} | changes))
    first, *others = (part for part in bench_tables(made) if isinstance(part, str))
    assert first == "hits: 50.0%; rows run: 50.0%"
    return others


def test_a_ratio_stands_beside_the_one_to_expect():
    assert sentences() == ["to expect was a ratio of 0.500: off by +0.020"]


@pytest.mark.parametrize(("expected", "told"), [(0.55, False), (0.9, True)])
def test_where_fewer_are_reused_than_expected_it_is_said_who_knows_why(expected, told):
    (said,) = sentences(predicted={"ratio": 0.5, "hit_rate": expected})
    assert ("'onnx-memo explain BUNDLE --data FILE' says why" in said) == told
    assert ("50.0% are reused, where 90.0%" in said) == told


@pytest.mark.parametrize("changes", [{"library": "stock"}, {"batch": 32}, {"threads": 2}])
def test_what_ran_another_way_is_not_compared(changes):
    (said,) = sentences(**changes)
    assert said.endswith(
        "with native operators, one request at a time on one thread: not comparable with this run"
    )
    assert "off by" not in said


def test_without_a_prediction_nothing_is_said():
    assert sentences(predicted=None) == []


def test_what_stays_of_the_decision_is_counted():
    kept = [Kept("the nearest neighbour stays", 78, 80), Kept("of the ten nearest stay", 800, 800)]
    assert sentences(predicted=None, kept=kept) == [
        "the nearest neighbour stays: 97.5% (78 of 80)",
        "of the ten nearest stay: 100.0% (800 of 800)",
    ]


def test_text_of_a_bundle_cannot_steer_the_terminal():
    console = Console(width=60, markup=False)
    with console.capture() as captured:
        for part in shown([Table("\x1b[2J", ["\x1b[2J"], [["\x1b[2J"]]), "\x1b[2J"]):
            console.print(part)
    assert "\x1b[2J" not in captured.get()
    assert captured.get().count("\N{REPLACEMENT CHARACTER}[2J") == 4
