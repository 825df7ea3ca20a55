"""MemoMerge: puts the final states of the rows that ran between those of the store."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.operators.bodies.common import FLOAT, Results, Square


def merge_body(
    b: Builder,
    states: ir.Value,
    spread: ir.Value,
    rows: ir.Value,
    entry: ir.Value,
    length: ir.Value,
    padded_length: ir.Value,
    final: ir.Value,
    influence: ir.Value,
    offsets: ir.Value,
    squares: ir.Value,
) -> Results:
    """An If: where no row ran, nothing moves what is stored, and old ONNX Runtimes refuse an empty Gemm."""
    first = b.op("Gather", offsets, entry)  # [1]
    end = b.op("Add", first, length)

    then = Builder("MemoMerge/some", b.opset)
    stored = then.op("Slice", final, first, end)  # [n, d]
    reach = Square(then, squares, entry, length).of(then, influence)
    merged = _merged(then, stored, states, spread, rows, reach)
    other = Builder("MemoMerge/none", b.opset)
    merged = b.op(
        "If",
        b.op("Greater", b.op("Size", rows), b.const(0, np.int64)),
        then_branch=ir.Graph([], [merged], nodes=then.nodes, name="some"),
        else_branch=ir.Graph([], [other.op("Slice", final, first, end)], nodes=other.nodes, name="none"),
    )
    padding = b.op("Sub", padded_length, length)  # [1]
    pads = b.op("Concat", b.i64(0, 0, 0, 0), padding, b.i64(0), axis=0)
    return {"output": b.op("Pad", b.op("Unsqueeze", merged, b.i64(0)), pads)}


def _merged(
    b: Builder, stored: ir.Value, states: ir.Value, spread: ir.Value, rows: ir.Value, reach: ir.Value
) -> ir.Value:
    """The stored states plus what the rows that ran pass on, in one Gemm; then those rows' own."""
    reach = b.op("Cast", b.op("Gather", reach, rows, axis=0), to=FLOAT)  # [R, n]
    moved = b.op("Gemm", reach, spread, stored, transA=1)
    return b.op("ScatterND", moved, b.op("Unsqueeze", rows, b.i64(1)), states)
