"""Rankings: what a score does to the order of many requests, and whether so few prove it.

Two figures say how well a ranking by other scores stands for the original's:

- *pairs in order*: of the pairs whose scores differ, the share of which the same one is higher (Kendall's
  tau is twice that, less 1). A pair that becomes a tie has lost its order.
- *top tenth*: of the tenth with the highest scores, the share that is in the tenth with the highest others.

Both are about many requests at once, so no count of failures proves them. Requests are weighted at random
instead, as if others had come in their place: the Bayesian bootstrap (Rubin, *The Bayesian Bootstrap*, Annals
of Statistics 9, 1981). One request is added whose answer is broken, so that it falls below all others: out of
order with half of them, wherever it stood, and lost from the top. Then the weights say of a share of requests
just what the exact binomial tail says (`onnx_memo.proof.binomial`): with k of n failed, those of the failures
and of the request that was added sum up to a Beta(k + 1, n - k) variable, and
P(Beta(k + 1, n - k) > s) = P(Bin(n, s) <= k).

Few requests are near the border of the top tenth, so the share that stays is averaged over tops around it,
from a twentieth to a fifth: for errors small against the scores' spread it changes little from one to the
next.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

TOP = 0.1  # the share that is the top
TOPS = tuple(float(top) for top in np.geomspace(TOP / 2, 2 * TOP, 13))  # that prove it
DRAWS = 1000  # of weights
MOST = 2000  # requests whose pairs are compared; of more, as many at random

Floats = npt.NDArray[np.float64]


def ranking_p_value(
    before: Floats, after: Floats, keep: float, requests: int | None = None, seed: int = 0
) -> float:
    """How well requests agree with "fewer than `keep` of the pairs, or of the top tenth, stay".

    Args:
        before: the original's scores, f64[n].
        after: the others, f64[n]; NaN stands below all.
        keep: the share that must stay, of the pairs and of the top tenth.
        requests: how many such requests are weighted: the n, or as many others that would be like them.
        seed: of the weights.

    Returns:
        The larger of two p-values, since both shares have to be proven (an intersection-union test).
    """
    rng = np.random.default_rng(seed)
    before, after = _finite(before), _finite(after)
    requests = len(before) if requests is None else requests
    if len(before) > MOST:
        some = rng.choice(len(before), MOST, replace=False)
        before, after, requests = before[some], after[some], min(requests, MOST)
    weights = rng.gamma(requests / len(before), size=(DRAWS, len(before)))
    worst = rng.exponential(size=DRAWS)
    shares = (_pairs(before, after, weights, worst), _top(before, after, weights, worst))
    return max((1 + int((share < keep).sum())) / (DRAWS + 1) for share in shares)


def pairs_in_order(before: Floats, after: Floats) -> tuple[int, int]:
    """How many pairs of scores f64[n] stay in order, and of how many."""
    before, after = _finite(before), _finite(after)
    ordered = before[:, None] > before
    return int((ordered & (after[:, None] > after)).sum()), int(ordered.sum())


def top_kept(before: Floats, after: Floats) -> tuple[int, int]:
    """How many of the top tenth of scores f64[n] stay in it, and of how many; of ties the first are taken."""
    size = max(1, round(TOP * len(before)))
    was, now = (np.argsort(-_finite(scores), kind="stable")[:size] for scores in (before, after))
    return len(np.intersect1d(was, now)), size


def _finite(scores: Floats) -> Floats:
    """What is no number stands below all."""
    return np.where(np.isnan(scores), -np.inf, scores)


def _pairs(before: Floats, after: Floats, weights: Floats, worst: Floats) -> Floats:
    """The share of pairs in order, f64[B], by weights f64[B, n], and f64[B] of the request that is added."""
    ordered = before[:, None] > before
    kept = (ordered & (after[:, None] > after)).astype(np.float32)
    light = weights.astype(np.float32)
    total = (light @ ordered.astype(np.float32) * light).sum(axis=1, dtype=np.float64)
    own = worst * weights.sum(axis=1)
    return np.asarray(((light @ kept * light).sum(axis=1, dtype=np.float64) + own / 2) / (total + own))


def _top(before: Floats, after: Floats, weights: Floats, worst: Floats) -> Floats:
    """The share of the top that stays, likewise, on average over `TOPS`; the request added is lost."""
    total = weights.sum(axis=1, keepdims=True)
    above = [_weight_above(scores, weights) for scores in (before, after)]
    kept = np.zeros(len(weights))
    for top in TOPS:
        # Of the request at the border the part of its weight that is still in the top.
        was, now = (np.clip(top * total - over, 0, weights) for over in above)
        kept += np.minimum(was, now).sum(axis=1) / (top * (total[:, 0] + worst))
    return kept / len(TOPS)


def _weight_above(scores: Floats, weights: Floats) -> Floats:
    """The weight of the requests above each one, f64[B, n]; of equal ones the first are above."""
    order = np.argsort(-scores, kind="stable")
    sums = np.cumsum(weights[:, order], axis=1) - weights[:, order]
    above = np.empty_like(sums)
    above[:, order] = sums
    return above
