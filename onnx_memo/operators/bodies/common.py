"""What the standard bodies share: element types, relative changes, blocks of numbers for pairs of tokens."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.operators.spec import MOST_CHANGE

Results = Mapping[str, ir.Value]  # an operator's outputs, by their names

FLOAT = ir.DataType.FLOAT.value
DOUBLE = ir.DataType.DOUBLE.value
INT64 = ir.DataType.INT64.value


def filling(value: float) -> ir.TensorProtocol:
    """What a `ConstantOfShape` of floats is filled with."""
    return ir.tensor(np.array([value], np.float32))


def relative_change(b: Builder, difference: ir.Value, stored: ir.Value) -> ir.Value:
    """How long each row of a difference is, relative to the stored row."""
    # Not zero, but far below what a difference of floats can be: 0/0 is 0 and x/0 counts as infinity.
    size = b.op("Max", norms(b, stored), b.const(1e-45, np.float32))
    return b.op("Div", norms(b, difference), size)


def norms(b: Builder, value: ir.Value) -> ir.Value:
    """Of each row, Euclidean: as ReduceL2, which takes ONNX Runtime 2.5 times as long (measured)."""
    return b.op("Sqrt", b.reduce("ReduceSum", b.op("Mul", value, value), -1))


def at_most(b: Builder, change: ir.Value) -> ir.Value:
    """What a change counts: `MOST_CHANGE` if it is larger, or NaN."""
    most = b.const(MOST_CHANGE, np.float32)
    return b.op("Where", b.op("LessOrEqual", change, most), change, most)


class Square:
    """Where an entry's numbers are in payloads that hold one for each pair of its tokens."""

    def __init__(self, b: Builder, squares: ir.Value, entry: ir.Value, length: ir.Value) -> None:
        self.first = b.op("Gather", squares, entry)
        self.end = b.op("Add", self.first, b.op("Mul", length, length))
        self.shape = b.op("Concat", length, length, axis=0)

    def of(self, b: Builder, payload: ir.Value) -> ir.Value:
        """The entry's matrix: f16[n, n]."""
        return b.op("Reshape", b.op("Slice", payload, self.first, self.end), self.shape)
