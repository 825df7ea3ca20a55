"""MemoProduct: rows times a constant matrix, in 8 bits, each row with a scale and a zero point of its own."""

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

    `MatMulInteger` takes one zero point for all rows: that is 0, and the rows' own are taken off after it, as
    one more channel apart. The bias is another.

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
    shift = b.op("Neg", b.op("Mul", b.op("Cast", sums, to=FLOAT), scales))
    factors = b.op("Concat", apart, *(b.op("Unsqueeze", row, b.i64(0)) for row in (shift, bias)), axis=0)

    rest = b.op("Mul", x, rounded)
    below = b.op("Relu", b.op("Neg", b.reduce("ReduceMin", rest, -1, keepdims=True)))
    above = b.op("Relu", b.reduce("ReduceMax", rest, -1, keepdims=True))
    step = b.op("Div", b.op("Add", above, below), b.const(STEPS, np.float32))
    scale = b.op("Max", step, b.const(np.finfo(np.float32).tiny, np.float32))
    inverse = b.op("Div", b.const(1, np.float32), scale)
    zero = b.op("Round", b.op("Mul", below, inverse))
    whole = b.op("Add", b.op("Mul", rest, inverse), zero)
    whole = b.op("QuantizeLinear", whole, b.const(1, np.float32), b.const(0, np.uint8))  # rounds and clips
    total = b.op("Cast", b.op("MatMulInteger", whole, matrix), to=FLOAT)
    # ONNX Runtime fuses the product, this cast and the next multiplication, if the columns' scales come
    # multiplied with another that is no constant. Of that it reads the first number alone: all are 1.
    one = b.op("Pow", scale, b.const(0, np.float32))
    total = b.op("Mul", total, b.op("Mul", one, scales))
    beside = b.op("Concat", b.op("Gather", x, channels, axis=-1), b.op("Mul", zero, scale), one, axis=-1)
    return {"y": b.op("Add", b.op("Mul", total, scale), b.op("MatMul", beside, factors))}
