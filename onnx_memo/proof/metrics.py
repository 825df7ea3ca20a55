"""How wrong an answer is: the error of one request, between the original's outputs and the memoized ones.

Every metric takes one row of one output, `want` from the original and `have` from the memoized model, of the
same shape, and `mask`: bool[L], true for real tokens, or None. A row of shape [L, ...] with at least two axes
is *token-level*: only its real tokens count. A row with one axis is never taken for one, because an embedding
may by chance be as wide as the request is long. A mask without a real token is ignored.

For every metric:

1. Equal rows have the error 0.0 exactly, so that a miss, which is bit-identical, costs nothing.
2. A NaN or an infinity that the original does not have at the same place is an infinite error.
   Where both have it (a class ruled out by -inf), it is left out.
3. Errors are never NaN. Arithmetic is in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_memo.errors import MemoError

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Metric = Callable[[Array, Array, Mask | None], float]


def cosine(want: Array, have: Array, mask: Mask | None = None) -> float:
    """1 - cosine of the angle between two outputs, 0 to 2; token-level ones are averaged over tokens first.

    A zero vector has no direction: error 1 against any other vector, 0 against another zero vector.
    """
    pair = real_part(want, have, mask)
    if pair is None:
        return math.inf
    a, b = pair
    if _token_level(want, mask):
        a, b = _scaled(a).mean(axis=0), _scaled(b).mean(axis=0)
    return _angle(a, b)


def cosine_by_token(want: Array, have: Array, mask: Mask | None = None) -> float:
    """The largest `cosine` error of a single real token; that of the whole row if it has no tokens.

    Averaging lets the errors of tokens cancel; this shows what it hid.
    """
    pair = real_part(want, have, mask)
    if pair is None:
        return math.inf
    if not _token_level(want, mask):
        return _angle(*pair)
    return max(_angle(a, b) for a, b in zip(*pair, strict=True))


def relative(want: Array, have: Array, mask: Mask | None = None) -> float:
    """|have - want| / |want| in the L2 norm, over real tokens; infinite if only `want` is zero."""
    pair = real_part(want, have, mask)
    if pair is None:
        return math.inf
    a, b = pair
    size = np.abs(a).max(initial=0.0)
    if size == 0:
        return math.inf if b.any() else 0.0
    with np.errstate(over="ignore"):
        return _norm(b / size - a / size) / _norm(a / size)


def argmax(want: Array, have: Array, mask: Mask | None = None) -> float:
    """The share of positions whose best class (last axis) changed, 0 to 1; over real tokens.

    A row [C] is one position, [L, C] is L of them. Of equal classes the first counts as the best.
    The last axis needs at least two classes, or the error would be 0 whatever happened.
    """
    assert want.ndim and want.shape[-1] > 1, "no choice of classes"
    real = _real(want, mask)
    if not _same_gaps(want[real], have[real]):
        return math.inf
    return float(np.mean(want[real].argmax(axis=-1) != have[real].argmax(axis=-1)))


DEFAULT_METRIC = "cosine"
METRICS: dict[str, Metric] = {"cosine": cosine, "relative": relative, "argmax": argmax}


def request_error(
    metric: str, want: Mapping[str, Array], have: Mapping[str, Array], mask: Mask | None = None
) -> float:
    """The error of one request: the worst over its float outputs.

    Args:
        metric: a name in `METRICS`.
        want: output name -> its row in the original. Outputs that are not floats are passed over.
        have: the same from the memoized model; more outputs than in `want` do not matter.
        mask: bool[L], true for real tokens, or None.

    Raises:
        MemoError: no such metric, no output that it can compare, or one that has no classes to choose from.
    """
    if metric not in METRICS:
        raise MemoError(f"--metric takes {', '.join(METRICS)}, not '{metric}'")
    compared = [name for name, row in want.items() if np.issubdtype(row.dtype, np.floating) and row.size]
    if not compared:
        raise MemoError(
            f"--metric {metric} compares outputs of floats, and there is none among: "
            f"{', '.join(want) or 'none'}; choose another with --output"
        )
    for name in compared if metric == "argmax" else ():
        if want[name].ndim == 0 or want[name].shape[-1] < 2:
            raise MemoError(
                f"--metric argmax needs two classes or more, and output '{name}' has one number: "
                "take --metric spread, or choose another output with --output"
            )
    return max(METRICS[metric](want[name], have[name], mask) for name in compared)


def _token_level(row: Array, mask: Mask | None) -> bool:
    return mask is not None and row.ndim >= 2 and row.shape[0] == len(mask) and bool(mask.any())


def _real(row: Array, mask: Mask | None) -> Any:
    """What of a row is compared: its real tokens, or all of it."""
    return mask if _token_level(row, mask) else slice(None) if row.ndim else ...


def real_part(want: Array, have: Array, mask: Mask | None) -> tuple[FloatArray, FloatArray] | None:
    """Both rows in float64, real tokens only, without the gaps they share; None if the gaps differ."""
    real = _real(want, mask)
    a, b = want[real].astype(np.float64), have[real].astype(np.float64)
    if not _same_gaps(a, b):
        return None
    finite = np.isfinite(a)
    return np.where(finite, a, 0.0), np.where(finite, b, 0.0)


def _same_gaps(want: Array, have: Array) -> bool:
    """Whether the numbers that are not finite are the same ones at the same places."""
    assert want.shape == have.shape, f"outputs of shapes {want.shape} and {have.shape}"
    gaps = ~(np.isfinite(want) & np.isfinite(have))
    return np.array_equal(want[gaps], have[gaps], equal_nan=True)


def _angle(want: FloatArray, have: FloatArray) -> float:
    """1 - cosine as |a/|a| - b/|b||^2 / 2, which loses nothing at small angles and is 0 for equal vectors."""
    a, b = _direction(want), _direction(have)
    if a is None or b is None:
        return 0.0 if a is b else 1.0
    gap = (a - b).ravel()
    return float(gap @ gap) / 2


def _direction(vector: FloatArray) -> FloatArray | None:
    """The unit vector; None for a zero vector."""
    scaled = _scaled(vector)
    return scaled / _norm(scaled) if scaled.any() else None


def _scaled(values: FloatArray) -> FloatArray:
    """The same directions with numbers of at most 1, so that no sum or square over- or underflows."""
    size = float(np.abs(values).max(initial=0.0))
    return values / size if size else values


def _norm(vector: FloatArray) -> float:
    flat = vector.ravel()
    return float(np.sqrt(flat @ flat))
