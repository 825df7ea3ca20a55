"""Rankings: what stays in order, and how often so few requests prove what does not hold."""

from __future__ import annotations

import math

import numpy as np
import pytest

from onnx_memo.proof import ranking
from onnx_memo.proof.binomial import failure_p_value
from onnx_memo.proof.ranking import MOST, pairs_in_order, ranking_p_value, top_kept


def test_pairs_in_order():
    assert pairs_in_order(np.array([1.0, 2, 3]), np.array([10.0, 20, 15])) == (2, 3)


def test_a_pair_that_becomes_a_tie_has_lost_its_order_and_one_that_was_a_tie_had_none():
    assert pairs_in_order(np.array([1.0, 2, 2]), np.array([5.0, 5, 6])) == (1, 2)


def test_a_number_that_broke_stands_below_all():
    assert pairs_in_order(np.array([1.0, 2, 3]), np.array([1.0, 2, math.nan])) == (1, 3)
    before = np.arange(20.0)
    after = before.copy()
    after[-1] = math.nan
    assert top_kept(before, after) == (1, 2)


def test_the_top_tenth():
    before = np.arange(30.0)
    after = before.copy()
    after[[26, 27]] = after[[27, 26]]  # the third and the fourth
    assert top_kept(before, after) == (2, 3)


def exact(count: int):
    scores = np.random.default_rng(0).standard_normal(count)
    return scores, scores


@pytest.mark.parametrize("requests", [20, 40, 70, 300])
def test_without_an_error_it_takes_as_many_requests_as_for_decisions_one_by_one(requests):
    p_value = ranking_p_value(*exact(requests), 0.95)
    assert p_value == pytest.approx(failure_p_value(0, requests, 0.05), abs=0.04)


def test_as_many_others_that_would_be_like_them():
    few = exact(40)
    assert ranking_p_value(*few, 0.95) > 0.1
    assert ranking_p_value(*few, 0.95, requests=200) < 0.01


def test_of_more_than_can_be_compared_some_are():
    assert ranking_p_value(*exact(MOST + 500), 0.99) < 0.01


def test_an_order_turned_around_is_not_proven():
    scores, _ = exact(300)
    assert ranking_p_value(scores, -scores, 0.5) == 1


def test_answers_that_are_all_the_parents_are_no_ranking():
    scores, _ = exact(300)
    assert ranking_p_value(scores, np.zeros(300), 0.5) == 1


# ---- How often it is wrong
#
# Scores of which a law's errors keep a bit less than 90 % of the pairs or of the top tenth.

KEEP, REQUESTS, TRIALS = 0.9, 200, 80


def noisy(rng, before, size):
    return before + size * rng.standard_normal(len(before))


def shrunk(rng, before, size):
    """Half of the requests are answered by what lies nearer to the mean, as a stored neighbour's may."""
    pulled = before * (1 - size) + 0.3 * size * rng.standard_normal(len(before))
    return np.where(rng.random(len(before)) < 0.5, pulled, before)


def rarely_lost(rng, before, size):
    return np.where(rng.random(len(before)) < size / 5, rng.standard_normal(len(before)), before)


def normal(rng, count):
    return rng.standard_normal(count)


def bounded_above(rng, count):
    return -rng.gamma(2, size=count)


@pytest.mark.parametrize(
    ("law", "scores", "size"),
    [
        (noisy, normal, 0.15),
        (noisy, bounded_above, 0.085),
        (shrunk, normal, 0.175),
        (rarely_lost, normal, 0.57),
    ],
)
def test_a_broken_promise_is_seldom_proven(monkeypatch, law, scores, size):
    monkeypatch.setattr(ranking, "DRAWS", 200)
    rng = np.random.default_rng(1)
    before = scores(rng, 100_000)
    kept, top = top_kept(before, law(rng, before, size))
    assert 0.87 < kept / top < KEEP, "the law is not what the test is about"
    wrong = 0
    for trial in range(TRIALS):
        before = scores(rng, REQUESTS)
        wrong += ranking_p_value(before, law(rng, before, size), KEEP, seed=trial) <= 0.05
    assert wrong / TRIALS <= 0.05


@pytest.mark.parametrize("law", [noisy, shrunk, rarely_lost])
def test_small_errors_are_proven(law):
    rng = np.random.default_rng(2)
    before = normal(rng, 300)
    assert ranking_p_value(before, law(rng, before, 0.02), KEEP) <= 0.05
