"""The bound of the level `rows`: sought on the fit part, proven on the held-out part. Nothing runs."""

from __future__ import annotations

import weakref
from types import SimpleNamespace

import numpy as np
import pytest
from support import raced

from onnx_memo.levels.rows.propose import _simplest, _Way
from onnx_memo.levels.rows.search import BOUNDS, EXACT_MISSES, TESTED, Search, Tested, prove
from onnx_memo.levels.rows.trial import Sweep
from onnx_memo.levels.tried import Tried
from onnx_memo.progress import silent
from onnx_memo.proof.binomial import failure_p_value
from onnx_memo.proof.goal import Goal
from onnx_memo.proof.measure import Distance, Judged, Seen
from onnx_memo.proof.promise import Promise
from onnx_memo.sessions import Raced

GOAL = Goal(Promise(0.1), Distance())


class Traffic:
    """A trial in which every request hits and `failures(strictness)` of them are outside the tolerance."""

    def __init__(self, failures) -> None:
        self.failures, self.asked = failures, []

    def run(self, samples, original, strictness, goal, advance, maybe=None) -> Tried:
        self.asked.append(strictness)
        count = len(samples)
        errors = np.where(np.arange(count) < self.failures(strictness), 0.2, goal.promise.tolerance)
        seen = Seen.of([Judged(error) for error in errors])
        return Tried(np.ones(count, np.bool_), np.full(count, 0.5), seen, seen, errors)

    def race(self, samples, original, strictness) -> Raced:
        return raced(0.1)


# ---- The fit part


def search(failures, held_out: int, fit: int = 100) -> Search:
    parts = SimpleNamespace(fit=range(fit), held_out=range(held_out))
    return Search(GOAL, parts, None, Traffic(failures), "float", silent)


def fails_from(bound: float, many: int, few: int = 0):
    """`many` failures from a bound on, `few` below it."""
    return lambda strictness: many if strictness * BOUNDS[-1] > bound * 0.999 else few


@pytest.mark.parametrize("at", [1, 17, 40])
def test_the_loosest_bound_within_the_tolerance_is_found(at):
    assert search(fails_from(BOUNDS[at], 50), held_out=180).loosest(None, 1.0) == BOUNDS[at - 1]


def test_a_bound_has_to_keep_what_the_held_out_part_can_prove():
    """4 of 100 would keep the promise of 95 %, but such a held-out part of 180 would not prove it."""
    assert search(fails_from(BOUNDS[17], 4), held_out=180).loosest(None, 1.0) == BOUNDS[16]
    assert search(fails_from(BOUNDS[17], 4), held_out=10_000).loosest(None, 1.0) == BOUNDS[-1]


def test_an_ended_search_holds_no_trial():
    """Its session holds the model's weights."""
    ended = search(fails_from(BOUNDS[17], 50), held_out=180)
    trial = weakref.ref(ended.trial)
    ended.loosest(None, 1.0)
    ended.end()
    assert trial() is None
    assert ended.seen()


# ---- The held-out part


def proven(failures, held_out: int = 100):
    trial = Traffic(failures)
    settings = [Tested(trial, scale) for scale in TESTED]
    calibration, seen = prove(GOAL, range(held_out), None, settings, silent)
    results = dict(zip(TESTED, seen, strict=False))
    assert trial.asked == [scale / max(TESTED) for scale in results]
    return calibration, results


def from_scale(scale: float, many: int, few: int = 0):
    return lambda strictness: many if strictness * max(TESTED) > scale * 0.999 else few


def test_all_that_is_tested_may_be_proven():
    calibration, results = proven(lambda strictness: 1)
    assert tuple(results) == TESTED
    assert (calibration.setting, calibration.failures, calibration.hit_rate) == (TESTED[-1], 1, 1.0)


def test_where_misses_in_8_bits_are_not_proven_what_came_before_them_is_taken():
    exact, rounding = Traffic(lambda strictness: 1), Traffic(lambda strictness: 30)
    settings = [Tested(exact, scale) for scale in EXACT_MISSES] + [Tested(rounding, TESTED[0])]
    calibration, results = prove(GOAL, range(100), None, settings, silent)
    assert (calibration.setting, calibration.failures) == (EXACT_MISSES[-1], 1)
    assert [step.setting for step in calibration.steps] == [*EXACT_MISSES, TESTED[0]]
    assert (len(results), len(rounding.asked)) == (3, 1)


@pytest.mark.parametrize("at", [1, 5, 9])
def test_the_last_setting_before_the_first_failed_test_is_the_answer(at):
    calibration, results = proven(from_scale(TESTED[at], 30))
    assert calibration.setting == TESTED[at - 1]
    assert tuple(results) == TESTED[: at + 1]  # looser ones do not even run
    assert (results[TESTED[at]].errors > 0.1).sum() == 30


def test_where_not_even_the_strictest_setting_passes_nothing_is_proven():
    calibration, results = proven(lambda strictness: 30)
    assert (calibration.setting, calibration.failures, calibration.hit_rate) == (None, 0, 0.0)
    assert tuple(results) == TESTED[:1]
    assert [(step.hits, step.failures) for step in calibration.steps] == [(100, 30)]


def test_a_p_value_between_delta_and_twice_delta_proves_nothing():
    failures, held_out = 2, 108
    assert 0.05 < failure_p_value(failures, held_out, 0.05) < 0.1
    assert proven(lambda strictness: failures, held_out)[0].setting is None


# ---- The precision


def ways(*measured: tuple[str, float, float]) -> list[_Way]:
    """By precision, ratio and noise."""
    return [
        _Way(SimpleNamespace(ratios={1.0: ratio}, noises={1.0: noise}, precision=name), None, 1.0)
        for name, ratio, noise in measured
    ]


@pytest.mark.parametrize(
    ("int8", "floats", "taken"),
    [
        ((0.30, 0.00), (0.35, 0.00), "int8"),
        ((0.30, 0.03), (0.35, 0.03), "float"),
        ((0.30, 0.01), (0.35, 0.01), "int8"),
        ((0.35, 0.00), (0.30, 0.00), "float"),
    ],
)
def test_exact_products_are_taken_where_fast_ones_gain_nothing_measurable(int8, floats, taken):
    notes: list[str] = []
    assert _simplest(ways(("int8", *int8), ("float", *floats)), notes).search.precision == taken
    assert bool(notes) == (taken == "float" and floats[0] > int8[0])


# ---- Several strictnesses of the same samples


def test_what_a_looser_setting_does_not_reuse_does_not_run_at_a_stricter_one():
    asked: dict[float, list[bool] | None] = {}

    def run(samples, original, strictness, goal, advance, looser=None) -> Tried:
        asked[strictness] = None if looser is None else looser.hits.tolist()
        hits = np.arange(len(samples)) < 10 * strictness
        seen = Seen.of([Judged(0.0)] * len(samples))
        return Tried(hits, np.ones(len(samples)), seen, seen, np.zeros(len(samples)))

    sweep = Sweep(SimpleNamespace(run=run), range(10), None, GOAL)
    for strictness in (0.9, 0.3, 0.6):
        sweep.at(strictness, lambda: None)
    assert asked == {0.9: None, 0.3: [True] * 9 + [False], 0.6: [True] * 9 + [False]}
