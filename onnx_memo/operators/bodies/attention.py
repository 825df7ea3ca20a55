"""MemoAttention: attention of the rows that run over stored keys and values, in which theirs are fresh."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
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
    return {"context": b.op("MatMul", probabilities, b.op("Concat", stored_values, value, axis=1))}


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
    nothing = b.op("ConstantOfShape", length, value=filling(0))  # [n]
    shut = b.op("ConstantOfShape", b.op("Shape", rows), value=filling(-np.inf))  # [R]
    mask = b.op("ScatterElements", nothing, rows, shut, axis=0)
    stored = b.op("Slice", bias, zero, length, b.op("Add", one, one))
    return b.op("Add", stored, mask), own


def _index(b: Builder, rows: ir.Value, size: ir.Value, one: ir.Value) -> ir.Value:
    """`rows`, or for each the only index of a dimension of size 1."""
    return b.op("Min", rows, b.op("Sub", size, one))
