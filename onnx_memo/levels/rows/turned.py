"""Padding in front of tokens: each sequence is turned, so that it begins with its first real token.

Servers put padding in front where a model's answer is its last token's. What is stored begins with its first
token; so the request is turned before it is looked up, and the answer is turned back. Where `Encoder.turns`
says so, tokens get the same attention wherever they stand. Without padding in front nothing moves.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder


class Turned:
    """The rows of a request, B sequences of L, in their new order; `b` gets the nodes."""

    def __init__(self, b: Builder, mask: ir.Value) -> None:
        """`mask` is the request's, [B, L]; as many rows are put behind the others as it begins with zeros."""
        batch, self.length = b.dim(mask, 0), b.dim(mask, 1)
        real = b.op("Cast", b.op("Cast", mask, to=ir.DataType.BOOL.value), to=ir.DataType.INT64.value)
        before = b.op("Equal", b.op("CumSum", real, b.const(1, np.int64)), b.const(0, np.int64))
        before = b.op("Cast", before, to=ir.DataType.INT64.value)
        first = b.reduce("ReduceSum", before, 1, keepdims=True)  # [B, 1]
        number = _count(b, self.length)
        self.places = b.op(
            "Mod", b.op("Add", number, first), self.length
        )  # of the rows in the new order, [B, L]
        back = b.op("Mod", b.op("Add", b.op("Sub", number, first), self.length), self.length)
        begin = b.op("Unsqueeze", b.op("Mul", _count(b, batch), self.length), b.i64(1))
        self.rows = b.op(
            "Reshape", b.op("Add", self.places, begin), b.i64(-1)
        )  # the same in the batch, [B * L]
        self._back = b.op("Reshape", b.op("Add", back, begin), b.i64(-1))

    def tokens(self, b: Builder, value: ir.Value) -> ir.Value:
        """A value [B, L] in the new order."""
        turned = b.op("GatherElements", value, self.places, axis=1)
        turned.type = value.type
        return turned

    def states(self, b: Builder, value: ir.Value) -> ir.Value:
        """A value [B, L, d] in the new order."""
        return _taken(b, value, self.rows)

    def back(self, b: Builder, value: ir.Value) -> ir.Value:
        """A value [B, L, d] in the request's order again."""
        return _taken(b, value, self._back)

    def bias(self, b: Builder, bias: ir.Value) -> ir.Value:
        """What is added to scores, [B or 1, H or 1, L or 1, L or 1], in the new order, [B, H or 1, L, L]."""
        square = b.op("Concat", b.dim(self.places, 0), b.i64(1), self.length, self.length, axis=0)
        turned = b.op("Expand", bias, square)
        for axis, beside in ((2, 3), (3, 2)):
            index = b.op("Unsqueeze", self.places, b.i64(1, beside))
            turned = b.op("GatherElements", turned, b.op("Expand", index, b.op("Shape", turned)), axis=axis)
        return turned


def _count(b: Builder, size: ir.Value) -> ir.Value:
    """0 .. size - 1, for a size i64[1]."""
    return b.op("Range", b.const(0, np.int64), b.op("Squeeze", size, b.i64(0)), b.const(1, np.int64))


def _taken(b: Builder, value: ir.Value, rows: ir.Value) -> ir.Value:
    shape = b.op("Shape", value)
    width = b.op("Gather", shape, b.i64(-1))
    flat = b.op("Reshape", value, b.op("Concat", b.i64(-1), width, axis=0))
    return b.op("Reshape", b.op("Gather", flat, rows, axis=0), shape)
