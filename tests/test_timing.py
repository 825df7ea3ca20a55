"""Times with their spread."""

from __future__ import annotations

import math

import numpy as np
import pytest

from onnx_memo.sessions import Raced
from onnx_memo.timing import Measured, ratio_of, times_of

# Three rounds of four requests by two runners; the second runner's last round is slower.
SECONDS = np.array([[[1, 2], [2, 4], [3, 6], [4, 8]]] * 2 + [[[1, 3], [2, 6], [3, 9], [4, 12]]]) * 1e-3


def test_times_are_percentiles_of_the_requests_medians_and_their_spread_is_of_rounds():
    times = times_of(Raced(SECONDS), 1)
    assert (times.p50.value, times.p50.spread) == pytest.approx((6, 1.5))  # rounds give 6, 6, 9
    assert (times.p95.value, times.p95.spread) == pytest.approx((8, 2))
    assert (times.p99.value, times.p99.spread) == pytest.approx((8, 2))
    assert times_of(Raced(SECONDS), 0).p50 == Measured(pytest.approx(3), 0)


def test_a_ratio_is_of_totals_to_any_runner():
    raced = Raced(SECONDS)
    assert (ratio_of(raced, 1).value, ratio_of(raced, 1).spread) == pytest.approx((2, 0.5))
    assert (ratio_of(raced, 0, 1).value, ratio_of(raced, 0, 1).spread) == pytest.approx((1 / 2, 1 / 12))


def test_some_of_the_requests_alone():
    some = Raced(SECONDS).among(np.array([False, True, False, False]))
    assert some.seconds.shape == (3, 1, 2)
    assert times_of(some, 1).p99.value == pytest.approx(4)


def test_what_differs_by_no_more_than_the_spread_is_equal():
    assert Measured(1.25, 0.25).equals(1)
    assert Measured(0.75, 0.25).equals(1)
    assert not Measured(1.25, 0.2).equals(1)
    assert not Measured(1.0001, 0).equals(1)
    assert not Measured(math.nan, 1).equals(1)


@pytest.mark.parametrize(
    ("value", "spread", "text"),
    [
        (0.35123, 0.0042, "0.351 ± 0.004"),
        (0.35123, 0.00042, "0.3512 ± 0.0004"),
        (5.9123, 0.31, "5.91 ± 0.31"),
        (41.38, 5.04, "41.4 ± 5.0"),
        (1234.5, 20, "1,234 ± 20"),
        (0.5, 0, "0.500"),
        (0, 0.1, "0.00 ± 0.10"),
        (math.inf, 0.1, "\N{EN DASH}"),
        (1, math.nan, "\N{EN DASH}"),
    ],
)
def test_a_figure_is_written_down_to_the_first_digit_of_its_spread(value, spread, text):
    assert str(Measured(value, spread)) == text
