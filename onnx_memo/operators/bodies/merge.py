"""MemoMerge: puts the final states of the rows that ran between those of the store."""

from __future__ import annotations

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
    """The stored states plus what the rows that ran pass on, in one Gemm; then those rows' own."""
    first = b.op("Gather", offsets, entry)  # [1]
    stored = b.op("Slice", final, first, b.op("Add", first, length))  # [n, d]
    reach = b.op("Gather", Square(b, squares, entry, length).of(b, influence), rows, axis=0)
    reach = b.op("Cast", reach, to=FLOAT)  # [R, n]
    moved = b.op("Gemm", reach, spread, stored, transA=1)
    merged = b.op("ScatterND", moved, b.op("Unsqueeze", rows, b.i64(1)), states)
    merged = b.op("Unsqueeze", merged, b.i64(0))
    padding = b.op("Sub", padded_length, length)  # [1]
    output = b.op("Pad", merged, b.op("Concat", b.i64(0, 0, 0, 0), padding, b.i64(0), axis=0))
    return {"output": output}
