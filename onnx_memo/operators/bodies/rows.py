"""MemoRows: which rows of a request have to run when all others come from the store."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.operators.bodies.batch import Batch, moved_by, positions
from onnx_memo.operators.bodies.common import (
    DOUBLE,
    FLOAT,
    Results,
    Square,
    at_most,
    filling,
    relative_change,
)
from onnx_memo.operators.spec import OPERATORS

OUTPUTS = [output.name for output in OPERATORS["MemoRows"].outputs]


def rows_body(
    b: Builder,
    states: ir.Value,
    entry: ir.Value,
    length: ir.Value,
    stored: ir.Value,
    influence: ir.Value,
    offsets: ir.Value,
    squares: ir.Value,
    epsilon: ir.Value,
    bound: ir.Value,
    limit: ir.Value,
) -> Results:
    """An If: what cannot hit has no block to read, and costs nothing. Of one sequence it is a slice."""
    one = b.op("Equal", b.op("Shape", entry), b.i64(1))
    least = b.op("Concat", entry, b.op("Sub", length, b.i64(1)), b.i64(0), axis=0)
    stands = b.op("GreaterOrEqual", b.op("ReduceMin", least, keepdims=1), b.const(0, np.int64))
    wanted = b.op("GreaterOrEqual", bound, b.const(0, np.float32))  # false for NaN
    possible = b.op("And", b.op("And", one, stands), wanted)
    inputs = (states, entry, length, stored, influence, offsets, squares, epsilon, bound, limit)
    then = _rows_of_one(b.opset, *inputs)
    other = _of_several(b.opset, wanted, *inputs)
    names = [f"{b.prefix}/{output}" for output in OUTPUTS]
    results = b.ops("If", possible, names=names, then_branch=then, else_branch=other)
    return dict(zip(OUTPUTS, results, strict=True))


def _of_several(
    opset: int, wanted: ir.Value, states: ir.Value, entry: ir.Value, *others: ir.Value
) -> ir.Graph:
    """The branch for several sequences, or for none that hits."""
    b = Builder("MemoRows/several", opset)
    several = b.op("Greater", b.op("Shape", entry), b.i64(1))
    possible = b.op("And", several, wanted)
    names = [f"{b.prefix}/{output}" for output in OUTPUTS]
    then, other = _rows_of_many(opset, states, entry, *others), _no_rows(opset, states)
    results = b.ops("If", possible, names=names, then_branch=then, else_branch=other)
    return _branch(b, dict(zip(OUTPUTS, results, strict=True)), "several")


def _branch(b: Builder, results: Results, name: str) -> ir.Graph:
    return ir.Graph([], [results[output] for output in OUTPUTS], nodes=b.nodes, name=name)


def _no_rows(opset: int, states: ir.Value) -> ir.Graph:
    b = Builder("MemoRows/none", opset)
    places = b.op("Concat", b.dim(states, 0), b.dim(states, 1), axis=0)
    results = {
        "change": b.op("ConstantOfShape", places, value=filling(0)),
        "predicted": b.op("ConstantOfShape", places, value=filling(0)),
        "rows": b.i64(),
        "stored_rows": b.i64(),
        "hit": b.op("ConstantOfShape", b.dim(states, 0), value=ir.tensor(np.zeros(1, np.bool_))),
        "all_hit": b.const(False, np.bool_),
    }
    return _branch(b, results, "none")


def _rows_of_one(
    opset: int,
    states: ir.Value,
    entry: ir.Value,
    length: ir.Value,
    stored: ir.Value,
    influence: ir.Value,
    offsets: ir.Value,
    squares: ir.Value,
    epsilon: ir.Value,
    bound: ir.Value,
    limit: ir.Value,
) -> ir.Graph:
    """The branch for one sequence that has an entry."""
    b = Builder("MemoRows/one", opset)
    first = b.op("Gather", offsets, entry)  # [1]
    block = b.op("Cast", b.op("Slice", stored, first, b.op("Add", first, length)), to=FLOAT)
    own = b.op("Slice", states, b.i64(0), length, b.i64(1))  # [1, n, d]
    change = relative_change(b, b.op("Sub", own, block), block)  # [1, n]
    same = b.op("LessOrEqual", change, epsilon)  # false for NaN
    none = b.const(0, np.float32)
    change = b.op("Where", same, none, at_most(b, change))
    matrix = b.op("Cast", Square(b, squares, entry, length).of(b, influence), to=FLOAT)
    predicted = b.op("MatMul", change, matrix)  # [1, n]
    left_out = b.op("And", same, b.op("LessOrEqual", predicted, bound))
    runs = b.op("Not", left_out)
    hit = _few_enough(b, runs, limit, length)
    # On a miss nothing is to run: the rows would be computed, and then the original all the same.
    rows = b.op("Gather", b.op("NonZero", b.op("And", runs, hit)), b.const(1, np.int64), axis=0)  # [R]
    pads = b.op("Concat", b.i64(0, 0, 0), b.op("Sub", b.dim(states, 1), length), axis=0)
    results = {
        "change": b.op("Pad", b.op("Where", hit, change, none), pads),
        "predicted": b.op("Pad", b.op("Where", hit, predicted, none), pads),
        "rows": rows,
        "stored_rows": b.op("Add", rows, first),
        "hit": hit,
        "all_hit": b.op("Squeeze", hit),
    }
    return _branch(b, results, "one")


def _rows_of_many(
    opset: int,
    states: ir.Value,
    entry: ir.Value,
    length: ir.Value,
    stored: ir.Value,
    influence: ir.Value,
    offsets: ir.Value,
    squares: ir.Value,
    epsilon: ir.Value,
    bound: ir.Value,
    limit: ir.Value,
) -> ir.Graph:
    """The branch for a batch: blocks of the store are gathered, padded to the longest."""
    b = Builder("MemoRows/many", opset)
    batch = Batch(b, entry, length, b.dim(states, 1), offsets)
    block = b.op("Cast", b.op("Gather", stored, batch.stored_rows, axis=0), to=FLOAT)  # [B, L, d]
    change = relative_change(b, b.op("Sub", states, block), block)  # [B, L]
    same = b.op("LessOrEqual", change, epsilon)  # false for NaN
    none = b.const(0, np.float32)
    moves = b.op("And", batch.known, b.op("Not", same))
    change = b.op("Where", moves, at_most(b, change), none)
    predicted = b.op("Where", batch.known, moved_by(b, batch, change, influence, squares), none)
    within = b.op("And", same, b.op("LessOrEqual", predicted, bound))
    runs = b.op("And", batch.known, b.op("Not", within))
    least = b.op("Min", b.op("Add", entry, b.i64(1)), length)
    stands = b.op("Greater", least, b.const(0, np.int64))  # it has an entry, and a token
    hit = b.op("And", stands, _few_enough(b, runs, limit, length))
    of_each = b.op("Unsqueeze", hit, b.i64(1))
    rows = positions(b, batch.flat(b, b.op("And", runs, of_each)))
    all_hit = b.reduce("ReduceMin", b.op("Cast", hit, to=ir.DataType.INT32.value), 0)
    results = {
        "change": b.op("Where", of_each, change, none),
        "predicted": b.op("Where", of_each, predicted, none),
        "rows": rows,
        "stored_rows": b.op("Gather", batch.flat(b, batch.stored_rows), rows),
        "hit": hit,
        "all_hit": b.op("Cast", all_hit, to=ir.DataType.BOOL.value),
    }
    return _branch(b, results, "many")


def _few_enough(b: Builder, runs: ir.Value, limit: ir.Value, length: ir.Value) -> ir.Value:
    """Whether at most the limit's share of each sequence runs: bool[B]. In double precision, as specified.

    `runs` is bool[B, L], `length` i64[B].
    """
    count = b.reduce("ReduceSum", b.op("Cast", runs, to=DOUBLE), 1)  # [B]
    most = b.op("Mul", b.op("Cast", limit, to=DOUBLE), b.op("Cast", length, to=DOUBLE))
    return b.op("LessOrEqual", count, most)
