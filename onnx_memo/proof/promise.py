"""The promise that a user asks for, and what it takes to prove it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnx_memo.errors import MemoError
from onnx_memo.proof.binomial import failure_p_value, most_failures


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


def outside(errors: npt.ArrayLike, tolerance: float) -> npt.NDArray[np.bool_]:
    """Which of the errors [n] are outside the tolerance, bool[n]; NaN is, the tolerance itself is not."""
    return ~(np.asarray(errors, np.float64) <= tolerance)


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

    That is stricter than the promise itself: a proof allows 3 of 180 to fail where 5 % may. Where a proof
    allows none, half a request stands for it, since no promise allows 0 failures.
    """
    allowed = most_failures(requests, promise.share, promise.delta) or 0.5
    return Promise(promise.tolerance, 1 - allowed / requests, promise.confidence)
