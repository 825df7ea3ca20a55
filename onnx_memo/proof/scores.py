"""How wrong a score is: an output of one number, or one a token, as rerankers and regressors give it.

An angle between numbers knows nothing but their signs, so a score is measured against the scores that the
original gives for the sample, by one of two metrics. `want` and `have` are one row of an output, `[]`, `[1]`
or `[L, 1]`; `mask` as in `onnx_memo.proof.metrics`; `scores` are the original's for some of the sample,
f64[n], rising.

Equal rows have the error 0.0 exactly; a number that broke is an infinite error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_memo.proof.metrics import Array, FloatArray, Mask, real_part

ScoreMetric = Callable[[Array, Array, Mask | None, FloatArray], float]


def is_score(output: npt.NDArray[Any]) -> bool:
    """Whether an output, [B], [B, 1] or [B, L, 1], holds one number a request, or one a token."""
    return output.ndim < 2 or output.shape[-1] == 1


def scores_of(outputs: Iterable[Array]) -> FloatArray:
    """The finite numbers of some outputs, rising."""
    flat = np.concatenate([np.zeros(0), *(np.asarray(output, np.float64).ravel() for output in outputs)])
    return np.sort(flat[np.isfinite(flat)])


def spread(want: Array, have: Array, mask: Mask | None, scores: FloatArray) -> float:
    """The difference (root mean square over real tokens), in standard deviations of the scores.

    Where all scores are equal, any difference is infinite.
    """
    pair = real_part(want, have, mask)
    if pair is None:
        return math.inf
    off = float(np.sqrt(np.mean(np.square(pair[1] - pair[0]))))
    size = float(scores.std()) if len(scores) else 0.0
    return off / size if size else math.inf if off else 0.0


def order(want: Array, have: Array, mask: Mask | None, scores: FloatArray) -> float:
    """The share of the scores that a score passes: of its pairs with them, those whose order changes.

    Of several tokens the mean. A pair of equal scores has no order that could change.
    """
    pair = real_part(want, have, mask)
    if pair is None:
        return math.inf
    a, b = (np.ravel(one) for one in pair)
    # Whoever rises passes what lies in (want, have], whoever falls what lies in [have, want).
    risen = np.searchsorted(scores, b, "right") - np.searchsorted(scores, a, "right")
    fallen = np.searchsorted(scores, a, "left") - np.searchsorted(scores, b, "left")
    passed = np.where(b > a, risen, np.where(b < a, fallen, 0))
    return float(passed.mean()) / len(scores) if len(scores) else 0.0


SCORE_METRICS: dict[str, ScoreMetric] = {"spread": spread, "order": order}
