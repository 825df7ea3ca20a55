"""Times with their spread: what single rounds of a race make of a figure says how far it can be trusted."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnx_memo.proof.percentile import percentile
from onnx_memo.sessions import Raced

NOT_KNOWN = "\N{EN DASH}"
PLUS_MINUS = "\N{PLUS-MINUS SIGN}"
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """A figure and how far it is uncertain.

    Attributes:
        value: by the medians of each request over the rounds.
        spread: half the range of what the single rounds give; 0 where there was but one.
    """

    value: float
    spread: float

    def __str__(self) -> str:
        """`0.351 +- 0.004`: both with digits down to the first of the spread, and at least three."""
        if not (math.isfinite(self.value) and math.isfinite(self.spread)):
            return NOT_KNOWN
        decimals = max(0, 2 - _power(self.value))
        if not self.spread:
            return f"{self.value:,.{decimals}f}"
        decimals = max(decimals, -_power(self.spread))
        return f"{self.value:,.{decimals}f} {PLUS_MINUS} {self.spread:,.{decimals}f}"

    def equals(self, other: float) -> bool:
        """Whether the difference is within the spread."""
        return abs(self.value - other) <= self.spread


@dataclass(frozen=True)
class Times:
    """What requests take, in milliseconds: the 50th, 95th and 99th percentile over the requests."""

    p50: Measured
    p95: Measured
    p99: Measured


def _power(value: float) -> int:
    return math.floor(math.log10(abs(value))) if value else 0


def times_of(raced: Raced, runner: int) -> Times:
    """What the requests took a runner. There is at least one request."""

    def at(percent: float) -> Measured:
        return _measured(raced, lambda seconds: percentile(seconds[:, runner], percent) * 1e3)

    return Times(at(50), at(95), at(99))


def ratio_of(raced: Raced, runner: int, base: int = 0) -> Measured:
    """The total time of a runner over that of another. There is at least one request."""
    return _measured(raced, lambda seconds: float(seconds[:, runner].sum() / seconds[:, base].sum()))


def _measured(raced: Raced, figure: Callable[[Floats], float]) -> Measured:
    """A figure of the medians, f64[requests, runners], and of each round."""
    return Measured(figure(raced.medians), float(np.ptp([figure(turn) for turn in raced.seconds])) / 2)
