"""MemoAttention: attention of the rows that run over stored keys and values, in which theirs are fresh."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.operators.bodies.batch import Batch, Packed, of_one_or_many
from onnx_memo.operators.bodies.common import FLOAT, Results, filling


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
) -> Results:
    """One sequence, or a batch."""
    bias_of_one = _bias_of_first(b, bias, rows, length)
    one = _of_one(b.opset, query, key, value, entry, length, keys, values, offsets, scale, *bias_of_one)
    inputs = (query, key, value, rows, entry, length, padded_length, keys, values, offsets, scale, bias)
    (context,) = of_one_or_many(b, entry, one, _of_many(b.opset, *inputs))
    return {"context": context}


def _of_one(
    opset: int,
    query: ir.Value,
    key: ir.Value,
    value: ir.Value,
    entry: ir.Value,
    length: ir.Value,
    keys: ir.Value,
    values: ir.Value,
    offsets: ir.Value,
    scale: ir.Value,
    stored_bias: ir.Value,
    own_bias: ir.Value,
) -> ir.Graph:
    b = Builder("MemoAttention/one", opset)
    first = b.op("Gather", offsets, entry)  # [1]
    context = _context(b, query, key, value, first, length, keys, values, scale, stored_bias, own_bias)
    return ir.Graph([], [context], nodes=b.nodes, name="one")


def _context(
    b: Builder,
    query: ir.Value,
    key: ir.Value,
    value: ir.Value,
    first: ir.Value,
    length: ir.Value,
    keys: ir.Value,
    values: ir.Value,
    scale: ir.Value,
    stored_bias: ir.Value,
    own_bias: ir.Value,
) -> ir.Value:
    """Softmax over n + R columns: the entry's, of which those of `rows` are shut out, then the rows' own.

    That costs less than to overlay the entry's keys, number by number. The entry's n rows begin with `first`.
    """
    end = b.op("Add", first, length)
    heads = b.dim(query, 0)
    shape = b.op("Concat", heads, b.i64(-1), length, axis=0)
    stored_keys = b.op("Cast", b.op("Reshape", b.op("Slice", keys, first, end), shape), to=FLOAT)
    shape = b.op("Concat", heads, length, b.i64(-1), axis=0)
    stored_values = b.op("Cast", b.op("Reshape", b.op("Slice", values, first, end), shape), to=FLOAT)
    scaled = b.op("Mul", query, scale)
    stored = b.op("Add", b.op("MatMul", scaled, stored_keys), stored_bias)  # [H, R, n]
    own = b.op("Add", b.op("MatMul", scaled, key), own_bias)  # [H, R, R]
    probabilities = b.op("Softmax", b.op("Concat", stored, own, axis=2), axis=-1)
    return b.op("MatMul", probabilities, b.op("Concat", stored_values, value, axis=1))


def _bias_of_first(b: Builder, bias: ir.Value, rows: ir.Value, length: ir.Value) -> tuple[ir.Value, ir.Value]:
    """What is added to the scores of the first sequence of any batch.

    It is computed in front of the branches, so that all layers share it. And there is no constant here: ONNX
    Runtime computes what all layers share only once, but inside a branch it takes the constants of two
    functions for different ones.
    """
    one = b.op("Shape", b.op("Shape", length))
    zero = b.op("Sub", one, one)
    n = b.op("Max", b.op("Gather", length, zero), one)  # [1]
    rows = b.op("Slice", rows, zero, n)  # of one sequence: all
    return _biases(b, b.op("Gather", bias, b.op("ReduceMin", zero, keepdims=0), axis=0), rows, n, one)


def _biases(
    b: Builder, bias: ir.Value, rows: ir.Value, n: ir.Value, one: ir.Value
) -> tuple[ir.Value, ir.Value]:
    """What is added to the scores of a sequence's stored columns, [h, r, n], and of its rows' own, [h, r, R].

    h is 1 or H, and r is R. Stored columns that `rows` replace get -inf.

    Args:
        b: takes the nodes.
        bias: of the sequence, [h, L or 1, L or 1].
        rows: tokens of the sequence, i64[R]; of those beyond stored columns the last takes the place.
        n: how many stored columns there are, i64[1].
        one: 1, i64[1].
    """
    bias = b.op("Gather", bias, _index(b, rows, b.dim(bias, 1), one), axis=1)
    columns = b.dim(bias, 2)
    own = b.op("Gather", bias, _index(b, rows, columns, one), axis=2)
    nothing = b.op("ConstantOfShape", n, value=filling(0))  # [n]
    shut = b.op("ConstantOfShape", b.op("Shape", rows), value=filling(-np.inf))  # [R]
    mask = b.op("ScatterElements", nothing, b.op("Min", rows, b.op("Sub", n, one)), shut, axis=0)
    stored = b.op("Slice", bias, b.op("Sub", one, one), n, b.op("Add", one, one))
    return b.op("Add", stored, mask), own


def _index(b: Builder, rows: ir.Value, size: ir.Value, one: ir.Value) -> ir.Value:
    """`rows`, or for each the only index of a dimension of size 1."""
    return b.op("Min", rows, b.op("Sub", size, one))


def _of_many(
    opset: int,
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
) -> ir.Graph:
    """A loop over the sequences, each as it would be alone, to the last bit: a step of 8 bits may hang on it.

    Contexts are padded to the most rows that a sequence has. A sequence without an entry gets one token of
    another, whose place is taken by its own.
    """
    b = Builder("MemoAttention/many", opset)
    batch = Batch(b, entry, length, b.op("Reshape", padded_length, b.i64(1)), offsets)
    packed = Packed(b, rows, batch)
    body = Builder("MemoAttention/sequence", opset)
    iteration = ir.val("MemoAttention/sequence/iteration", ir.DataType.INT64, [])
    condition = ir.val("MemoAttention/sequence/condition", ir.DataType.BOOL, [])
    one = body.i64(1)
    at = body.op("Reshape", iteration, one)
    missed = body.op("Less", body.op("Gather", entry, at), body.i64(0))
    size = body.op("Max", body.op("Where", missed, one, body.op("Gather", length, at)), one)
    first = body.op("Gather", offsets, body.op("Gather", batch.entry, at))
    begin, count = body.op("Gather", packed.first, at), body.op("Gather", packed.count, at)
    own = begin, body.op("Add", begin, count)
    tokens = body.op("Slice", packed.token, *own, body.i64(0))
    some_query, some_key, some_value = (
        body.op("Slice", part, *own, body.i64(axis)) for part, axis in ((query, 1), (key, 2), (value, 1))
    )
    sequence = body.op("Squeeze", body.op("Min", at, body.op("Sub", body.dim(bias, 0), one)))
    biases = _biases(body, body.op("Gather", bias, sequence, axis=0), tokens, size, one)
    context = _context(body, some_query, some_key, some_value, first, size, keys, values, scale, *biases)
    missing = body.op("Sub", body.op("Reshape", packed.most, one), count)
    shape = body.op("Concat", body.dim(context, 0), missing, body.dim(context, 2), axis=0)
    context = body.op("Concat", context, body.op("ConstantOfShape", shape, value=filling(0)), axis=1)
    context = body.op("Transpose", context, perm=[1, 0, 2])  # [M, H, dv]
    more = body.op("Identity", condition)
    row = ir.Graph([iteration, condition], [more, context], nodes=body.nodes, name="sequence")
    trips = b.op("Squeeze", b.op("Shape", entry))
    contexts = b.op("Loop", trips, b.const(True, np.bool_), body=row)  # [B, M, H, dv]
    context = b.op("Transpose", packed.packed(b, contexts), perm=[1, 0, 2])
    return ir.Graph([], [context], nodes=b.nodes, name="many")
