"""The exact tail of the binomial distribution: what so few failures say about the share that fails."""

from __future__ import annotations

import math
from bisect import bisect_right


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


def most_failures(requests: int, share: float, delta: float) -> int | None:
    """The largest number of failures whose p-value (`failure_p_value`) is at most `delta`.

    None if not even 0 failures will do, that is, if the requests are too few. `delta` is below 1.
    """
    # The p-value rises with the failures.
    allowed = bisect_right(range(requests + 1), delta, key=lambda k: failure_p_value(k, requests, share))
    return allowed - 1 if allowed else None


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
