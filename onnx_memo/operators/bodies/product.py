"""MemoProduct: rows times a constant matrix, in 8 bits, each row in 255 steps of its own range."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.operators.bodies.common import FLOAT, Results
from onnx_memo.operators.spec import GROUP, LEAST_WIDTH, PANEL, STEPS

HALF = 128  # two times that, times 127, is in 16 bits

# Rounds f32 [..., K], adds a zero point, clips to bytes; takes the point off and multiplies with i8 [K, M].
Multiply = Callable[[Builder, ir.Value, ir.Value, int], ir.Value]


def multiply_bytes(b: Builder, steps: ir.Value, matrix: ir.Value, zero: int) -> ir.Value:
    """In one product, of which MemoExact tells whether this processor's are exact."""
    point = b.const(zero, np.uint8)
    whole = b.op("QuantizeLinear", steps, b.const(1, np.float32), point)
    return b.op("Cast", b.op("MatMulInteger", whole, matrix, *([point] if zero else [])), to=FLOAT)


def multiply_halves(b: Builder, steps: ir.Value, matrix: ir.Value, zero: int) -> ir.Value:
    """The same in two products of bytes up to 128, which are exact on every processor.

    Of larger bytes the sum of two products with weights of 127 is more than 16 bits hold.
    """
    whole = b.op("Add", b.op("Round", steps), b.const(zero, np.float32))
    whole = b.op("Clip", whole, b.const(0, np.float32), b.const(STEPS, np.float32))
    lower = b.op("Min", whole, b.const(HALF, np.float32))
    totals = []
    for part, own in ((lower, zero), (b.op("Sub", whole, lower), 0)):
        half = b.op("QuantizeLinear", part, b.const(1, np.float32), b.const(0, np.uint8))
        totals.append(b.op("MatMulInteger", half, matrix, b.const(own, np.uint8)))
    return b.op("Cast", b.op("Add", *totals), to=FLOAT)


def unpacked(b: Builder, packed: ir.Value, scales: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The matrix [K, M] of what is packed in panels, and K, i64[1]."""
    turned = b.op("Transpose", packed, perm=[1, 3, 0, 2])  # [K / 4, 4, P, 48]
    shape = b.op("Shape", turned)
    inner = b.op("Mul", b.op("Gather", shape, b.i64(0)), b.i64(GROUP))
    outer = b.op("Mul", b.op("Gather", shape, b.i64(2)), b.i64(PANEL))
    whole = b.op("Reshape", turned, b.op("Concat", inner, outer, axis=0))
    return b.op("Slice", whole, b.i64(0), b.op("Shape", scales), b.i64(1)), inner


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
    """With products of bytes."""
    return {"y": product_nodes(b, x, packed, sums, scales, bias, channels, apart, multiply_bytes)}


def product_nodes(
    b: Builder,
    x: ir.Value,
    packed: ir.Value,
    sums: ir.Value,
    scales: ir.Value,
    bias: ir.Value,
    channels: ir.Value,
    apart: ir.Value,
    multiply: Multiply,
) -> ir.Value:
    """As few nodes as will do: at short requests each costs as much as what it computes.

    The least number of a row is one more channel apart, and the bias another.

    What is made of constants alone, ONNX Runtime computes when it loads the model: the matrix as it needs it,
    which channels are rounded, and what channels apart are multiplied with.
    """
    matrix, inner = unpacked(b, packed, scales)
    chosen = b.op("OneHot", channels, inner, b.const([0, 1], np.float32))
    rounded = b.op("Sub", b.const(1, np.float32), b.reduce("ReduceSum", chosen, 0))  # [K]
    shift = b.op("Mul", b.op("Cast", sums, to=FLOAT), scales)
    factors = b.op("Concat", apart, *(b.op("Unsqueeze", row, b.i64(0)) for row in (shift, bias)), axis=0)

    rest = b.op("Mul", x, rounded)
    low = b.reduce("ReduceMin", rest, -1, keepdims=True)
    high = b.reduce("ReduceMax", rest, -1, keepdims=True)
    width = b.op("Max", b.op("Sub", high, low), b.const(LEAST_WIDTH, np.float32))
    steps = b.op("Mul", b.op("Sub", rest, low), b.op("Div", b.const(STEPS, np.float32), width))
    total = multiply(b, steps, matrix, 0)
    # ONNX Runtime fuses the product, this cast and the next multiplication, if the columns' scales come
    # multiplied with another that is no constant. Of that it reads the first number alone: all are 1.
    one = b.op("Pow", width, b.const(0, np.float32))
    by_steps = b.op("Div", scales, b.const(STEPS, np.float32))
    total = b.op("Mul", total, b.op("Mul", one, by_steps))
    beside = b.op("Concat", b.op("Gather", x, channels, axis=-1), low, one, axis=-1)
    return b.op("Add", b.op("Mul", total, width), b.op("MatMul", beside, factors))
