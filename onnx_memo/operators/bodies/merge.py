"""MemoMerge: puts the final states of the rows that ran between those of the store."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.operators.bodies.batch import Batch, Packed, of_one_or_many
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
    """One sequence, or a batch."""
    inputs = (states, spread, rows, entry, length, padded_length, final, influence, offsets, squares)
    (output,) = of_one_or_many(b, entry, _of_one(b.opset, *inputs), _of_many(b.opset, *inputs))
    return {"output": output}


def _of_one(
    opset: int,
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
) -> ir.Graph:
    """An If: where no row ran, nothing moves what is stored, and old ONNX Runtimes refuse an empty Gemm."""
    b = Builder("MemoMerge/one", opset)
    first = b.op("Gather", offsets, entry)  # [1]
    end = b.op("Add", first, length)

    then = Builder("MemoMerge/some", opset)
    stored = then.op("Slice", final, first, end)  # [n, d]
    reach = Square(then, squares, entry, length).of(then, influence)
    merged = _merged(then, stored, states, spread, rows, reach)
    other = Builder("MemoMerge/none", opset)
    merged = b.op(
        "If",
        b.op("Greater", b.op("Size", rows), b.const(0, np.int64)),
        then_branch=ir.Graph([], [merged], nodes=then.nodes, name="some"),
        else_branch=ir.Graph([], [other.op("Slice", final, first, end)], nodes=other.nodes, name="none"),
    )
    padding = b.op("Sub", padded_length, length)  # [1]
    pads = b.op("Concat", b.i64(0, 0, 0, 0), padding, b.i64(0), axis=0)
    output = b.op("Pad", b.op("Unsqueeze", merged, b.i64(0)), pads)
    return ir.Graph([], [output], nodes=b.nodes, name="one")


def _merged(
    b: Builder, stored: ir.Value, states: ir.Value, spread: ir.Value, rows: ir.Value, reach: ir.Value
) -> ir.Value:
    """The stored states plus what the rows that ran pass on, in one Gemm; then those rows' own."""
    reach = b.op("Cast", b.op("Gather", reach, rows, axis=0), to=FLOAT)  # [R, n]
    moved = b.op("Gemm", reach, spread, stored, transA=1)
    return b.op("ScatterND", moved, b.op("Unsqueeze", rows, b.i64(1)), states)


def _of_many(
    opset: int,
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
) -> ir.Graph:
    """The same of every sequence. An If, too: of a batch of literal repeats no row ran."""
    b = Builder("MemoMerge/many", opset)
    batch = Batch(b, entry, length, b.op("Reshape", padded_length, b.i64(1)), offsets)
    stored = b.op("Gather", final, batch.stored_rows, axis=0)  # [B, L, d]
    stored = b.op("Where", b.op("Unsqueeze", batch.known, b.i64(2)), stored, b.const(0, np.float32))

    then = Builder("MemoMerge/some of many", opset)
    packed = Packed(then, rows, batch)
    moved = packed.passed_on(then, packed.reach(then, influence, squares), spread)
    moved = batch.flat(then, then.op("Add", stored, moved))
    merged = then.op("ScatterND", moved, then.op("Unsqueeze", rows, then.i64(1)), states)
    merged = batch.apart(then, merged)
    other = Builder("MemoMerge/none of many", opset)
    output = b.op(
        "If",
        b.op("Greater", b.op("Size", rows), b.const(0, np.int64)),
        then_branch=ir.Graph([], [merged], nodes=then.nodes, name="some"),
        else_branch=ir.Graph([], [other.op("Identity", stored)], nodes=other.nodes, name="none"),
    )
    return ir.Graph([], [output], nodes=b.nodes, name="many")
