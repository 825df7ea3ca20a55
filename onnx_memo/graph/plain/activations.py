"""Activations of ONNX Runtime, which ONNX's inference does not know.

The forms are those of ONNX Runtime's documentation of its operators (docs/ContribOperators.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.graph.plain.rule import MICROSOFT, Rules, optional, required


def _gelu(b: Builder, x: ir.Value) -> ir.Value:
    """x / 2 * (1 + erf(x / sqrt 2))"""
    inner = b.op("Erf", b.op("Div", x, b.const(math.sqrt(2), np.float32)))
    return b.op("Mul", _half(b, x), b.op("Add", inner, b.const(1, np.float32)))


def _gelu_tanh(b: Builder, x: ir.Value) -> ir.Value:
    """x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))"""
    cube = b.op("Mul", b.op("Mul", x, x), x)
    bent = b.op("Add", x, b.op("Mul", cube, b.const(0.044715, np.float32)))
    inner = b.op("Tanh", b.op("Mul", bent, b.const(math.sqrt(2 / math.pi), np.float32)))
    return b.op("Mul", _half(b, x), b.op("Add", inner, b.const(1, np.float32)))


def _half(b: Builder, x: ir.Value) -> ir.Value:
    return b.op("Mul", x, b.const(0.5, np.float32))


def _biased(b: Builder, node: ir.Node) -> ir.Value:
    """The first input, with the second one added where it is given."""
    x, bias = required(node, 0), optional(node, 1)
    return x if bias is None else b.op("Add", x, bias)


def _of_gelu(b: Builder, node: ir.Node) -> Sequence[ir.Value]:
    return (_gelu(b, _biased(b, node)),)


def _of_fast_gelu(b: Builder, node: ir.Node) -> Sequence[ir.Value]:
    return (_gelu_tanh(b, _biased(b, node)),)


def _of_quick_gelu(b: Builder, node: ir.Node) -> Sequence[ir.Value]:
    x, alpha = required(node, 0), node.attributes.get_float("alpha", 1.702)
    return (b.op("Mul", x, b.op("Sigmoid", b.op("Mul", x, b.const(alpha, np.float32)))),)


RULES: Rules = {
    (MICROSOFT, "Gelu"): _of_gelu,
    (MICROSOFT, "BiasGelu"): _of_gelu,
    (MICROSOFT, "FastGelu"): _of_fast_gelu,
    (MICROSOFT, "QuickGelu"): _of_quick_gelu,
}
