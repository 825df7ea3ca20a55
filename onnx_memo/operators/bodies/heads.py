"""Queries, keys and values of all heads side by side, as one product gives them."""

from __future__ import annotations

import onnx_ir as ir

from onnx_memo.graph.build import Builder


class SideBySide:
    """The queries, keys and values in rows [..., R, H * (2 * dk + dv)].

    Attributes:
        values: H * dv, i64[1].
    """

    def __init__(self, b: Builder, qkv: ir.Value, heads: ir.Value) -> None:
        """`heads` i64[3] holds H, dk and dv."""
        self.count, key_width, value_width = (b.op("Gather", heads, b.i64(i)) for i in range(3))
        self.widths = (key_width, key_width, value_width)
        sizes = [b.op("Mul", self.count, width) for width in (key_width, value_width)]
        self.values = sizes[1]
        names = [f"{b.prefix}/{name}" for name in ("query", "key", "value")]
        split = b.op("Concat", sizes[0], *sizes, axis=0)
        self.parts = b.ops("Split", qkv, split, names=names, axis=-1)

    def apart(self, b: Builder, *rows: ir.Value) -> list[ir.Value]:
        """Each of the three as [*rows, H, dk or dv]."""
        return [
            b.op("Reshape", part, b.op("Concat", *rows, self.count, width, axis=0))
            for part, width in zip(self.parts, self.widths, strict=True)
        ]


def beside(b: Builder, context: ir.Value, qkv: ir.Value, values: ir.Value) -> ir.Value:
    """A context of `values` numbers a row, i64[1], with the axes of `qkv` before its rows: [..., Q, H * dv].

    The rows are what is left: there may be none, and before opset 14 a 0 means something else.
    """
    leading = b.op("Slice", b.op("Shape", qkv), b.i64(0), b.i64(-2))
    return b.op("Reshape", context, b.op("Concat", leading, b.i64(-1), values, axis=0))
