"""Accuracy by true labels, of two models that answered the same requests, with 95 % intervals.

The intervals are Wilson's for each model, and Newcombe's, which rests on these, for the difference. Both hold
for small samples and near 0 and 1, where the usual standard error says that nothing is uncertain.

- E. B. Wilson: *Probable Inference, the Law of Succession, and Statistical Inference*, Journal of the
  American Statistical Association 22, 1927.
- R. G. Newcombe: *Improved Confidence Intervals for the Difference between Binomial Proportions Based on
  Paired Data*, Statistics in Medicine 17, 1998 (method 10).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Z = 1.959963984540054  # of a normal variable 95 % are no farther from the mean, in standard deviations


@dataclass(frozen=True)
class Estimate:
    """A share, or a difference of two, and its 95 % interval from `low` to `high`."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Accuracy:
    """How often the best class is the true label, before (the original) and after (the bundle).

    Attributes:
        column: of the data that holds the true labels.
        requests: that were judged.
        lost: those that the original alone has right.
        gained: those that the bundle alone has right.
        before, after: the share that is right.
        difference: after less before.
    """

    column: str
    requests: int
    lost: int
    gained: int
    before: Estimate
    after: Estimate
    difference: Estimate

    @property
    def verdict(self) -> str:
        """What the difference says, in words."""
        if self.difference.low <= 0 <= self.difference.high:
            return "no difference was seen"
        return f"the bundle is right {'more' if self.difference.value > 0 else 'less'} often"

    def __str__(self) -> str:
        moved = self.difference
        changed = f"{self.lost:,} lost, {self.gained:,} gained"
        return (
            f"accuracy by '{self.column}', {self.requests:,} requests: {_shown(self.before)} before, "
            f"{_shown(self.after)} after; difference {100 * moved.value:+.1f} points (95 % interval "
            f"{100 * moved.low:+.1f} to {100 * moved.high:+.1f}; {changed}): {self.verdict}"
        )


def accuracy_of(column: str, labels: npt.ArrayLike, before: npt.ArrayLike, after: npt.ArrayLike) -> Accuracy:
    """The accuracy of two models on the same requests.

    Args:
        column: that the labels are from.
        labels: the true class of each request, [n], n at least 1.
        before, after: the class that the original and the bundle choose, [n]; any number that is no class,
            as -1 of an output that broke, is never right.
    """
    right = np.asarray(before) == np.asarray(labels), np.asarray(after) == np.asarray(labels)
    both = int((right[0] & right[1]).sum())
    lost, gained = int((right[0] & ~right[1]).sum()), int((~right[0] & right[1]).sum())
    count = len(right[0])
    return Accuracy(
        column,
        count,
        lost,
        gained,
        wilson(both + lost, count),
        wilson(both + gained, count),
        newcombe(both, gained, lost, count - both - lost - gained),
    )


def wilson(successes: int, count: int) -> Estimate:
    """The share `successes / count` with Wilson's score interval, which lies within 0 and 1.

    The ends are the shares from which the observed one is `Z` of their own standard deviations away.
    """
    assert 0 <= successes <= count and count, "not a binomial count"
    share, part = successes / count, Z * Z / count
    middle = share + part / 2
    half = math.sqrt(part * (share * (1 - share) + part / 4))
    # At 0 and 1 an end is the share itself, but for rounding.
    low, high = (middle - half) / (1 + part), (middle + half) / (1 + part)
    return Estimate(share, min(max(low, 0.0), share), max(min(high, 1.0), share))


def newcombe(both: int, first: int, second: int, neither: int) -> Estimate:
    """The difference of two shares of the same requests with Newcombe's interval (method 10).

    Wilson's intervals of both shares are put together as the standard deviations of a difference are. How
    much they have in common is the correlation `phi` of the fourfold table, corrected for continuity where it
    is positive; 0 where one of the shares is 0 or 1.

    Args:
        both, neither: requests that are successes, or failures, in both.
        first, second: those that are successes in one of them alone. The difference is the first share less
            the second.
    """
    count = both + first + second + neither
    one, other = wilson(both + first, count), wilson(both + second, count)
    product = (both + first) * (second + neither) * (both + second) * (first + neither)
    common: float = both * neither - first * second
    if common > 0:
        common = max(common - count / 2, 0.0)
    phi = common / math.sqrt(product) if product else 0.0
    value = (first - second) / count
    down = _together(one.value - one.low, other.high - other.value, phi)
    up = _together(one.high - one.value, other.value - other.low, phi)
    return Estimate(value, max(value - down, -1.0), min(value + up, 1.0))


def _together(own: float, other: float, phi: float) -> float:
    """The length of the difference of two vectors, of these lengths and with the angle's cosine `phi`."""
    return math.sqrt(max(own * own - 2 * phi * own * other + other * other, 0.0))


def _shown(share: Estimate) -> str:
    return f"{share.value:.1%} ({share.low:.1%} to {share.high:.1%})"
