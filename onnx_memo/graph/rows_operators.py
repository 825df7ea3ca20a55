"""The standard-ONNX bodies of the operators that run single rows: MemoRows, MemoAttention, MemoMerge.

They serve a batch of one (`docs/operators.md`); what they are given is taken to fit.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder

MOST_CHANGE = 8.0
FLOAT = ir.DataType.FLOAT.value
DOUBLE = ir.DataType.DOUBLE.value


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
    names = [f"{b.prefix}/{result}" for result in ("rows", "stored_rows", "hit")]
    then, other = _rows_of_one(b.opset, *inputs), _no_rows(b.opset)
    return tuple(b.ops("If", possible, names=names, then_branch=then, else_branch=other))


def _no_rows(opset: int) -> ir.Graph:
    b = Builder("MemoRows/none", opset)
    results = b.i64(), b.i64(), b.const(False, np.bool_)
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
    change = _change(b, states, length, stored, first)  # [1, n]
    same = b.op("LessOrEqual", change, epsilon)  # false for NaN
    most = b.const(MOST_CHANGE, np.float32)
    weight = b.op("Where", b.op("LessOrEqual", change, most), change, most)
    weight = b.op("Where", same, b.const(0, np.float32), weight)
    matrix = b.op("Cast", _square(b, influence, squares, entry, length), to=FLOAT)
    score = b.op("MatMul", weight, matrix)  # [1, n]
    # ONNX Runtime 1.20.1 does not sort what holds a NaN.
    counts = b.op("And", same, b.op("LessOrEqual", score, b.const(np.finfo(np.float32).max, np.float32)))
    score = b.op("Where", counts, score, b.const(np.inf, np.float32))
    # At equal scores TopK puts the smaller index first, as ONNX has it.
    names = [f"{b.prefix}/sorted", f"{b.prefix}/order"]
    rising, order = b.ops("TopK", score, length, names=names, axis=1, largest=0)
    budget = b.op("Mul", bound, b.op("Cast", length, to=FLOAT))
    within = b.op("LessOrEqual", b.op("CumSum", rising, b.const(1, np.int64)), budget)
    left_out = b.op("ScatterElements", same, order, within, axis=1)
    # Infinity is within an infinite budget: what changed runs all the same.
    runs = b.op("Not", b.op("And", left_out, same))
    rows = b.op("Gather", b.op("NonZero", runs), b.const(1, np.int64), axis=0)  # [R]
    most_rows = b.op("Mul", b.op("Cast", limit, to=DOUBLE), b.op("Cast", b.dim(states, 1), to=DOUBLE))
    hit = b.op("LessOrEqual", b.op("Cast", b.op("Size", rows), to=DOUBLE), most_rows)
    results = rows, b.op("Add", rows, first), b.op("Squeeze", hit)
    return ir.Graph([], results, nodes=b.nodes, name="one")


def _change(b: Builder, states: ir.Value, length: ir.Value, stored: ir.Value, first: ir.Value) -> ir.Value:
    """How far each token's state is from the stored one, relative to it: [1, n]."""
    block = b.op("Cast", b.op("Slice", stored, first, b.op("Add", first, length)), to=FLOAT)
    own = b.op("Slice", states, b.i64(0), length, b.i64(1))  # [1, n, d]
    moved = _norm(b, b.op("Sub", own, block), 2)  # [1, n]
    # Not zero, but far below what a difference of floats can be: 0/0 is 0 and x/0 counts as infinity.
    norm = b.op("Max", _norm(b, block, 1), b.const(1e-45, np.float32))
    return b.op("Div", moved, norm)


def _norm(b: Builder, value: ir.Value, axis: int) -> ir.Value:
    """As ReduceL2, which takes ONNX Runtime 2.5 times as long (measured)."""
    return b.op("Sqrt", b.reduce("ReduceSum", b.op("Mul", value, value), axis))


def _square(
    b: Builder, influence: ir.Value, squares: ir.Value, entry: ir.Value, length: ir.Value
) -> ir.Value:
    """The influence of an entry's tokens on its rows: f16[n, n]."""
    first = b.op("Gather", squares, entry)
    block = b.op("Slice", influence, first, b.op("Add", first, b.op("Mul", length, length)))
    return b.op("Reshape", block, b.op("Concat", length, length, axis=0))


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

    h is 1 or H, r and all other dimensions are 1 or full. Stored columns that `rows` replace get -inf.

    There is no constant here: ONNX Runtime computes what all layers share only once, but inside a
    branch it takes the constants of two functions for different ones.
    """
    one = b.op("Shape", entry)  # the batch
    zero = b.op("Sub", one, one)
    bias = b.op("Gather", bias, b.op("ReduceMin", zero, keepdims=0), axis=0)  # [h, L or 1, L or 1]
    bias = b.op("Gather", bias, _index(b, rows, b.dim(bias, 1), zero, one), axis=1)
    columns = b.dim(bias, 2)
    own = b.op("Gather", bias, _index(b, rows, columns, zero, one), axis=2)
    nothing = b.op("ConstantOfShape", length, value=_tensor(0))  # [n]
    shut = b.op("ConstantOfShape", b.op("Shape", rows), value=_tensor(-np.inf))  # [R]
    mask = b.op("ScatterElements", nothing, rows, shut, axis=0)
    stored = b.op("Slice", bias, zero, length, b.op("Add", one, one))
    return b.op("Add", stored, mask), own


def _index(b: Builder, rows: ir.Value, size: ir.Value, zero: ir.Value, one: ir.Value) -> ir.Value:
    """`rows`, or the only index of a dimension of size 1."""
    return b.op("Min", b.op("Slice", rows, zero, size), b.op("Sub", size, one))


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
    reach = b.op("Gather", _square(b, influence, squares, entry, length), rows, axis=0)
    reach = b.op("Cast", reach, to=FLOAT)  # [R, n]
    moved = b.op("Gemm", reach, spread, stored, transA=1)
    merged = b.op("ScatterND", moved, b.op("Unsqueeze", rows, b.i64(1)), states)
    merged = b.op("Unsqueeze", merged, b.i64(0))
    behind = b.op("Sub", padded_length, length)  # [1]
    return b.op("Pad", merged, b.op("Concat", b.i64(0, 0, 0, 0), behind, b.i64(0), axis=0))
