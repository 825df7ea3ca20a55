"""MemoProduct with what may follow it: an activation, or a residual and a normalization.

ONNX Runtime fuses them to Gelu, QuickGelu and, if gamma, beta and epsilon are constants, LayerNormalization.
The nodes of the tanh form stay single on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.operators.bodies.common import Results
from onnx_memo.operators.bodies.product import product_body


def _gelu(b: Builder, v: ir.Value) -> ir.Value:
    erf = b.op("Erf", b.op("Div", v, _number(b, math.sqrt(2))))
    return b.op("Mul", b.op("Mul", v, b.op("Add", erf, _number(b, 1))), _number(b, 0.5))


def _gelu_tanh(b: Builder, v: ir.Value) -> ir.Value:
    cubic = b.op("Mul", b.op("Pow", v, _number(b, 3)), _number(b, 0.044715))
    argument = b.op("Mul", b.op("Add", v, cubic), _number(b, math.sqrt(2 / math.pi)))
    return b.op("Mul", b.op("Mul", v, _number(b, 0.5)), b.op("Add", b.op("Tanh", argument), _number(b, 1)))


def _relu(b: Builder, v: ir.Value) -> ir.Value:
    return b.op("Relu", v)


def _silu(b: Builder, v: ir.Value) -> ir.Value:
    return b.op("Mul", v, b.op("Sigmoid", v))


def _number(b: Builder, value: float) -> ir.Value:
    return b.const(value, np.float32)


def _then(activation: Callable[[Builder, ir.Value], ir.Value]) -> Callable[..., Results]:
    def body(
        b: Builder,
        x: ir.Value,
        packed: ir.Value,
        sums: ir.Value,
        scales: ir.Value,
        bias: ir.Value,
        channels: ir.Value,
        apart: ir.Value,
    ) -> Results:
        return {"y": activation(b, product_body(b, x, packed, sums, scales, bias, channels, apart)["y"])}

    return body


ACTIVATED = {
    "MemoProductGelu": _then(_gelu),
    "MemoProductGeluTanh": _then(_gelu_tanh),
    "MemoProductRelu": _then(_relu),
    "MemoProductSilu": _then(_silu),
}


def product_norm_body(
    b: Builder,
    x: ir.Value,
    packed: ir.Value,
    sums: ir.Value,
    scales: ir.Value,
    bias: ir.Value,
    channels: ir.Value,
    apart: ir.Value,
    residual: ir.Value,
    gamma: ir.Value,
    beta: ir.Value,
    epsilon: ir.Value,
) -> Results:
    """Not by the operator LayerNormalization, to which epsilon is an attribute."""
    product = product_body(b, x, packed, sums, scales, bias, channels, apart)["y"]
    total = b.op("Add", residual, product)
    centred = b.op("Sub", total, b.reduce("ReduceMean", total, -1, keepdims=True))
    variance = b.reduce("ReduceMean", b.op("Pow", centred, _number(b, 2)), -1, keepdims=True)
    normal = b.op("Div", centred, b.op("Sqrt", b.op("Add", variance, epsilon)))
    return {"y": b.op("Add", b.op("Mul", normal, gamma), beta), "sum": total}
