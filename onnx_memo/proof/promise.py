"""The promise: from distances and errors of held-out requests to a threshold that keeps a tolerance.

One lookup a request. At threshold t a request at distance d from its nearest entry is reused if d <= t;
its error is then the one measured with reuse forced, and else exactly 0. So distances and errors,
measured once, give the outcome at every threshold. The method, what it assumes and its sources:
`docs/calibration.md`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnx_memo.errors import MemoError

FloatArray = npt.NDArray[np.float64]

QUANTILES = 100
LOOSER = 8


@dataclass(frozen=True)
class Promise:
    """With `confidence`, at least the share `within` of requests has an error of at most `tolerance`.

    Raises:
        MemoError: `tolerance` is negative or not finite, or a share is not between 0 and 1.
    """

    tolerance: float
    within: float = 0.95
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if not (math.isfinite(self.tolerance) and self.tolerance >= 0):
            raise MemoError(f"--tolerance takes a number of at least 0, not {self.tolerance}")
        for name, share in (("within", self.within), ("confidence", self.confidence)):
            # 1 is out: no finite sample proves that all requests keep the tolerance, or proves for certain.
            if not 0 < share < 1:
                raise MemoError(f"--{name} takes a share above 0 and below 1, such as 0.95, not {share}")

    @property
    def share(self) -> float:
        """The share of requests that may lie outside the tolerance."""
        return 1 - self.within

    @property
    def delta(self) -> float:
        """How likely the whole calibration may be wrong."""
        return 1 - self.confidence


@dataclass(frozen=True)
class Step:
    """One tested threshold: held-out requests reused, those of them outside the tolerance, the p-value."""

    threshold: float
    hits: int
    failures: int
    p_value: float


@dataclass(frozen=True)
class Calibration:
    """The loosest threshold that was proven, and what was seen at it.

    `threshold` is None if nothing was proven: then nothing may be reused, and hits and failures are 0.
    `hit_rate` is the share of the held-out requests that is reused. `steps` are all thresholds tested,
    strict to loose; the last one may be the one that failed.
    """

    threshold: float | None
    failures: int
    requests: int
    p_value: float
    hit_rate: float
    steps: tuple[Step, ...]


def requests_needed(promise: Promise) -> int:
    """The smallest number of held-out requests that proves the promise when none of them fails.

    That is the smallest n with within^n <= 1 - confidence: 59 for 0.95 and 0.95.
    """
    about = math.ceil(math.log(promise.delta) / math.log1p(-promise.share))
    # The quotient is rounded: the neighbours are tried with the test that will be used.
    tried = (n for n in (about - 1, about) if n > 0)
    return next((n for n in tried if failure_p_value(0, n, promise.share) <= promise.delta), about + 1)


def provable(promise: Promise, requests: int) -> Promise:
    """What the fit part has to keep, so that as good a held-out part of `requests` proves the promise.

    That is stricter than the promise itself: a proof allows 3 of 180 to fail where 5 % may.
    """
    allowed = 0
    while failure_p_value(allowed + 1, requests, promise.share) <= promise.delta:
        allowed += 1
    return Promise(promise.tolerance, 1 - max(allowed, 0.5) / requests, promise.confidence)


def failure_p_value(failures: int, requests: int, share: float) -> float:
    """P(Bin(requests, share) <= failures), the exact lower tail of the binomial distribution.

    It is the p-value of "at least `share` of all requests fails" after `failures` of `requests` did.
    It is at most delta exactly if the one-sided Clopper-Pearson bound at confidence 1 - delta is at most
    `share` (Clopper and Pearson, Biometrika 26, 1934). The relative error is below 1e-8 up to 10^6
    requests; a value under 1e-308 comes out as 0.

    Takes 0 <= failures <= requests and 0 < share < 1.
    """
    assert 0 <= failures <= requests and 0 < share < 1, "not a binomial count"
    if failures == requests:
        return 1.0
    if failures <= requests * share:
        return min(_tail(failures, requests, math.log(share), math.log1p(-share)), 1.0)
    # Beyond the mean the other tail is the smaller one, and loses nothing when taken from 1.
    return max(1 - _tail(requests - failures - 1, requests, math.log1p(-share), math.log(share)), 0.0)


def _tail(count: int, requests: int, log_share: float, log_rest: float) -> float:
    """P(Bin(requests, share) <= count) for a count not above the mean.

    There the terms fall from `count` down to 0, each by j (1 - share) / ((requests - j + 1) share), so only
    the largest is taken from its logarithm, and the sum ends once a term no longer counts.
    """
    largest = math.lgamma(requests + 1) - math.lgamma(count + 1) - math.lgamma(requests - count + 1)
    largest += count * log_share + (requests - count) * log_rest
    odds = math.exp(log_rest - log_share)
    term = total = 1.0
    for j in range(count, 0, -1):
        term *= odds * j / (requests - j + 1)
        total += term
        if term < 1e-18 * total:
            break
    return math.exp(largest) * total


def loosest_threshold(promise: Promise, distances: npt.ArrayLike, errors: npt.ArrayLike) -> float:
    """Where testing may end: a bit above the loosest threshold at which the *fit* part keeps the promise.

    "A bit": one standard deviation, sqrt(n share (1 - share)), more failures than the promise allows the
    n fit requests. Beyond that the held-out part could agree only by luck.

    Takes distances [n] and errors [n], reuse forced, of the fit part, never of the held-out part. Returns the
    distance of the first failing fit request that is one too many, or infinity if there is none.
    """
    far, outside = _measured(promise.tolerance, distances, errors)
    n = len(far)
    allowed = tolerable(promise, n)
    failing = np.sort(far[outside & np.isfinite(far)])
    return float(failing[allowed]) if len(failing) > allowed else math.inf


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

    How fine the sequence is costs no power here. A looser threshold only turns misses into hits, so
    failures never fall along the sequence and the p-values never fall: after the first failed test no
    later one could have passed. A coarse sequence only stops farther below the loosest provable threshold.

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
    candidates: Sequence[float] | FloatArray,
    distances: npt.ArrayLike,
    errors: npt.ArrayLike,
    *,
    held_share: float,
) -> Calibration:
    """The loosest threshold at which the held-out part proves the promise.

    Fixed-sequence testing (Angelopoulos, Bates, Candès, Jordan, Lei 2021, arXiv 2110.01052): from strict to
    loose, test "more than 1 - within of all requests is outside the tolerance" by the exact binomial tail;
    go on while the p-value is at most 1 - confidence; the last threshold that passed is the answer. A wrong
    answer means that the first true hypothesis of the sequence was rejected, and which one that is the
    candidates alone decide: so the length of the sequence needs no correction. That holds only if the
    candidates were fixed without the held-out part, and if this runs once on it.

    A request fails if it is reused and its error is not at most the tolerance; NaN is such an error. A
    distance that is NaN is never reused.

    Args:
        promise: what is to be kept.
        candidates: [c] strictly rising, from `candidate_thresholds`.
        distances: [n] of the held-out requests.
        errors: [n] of the same requests with reuse forced.
        held_share: the held-out part's share of the data file; only for the message below.

    Raises:
        MemoError: there are too few held-out requests to prove the promise even if none of them failed.
    """
    thresholds = np.asarray(candidates, np.float64)
    assert (np.diff(thresholds) > 0).all(), "candidates go from strict to loose"
    assert 0 < held_share <= 1, "the held-out part is a share of the data"
    far, outside = _measured(promise.tolerance, distances, errors)
    _check_enough(promise, len(far), held_share)
    steps: list[Step] = []
    passed: Step | None = None
    for threshold in thresholds.tolist():
        reused = far <= threshold
        hits, failures = int(reused.sum()), int((reused & outside).sum())
        step = Step(threshold, hits, failures, failure_p_value(failures, len(far), promise.share))
        steps.append(step)
        if step.p_value > promise.delta:
            break
        passed = step
    if passed is None:
        never = failure_p_value(0, len(far), promise.share)
        return Calibration(None, 0, len(far), never, 0.0, tuple(steps))
    hit_rate = passed.hits / len(far)
    return Calibration(passed.threshold, passed.failures, len(far), passed.p_value, hit_rate, tuple(steps))


def curve(
    distances: npt.ArrayLike,
    errors: npt.ArrayLike,
    thresholds: Sequence[float] | FloatArray,
    tolerance: float,
) -> list[dict[str, float]]:
    """What n requests would have seen at each threshold: a picture, not a proof.

    Args:
        distances: [n], n at least 1.
        errors: [n] with reuse forced; NaN counts as infinite.
        thresholds: [c] in any order.
        tolerance: the largest error that is inside.

    Returns:
        For each threshold: threshold; hit_rate; mean, p95 (95th percentile, an error that occurred) and
        worst of the errors over all n requests, misses being 0; outside, the share beyond the tolerance.
    """
    far, outside = _measured(tolerance, distances, errors)
    assert len(far), "a curve needs a request"
    forced = np.nan_to_num(np.asarray(errors, np.float64), nan=math.inf, posinf=math.inf)
    points = []
    for threshold in map(float, thresholds):
        reused = far <= threshold
        seen = np.where(reused, forced, 0.0)
        points.append(
            {
                "threshold": threshold,
                "hit_rate": float(reused.mean()),
                "mean": float(seen.mean()),
                # Between a finite and an infinite error there is nothing to interpolate.
                "p95": float(np.percentile(seen, 95, method="higher")),
                "worst": float(seen.max()),
                "outside": float((reused & outside).mean()),
            }
        )
    return points


def _measured(
    tolerance: float, distances: npt.ArrayLike, errors: npt.ArrayLike
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Distances, and which requests would be outside the tolerance if reused: both [n]."""
    far, wrong = np.asarray(distances, np.float64), np.asarray(errors, np.float64)
    assert far.ndim == 1 and far.shape == wrong.shape, "one distance and one error a request"
    return far, ~(wrong <= tolerance)


def _check_enough(promise: Promise, requests: int, held_share: float) -> None:
    needed = requests_needed(promise)
    if requests < needed:
        raise MemoError(
            f"{requests} held-out requests cannot show with confidence {promise.confidence:g} that "
            f"{promise.within:g} of all requests stay within the tolerance: that takes {needed}; give a data "
            f"file of at least {math.ceil(needed / held_share)} inputs, or lower --within or --confidence"
        )


def _float32_below(values: FloatArray) -> FloatArray:
    """The largest float32 numbers that are not above `values`, as float64."""
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float32)
    below = np.nextafter(rounded, np.float32(-np.inf))
    return np.where(rounded > values, below, rounded).astype(np.float64)
