"""Screen, then confirm: the true top is kept, whatever the scores are."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_memo.errors import MemoError
from onnx_memo.proof.binomial import failure_p_value
from onnx_memo.proof.screening import TopPromise, at_most, confirm_best

# ---- The tail


@given(st.integers(1, 40), st.data())
def test_the_tail_is_the_hypergeometric_one(pool, data):
    marked, drawn = data.draw(st.integers(0, pool)), data.draw(st.integers(0, pool))
    count = data.draw(st.integers(0, pool))
    ways = sum(
        comb(marked, at) * comb(pool - marked, drawn - at)
        for at in range(min(count, drawn) + 1)
        if drawn - at <= pool - marked
    )
    assert at_most(count, pool, marked, drawn) == pytest.approx(
        float(Fraction(ways, comb(pool, drawn))), abs=1e-12
    )


def test_the_tail_of_large_pools_is_exact_enough():
    """Drawn from so many, it is the binomial one to 1e-4."""
    assert at_most(0, 1_000_000, 51, 57_000) == pytest.approx(failure_p_value(0, 51, 0.057), rel=1e-2)


# ---- How many have to be drawn


@pytest.mark.parametrize(
    ("top", "keep", "allowed"),
    [(100, 0.95, 5), (10, 0.9, 1), (10, 0.95, 0), (1, 0.5, 0), (3, 0.3, 2), (99, 0.95, 4)],
)
def test_how_many_may_be_lost(top, keep, allowed):
    assert TopPromise(1000, top, keep).allowed == allowed


@pytest.mark.parametrize(
    ("inputs", "top", "keep", "needed"),
    [
        (10_000, 1000, 0.95, 570),  # (1 - 570/10000)^51 is about 0.05
        (1000, 100, 0.9, 238),
        (1000, 10, 0.95, 950),  # to be sure of all ten
        (2, 1, 0.5, 2),
    ],
)
def test_so_many_are_drawn_at_random(inputs, top, keep, needed):
    promise = TopPromise(inputs, top, keep)
    assert promise.needed() == needed
    assert promise.spare(needed) == 0
    assert promise.spare(needed - 1) is None


def test_of_a_larger_calibration_more_may_be_seen():
    promise = TopPromise(10_000, 1000)
    assert [promise.spare(size) for size in (570, 1000, 2000)] == [0, 1, 6]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"keep": 1.0}, "keep takes a share above 0 and below 1, such as 0.95, not 1.0"),
        ({"confidence": 0}, "confidence takes a share above 0"),
        ({"top": 0}, "top takes from 1 to 99 of 100 inputs, not 0"),
        ({"top": 100}, "top takes from 1 to 99"),
    ],
)
def test_what_is_no_promise_is_refused(changes, said):
    with pytest.raises(MemoError, match=said):
        TopPromise(**({"inputs": 100, "top": 10} | changes))


# ---- What is confirmed


def confirmed(scores, fast, promise, drawn):
    asked: list[int] = []

    def original(which):
        asked.extend(which.tolist())
        return scores[which]

    return confirm_best(promise, np.asarray(fast, np.float64), np.asarray(drawn), original), asked


def test_a_fast_score_that_is_right_confirms_the_top_and_the_calibration_alone():
    scores = np.arange(1000.0)
    promise = TopPromise(1000, 100, 0.9)
    found, asked = confirmed(scores, scores, promise, np.arange(0, 1000, 4))
    assert found.best.tolist() == list(range(999, 899, -1))
    assert (found.depth, found.known, found.seen) == (100, 25, 0)
    assert sorted(asked) == sorted({*range(0, 1000, 4), *range(900, 1000)})


def test_no_input_is_asked_for_twice():
    rng = np.random.default_rng(1)
    scores = rng.standard_normal(500)
    promise = TopPromise(500, 50, 0.8)
    found, asked = confirmed(scores, rng.standard_normal(500), promise, rng.choice(500, 200, replace=False))
    assert len(asked) == len(set(asked)) == np.isfinite(found.scores).sum()


def test_drawn_inputs_of_the_top_with_bad_fast_scores_are_reached():
    scores, fast = np.arange(100.0), np.arange(100.0)
    fast[[97, 99]] = -2, -1
    promise = TopPromise(100, 20, 0.7)
    even, odd = np.arange(0, 100, 2), np.arange(1, 100, 2)
    assert promise.spare(50) == 1  # of those that are seen this one may be left
    assert confirmed(scores, fast, promise, even)[0].depth == 20
    found, _ = confirmed(scores, fast, promise, odd)
    assert (found.depth, found.seen) == (99, 1)


def test_equal_scores_are_ranked_as_they_stand():
    found, _ = confirmed(np.zeros(100), np.zeros(100), TopPromise(100, 20, 0.8), np.arange(0, 100, 2))
    assert found.best.tolist() == list(range(20))


def test_a_calibration_that_proves_nothing_is_a_mistake_of_ours():
    with pytest.raises(AssertionError, match="too small for the promise"):
        confirmed(np.arange(100.0), np.arange(100.0), TopPromise(100, 10), np.arange(5))


def test_the_share_to_expect_is_that_of_the_calibration():
    """25 of the top are drawn and 25 of them are found: of the others 26 of 27 are expected."""
    found, _ = confirmed(
        np.arange(1000.0), np.arange(1000.0), TopPromise(1000, 100, 0.9), np.arange(0, 1000, 4)
    )
    assert found.expected_share == pytest.approx((25 + 75 * 26 / 27) / 100)
    everything, _ = confirmed(np.arange(9.0), np.arange(9.0)[::-1], TopPromise(9, 2, 0.5, 0.5), np.arange(8))
    assert everything.expected_share <= 1


# ---- The promise itself
#
# Scores of known laws; each trial draws anew, and looks at the true top.

TRIALS = 200


def good(rng, n):
    """The fast score is the score and noise: Spearman .98."""
    scores = rng.standard_normal(n)
    return scores, scores + 0.2 * rng.standard_normal(n)


def heavy(rng, n):
    """Noise with heavy tails (Student's t, 2 degrees of freedom), and a third that was stored exactly."""
    scores = rng.standard_normal(n)
    return scores, scores + np.where(rng.random(n) < 0.3, 0, 0.2 * rng.standard_t(2, n))


def shifted(rng, n):
    """On another scale, with an offset: the order alone counts."""
    scores, fast = good(rng, n)
    return scores, 0.5 * fast - 7


def shrunk(rng, n):
    """The score is the fast score and noise, to which the top owes its place."""
    fast = rng.standard_normal(n)
    return fast + 0.7 * rng.standard_normal(n), fast


def blind(rng, n):
    """The fast score says nothing."""
    return rng.standard_normal(n), rng.standard_normal(n)


def tied(rng, n):
    """Few different scores."""
    scores, fast = good(rng, n)
    return np.round(scores), np.round(2 * fast) / 2


def hidden(rng, n):
    """As few of the top as break the promise have the worst fast scores."""
    scores = rng.permutation(n).astype(float)
    fast = scores.copy()
    fast[scores >= n - 11] -= n
    return scores, fast


def kept_shares(law, promise, size=None, trials=TRIALS):
    """Of each trial, the share of the true top that is found, and of the inputs that are confirmed."""
    rng = np.random.default_rng(11)
    size = size or promise.needed()
    shares = []
    for _ in range(trials):
        scores, fast = law(rng, promise.inputs)
        drawn = rng.choice(promise.inputs, size, replace=False)
        found, asked = confirmed(scores, fast, promise, drawn)
        true = np.argsort(-scores, kind="stable")[: promise.top]
        shares.append((np.isin(true, found.best).mean(), len(asked) / promise.inputs))
    return np.array(shares).T


def most_broken(promise):
    """The 99.9 % quantile of Bin(TRIALS, delta): more broken promises than this are no accident."""
    delta = 1 - promise.confidence
    return next(k for k in range(TRIALS) if failure_p_value(k, TRIALS, delta) >= 0.999)


def broken(shares, promise):
    return int((shares < promise.keep - 1e-9).sum())


FREE = TopPromise(500, 100, 0.9)


@pytest.mark.parametrize("law", [good, heavy, shifted, shrunk, blind, tied, hidden])
@pytest.mark.parametrize("size", [None, 250])
def test_the_top_is_kept_whatever_the_law(law, size):
    shares, _ = kept_shares(law, FREE, size)
    assert broken(shares, FREE) <= most_broken(FREE)


def test_a_calibration_that_is_too_small_would_break_the_promise(monkeypatch):
    """Half of what is needed, with nothing seen."""
    needed = FREE.needed()
    monkeypatch.setattr(TopPromise, "spare", lambda self, calibrated: 0)
    shares, _ = kept_shares(hidden, FREE, needed // 2)
    assert broken(shares, FREE) > most_broken(FREE)


def test_a_good_fast_score_confirms_a_fifth_for_the_top_tenth():
    _, asked = kept_shares(good, TopPromise(10_000, 1000), trials=5)
    assert np.median(asked) < 0.22
