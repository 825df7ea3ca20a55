"""Fixed-sequence testing: the loosest setting that held-out requests prove to keep the promise.

The settings are tested in an order that was fixed before, from strict to loose; each is a hypothesis, tested
at the full level 1 - confidence; the last that passes is taken (Angelopoulos, Bates, Candès, Jordan and Lei,
2021, arXiv 2110.01052). An answer is wrong only if the first setting of the sequence that breaks the promise
passes its test. Which one that is does not depend on the held-out requests, so the length of the sequence
needs no correction. What that assumes: `docs/calibration.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from onnx_memo.proof.binomial import failure_p_value
from onnx_memo.proof.measure import Measure, Seen
from onnx_memo.proof.promise import Promise, outside


@dataclass(frozen=True)
class Outcome:
    """What came of `requests` held-out requests at one setting.

    Attributes:
        hits: how many were reused.
        failures: how many were outside the tolerance.
        requests: how many there were, hits and misses.
        p_value: of "at this setting the promise is broken".
    """

    hits: int
    failures: int
    requests: int
    p_value: float

    @staticmethod
    def of(reused: npt.NDArray[np.bool_], seen: Seen, measure: Measure, promise: Promise) -> Outcome:
        """Of requests: which were reused, bool[n], and what the measure said of them."""
        failures = int(outside(seen.errors, promise.tolerance).sum())
        return Outcome(int(reused.sum()), failures, len(reused), measure.p_value(seen, promise))


@dataclass(frozen=True)
class Step:
    """One tested setting: held-out requests reused, those of all outside the tolerance, the p-value."""

    setting: float
    hits: int
    failures: int
    p_value: float


@dataclass(frozen=True)
class Calibration:
    """The loosest setting that was proven, and what was seen at it.

    Attributes:
        setting: a key distance at the levels `output` and `probs`, a share of the bound at `rows`. None if
            nothing was proven: then nothing may be reused, and hits and failures are 0.
        failures: held-out requests outside the tolerance.
        requests: held-out requests; 0 if no setting was tested.
        p_value: of "more requests than promised are outside the tolerance".
        hit_rate: the share of the held-out requests that is reused.
        steps: all settings tested, strict to loose; the last one may be the one that failed.
    """

    setting: float | None
    failures: int
    requests: int
    p_value: float
    hit_rate: float
    steps: tuple[Step, ...]


def fixed_sequence(
    promise: Promise, settings: Sequence[float], outcome_at: Callable[[float], Outcome]
) -> Calibration:
    """The loosest of `settings` that the held-out requests prove.

    Each tests "the promise is broken" by what the measure says of the held-out requests: for single
    requests "at least the share 1 - within of all is outside the tolerance", by the exact binomial tail. It
    passes with a p-value of at most 1 - confidence. No setting after the first that fails is tried.

    Args:
        promise: what is to be kept.
        settings: strictly rising, strict to loose, chosen without a look at the held-out requests.
        outcome_at: what the held-out requests give at a setting, the same requests for all of them. The proof
            holds if this is called for one sequence only.
    """
    assert all(strict < loose for strict, loose in pairwise(settings)), "settings go from strict to loose"
    steps: list[Step] = []
    passed: Step | None = None
    requests = 0
    for setting in settings:
        seen = outcome_at(setting)
        requests = seen.requests
        steps.append(Step(setting, seen.hits, seen.failures, seen.p_value))
        if seen.p_value > promise.delta:
            break
        passed = steps[-1]
    if passed is None:
        never = failure_p_value(0, requests, promise.share)
        return Calibration(None, 0, requests, never, 0.0, tuple(steps))
    hit_rate = passed.hits / requests
    return Calibration(passed.setting, passed.failures, requests, passed.p_value, hit_rate, tuple(steps))
