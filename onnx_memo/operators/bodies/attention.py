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
    """Softmax over n + R columns: the entry's, of which those of `rows` are shut out, then the rows' own.

    That costs less than to overlay the entry's keys, number by number.
    """
    b = Builder("MemoAttention/one", opset)
    first = b.op("Gather", offsets, entry)  # [1]
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
    context = b.op("MatMul", probabilities, b.op("Concat", stored_values, value, axis=1))
    return ir.Graph([], [context], nodes=b.nodes, name="one")


def _bias_of_first(b: Builder, bias: ir.Value, rows: ir.Value, length: ir.Value) -> tuple[ir.Value, ir.Value]:
    """What is added to the scores of the stored columns [h, r, n] and of the rows' own [h, r, R].

    h is 1 or H, and r is R. Stored columns that `rows` replace get -inf. It is computed in front of the
    branches, of the first sequence of any batch, so that all layers share it. And there is no constant here:
    ONNX Runtime computes what all layers share only once, but inside a branch it takes the constants of two
    functions for different ones.
    """
    one = b.op("Shape", b.op("Shape", length))
    zero = b.op("Sub", one, one)
    n = b.op("Max", b.op("Gather", length, zero), one)  # [1]
    rows = b.op("Min", b.op("Slice", rows, zero, n), b.op("Sub", n, one))  # of one sequence: all
    bias = b.op("Gather", bias, b.op("ReduceMin", zero, keepdims=0), axis=0)  # [h, L or 1, L or 1]
    bias = b.op("Gather", bias, _index(b, rows, b.dim(bias, 1), one), axis=1)
    columns = b.dim(bias, 2)
    own = b.op("Gather", bias, _index(b, rows, columns, one), axis=2)
    nothing = b.op("ConstantOfShape", n, value=filling(0))  # [n]
    shut = b.op("ConstantOfShape", b.op("Shape", rows), value=filling(-np.inf))  # [R]
    mask = b.op("ScatterElements", nothing, rows, shut, axis=0)
    stored = b.op("Slice", bias, zero, n, b.op("Add", one, one))
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
    """Keys and values of all sequences, padded to the longest, in which the rows' own take their places."""
    b = Builder("MemoAttention/many", opset)
    batch = Batch(b, entry, length, b.op("Reshape", padded_length, b.i64(1)), offsets)
    packed = Packed(b, rows, batch)
    all_keys, all_values = _loaded(b, batch, query, keys, values, offsets, entry)
    fresh_keys = b.op("Transpose", key, perm=[2, 0, 1])  # [R, H, dk]
    fresh_values = b.op("Transpose", value, perm=[1, 0, 2])
    at = b.op("Unsqueeze", rows, b.i64(1))
    all_keys = batch.apart(b, b.op("ScatterND", batch.flat(b, all_keys), at, fresh_keys))
    all_values = batch.apart(b, b.op("ScatterND", batch.flat(b, all_values), at, fresh_values))
    queries = packed.padded(b, b.op("Transpose", b.op("Mul", query, scale), perm=[1, 0, 2]), 3)
    queries = b.op("Transpose", queries, perm=[0, 2, 1, 3])  # [B, H, M, dk]
    scores = b.op("MatMul", queries, b.op("Transpose", all_keys, perm=[0, 2, 3, 1]))  # [B, H, M, L]
    scores = b.op("Add", scores, _bias_of_packed(b, bias, packed))
    real = b.op("Unsqueeze", batch.real, b.i64(1, 2))
    probabilities = b.op("Softmax", b.op("Where", real, scores, b.const(-np.inf, np.float32)), axis=-1)
    context = b.op("MatMul", probabilities, b.op("Transpose", all_values, perm=[0, 2, 1, 3]))
    context = packed.packed(b, b.op("Transpose", context, perm=[0, 2, 1, 3]))  # [R, H, dv]
    context = b.op("Transpose", context, perm=[1, 0, 2])
    return ir.Graph([], [context], nodes=b.nodes, name="many")


def _bias_of_packed(b: Builder, bias: ir.Value, packed: Packed) -> ir.Value:
    """The bias of each row, [B, h, M, L or 1]."""
    one = b.i64(1)
    sequences, tokens = b.dim(bias, 0), b.dim(bias, 2)
    sequence = b.op("Min", packed.sequence, b.op("Sub", sequences, one))
    token = b.op("Min", packed.token, b.op("Sub", tokens, one))
    row = b.op("Add", b.op("Mul", sequence, tokens), token)  # [R]
    by_row = b.op("Transpose", bias, perm=[0, 2, 1, 3])
    shape = b.op("Concat", b.op("Mul", sequences, tokens), b.dim(bias, 1), b.dim(bias, 3), axis=0)
    by_row = b.op("Gather", b.op("Reshape", by_row, shape), row, axis=0)  # [R, h, L or 1]
    return b.op("Transpose", packed.padded(b, by_row, 3), perm=[0, 2, 1, 3])


def _loaded(
    b: Builder,
    batch: Batch,
    query: ir.Value,
    keys: ir.Value,
    values: ir.Value,
    offsets: ir.Value,
    entry: ir.Value,
) -> tuple[ir.Value, ir.Value]:
    """The entries' keys [B, L, H, dk] and values [B, L, H, dv].

    A loop over the batch: entries are blocks of their own length, and number by number they would take
    longer to gather than to compute. A sequence without an entry gets one token of another, whose place is
    taken by its own.
    """
    body = Builder("MemoAttention/entry", b.opset)
    iteration = ir.val("MemoAttention/entry/iteration", ir.DataType.INT64, [])
    condition = ir.val("MemoAttention/entry/condition", ir.DataType.BOOL, [])
    at = body.op("Reshape", iteration, body.i64(1))
    missed = body.op("Less", body.op("Gather", entry, at), body.i64(0))
    size = body.op("Where", missed, body.i64(1), body.op("Gather", batch.length, at))
    first = body.op("Gather", offsets, body.op("Gather", batch.entry, at))
    end = body.op("Add", first, size)
    heads = body.dim(query, 0)
    zero = body.i64(0)
    pads = body.op("Concat", body.i64(0, 0, 0), body.op("Sub", batch.padded, size), body.i64(0, 0), axis=0)
    padded = []
    for payload, order, turn in (keys, "columns", [2, 0, 1]), (values, "rows", [1, 0, 2]):
        block = body.op("Slice", payload, first, end, zero)
        width = body.op("Div", body.dim(payload, 1), heads)
        sizes = (heads, width, size) if order == "columns" else (heads, size, width)
        block = body.op("Transpose", body.op("Reshape", block, body.op("Concat", *sizes, axis=0)), perm=turn)
        padded.append(body.op("Pad", body.op("Cast", block, to=FLOAT), pads))  # [L, H, dk or dv]
    more = body.op("Identity", condition)
    row = ir.Graph([iteration, condition], [more, *padded], nodes=body.nodes, name="entry")
    names = [f"{b.prefix}/{name}" for name in ("keys", "values")]
    trips = b.op("Squeeze", b.op("Shape", entry))
    all_keys, all_values = b.ops("Loop", trips, b.const(True, np.bool_), names=names, body=row)
    return all_keys, all_values
