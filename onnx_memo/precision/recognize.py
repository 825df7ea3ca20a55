"""Tell what a stretch does from what it makes of given numbers: which activation, which normalization."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

EXACT = 2e-6  # how far the same function may be computed apart, relative to the numbers it is given
NUMBERS, ROWS = 2048, 48  # that are tried
FARTHEST = 12.0  # numbers for activations; beyond, all of them are linear or constant
SCALES = np.geomspace(1e-4, 10, ROWS)  # of rows for normalizations: small ones tell epsilon
EPSILONS = (1e-12, 1e-10, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)

_erf = np.frompyfunc(math.erf, 1, 1)


def _gelu(x: Any) -> Any:
    return x / 2 * (1 + _erf(x / math.sqrt(2)).astype(np.float64))


def _gelu_tanh(x: Any) -> Any:
    return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


# The activations that `MemoProduct`'s last step knows, by the end of the operator's name.
ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "Gelu": _gelu,
    "GeluTanh": _gelu_tanh,
    "Relu": lambda x: np.maximum(x, 0),
    "Silu": lambda x: x / (1 + np.exp(-x)),
}


@dataclass(frozen=True)
class Normalization:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta, over a row; gamma and beta f32[d]."""

    gamma: Floats
    beta: Floats
    epsilon: float


def activation_probe(width: int) -> Floats:
    """Rows [n, width] to try an activation with."""
    count = -(-NUMBERS // width) * width
    return np.linspace(-FARTHEST, FARTHEST, count, dtype=np.float32).reshape(-1, width)


def activation_of(given: Floats, came: Floats | None) -> str | None:
    """The activation that makes `came` of `given`, or None."""
    if came is None or came.size != given.size:
        return None
    flat, got = given.ravel().astype(np.float64), came.ravel()
    for name, function in ACTIVATIONS.items():
        if (np.abs(function(flat) - got) <= EXACT * np.maximum(np.abs(flat), 1)).all():
            return name
    return None


def normalization_probe(width: int) -> Floats:
    """Rows [n, width] to try a normalization with."""
    noise = np.random.default_rng(0).standard_normal((ROWS, width))
    return (noise * SCALES[:, None]).astype(np.float32)


def normalization_of(given: Floats, came: Floats | None) -> Normalization | None:
    """The normalization that makes `came` of `given`, or None."""
    if came is None or came.size != given.size or not np.isfinite(came).all():
        return None
    got = came.reshape(given.shape).astype(np.float64)
    rows = given.astype(np.float64)
    centred = rows - rows.mean(axis=1, keepdims=True)
    variance = np.square(centred).mean(axis=1, keepdims=True)
    for epsilon in EPSILONS:
        even = centred / np.sqrt(variance + epsilon)
        # The least squares of each column on its own: gamma and beta.
        middle, level = even.mean(axis=0), got.mean(axis=0)
        spread = np.square(even - middle).sum(axis=0)
        gamma = ((even - middle) * (got - level)).sum(axis=0) / spread
        beta = level - gamma * middle
        off = np.abs(even * gamma + beta - got)
        if (off <= 20 * EXACT * (np.abs(gamma) + np.abs(beta))).all():
            return Normalization(gamma.astype(np.float32), beta.astype(np.float32), epsilon)
    return None
