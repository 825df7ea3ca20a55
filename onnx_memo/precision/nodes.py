"""A product in 8 bits by few standard nodes: each costs, at short requests, as much as it computes.

It is coarser than `MemoProduct`: rows have 127 steps on either side of zero, and no channels stay apart.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.operators.bodies.product import Multiply, multiply_bytes, unpacked
from onnx_memo.operators.spec import LEAST_WIDTH

HALF = 127  # steps on either side of zero


def coarse_product(
    b: Builder,
    x: ir.Value,
    packed: ir.Value,
    scales: ir.Value,
    bias: ir.Value,
    multiply: Multiply = multiply_bytes,
) -> ir.Value:
    """The product of x [..., K] and a matrix as `MemoProduct` reads it.

    What is made of constants alone, ONNX Runtime computes when it loads the model. It fuses the product, the
    cast and the multiplication after it, if the columns' scales come multiplied with another that is no
    constant. Of that it reads the first number alone: all are 1.
    """
    greatest = b.reduce("ReduceMax", b.op("Abs", x), -1, keepdims=True)
    width = b.op("Max", greatest, b.const(LEAST_WIDTH, np.float32))
    matrix, _ = unpacked(b, packed, scales)
    steps = b.op("Mul", x, b.op("Div", b.const(HALF, np.float32), width))
    total = multiply(b, steps, matrix, HALF + 1)
    ones = b.op("Pow", width, b.const(0, np.float32))
    total = b.op("Mul", total, b.op("Mul", ones, b.op("Div", scales, b.const(HALF, np.float32))))
    return b.op("Add", b.op("Mul", total, width), bias)
