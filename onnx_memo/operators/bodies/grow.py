"""MemoGrow: lets more rows run from some depth of the encoder on."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.operators.bodies.batch import Batch, Packed, moved_by, of_one_or_many, positions, ranks
from onnx_memo.operators.bodies.common import FLOAT, INT64, Results, Square, at_most, relative_change
from onnx_memo.operators.spec import OPERATORS

OUTPUTS = [output.name for output in OPERATORS["MemoGrow"].outputs]


def grow_body(
    b: Builder,
    states: ir.Value,
    rows: ir.Value,
    change: ir.Value,
    predicted: ir.Value,
    entry: ir.Value,
    length: ir.Value,
    stored: ir.Value,
    influence: ir.Value,
    offsets: ir.Value,
    squares: ir.Value,
    bound: ir.Value,
    correction: ir.Value,
    rollout: ir.Value,
) -> Results:
    """One sequence, or a batch."""
    inputs = (states, rows, change, predicted, entry, length, stored, influence, offsets, squares)
    others = (bound, correction, rollout)
    one, many = _grown_of_one(b.opset, *inputs, *others), _grown_of_many(b.opset, *inputs, *others)
    grown = of_one_or_many(b, entry, one, many)
    return dict(zip(OUTPUTS, grown, strict=True))


def _grown_of_one(
    opset: int,
    states: ir.Value,
    rows: ir.Value,
    change: ir.Value,
    predicted: ir.Value,
    entry: ir.Value,
    length: ir.Value,
    stored: ir.Value,
    influence: ir.Value,
    offsets: ir.Value,
    squares: ir.Value,
    bound: ir.Value,
    correction: ir.Value,
    rollout: ir.Value,
) -> ir.Graph:
    """An If: mostly no row joins, and then nothing is read of the correction."""
    b = Builder("MemoGrow/one", opset)
    square = Square(b, squares, entry, length)
    first = b.op("Gather", offsets, entry)  # [1]
    own = b.op("Cast", b.op("Gather", stored, b.op("Add", rows, first), axis=0), to=FLOAT)  # [R, d]
    difference = b.op("Sub", states, own)
    weight = at_most(b, relative_change(b, difference, own))
    # Without rows ONNX Runtime up to 1.23 reduces [0, d] to [0, d].
    weight = b.op("Reshape", weight, b.i64(-1))  # [R]
    score = _predict(b, predicted, length, rows, weight, square, influence)  # [n]
    runs = _running(b, score, bound, rows)  # [n]
    grown_rows = b.op("Squeeze", b.op("NonZero", runs), b.i64(0))  # [R']
    stored_rows = b.op("Add", grown_rows, first)
    pads = b.op("Concat", b.i64(0), b.op("Sub", b.dim(predicted, 1), length), axis=0)
    padded = b.op("Unsqueeze", b.op("Pad", score, pads), b.i64(0))

    some = b.op("Greater", b.op("Size", grown_rows), b.op("Size", rows))
    then = Builder("MemoGrow/join", b.opset)
    reach = square.of(then, rollout)
    joined = _joined(
        then, states, rows, change, difference, runs, grown_rows, stored_rows, stored, correction, reach
    )
    other = Builder("MemoGrow/none", b.opset)
    grown = b.op(
        "If",
        some,
        then_branch=ir.Graph([], [joined], nodes=then.nodes, name="join"),
        else_branch=ir.Graph([], [other.op("Identity", states)], nodes=other.nodes, name="none"),
    )
    return ir.Graph([], [grown, grown_rows, stored_rows, padded], nodes=b.nodes, name="one")


def _grown_of_many(
    opset: int,
    states: ir.Value,
    rows: ir.Value,
    change: ir.Value,
    predicted: ir.Value,
    entry: ir.Value,
    length: ir.Value,
    stored: ir.Value,
    influence: ir.Value,
    offsets: ir.Value,
    squares: ir.Value,
    bound: ir.Value,
    correction: ir.Value,
    rollout: ir.Value,
) -> ir.Graph:
    """The same of every sequence. Those without an entry run in whole as it is: no row joins."""
    b = Builder("MemoGrow/many", opset)
    batch = Batch(b, entry, length, b.dim(predicted, 1), offsets)
    sources = batch.flat(b, batch.stored_rows)  # [B * L]
    own = b.op("Cast", b.op("Gather", stored, b.op("Gather", sources, rows), axis=0), to=FLOAT)  # [R, d]
    difference = b.op("Sub", states, own)
    # Without rows ONNX Runtime up to 1.23 reduces [0, d] to [0, d].
    weight = b.op("Reshape", at_most(b, relative_change(b, difference, own)), b.i64(-1))  # [R]
    weights = b.op("ScatterElements", batch.flat(b, predicted), rows, weight, axis=0)
    none = b.const(0, np.float32)
    weights = b.op("Where", batch.known, batch.apart(b, weights), none)
    score = b.op("Where", batch.known, moved_by(b, batch, weights, influence, squares), none)  # [B, L]
    joins = b.op("And", batch.known, b.op("Not", b.op("LessOrEqual", score, bound)))  # NaN: joins
    ran = b.op("ConstantOfShape", b.op("Shape", rows), value=ir.tensor(np.array([True])))
    runs = b.op("ScatterElements", batch.flat(b, joins), rows, ran, axis=0)  # [B * L]
    grown_rows = positions(b, runs)
    stored_rows = b.op("Gather", sources, grown_rows)

    some = b.op("Greater", b.op("Size", grown_rows), b.op("Size", rows))
    then = Builder("MemoGrow/join of many", opset)
    weight = then.op("Gather", batch.flat(then, change), rows)  # [R]
    changed = positions(then, weight)  # numbers of rows, [C]
    passed_on = then.op("MatMul", then.op("Gather", difference, changed, axis=0), correction)  # [C, d]
    packed = Packed(then, then.op("Gather", rows, changed), batch)
    moved = batch.flat(then, packed.passed_on(then, packed.reach(then, rollout, squares), passed_on))
    start = then.op("Cast", then.op("Gather", stored, stored_rows, axis=0), to=FLOAT)  # [R', d]
    start = then.op("Add", start, then.op("Gather", moved, grown_rows, axis=0))
    places = then.op("Gather", ranks(then, runs), then.op("Unsqueeze", rows, then.i64(1)))  # [R, 1]
    joined = then.op("ScatterND", start, places, states)
    other = Builder("MemoGrow/none of many", opset)
    grown = b.op(
        "If",
        some,
        then_branch=ir.Graph([], [joined], nodes=then.nodes, name="join"),
        else_branch=ir.Graph([], [other.op("Identity", states)], nodes=other.nodes, name="none"),
    )
    return ir.Graph([], [grown, grown_rows, stored_rows, score], nodes=b.nodes, name="many")


def _predict(
    b: Builder,
    predicted: ir.Value,
    length: ir.Value,
    rows: ir.Value,
    weight: ir.Value,
    square: Square,
    influence: ir.Value,
) -> ir.Value:
    """What the changes do to each row: f32[n].

    The rows that ran count with their `weight`, [R], all others with what was predicted before.
    """
    before = b.op("Slice", b.op("Reshape", predicted, b.i64(-1)), b.i64(0), length)  # [n]
    weights = b.op("ScatterElements", before, rows, weight, axis=0)
    return b.op("MatMul", weights, b.op("Cast", square.of(b, influence), to=FLOAT))


def _running(b: Builder, score: ir.Value, bound: ir.Value, rows: ir.Value) -> ir.Value:
    """The rows that ran, and those whose score is not within the bound: bool[n]."""
    left_out = b.op("LessOrEqual", score, bound)  # false for NaN
    never = b.op("Less", rows, rows)  # false, [R]
    return b.op("Not", b.op("ScatterElements", left_out, rows, never, axis=0))


def _joined(
    b: Builder,
    states: ir.Value,
    rows: ir.Value,
    change: ir.Value,
    difference: ir.Value,
    runs: ir.Value,
    grown_rows: ir.Value,
    stored_rows: ir.Value,
    stored: ir.Value,
    correction: ir.Value,
    reach: ir.Value,
) -> ir.Value:
    """All rows of the result start from the store in one Gemm; then those that ran before get their own."""
    changed = b.op("NonZero", b.op("Gather", change, rows, axis=1))  # [2, C]
    changed = b.op("Gather", changed, b.const(1, np.int64), axis=0)  # [C], numbers of rows
    passed_on = b.op("MatMul", b.op("Gather", difference, changed, axis=0), correction)  # [C, d]
    reach = b.op("Gather", reach, b.op("Gather", rows, changed), axis=0)  # [C, n]
    reach = b.op("Cast", b.op("Gather", reach, grown_rows, axis=1), to=FLOAT)  # [C, R']
    start = b.op("Cast", b.op("Gather", stored, stored_rows, axis=0), to=FLOAT)  # [R', d]
    # One that changes nothing joins them: ONNX Runtime up to 1.19 refuses a Gemm that adds nothing.
    one_more = b.i64(0, 0, 1, 0)
    reach, passed_on = b.op("Pad", reach, one_more), b.op("Pad", passed_on, one_more)
    start = b.op("Gemm", reach, passed_on, start, transA=1)
    place = b.op("CumSum", b.op("Cast", runs, to=INT64), b.const(0, np.int64), exclusive=1)  # [n]
    places = b.op("Gather", place, b.op("Unsqueeze", rows, b.i64(1)))  # [R, 1]
    return b.op("ScatterND", start, places, states)
