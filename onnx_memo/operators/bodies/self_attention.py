"""MemoSelfAttention: attention of packed sequences, each among its own rows."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.operators.bodies.common import Results, filling
from onnx_memo.operators.bodies.heads import SideBySide, beside

NAME = "MemoSelfAttention"


def self_attention_body(
    b: Builder,
    qkv: ir.Value,
    heads: ir.Value,
    rows: ir.Value,
    asking: ir.Value,
    padded_length: ir.Value,
    scale: ir.Value,
    bias: ir.Value,
) -> Results:
    """Attention of all B * L places: those that are not among `rows` are zeros, which no row attends to.

    An If whose branches hold all of it: where all places ask, nothing is scattered, gathered or copied.
    """
    length = b.op("Max", b.op("Reshape", padded_length, b.i64(1)), b.i64(1))  # a divisor
    last = b.op("Gather", b.op("Concat", b.i64(0), rows, axis=0), b.i64(-1))
    batch = b.op("Add", b.op("Div", last, length), b.i64(1))
    batch = b.op("Max", batch, b.dim(bias, 0))  # sequences at the end may have no rows
    places = b.op("Mul", batch, length)
    context = b.op(
        "If",
        b.op("Equal", b.op("Shape", asking), places),
        then_branch=_all_there(b.opset, qkv, heads, batch, length, scale, bias),
        else_branch=_some_missing(b.opset, qkv, heads, rows, asking, places, batch, length, scale, bias),
    )
    return {"context": context}


def _all_there(
    opset: int,
    qkv: ir.Value,
    heads: ir.Value,
    batch: ir.Value,
    length: ir.Value,
    scale: ir.Value,
    bias: ir.Value,
) -> ir.Graph:
    b = Builder(f"{NAME}/all", opset)
    fresh = SideBySide(b, qkv, heads)
    context = beside(b, _attention(b, fresh, batch, length, scale, bias), qkv, fresh.values)
    return ir.Graph([], [context], nodes=b.nodes, name="all")


def _some_missing(
    opset: int,
    qkv: ir.Value,
    heads: ir.Value,
    rows: ir.Value,
    asking: ir.Value,
    places: ir.Value,
    batch: ir.Value,
    length: ir.Value,
    scale: ir.Value,
    bias: ir.Value,
) -> ir.Graph:
    """The branch that puts rows into their places, and gives others a bias of -inf, whatever theirs is."""
    b = Builder(f"{NAME}/some", opset)
    width = b.op("Gather", b.op("Shape", qkv), b.i64(-1))
    zeros = b.op("ConstantOfShape", b.op("Concat", places, width, axis=0), value=filling(0))
    flat = b.op("Reshape", qkv, b.op("Concat", b.i64(-1), width, axis=0))
    placed = b.op("ScatterND", zeros, b.op("Unsqueeze", rows, b.i64(-1)), flat)
    nowhere = b.op("ConstantOfShape", places, value=ir.tensor(np.array([False])))
    here = b.op("ConstantOfShape", b.op("Shape", rows), value=ir.tensor(np.array([True])))
    there = b.op("ScatterElements", nowhere, rows, here, axis=0)
    there = b.op("Reshape", there, b.op("Concat", batch, b.i64(1, 1), length, axis=0))
    shut_bias = b.op("Where", there, bias, b.const(-np.inf, np.float32))
    fresh = SideBySide(b, placed, heads)
    context = _attention(b, fresh, batch, length, scale, shut_bias)
    context = b.op("Reshape", context, b.op("Concat", b.i64(-1), fresh.values, axis=0))
    context = beside(b, b.op("Gather", context, asking), qkv, fresh.values)
    return ir.Graph([], [context], nodes=b.nodes, name="some")


def _attention(
    b: Builder,
    fresh: SideBySide,
    batch: ir.Value,
    length: ir.Value,
    scale: ir.Value,
    bias: ir.Value,
) -> ir.Value:
    """Of all places: [B, L, H, dv]."""
    query, key, value = (
        b.op("Transpose", part, perm=turn)
        for part, turn in zip(
            fresh.apart(b, batch, length), ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]), strict=True
        )
    )
    scores = b.op("Add", b.op("Mul", b.op("MatMul", query, key), scale), bias)
    context = b.op("MatMul", b.op("Softmax", scores, axis=-1), value)
    return b.op("Transpose", context, perm=[0, 2, 1, 3])
