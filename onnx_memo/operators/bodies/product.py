"""MemoProduct: rows times a constant matrix, in 8 bits, each row with a scale and a zero point of its own."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.operators.bodies.common import FLOAT, Results
from onnx_memo.operators.spec import STEPS

INT32 = ir.DataType.INT32.value
UINT8 = ir.DataType.UINT8.value


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
    """`MatMulInteger` takes one zero point for all rows: that is 0, and the rows' own are taken off after it.

    What is made of constants alone, ONNX Runtime computes when it loads the model: the matrix as it needs it,
    and which channels are rounded.
    """
    unpacked = b.op("Transpose", packed, perm=[1, 3, 0, 2])  # [K / 4, 4, P, 48]
    shape = b.op("Shape", unpacked)
    inner = b.op("Mul", b.op("Gather", shape, b.i64(0)), b.i64(4))
    outer = b.op("Mul", b.op("Gather", shape, b.i64(2)), b.i64(48))
    matrix = b.op("Reshape", unpacked, b.op("Concat", inner, outer, axis=0))
    matrix = b.op("Slice", matrix, b.i64(0), b.op("Shape", scales), b.i64(1))  # [K, M]
    chosen = b.op("OneHot", channels, inner, b.const([0, 1], np.float32))
    rounded = b.op("Sub", b.const(1, np.float32), b.reduce("ReduceSum", chosen, 0))  # [K]

    rest = b.op("Mul", x, rounded)
    none = b.const(0, np.float32)
    low = b.op("Min", b.reduce("ReduceMin", rest, -1, keepdims=True), none)
    high = b.op("Max", b.reduce("ReduceMax", rest, -1, keepdims=True), none)
    step = b.op("Div", b.op("Sub", high, low), b.const(STEPS, np.float32))
    scale = b.op("Max", step, b.const(np.finfo(np.float32).tiny, np.float32))
    inverse = b.op("Div", b.const(1, np.float32), scale)
    zero = b.op("Round", b.op("Mul", b.op("Neg", low), inverse))
    whole = b.op("Add", b.op("Round", b.op("Mul", rest, inverse)), zero)
    whole = b.op("Clip", whole, none, b.const(STEPS, np.float32))
    total = b.op("MatMulInteger", b.op("Cast", whole, to=UINT8), matrix)
    total = b.op("Sub", total, b.op("Mul", b.op("Cast", zero, to=INT32), sums))
    y = b.op("Mul", b.op("Mul", b.op("Cast", total, to=FLOAT), scale), scales)
    own = b.op("MatMul", b.op("Gather", x, channels, axis=-1), apart)
    return {"y": b.op("Add", b.op("Add", y, bias), own)}
