"""MemoSelfAttention: attention of packed sequences, each among its own rows."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.operators.bodies.common import Results, filling

NAME = "MemoSelfAttention"


def self_attention_body(
    b: Builder,
    qkv: ir.Value,
    heads: ir.Value,
    rows: ir.Value,
    padded_length: ir.Value,
    scale: ir.Value,
    bias: ir.Value,
) -> Results:
    """Attention of all B * L places: those that are not among `rows` are zeros, which no row attends to.

    Where there are no such places, an If saves their scattering.
    """
    length = b.op("Max", b.op("Reshape", padded_length, b.i64(1)), b.i64(1))  # a divisor
    last = b.op("Gather", b.op("Concat", b.i64(0), rows, axis=0), b.i64(-1))
    batch = b.op("Add", b.op("Div", last, length), b.i64(1))
    batch = b.op("Max", batch, b.dim(bias, 0))  # sequences at the end may have no rows
    places = b.op("Mul", batch, length)
    full = b.op("Equal", b.op("Shape", rows), places)

    names = [f"{b.prefix}/{name}" for name in ("placed", "shut_bias")]
    placed, shut_bias = b.ops(
        "If",
        full,
        names=names,
        then_branch=_all_there(b.opset, qkv, bias),
        else_branch=_some_missing(b.opset, qkv, rows, places, batch, length, bias),
    )
    count, key_width, value_width = (b.op("Gather", heads, b.i64(i)) for i in range(3))
    keys = b.op("Mul", count, key_width)
    query, key, value = b.ops(
        "Split",
        placed,
        b.op("Concat", keys, keys, b.op("Mul", count, value_width), axis=0),
        names=[f"{b.prefix}/{name}" for name in ("query", "key", "value")],
        axis=1,
    )
    shape = b.op("Concat", batch, length, count, b.i64(-1), axis=0)
    query = b.op("Transpose", b.op("Reshape", query, shape), perm=[0, 2, 1, 3])  # [B, H, L, dk]
    key = b.op("Transpose", b.op("Reshape", key, shape), perm=[0, 2, 3, 1])
    value = b.op("Transpose", b.op("Reshape", value, shape), perm=[0, 2, 1, 3])
    scores = b.op("Add", b.op("Mul", b.op("MatMul", query, key), scale), shut_bias)
    context = b.op("MatMul", b.op("Softmax", scores, axis=-1), value)
    context = b.op("Transpose", context, perm=[0, 2, 1, 3])
    context = b.op("Reshape", context, b.op("Concat", places, b.i64(-1), axis=0))
    return {"context": b.op("Gather", context, rows)}


def _all_there(opset: int, qkv: ir.Value, bias: ir.Value) -> ir.Graph:
    b = Builder(f"{NAME}/all", opset)
    return ir.Graph([], [b.op("Identity", qkv), b.op("Identity", bias)], nodes=b.nodes, name="all")


def _some_missing(
    opset: int,
    qkv: ir.Value,
    rows: ir.Value,
    places: ir.Value,
    batch: ir.Value,
    length: ir.Value,
    bias: ir.Value,
) -> ir.Graph:
    """The branch that puts rows into their places, and gives others a bias of -inf, whatever theirs is."""
    b = Builder(f"{NAME}/some", opset)
    shape = b.op("Concat", places, b.dim(qkv, 1), axis=0)
    zeros = b.op("ConstantOfShape", shape, value=filling(0))
    placed = b.op("ScatterND", zeros, b.op("Unsqueeze", rows, b.i64(-1)), qkv)
    nowhere = b.op("ConstantOfShape", places, value=ir.tensor(np.array([False])))
    here = b.op("ConstantOfShape", b.op("Shape", rows), value=ir.tensor(np.array([True])))
    there = b.op("ScatterElements", nowhere, rows, here, axis=0)
    there = b.op("Reshape", there, b.op("Concat", batch, b.i64(1, 1), length, axis=0))
    shut_bias = b.op("Where", there, bias, b.const(-np.inf, np.float32))
    return ir.Graph([], [placed, shut_bias], nodes=b.nodes, name="some")
