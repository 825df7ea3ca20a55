"""MemoProduct: rows times a constant matrix, in 8 bits, each row in 255 steps of its own range."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.operators.bodies.common import FLOAT, Results
from onnx_memo.operators.spec import STEPS


def product_body(
    b: Builder,
    x: ir.Value,
    packed: ir.Value,
    sums: ir.Value,
    scales: ir.Value,
    bias: ir.Value,
    channels: ir.Value,
    apart: ir.Value,
) -> Results:
    """As few nodes as will do: at short requests each costs as much as what it computes.

    The least number of a row is one more channel apart, and the bias another.

    What is made of constants alone, ONNX Runtime computes when it loads the model: the matrix as it needs it,
    which channels are rounded, and what channels apart are multiplied with.
    """
    unpacked = b.op("Transpose", packed, perm=[1, 3, 0, 2])  # [K / 4, 4, P, 48]
    shape = b.op("Shape", unpacked)
    inner = b.op("Mul", b.op("Gather", shape, b.i64(0)), b.i64(4))
    outer = b.op("Mul", b.op("Gather", shape, b.i64(2)), b.i64(48))
    matrix = b.op("Reshape", unpacked, b.op("Concat", inner, outer, axis=0))
    matrix = b.op("Slice", matrix, b.i64(0), b.op("Shape", scales), b.i64(1))  # [K, M]
    chosen = b.op("OneHot", channels, inner, b.const([0, 1], np.float32))
    rounded = b.op("Sub", b.const(1, np.float32), b.reduce("ReduceSum", chosen, 0))  # [K]
    shift = b.op("Mul", b.op("Cast", sums, to=FLOAT), scales)
    factors = b.op("Concat", apart, *(b.op("Unsqueeze", row, b.i64(0)) for row in (shift, bias)), axis=0)

    rest = b.op("Mul", x, rounded)
    low = b.reduce("ReduceMin", rest, -1, keepdims=True)
    high = b.reduce("ReduceMax", rest, -1, keepdims=True)
    width = b.op("Max", b.op("Sub", high, low), b.const(2.0**-118, np.float32))
    steps = b.op("Mul", b.op("Sub", rest, low), b.op("Div", b.const(STEPS, np.float32), width))
    whole = b.op("QuantizeLinear", steps, b.const(1, np.float32), b.const(0, np.uint8))  # rounds and clips
    total = b.op("Cast", b.op("MatMulInteger", whole, matrix), to=FLOAT)
    # ONNX Runtime fuses the product, this cast and the next multiplication, if the columns' scales come
    # multiplied with another that is no constant. Of that it reads the first number alone: all are 1.
    one = b.op("Pow", width, b.const(0, np.float32))
    by_steps = b.op("Div", scales, b.const(STEPS, np.float32))
    total = b.op("Mul", total, b.op("Mul", one, by_steps))
    beside = b.op("Concat", b.op("Gather", x, channels, axis=-1), low, one, axis=-1)
    return {"y": b.op("Add", b.op("Mul", total, width), b.op("MatMul", beside, factors))}
