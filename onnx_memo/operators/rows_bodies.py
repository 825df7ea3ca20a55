"""The standard-ONNX bodies of the operators of single rows: MemoRows, MemoGrow, MemoAttention, MemoMerge.

They serve a batch of one (`docs/operators.md`); what they are given is taken to fit.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.operators.spec import MOST_CHANGE

FLOAT = ir.DataType.FLOAT.value
DOUBLE = ir.DataType.DOUBLE.value
INT64 = ir.DataType.INT64.value


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
) -> tuple[ir.Value, ...]:
    """An If: what cannot hit has no block to read, and costs nothing."""
    one = b.op("Equal", b.op("Shape", entry), b.i64(1))  # an empty batch among the others
    least = b.op("Concat", entry, b.op("Sub", length, b.i64(1)), b.i64(0), axis=0)
    stands = b.op("GreaterOrEqual", b.op("ReduceMin", least, keepdims=1), b.const(0, np.int64))
    wanted = b.op("GreaterOrEqual", bound, b.const(0, np.float32))  # false for NaN
    possible = b.op("And", b.op("And", one, stands), wanted)
    inputs = states, entry, length, stored, influence, offsets, squares, epsilon, bound, limit
    results = "rows", "stored_rows", "hit", "change", "predicted"
    names = [f"{b.prefix}/{result}" for result in results]
    then, other = _rows_of_one(b.opset, *inputs), _no_rows(b.opset, states)
    return tuple(b.ops("If", possible, names=names, then_branch=then, else_branch=other))


def _no_rows(opset: int, states: ir.Value) -> ir.Graph:
    b = Builder("MemoRows/none", opset)
    places = b.op("Concat", b.dim(states, 0), b.dim(states, 1), axis=0)
    nothing = [b.op("ConstantOfShape", places, value=_tensor(0)) for _ in range(2)]
    results = b.i64(), b.i64(), b.const(False, np.bool_), *nothing
    return ir.Graph([], results, nodes=b.nodes, name="none")


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
    b = Builder("MemoRows/one", opset)
    first = b.op("Gather", offsets, entry)  # [1]
    block = b.op("Cast", b.op("Slice", stored, first, b.op("Add", first, length)), to=FLOAT)
    own = b.op("Slice", states, b.i64(0), length, b.i64(1))  # [1, n, d]
    change = _relative(b, b.op("Sub", own, block), block)  # [1, n]
    same = b.op("LessOrEqual", change, epsilon)  # false for NaN
    none = b.const(0, np.float32)
    change = b.op("Where", same, none, _at_most(b, change))
    matrix = b.op("Cast", _Square(b, squares, entry, length).of(b, influence), to=FLOAT)
    predicted = b.op("MatMul", change, matrix)  # [1, n]
    left_out = b.op("And", same, b.op("LessOrEqual", predicted, bound))
    runs = b.op("Not", left_out)
    count = b.reduce("ReduceSum", b.op("Cast", runs, to=DOUBLE), 1)  # [1]
    most = b.op("Mul", b.op("Cast", limit, to=DOUBLE), b.op("Cast", b.dim(states, 1), to=DOUBLE))
    hit = b.op("LessOrEqual", count, most)  # [1]
    # On a miss nothing is to run: the rows would be computed, and then the original all the same.
    rows = b.op("Gather", b.op("NonZero", b.op("And", runs, hit)), b.const(1, np.int64), axis=0)  # [R]
    behind = b.op("Concat", b.i64(0, 0, 0), b.op("Sub", b.dim(states, 1), length), axis=0)
    change, predicted = (
        b.op("Pad", b.op("Where", hit, known, none), behind) for known in (change, predicted)
    )
    results = rows, b.op("Add", rows, first), b.op("Squeeze", hit), change, predicted
    return ir.Graph([], results, nodes=b.nodes, name="one")


def _relative(b: Builder, difference: ir.Value, stored: ir.Value) -> ir.Value:
    """How far each row is from the stored one, relative to that one."""
    # Not zero, but far below what a difference of floats can be: 0/0 is 0 and x/0 counts as infinity.
    norm = b.op("Max", _norm(b, stored), b.const(1e-45, np.float32))
    return b.op("Div", _norm(b, difference), norm)


def _at_most(b: Builder, change: ir.Value) -> ir.Value:
    """What a change counts; most of all one that is NaN."""
    most = b.const(MOST_CHANGE, np.float32)
    return b.op("Where", b.op("LessOrEqual", change, most), change, most)


def _norm(b: Builder, value: ir.Value) -> ir.Value:
    """As ReduceL2, which takes ONNX Runtime 2.5 times as long (measured)."""
    return b.op("Sqrt", b.reduce("ReduceSum", b.op("Mul", value, value), -1))


class _Square:
    """Where the numbers of an entry are in payloads that hold one for each pair of its tokens."""

    def __init__(self, b: Builder, squares: ir.Value, entry: ir.Value, length: ir.Value) -> None:
        self.first = b.op("Gather", squares, entry)
        self.end = b.op("Add", self.first, b.op("Mul", length, length))
        self.shape = b.op("Concat", length, length, axis=0)

    def of(self, b: Builder, payload: ir.Value) -> ir.Value:
        """The entry's matrix: f16[n, n]."""
        return b.op("Reshape", b.op("Slice", payload, self.first, self.end), self.shape)


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
) -> tuple[ir.Value, ...]:
    """An If: mostly no row joins, and then nothing is read of the correction."""
    square = _Square(b, squares, entry, length)
    first = b.op("Gather", offsets, entry)  # [1]
    own = b.op("Cast", b.op("Gather", stored, b.op("Add", rows, first), axis=0), to=FLOAT)  # [R, d]
    difference = b.op("Sub", states, own)
    weight = _at_most(b, _relative(b, difference, own))  # [R]

    before = b.op("Slice", b.op("Reshape", predicted, b.i64(-1)), b.i64(0), length)  # [n]
    weights = b.op("ScatterElements", before, rows, weight, axis=0)
    score = b.op("MatMul", weights, b.op("Cast", square.of(b, influence), to=FLOAT))  # [n]
    left_out = b.op("LessOrEqual", score, bound)  # false for NaN
    never = b.op("Less", weight, weight)
    runs = b.op("Not", b.op("ScatterElements", left_out, rows, never, axis=0))  # [n]
    grown_rows = b.op("Squeeze", b.op("NonZero", runs), b.i64(0))  # [R']
    stored_rows = b.op("Add", grown_rows, first)
    behind = b.op("Concat", b.i64(0), b.op("Sub", b.dim(predicted, 1), length), axis=0)
    padded = b.op("Unsqueeze", b.op("Pad", score, behind), b.i64(0))

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
    return grown, grown_rows, stored_rows, padded


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
    start = b.op("Gemm", reach, passed_on, start, transA=1)
    place = b.op("CumSum", b.op("Cast", runs, to=INT64), b.const(0, np.int64), exclusive=1)  # [n]
    places = b.op("Gather", place, b.op("Unsqueeze", rows, b.i64(1)))  # [R, 1]
    return b.op("ScatterND", start, places, states)


