"""Thresholds of the key distance: what is proven about held-out requests holds for the traffic."""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, astuple

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnx_memo.proof import thresholds
from onnx_memo.proof.binomial import failure_p_value
from onnx_memo.proof.measure import Distance, Judged, Seen
from onnx_memo.proof.promise import Promise, requests_needed
from onnx_memo.proof.thresholds import candidate_thresholds, curve, loosest_threshold

TOLERANCE = 0.01
PROMISE = Promise(TOLERANCE, within=0.95, confidence=0.95)
LENIENT = Promise(TOLERANCE, within=0.5, confidence=0.75)  # 2 requests are enough
FIGURES = st.floats(0, 2)
HELD = hnp.arrays(np.float64, (st.integers(2, 40)).map(lambda n: (2, n)), elements=FIGURES)
GRIDS = st.lists(FIGURES, min_size=1, max_size=12, unique=True).map(sorted)


def calibrate(promise, candidates, distances, errors):
    """As by a distance, whose errors are 0 where nothing is reused."""
    forced, missed = Seen.of([Judged(error) for error in errors]), Seen.of([Judged(0.0)] * len(errors))
    return thresholds.calibrate(promise, Distance(), candidates, distances, forced, missed)


# ---- The candidates


@given(hnp.arrays(np.float64, st.integers(0, 300), elements=st.floats(0, 1e30)), st.floats(0, 1e30))
@settings(deadline=None)
def test_candidates_rise_are_float32_and_end_at_the_most_that_is_wanted(distances, most):
    candidates = candidate_thresholds(distances, most)
    assert (np.diff(candidates) > 0).all()
    assert candidates.astype(np.float32).astype(np.float64).tolist() == candidates.tolist()
    assert candidates[0] >= 0
    assert most * (1 - 1e-6) - 1e-44 <= candidates[-1] <= most
    assert candidate_thresholds(distances[::-1], most).tolist() == candidates.tolist()


def test_candidates_begin_at_the_nearest_request_and_follow_the_crowd():
    distances = np.concatenate([np.zeros(50), np.linspace(1, 2, 50)])
    candidates = candidate_thresholds(distances)
    assert candidates[:2].tolist() == [0, 1]
    assert candidates[-1] == 2
    assert len(candidates) == 51


def test_candidates_go_beyond_the_fit_part_if_more_is_wanted():
    assert candidate_thresholds([1.0, 2.0], most=4.0)[-8:].tolist() == np.linspace(2.25, 4, 8).tolist()


def test_a_request_without_an_entry_to_reuse_gives_no_candidate():
    assert candidate_thresholds([math.inf, math.nan, 1.0]).tolist() == [1]
    assert candidate_thresholds([math.inf]).tolist() == []


def test_testing_may_end_where_the_fit_part_clearly_breaks_the_promise():
    distances = np.arange(100.0)
    errors = np.where(distances >= 50, 1.0, 0.0)
    # 5 of 100 are allowed, and a standard deviation of 2.2 more: the eighth failure is too many.
    assert loosest_threshold(PROMISE, distances, errors) == 57


def test_a_fit_part_that_keeps_the_promise_sets_no_end():
    assert loosest_threshold(PROMISE, np.arange(100.0), np.zeros(100)) == math.inf
    assert loosest_threshold(PROMISE, [], []) == math.inf


# ---- Calibrating


@pytest.mark.parametrize("requests", [0, 58])
def test_too_few_requests_prove_nothing(requests):
    assert calibrate(PROMISE, [1.0], np.zeros(requests), np.zeros(requests)).setting is None
    assert calibrate(PROMISE, [1.0], np.zeros(59), np.zeros(59)).setting == 1


def test_testing_goes_from_strict_to_loose_and_stops_at_the_first_failure():
    distances = np.arange(100.0)
    errors = np.where(distances >= 40, 1.0, 0.0)
    made = calibrate(PROMISE, [0, 20, 40, 41, 99], distances, errors)
    assert [(step.setting, step.hits, step.failures) for step in made.steps] == [
        (0, 1, 0),
        (20, 21, 0),
        (40, 41, 1),
        (41, 42, 2),
    ]
    assert (made.setting, made.failures, made.requests, made.hit_rate) == (40, 1, 100, 0.41)
    assert made.p_value == failure_p_value(1, 100, PROMISE.share) <= 0.05 < made.steps[-1].p_value


def test_if_not_even_the_first_candidate_passes_nothing_is_reused():
    made = calibrate(PROMISE, [1, 2], np.zeros(100), np.ones(100))
    assert (made.setting, made.failures, made.hit_rate) == (None, 0, 0)
    assert [step.failures for step in made.steps] == [100]


