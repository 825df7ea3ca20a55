"""The fixed-sequence test: what it answers, where it stops, and how often it is wrong."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from onnx_memo.proof.binomial import failure_p_value
from onnx_memo.proof.measure import Distance, Judged, Seen
from onnx_memo.proof.promise import Promise
from onnx_memo.proof.sequence import Outcome, Step, fixed_sequence

PROMISE = Promise(0.01, within=0.95, confidence=0.95)


def counted(hits: int, failures: int, requests: int, promise: Promise = PROMISE) -> Outcome:
    return Outcome(hits, failures, requests, failure_p_value(failures, requests, promise.share))


def exact_p_value(failures: int, requests: int, share: float) -> Fraction:
    """P(Bin(requests, share) <= failures), in fractions."""
    p = Fraction(share)
    return sum(
        (math.comb(requests, k) * p**k * (1 - p) ** (requests - k) for k in range(failures + 1)), Fraction(0)
    )


def told(promise: Promise, requests: int, failures: list[int]):
    """The answer where the settings 1, 2, 3 ... give these failures, and the settings that were tried."""
    asked = []

    def outcome_at(setting: float) -> Outcome:
        asked.append(setting)
        return counted(requests, failures[int(setting) - 1], requests, promise)

    return fixed_sequence(promise, list(range(1, len(failures) + 1)), outcome_at), asked


SHARES = st.floats(0.02, 0.98)


@given(SHARES, SHARES, st.integers(1, 60), st.data())
@settings(deadline=None)
def test_the_answer_is_the_last_setting_that_passes_the_exact_test(within, confidence, requests, data):
    promise = Promise(0.01, within, confidence)
    failures = data.draw(st.lists(st.integers(0, requests), min_size=1, max_size=8))
    p_values = [exact_p_value(k, requests, promise.share) for k in failures]
    # Nearer to delta than floats can tell, either answer is right.
    assume(all(abs(p - Fraction(promise.delta)) > promise.delta * 1e-9 for p in p_values))
    failing = [at for at, p in enumerate(p_values) if p > promise.delta]
    passed = failing[0] if failing else len(failures)

    made, asked = told(promise, requests, failures)

    assert made.setting == (passed or None)
    assert asked == list(range(1, min(passed + 1, len(failures)) + 1))
    assert [step.setting for step in made.steps] == asked
    if made.setting is not None:
        assert exact_p_value(made.failures, requests, promise.share) <= promise.delta
        assert made.failures == failures[made.setting - 1]
        assert made.p_value == pytest.approx(float(p_values[made.setting - 1]), rel=1e-9)


def test_a_setting_is_not_tried_after_one_that_failed_even_if_it_would_pass():
    made, asked = told(PROMISE, 100, [0, 5, 0])
    assert asked == [1, 2]
    assert made.setting == 1


def test_a_p_value_of_exactly_delta_passes():
    made, _ = told(Promise(0.01, within=0.5, confidence=0.75), 2, [0, 1])
    assert (made.setting, made.p_value) == (1, 0.25)


@pytest.mark.parametrize(("failures", "proven"), [(1, True), (2, False)])
def test_the_level_of_each_test_is_1_less_the_confidence(failures, proven):
    """Of 100 requests 1 may fail: p = 0.037. With 2 failures p = 0.118, with none 0.006."""
    made, _ = told(PROMISE, 100, [failures])
    assert (made.setting is not None) == proven


def test_all_settings_may_pass():
    made, asked = told(PROMISE, 100, [0, 0, 1])
    assert asked == [1, 2, 3]
    assert (made.setting, made.failures, made.requests, made.hit_rate) == (3, 1, 100, 1.0)


def test_if_the_strictest_setting_fails_nothing_is_proven():
    made, asked = told(PROMISE, 100, [40, 0])
    assert asked == [1]
    assert (made.setting, made.failures, made.requests, made.hit_rate) == (None, 0, 100, 0.0)
    assert made.p_value == failure_p_value(0, 100, PROMISE.share)  # reusing nothing fails never
    assert made.steps == (Step(1, 100, 40, failure_p_value(40, 100, PROMISE.share)),)


def test_without_a_setting_nothing_is_proven():
    made, asked = told(PROMISE, 100, [])
    assert (made.setting, made.requests, made.p_value, made.hit_rate, made.steps) == (None, 0, 1.0, 0.0, ())
    assert asked == []


def test_the_hit_rate_counts_hits_and_misses():
    made = fixed_sequence(PROMISE, [0.5], lambda setting: counted(hits=25, failures=0, requests=100))
    assert (made.setting, made.hit_rate, made.steps[0].hits) == (0.5, 0.25, 25)


@pytest.mark.parametrize("order", [[2.0, 1.0], [1.0, 1.0]])
def test_settings_out_of_order_are_a_defect_of_ours(order):
    with pytest.raises(AssertionError, match="strict to loose"):
        fixed_sequence(PROMISE, order, lambda setting: counted(100, 0, 100))


def test_an_outcome_counts_what_is_reused_and_of_that_what_is_outside():
    reused = np.asarray([True, True, True, True, False, False])
    errors = [0.0, 0.01, 0.02, math.nan, 0.0, 0.0]
    seen = Seen.of([Judged(error) for error in errors])
    outcome = Outcome.of(reused, seen, Distance(), PROMISE)
    assert outcome == counted(hits=4, failures=2, requests=6)


# ---- How often it is wrong
#
# Each trial draws held-out requests from traffic whose shares of failures are known at every setting.

TRIALS, HELD_OUT = 4000, 300


def most_wrong(delta: float) -> int:
    """The 99.9 % quantile of Bin(TRIALS, delta): more wrong answers than this are no accident."""
    return next(k for k in range(TRIALS) if failure_p_value(k, TRIALS, delta) >= 0.999)


@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize(
    "shares",
    [
        pytest.param([0.0501], id="at the boundary"),
        pytest.param([0.01, 0.03, 0.0501, 0.08, 0.3], id="rising"),
        pytest.param([0.0501] * 20, id="twenty chances to be lucky"),
        pytest.param([0.02, 0.06, 0.01, 0.2], id="looser settings may be better"),
    ],
)
@pytest.mark.parametrize("nested", [True, False])
def test_wrong_answers_are_no_more_than_the_confidence_allows(shares, nested, confidence):
    """`nested`: the same requests fail at looser settings; else settings have nothing to do with another."""
    promise = Promise(0.01, within=0.95, confidence=confidence)
    rng = np.random.default_rng(5)
    wrong = 0
    for _ in range(TRIALS):
        luck = rng.random((1 if nested else len(shares), HELD_OUT))
        failures = (luck < np.asarray(shares)[:, None]).sum(axis=1).tolist()
        made, _ = told(promise, HELD_OUT, failures)
        wrong += made.setting is not None and shares[made.setting - 1] > promise.share
    assert wrong <= most_wrong(promise.delta)


def test_the_confidence_is_used_up_where_traffic_is_at_the_boundary():
    """A test at half the level would pass the one above as well."""
    rng = np.random.default_rng(5)
    promise = Promise(0.01, within=0.95, confidence=0.8)
    failures = rng.binomial(HELD_OUT, 0.0501, TRIALS).tolist()
    wrong = sum(told(promise, HELD_OUT, [k])[0].setting is not None for k in failures)
    assert wrong > 0.7 * promise.delta * TRIALS
