"""What a terminal shows of figures."""

from __future__ import annotations

import pytest

from onnx_memo.tables import bench_tables

REPORT = {
    "baseline_ms": 2.0,
    "memo_ms": 1.0,
    "ratio": 0.52,
    "noise": 0.013,
    "hit_rate": 0.5,
    "sites": {"encoder": 0.5},
    "rows_run": 0.5,
    "outputs": {},
    "requests": 10,
    "batch": 1,
    "threads": 1,
    "library": "native",
    "notes": [],
    "predicted": {"ratio": 0.5, "hit_rate": 0.5, "noise": 0.01},
    "predicted_with": "native",
}


def sentences(**changes: object) -> list[str]:
    return [part for part in bench_tables(REPORT | changes) if isinstance(part, str)]


def test_a_ratio_stands_beside_the_one_to_expect():
    assert sentences() == ["to expect was a ratio of 0.500: off by +0.020"]


@pytest.mark.parametrize("changes", [{"library": "stock"}, {"batch": 32}, {"threads": 2}])
def test_what_ran_another_way_is_not_compared(changes):
    (said,) = sentences(**changes)
    assert said.endswith(
        "with native operators, one request at a time on one thread: not comparable with this run"
    )
    assert "off by" not in said


def test_without_a_prediction_nothing_is_said():
    assert sentences(predicted=None) == []