def attention_body(
    b: Builder,
    query: ir.Value,
    key: ir.Value,
    value: ir.Value,
    rows: ir.Value,
    entry: ir.Value,
    length: ir.Value,
    padded_length: ir.Value,
    keys: ir.Value,
    values: ir.Value,
    offsets: ir.Value,
    scale: ir.Value,
    bias: ir.Value,
) -> ir.Value:
    """Softmax over n + R columns: the entry's, of which those of `rows` are shut out, then the rows' own.

    That costs less than to overlay the entry's keys, number by number.
    """
    first = b.op("Gather", offsets, entry)  # [1]
    end = b.op("Add", first, length)
    heads = b.dim(query, 0)
    shape = b.op("Concat", heads, b.i64(-1), length, axis=0)
    stored_keys = b.op("Cast", b.op("Reshape", b.op("Slice", keys, first, end), shape), to=FLOAT)
    shape = b.op("Concat", heads, length, b.i64(-1), axis=0)
    stored_values = b.op("Cast", b.op("Reshape", b.op("Slice", values, first, end), shape), to=FLOAT)
    stored_bias, own_bias = _bias_of_rows(b, bias, rows, entry, length)
    scaled = b.op("Mul", query, scale)
    stored = b.op("Add", b.op("MatMul", scaled, stored_keys), stored_bias)  # [H, R, n]
    own = b.op("Add", b.op("MatMul", scaled, key), own_bias)  # [H, R, R]
    probabilities = b.op("Softmax", b.op("Concat", stored, own, axis=2), axis=-1)
    return b.op("MatMul", probabilities, b.op("Concat", stored_values, value, axis=1))


def _bias_of_rows(
    b: Builder, bias: ir.Value, rows: ir.Value, entry: ir.Value, length: ir.Value
) -> tuple[ir.Value, ir.Value]:
    """What is added to the scores of the stored columns [h, r, n] and of the rows' own [h, r, R].

    h is 1 or H, and r is R. Stored columns that `rows` replace get -inf.

    There is no constant here: ONNX Runtime computes what all layers share only once, but inside a
    branch it takes the constants of two functions for different ones.
    """
    one = b.op("Shape", entry)  # the batch
    zero = b.op("Sub", one, one)
    bias = b.op("Gather", bias, b.op("ReduceMin", zero, keepdims=0), axis=0)  # [h, L or 1, L or 1]
    bias = b.op("Gather", bias, _index(b, rows, b.dim(bias, 1), one), axis=1)
    columns = b.dim(bias, 2)
    own = b.op("Gather", bias, _index(b, rows, columns, one), axis=2)
    nothing = b.op("ConstantOfShape", length, value=_tensor(0))  # [n]
    shut = b.op("ConstantOfShape", b.op("Shape", rows), value=_tensor(-np.inf))  # [R]
    mask = b.op("ScatterElements", nothing, rows, shut, axis=0)
    stored = b.op("Slice", bias, zero, length, b.op("Add", one, one))
    return b.op("Add", stored, mask), own


def _index(b: Builder, rows: ir.Value, size: ir.Value, one: ir.Value) -> ir.Value:
    """`rows`, or for each the only index of a dimension of size 1."""
    return b.op("Min", rows, b.op("Sub", size, one))


def _tensor(value: float) -> ir.TensorProtocol:
    return ir.tensor(np.array([value], np.float32))


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
) -> ir.Value:
    """The stored states plus what the rows that ran pass on, in one Gemm; then those rows' own."""
    first = b.op("Gather", offsets, entry)  # [1]
    stored = b.op("Slice", final, first, b.op("Add", first, length))  # [n, d]
    reach = b.op("Gather", _Square(b, squares, entry, length).of(b, influence), rows, axis=0)
    reach = b.op("Cast", reach, to=FLOAT)  # [R, n]
    moved = b.op("Gemm", reach, spread, stored, transA=1)
    merged = b.op("ScatterND", moved, b.op("Unsqueeze", rows, b.i64(1)), states)
    merged = b.op("Unsqueeze", merged, b.i64(0))
    behind = b.op("Sub", padded_length, length)  # [1]
    return b.op("Pad", merged, b.op("Concat", b.i64(0, 0, 0, 0), behind, b.i64(0), axis=0))
