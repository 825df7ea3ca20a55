"""The exact binomial tail, checked against fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_memo.proof.binomial import failure_p_value, most_failures


@pytest.mark.parametrize("share", [0.05, 1 - 0.95, 0.5, 0.9, 1e-6])
@pytest.mark.parametrize("requests", [1, 2, 17, 120])
def test_p_values_are_the_sum_of_the_binomial_terms(requests, share):
    p, total = Fraction(share), Fraction(0)
    for failures in range(requests + 1):
        total += math.comb(requests, failures) * p**failures * (1 - p) ** (requests - failures)
        assert failure_p_value(failures, requests, share) == pytest.approx(float(total), rel=1e-11)


@pytest.mark.parametrize(
    ("failures", "requests", "share", "expected"),
    [
        # Summed with 60 decimal digits.
        (49600, 10**6, 0.05, 0.0332778340023),
        (0, 10**6, 1e-6, 0.3678792572316),
        (500_000, 10**6, 0.5, 0.5003989421807),
    ],
)
def test_p_values_are_sound_for_a_million_requests(failures, requests, share, expected):
    assert failure_p_value(failures, requests, share) == pytest.approx(expected, rel=1e-8)


def test_a_hopelessly_small_p_value_is_0_and_a_hopelessly_large_one_1():
    assert failure_p_value(0, 10**6, 0.5) == 0.0
    assert failure_p_value(10**6 - 1, 10**6, 0.5) == 1.0
    assert failure_p_value(0, 0, 0.5) == 1.0


@given(st.integers(1, 2000), st.floats(1e-4, 0.999), st.data())
@settings(deadline=None)
def test_a_p_value_rises_with_failures_and_falls_with_requests_and_share(requests, share, data):
    failures = data.draw(st.integers(0, requests - 1))
    here = failure_p_value(failures, requests, share)
    slack = 1 + 1e-10
    assert 0 <= here <= 1
    assert here <= failure_p_value(failures + 1, requests, share) * slack
    assert failure_p_value(failures, requests + 1, share) <= here * slack
    assert failure_p_value(failures, requests, min(share * 1.01, 0.9999)) <= here * slack


@given(st.integers(0, 300), st.floats(1e-3, 0.999), st.floats(1e-6, 0.999))
@settings(deadline=None)
def test_the_most_failures_pass_the_test_and_one_more_does_not(requests, share, delta):
    passing = [k for k in range(requests + 1) if failure_p_value(k, requests, share) <= delta]
    assert most_failures(requests, share, delta) == (len(passing) - 1 if passing else None)


@pytest.mark.parametrize(("requests", "most"), [(0, None), (58, None), (59, 0), (180, 3), (2000, 83)])
def test_the_most_failures_of_the_usual_promise(requests, most):
    assert most_failures(requests, 0.05, 0.05) == most