def test_an_error_that_is_not_a_number_is_a_failure():
    made = calibrate(PROMISE, [1], np.zeros(100), np.full(100, math.nan))
    assert made.setting is None


def test_a_request_without_an_entry_to_reuse_is_no_hit():
    distances = np.concatenate([np.zeros(50), np.full(25, math.inf), np.full(25, math.nan)])
    made = calibrate(PROMISE, [1e30], distances, np.where(distances == 0, 0, 9))
    assert (made.setting, made.hit_rate, made.failures) == (1e30, 0.5, 0)


def test_an_error_of_exactly_the_tolerance_is_inside():
    made = calibrate(PROMISE, [1], np.zeros(100), np.full(100, TOLERANCE))
    assert made.setting == 1


def test_candidates_out_of_order_are_a_defect_of_ours():
    with pytest.raises(AssertionError, match="strict to loose"):
        calibrate(PROMISE, [2, 1], np.zeros(100), np.zeros(100))


def loosest(promise, candidates, held):
    """The calibrated threshold, -1 if nothing may be reused."""
    made = calibrate(promise, candidates, *held)
    return -1 if made.setting is None else made.setting


@given(HELD, GRIDS, FIGURES, FIGURES)
def test_a_larger_tolerance_never_makes_it_stricter(held, grid, one, other):
    small, large = sorted([one, other])
    assert loosest(Promise(small, 0.5, 0.75), grid, held) <= loosest(Promise(large, 0.5, 0.75), grid, held)


@given(HELD, GRIDS, st.floats(0.05, 0.5), st.floats(0.05, 0.75))
def test_asking_for_more_never_makes_it_looser(held, grid, within, confidence):
    asked = Promise(1.0, within, confidence)
    assume(requests_needed(asked) <= held.shape[1])
    assert loosest(Promise(1.0, 0.5, 0.75), grid, held) <= loosest(asked, grid, held)


@given(HELD, GRIDS, st.data())
def test_a_worse_request_never_makes_it_looser(held, grid, data):
    worse = held.copy()
    worse[1, data.draw(st.integers(0, held.shape[1] - 1))] = math.nan
    assert loosest(LENIENT, grid, worse) <= loosest(LENIENT, grid, held)


@given(HELD, GRIDS, GRIDS)
def test_a_finer_sequence_never_makes_it_stricter(held, grid, more):
    assert loosest(LENIENT, grid, held) <= loosest(LENIENT, sorted({*grid, *more}), held)


@given(HELD, GRIDS, st.randoms())
def test_the_order_of_the_requests_does_not_matter(held, grid, random):
    order = list(range(held.shape[1]))
    random.shuffle(order)
    assert calibrate(LENIENT, grid, *held) == calibrate(LENIENT, grid, *held[:, order])


# ---- The curve


def test_a_point_of_the_curve_counts_misses_as_errors_of_0():
    (point,) = curve([0, 1, 2, 3], [0.0, 0.3, 0.1, 9.0], [2], tolerance=0.2)
    assert asdict(point) == pytest.approx(
        {"hit_rate": 0.75, "mean": 0.1, "p95": 0.3, "worst": 0.3, "outside": 0.25}
    )


def test_misses_may_err_too():
    (point,) = curve([0, 1, 2, 3], [0.0, 0.3, 0.1, 9.0], [2], tolerance=0.2, missed=[0.5, 0.5, 0.5, 0.4])
    assert asdict(point) == pytest.approx(
        {"hit_rate": 0.75, "mean": 0.2, "p95": 0.4, "worst": 0.4, "outside": 0.5}
    )


def test_an_infinite_error_does_not_spoil_the_percentile():
    (point,) = curve(np.zeros(100), [0.5] * 99 + [math.nan], [0], tolerance=1)
    assert (point.p95, point.worst, point.mean) == (0.5, math.inf, math.inf)


@given(HELD, GRIDS)
def test_along_the_curve_everything_rises(held, grid):
    points = curve(*held, grid, tolerance=0.5)
    for strict, loose in itertools.pairwise(points):
        assert all(low <= high + 1e-12 for low, high in zip(astuple(strict), astuple(loose), strict=True))


@given(HELD, GRIDS)
def test_the_curve_and_the_calibration_count_the_same(held, grid):
    made = calibrate(LENIENT, grid, *held)
    points = curve(*held, grid, LENIENT.tolerance)
    for step, point in zip(made.steps, points, strict=False):
        assert step.hits / made.requests == point.hit_rate
        assert step.failures / made.requests == point.outside


# ---- The promise itself
#
# Traffic of a known law, so large that its shares are the truth. Each trial splits off a fit part and a
# held-out part, calibrates as the tool does, and looks at the traffic.

