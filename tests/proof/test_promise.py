"""What may be promised, and how many requests it takes to prove it."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_memo import MemoError
from onnx_memo.proof.binomial import failure_p_value
from onnx_memo.proof.promise import Promise, outside, provable, requests_needed

TOLERANCE = 0.01
PROMISE = Promise(TOLERANCE, within=0.95, confidence=0.95)


# ---- What may be promised


@pytest.mark.parametrize("tolerance", [-0.1, math.nan, math.inf])
def test_a_tolerance_is_a_finite_number_of_at_least_0(tolerance):
    with pytest.raises(MemoError, match="--tolerance takes a number of at least 0"):
        Promise(tolerance)


@pytest.mark.parametrize("share", [0, 1, 95, -0.5, math.nan])
def test_shares_lie_between_0_and_1(share):
    with pytest.raises(MemoError, match=r"--within takes a share above 0 and below 1, such as 0\.95"):
        Promise(TOLERANCE, within=share)
    with pytest.raises(MemoError, match="--confidence takes a share above 0 and below 1"):
        Promise(TOLERANCE, confidence=share)


def test_an_error_is_outside_unless_it_is_at_most_the_tolerance():
    errors = [0, TOLERANCE, np.nextafter(TOLERANCE, 1), math.inf, math.nan]
    assert outside(errors, TOLERANCE).tolist() == [False, False, True, True, True]


# ---- How much data


def test_requests_needed_for_the_usual_promise_are_59():
    assert requests_needed(PROMISE) == 59


@given(st.floats(0.01, 0.9999), st.floats(0.01, 0.9999))
def test_requests_needed_is_the_smallest_number_that_proves_it_without_a_failure(within, confidence):
    promise = Promise(TOLERANCE, within, confidence)
    needed = requests_needed(promise)
    assert failure_p_value(0, needed, promise.share) <= promise.delta
    assert needed == 1 or failure_p_value(0, needed - 1, promise.share) > promise.delta


def test_the_table_in_the_documentation_is_right():
    text = (Path(__file__).parents[2] / "docs" / "calibration.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (0\.\d+) \| (\d+) \| (\d+) \| (\d+) \|$", text, re.MULTILINE)
    assert len(rows) >= 5
    for within, *cells in rows:
        promises = [Promise(TOLERANCE, float(within), confidence) for confidence in (0.9, 0.95, 0.99)]
        assert [requests_needed(promise) for promise in promises] == [int(cell) for cell in cells]


# ---- What the fit part has to keep


def test_what_the_fit_part_keeps_is_what_a_proof_allows():
    promise = Promise(0.01)
    allowed = round(provable(promise, 180).share * 180)
    assert failure_p_value(allowed, 180, promise.share) <= promise.delta
    assert failure_p_value(allowed + 1, 180, promise.share) > promise.delta


def test_of_180_requests_3_may_fail_where_the_promise_allows_9():
    assert provable(PROMISE, 180).share * 180 == pytest.approx(3)
    assert (provable(PROMISE, 180).tolerance, provable(PROMISE, 180).confidence) == (TOLERANCE, 0.95)


@pytest.mark.parametrize("requests", [59, 92])
def test_where_a_proof_allows_no_failure_less_than_one_is_kept(requests):
    assert 0 < provable(PROMISE, requests).share * requests < 1
