"""MemoProduct with what may follow it: an activation, or a residual and a normalization."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from onnx_memo.operators.reference.common import Floats, Integers, Integers32, SignedBytes, check_fit, single
from onnx_memo.operators.reference.product import memo_product

Doubles = npt.NDArray[np.float64]
Activated = Callable[[Floats, SignedBytes, Integers32, Floats, Floats, Integers, Floats], Floats]


def _gelu(v: Doubles) -> Doubles:
    halves = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in v.flat], np.float64)
    return halves.reshape(v.shape) * v


def _gelu_tanh(v: Doubles) -> Doubles:
    y: Doubles = 0.5 * v * (1 + np.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3)))
    return y


def _relu(v: Doubles) -> Doubles:
    y: Doubles = np.maximum(v, 0)
    return y


def _silu(v: Doubles) -> Doubles:
    y: Doubles = v / (1 + np.exp(-v))
    return y


def _then(activation: Callable[[Doubles], Doubles]) -> Activated:
    def activated(
        x: Floats,
        packed: SignedBytes,
        sums: Integers32,
        scales: Floats,
        bias: Floats,
        channels: Integers,
        apart: Floats,
    ) -> Floats:
        product = memo_product(x, packed, sums, scales, bias, channels, apart).astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            y = activation(product).astype(np.float32)
        y[product == -np.inf] = 0  # the limit, where the formulas multiply it with zero
        return y

    return activated


memo_product_gelu = _then(_gelu)
memo_product_gelu_tanh = _then(_gelu_tanh)
memo_product_relu = _then(_relu)
memo_product_silu = _then(_silu)


def memo_product_norm(
    x: Floats,
    packed: SignedBytes,
    sums: Integers32,
    scales: Floats,
    bias: Floats,
    channels: Integers,
    apart: Floats,
    residual: Floats,
    gamma: Floats,
    beta: Floats,
    epsilon: Floats,
) -> tuple[Floats, Floats]:
    """The normalized sum of `residual` and the product, and that sum: both f32 [..., M].

    Shapes: residual [..., M], gamma and beta [M], epsilon [] or [1]. Raises ValueError if they do not fit.
    """
    product = memo_product(x, packed, sums, scales, bias, channels, apart)
    check_fit(residual.shape == product.shape, residual, product)
    check_fit(gamma.shape == beta.shape == scales.shape, gamma, beta, scales)
    total: Floats = residual + product
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        centred = total.astype(np.float64) - total.mean(axis=-1, keepdims=True, dtype=np.float64)
        variance = (centred**2).mean(axis=-1, keepdims=True)
        normal = centred / np.sqrt(variance + single("epsilon", epsilon))
    y: Floats = (normal * gamma + beta).astype(np.float32)
    return y, total
