"""Screen, then confirm: rank many inputs by a fast score, and score the best again with the original.

The top k by the original's score are wanted. All inputs have a fast score; the original scores a random part
of them (the calibration), and the best `depth` by the fast score. Of all that it scored, the best k are the
answer. What is lost are true top inputs that lie below the depth and outside the calibration.

The calibration is a random part of all inputs, so it holds about its share of the top inputs below a depth,
and those are seen. Go through the true top inputs from the lowest fast score upwards: each lies in the
calibration or not. More than `allowed` are lost while at most `seen` are seen only if, of the first
`allowed + 1 + seen`, at most `seen` lie in the calibration. That is one event of the hypergeometric
distribution, whatever the depth at which one stops, so trying one depth after the other needs no correction;
and it holds for any scores. Which inputs are the true top is not known, but the best k of those scored so far
hold all true ones among them, so no fewer are seen. More, and what was tried: `docs/calibration.md`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from onnx_memo.errors import MemoError

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]

ROUNDED = 1 + 1e-9  # a chance that is just the one allowed will do
STEPS = 100  # the depth grows by this part of the inputs


@dataclass(frozen=True)
class TopPromise:
    """With `confidence`, at least the share `keep` of the true top is in the answer.

    Attributes:
        inputs: how many are ranked.
        top: how many of them are wanted.

    Raises:
        MemoError: a number or a share is out of its range.
    """

    inputs: int
    top: int
    keep: float = 0.95
    confidence: float = 0.95

    def __post_init__(self) -> None:
        for name, part in (("keep", self.keep), ("confidence", self.confidence)):
            if not 0 < part < 1:
                raise MemoError(f"{name} takes a share above 0 and below 1, such as 0.95, not {part}")
        if not 0 < self.top < self.inputs:
            raise MemoError(f"top takes from 1 to {self.inputs - 1} of {self.inputs} inputs, not {self.top}")

    @property
    def allowed(self) -> int:
        """How many of the true top may be lost."""
        return self.top - math.ceil(self.keep * self.top - 1e-9)

    def spare(self, calibrated: int) -> int | None:
        """How many may be seen of what would be lost, in a calibration of so many; None: it is too small."""
        spare = None
        for seen in range(min(self.top - self.allowed, calibrated)):
            chance = at_most(seen, self.inputs, self.allowed + 1 + seen, calibrated)
            if chance > (1 - self.confidence) * ROUNDED:
                break
            spare = seen
        return spare

    def needed(self) -> int:
        """The smallest calibration that can prove the promise; all inputs prove any."""
        # A larger one proves no less.
        low, high = 0, self.inputs
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.spare(middle) is not None else (middle, high)
        return high


@dataclass(frozen=True)
class Screening:
    """What came of it.

    Attributes:
        scores: the original's, f64[inputs]; NaN where it was not asked.
        best: the numbers of the top inputs among those that it scored, best first, i64[top].
        depth: how many of the best by the fast score were scored.
        known: how many of the calibration are among `best`.
        seen: how many of those lie below the depth: they would have been lost.
    """

    scores: Floats = field(repr=False)
    best: Numbers = field(repr=False)
    depth: int
    known: int
    seen: int

    @property
    def expected_share(self) -> float:
        """The share of the true top to expect in `best`.

        All in the calibration are there; of the others as many as lay above the depth in the calibration, by
        Laplace's rule of succession, (found + 1) / (all + 2).
        """
        if len(self.scores) == self.depth:
            return 1.0
        found = (self.known - self.seen + 1) / (self.known + 2)
        return (self.known + (len(self.best) - self.known) * found) / len(self.best)


def confirm_best(
    promise: TopPromise, fast: Floats, calibration: Numbers, original: Callable[[Numbers], Floats]
) -> Screening:
    """Confirm the best by the fast score, as many as the promise takes.

    Args:
        promise: what is to be kept.
        fast: a finite score of each input, higher is better, f64[inputs]. Of equal ones the first is better.
        calibration: numbers of inputs, drawn at random without a look at scores, i64[n]; at least
            `promise.needed()`.
        original: gives the original's finite scores of some inputs; it is asked once for each.
    """
    spare = promise.spare(len(calibration))
    assert spare is not None and len(fast) == promise.inputs, "the calibration is too small for the promise"
    by_fast = _ranked(fast)
    scores = np.full(promise.inputs, np.nan)
    scores[calibration] = original(calibration)
    step = max(1, promise.inputs // STEPS)
    for depth in (*range(promise.top, promise.inputs, step), promise.inputs):
        asked = by_fast[:depth][np.isnan(scores[by_fast[:depth]])]
        if len(asked):
            scores[asked] = original(asked)
        confirmed = np.flatnonzero(~np.isnan(scores))
        best = confirmed[_ranked(scores[confirmed])][: promise.top]
        at_top, below = np.zeros((2, promise.inputs), np.bool_)
        at_top[best], below[by_fast[depth:]] = True, True
        known, seen = (int(which[calibration].sum()) for which in (at_top, at_top & below))
        if seen <= spare:
            break
    return Screening(scores, best, depth, known, seen)


def at_most(count: int, pool: int, marked: int, drawn: int) -> float:
    """P(at most `count` of `drawn` are marked), drawn without replacement from a pool with `marked` ones.

    The lower tail of the hypergeometric distribution, from logarithms; its relative error is below 1e-8 up to
    pools of 10^6.
    """
    whole = _log_choose(pool, drawn)
    first = max(0, drawn + marked - pool)
    terms = [
        math.exp(_log_choose(marked, at) + _log_choose(pool - marked, drawn - at) - whole)
        for at in range(first, min(count, marked, drawn) + 1)
    ]
    return min(math.fsum(terms), 1.0)


def _log_choose(pool: int, drawn: int) -> float:
    return math.lgamma(pool + 1) - math.lgamma(drawn + 1) - math.lgamma(pool - drawn + 1)


def _ranked(scores: Floats) -> Numbers:
    """Numbers from the highest score down; of equal ones the first comes first."""
    return np.argsort(-scores, kind="stable").astype(np.int64)
