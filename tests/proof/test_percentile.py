"""The percentile that all figures use."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_memo.proof.percentile import percentile

VALUES = st.lists(st.floats(allow_nan=False), min_size=1, max_size=200)


@pytest.mark.parametrize(
    ("count", "expected"),
    # 0.95 * 20 is 19 exactly; 0.95 * 21 is between 19 and 20, and 20 is the worse.
    [(1, 0), (2, 1), (20, 19), (21, 19), (22, 20), (101, 95)],
)
def test_of_the_numbers_from_0_on_it_is_the_95th_rounded_up(count, expected):
    assert percentile(range(count), 95) == expected


def test_where_low_is_worse_it_is_rounded_down():
    cosines = [1 - at / 100 for at in range(22)]
    assert percentile(cosines, 95, low_is_worse=True) == 0.8
    assert percentile(cosines, 100, low_is_worse=True) == 0.79
    assert percentile(cosines, 0, low_is_worse=True) == 1


def test_an_infinite_value_does_not_spoil_those_before_it():
    assert percentile([0.5] * 99 + [math.inf], 95) == 0.5
    assert percentile([0.5] * 99 + [math.inf], 100) == math.inf


@given(VALUES, st.floats(0, 100))
def test_it_occurred_and_so_many_values_are_no_worse(values, percent):
    found = percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) >= len(values) * percent / 100 * (1 - 1e-12)


@given(VALUES, st.floats(0, 100))
def test_low_is_worse_is_the_same_seen_from_the_other_side(values, percent):
    mirrored = percentile([-value for value in values], percent)
    assert percentile(values, percent, low_is_worse=True) == -mirrored


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200), st.sampled_from([5, 50, 95, 98, 99]))
def test_it_is_what_numpy_calls_higher(values, percent):
    assert percentile(values, percent) == np.percentile(values, percent, method="higher")


def test_of_nothing_there_is_no_percentile():
    with pytest.raises(AssertionError, match="no percentile"):
        percentile([], 95)
