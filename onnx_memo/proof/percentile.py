"""Percentiles of errors, times and shares: one rule, so that figures of the same requests agree."""

from __future__ import annotations

import math
from collections.abc import Iterable


def percentile(values: Iterable[float], percent: float, *, low_is_worse: bool = False) -> float:
    """The value that `percent` of the values are no worse than: one that occurred, never an interpolated one.

    The values, sorted from the best to the worst, are numbered from 0 to n - 1; taken is number
    percent / 100 (n - 1), rounded towards the worse side. Between a finite and an infinite error there is
    nothing to interpolate, and half of an error that nobody saw is no evidence.

    Args:
        values: at least one, none of them NaN; infinities are sorted like other numbers.
        percent: 0 (the best) to 100 (the worst).
        low_is_worse: for values of which the smaller is the worse, as a cosine.
    """
    ordered = sorted(values, reverse=low_is_worse)
    assert ordered and 0 <= percent <= 100, "no percentile"
    return float(ordered[math.ceil(percent * (len(ordered) - 1) / 100)])
