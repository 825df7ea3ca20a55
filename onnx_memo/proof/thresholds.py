"""Thresholds of the key distance: which are worth a test, and what requests give at each.

One lookup a request. At threshold t a request at distance d from its nearest entry is reused if d <= t;
its error is then the one measured with reuse forced, and else that of the original: exactly 0, unless a
reference's answers count. So distances and errors,
measured once, give the outcome at every threshold. The method and what it assumes: `docs/calibration.md`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnx_memo.proof.measure import Measure, Seen
from onnx_memo.proof.percentile import percentile
from onnx_memo.proof.promise import Promise, outside
from onnx_memo.proof.sequence import Calibration, Outcome, fixed_sequence

FloatArray = npt.NDArray[np.float64]

QUANTILES = 100
LOOSER = 8


def loosest_threshold(promise: Promise, distances: npt.ArrayLike, errors: npt.ArrayLike) -> float:
    """Where testing may end: a bit above the loosest threshold at which the *fit* part keeps the promise.

    "A bit": one standard deviation, sqrt(n share (1 - share)), more failures than the promise allows the
    n fit requests. Beyond that the held-out part could agree only by luck.

    Takes distances [n] and errors [n], reuse forced, of the fit part, never of the held-out part. Returns the
    distance of the first failing fit request that is one too many, or infinity if there is none.
    """
    far, forced = _paired(distances, errors)
    allowed = tolerable(promise, len(far))
    failing = np.sort(far[outside(forced, promise.tolerance) & np.isfinite(far)])
    return float(failing[allowed]) if len(failing) > allowed else math.inf


def loosest_likely(
    measure: Measure, promise: Promise, held_out: int, distances: npt.ArrayLike, forced: Seen, missed: Seen
) -> float:
    """The loosest threshold at which a part like the *fit* part would prove a promise about many at once.

    Args:
        measure: what it is about.
        promise: what is to be kept.
        held_out: how many requests are to prove it.
        distances: [n] of the fit part, never of the held-out part.
        forced: what the measure says of the same requests with reuse forced.
        missed: and without reuse.

    Returns:
        0 if no distance will do.
    """
    far = np.asarray(distances, np.float64)
    most = 0.0
    for threshold in candidate_thresholds(far):
        if not measure.likely(forced.where(far <= threshold, missed), promise, held_out):
            break
        most = float(threshold)
    return most


def tolerable(promise: Promise, requests: int) -> int:
    """How many of so many fit requests may fail at the loosest threshold that is worth a test."""
    return math.floor(requests * promise.share + math.sqrt(requests * promise.share * promise.within))


def candidate_thresholds(fit_distances: npt.ArrayLike, most: float = math.inf) -> FloatArray:
    """The thresholds to test, strict to loose, fixed before the held-out part is looked at.

    1. The smallest of the fit part's distances up to `most`, and their hundredths (quantiles): each step
       takes in one more percent of them, wherever they crowd.
    2. Where `most` is finite: 8 even steps from the last of those up to `most`, because a held-out request
       may be farther from the store than any fit request was.

    Every candidate is a number that float32 holds, rounded down: the model compares in float32, and must
    not reuse what the calibration counted as a miss. Distances that are not finite (no entry of that
    length) are left out.

    How fine the sequence is costs no power here. A looser threshold only turns misses into hits, so failures
    never fall along the sequence, where misses have no error, and the p-values never fall: after the first
    failed test no later one could have passed. A coarse sequence only stops farther below the loosest
    provable threshold.

    Args:
        fit_distances: [n] of the fit part, never of the held-out part.
        most: the loosest threshold wanted, at least 0; `loosest_threshold` of the fit part is a good one.

    Returns:
        [c] strictly rising, float32 values; empty if the fit part has no finite distance and `most` is not
        finite either.
    """
    distances = np.asarray(fit_distances, np.float64)
    assert most >= 0, "thresholds are not negative"
    near = np.sort(distances[np.isfinite(distances) & (distances <= most)])
    found: list[FloatArray] = []
    if len(near):
        ranks = -(-np.arange(QUANTILES + 1) * len(near) // QUANTILES)
        found.append(near[np.maximum(ranks, 1) - 1])
    if math.isfinite(most):
        found.append(np.linspace(near.max(initial=0.0), most, LOOSER + 1)[1:])
    return np.unique(_float32_below(np.concatenate([np.zeros(0), *found])))


def calibrate(
    promise: Promise,
    measure: Measure,
    candidates: Sequence[float] | FloatArray,
    distances: npt.ArrayLike,
    forced: Seen,
    missed: Seen,
) -> Calibration:
    """The loosest threshold at which the held-out part proves the promise (`onnx_memo.proof.sequence`).

    A request whose error is NaN is outside the tolerance. A distance that is NaN is never reused.

    Args:
        promise: what is to be kept.
        measure: what it is about.
        candidates: [c] strictly rising, from `candidate_thresholds`.
        distances: [n] of the held-out requests.
        forced: what the measure says of the same requests with reuse forced.
        missed: and without reuse.
    """
    far = np.asarray(distances, np.float64)

    def outcome_at(threshold: float) -> Outcome:
        reused = far <= threshold
        return Outcome.of(reused, forced.where(reused, missed), measure, promise)

    return fixed_sequence(promise, np.asarray(candidates, np.float64).tolist(), outcome_at)


@dataclass(frozen=True)
class CurvePoint:
    """What n requests saw at one setting.

    Attributes:
        hit_rate: the share that is reused.
        mean, p95, worst: of the errors over all n requests; p95, the 95th percentile, is an error that
            occurred.
        outside: the share beyond the tolerance.
    """

    hit_rate: float
    mean: float
    p95: float
    worst: float
    outside: float


def curve(
    distances: npt.ArrayLike,
    errors: npt.ArrayLike,
    thresholds: Sequence[float] | FloatArray,
    tolerance: float,
    missed: npt.ArrayLike = 0.0,
) -> list[CurvePoint]:
    """What n requests would have seen at each threshold: a picture, not a proof.

    Args:
        distances: [n], n at least 1.
        errors: [n] with reuse forced; NaN counts as infinite.
        thresholds: [c] in any order.
        tolerance: the largest error that is inside.
        missed: errors [n] without reuse; or one for all of them.

    Returns:
        A point for each threshold, in their order.
    """
    far, forced = _paired(distances, errors)
    assert len(far), "a curve needs a request"
    forced, missed = (np.nan_to_num(one, nan=math.inf, posinf=math.inf) for one in (forced, missed))
    points = []
    for threshold in map(float, thresholds):
        reused = far <= threshold
        seen = np.where(reused, forced, missed)
        points.append(
            CurvePoint(
                hit_rate=float(reused.mean()),
                mean=float(seen.mean()),
                p95=percentile(seen.tolist(), 95),
                worst=float(seen.max()),
                outside=float(outside(seen, tolerance).mean()),
            )
        )
    return points


def _paired(distances: npt.ArrayLike, errors: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Distances and errors of the same requests, both [n]."""
    far, forced = np.asarray(distances, np.float64), np.asarray(errors, np.float64)
    assert far.ndim == 1 and far.shape == forced.shape, "one distance and one error a request"
    return far, forced


def _float32_below(values: FloatArray) -> FloatArray:
    """The largest float32 numbers that are not above `values`, as float64."""
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float32)
    below = np.nextafter(rounded, np.float32(-np.inf))
    return np.where(rounded > values, below, rounded).astype(np.float64)