TRAFFIC = 200_000
TRIALS = 200
FIT, HELD_OUT = 150, 400


def growing(rng):
    """The error grows with the distance, with heavy-tailed noise (Student's t, 2 degrees of freedom)."""
    distances = rng.gamma(2.0, 0.5, TRAFFIC)
    return distances, 0.004 * distances**2 * np.exp(0.5 * rng.standard_t(2, TRAFFIC))


def repeating(rng):
    """Half of the traffic was stored word for word; the rest is far."""
    distances, errors = growing(rng)
    seen = rng.random(TRAFFIC) < 0.5
    return np.where(seen, 0, distances + 0.5), np.where(seen, 1e-6, errors)


def blind(rng):
    """The distance says nothing: one request in five fails, near or far."""
    return rng.random(TRAFFIC), np.where(rng.random(TRAFFIC) < 0.2, 1.0, 0.0)


def boundary(rng):
    """Every threshold breaks the promise, by as little as the traffic can."""
    distances = np.where(rng.random(TRAFFIC) < 0.5, 0.0, rng.random(TRAFFIC))
    errors = np.zeros(TRAFFIC)
    errors[np.flatnonzero(distances == 0)[: TRAFFIC // 20 + 1]] = 1.0
    return distances, errors


def step_over(rng):
    """Safe up to a distance of 0.5; just beyond it the promise is broken at once."""
    distances = rng.random(TRAFFIC)
    errors = np.zeros(TRAFFIC)
    errors[np.argsort(np.abs(distances - 0.5))[: TRAFFIC // 19]] = 1.0
    return distances, errors


def harmless(rng):
    """Four percent fail at most: every threshold keeps the promise."""
    return rng.random(TRAFFIC), np.where(rng.random(TRAFFIC) < 0.04, 1.0, 0.0)


def by_the_promise(fit, held):
    candidates = candidate_thresholds(fit[0], loosest_threshold(PROMISE, *fit))
    return calibrate(PROMISE, candidates, *held).setting


def by_the_observed_share(fit, held):
    """What one would do without a bound: the loosest threshold that looks right on the held-out part."""
    grid = candidate_thresholds(fit[0])
    points = zip(grid, curve(*held, grid, TOLERANCE), strict=True)
    return max((threshold for threshold, point in points if point.outside <= PROMISE.share), default=None)


def true_shares(law, choose):
    """Of each trial, the share of the whole traffic that is outside the tolerance and that is reused."""
    rng = np.random.default_rng(7)
    distances, errors = law(rng)
    order = np.argsort(distances)
    ranked = distances[order]
    outside = np.concatenate([[0], np.cumsum(errors[order] > TOLERANCE)]) / TRAFFIC
    shares = []
    for _ in range(TRIALS):
        split = rng.choice(TRAFFIC, FIT + HELD_OUT, replace=False, shuffle=True)
        fit, held = split[:FIT], split[FIT:]
        threshold = choose((distances[fit], errors[fit]), (distances[held], errors[held]))
        reused = 0 if threshold is None else np.searchsorted(ranked, threshold, side="right")
        shares.append((outside[reused], reused / TRAFFIC))
    return np.array(shares).T


def most_failures():
    """The 99.9 % quantile of Bin(TRIALS, delta): more broken promises than this are no accident."""
    return next(k for k in range(TRIALS) if failure_p_value(k, TRIALS, PROMISE.delta) >= 0.999)


@pytest.mark.parametrize("law", [growing, repeating, blind, boundary, step_over, harmless])
def test_the_promise_is_broken_no_more_often_than_its_confidence_says(law):
    outside, _ = true_shares(law, by_the_promise)
    assert (outside > PROMISE.share).sum() <= most_failures()


@pytest.mark.parametrize("law", [growing, blind, step_over])
def test_without_the_bound_the_promise_would_be_broken(law):
    outside, _ = true_shares(law, by_the_observed_share)
    assert (outside > PROMISE.share).sum() > most_failures()


@pytest.mark.parametrize(
    ("law", "possible"),
    # The share that the loosest threshold within the promise would reuse.
    [(repeating, None), (growing, None), (blind, 0.25), (step_over, 0.5)],
)
def test_most_of_what_could_be_reused_is_reused(law, possible):
    if possible is None:
        distances, errors = law(np.random.default_rng(7))
        failing = np.sort(distances[errors > TOLERANCE])[int(PROMISE.share * TRAFFIC)]
        possible = np.mean(distances < failing)
    _, reused = true_shares(law, by_the_promise)
    # 400 held-out requests prove at most 5 % outside only if at most 12 of them fail, 3 %.
    assert np.median(reused) >= 0.55 * possible
