"""MemoContext: stored attention probabilities times the request's own values."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.operators.bodies.common import FLOAT, Results


def context_body(
    b: Builder,
    entry: ir.Value,
    values: ir.Value,
    payload: ir.Value,
    offsets: ir.Value,
    lengths: ir.Value,
) -> Results:
    """A loop over the batch: entries differ in length, and an index tensor would be huge."""
    trips = b.op("Squeeze", b.dim(entry, 0))
    body = _context_of_row(b.opset, entry, values, payload, offsets, lengths)
    always = b.const(True, np.bool_)
    return {"context": b.op("Loop", trips, always, body=body)}


def _context_of_row(
    opset: int,
    entry: ir.Value,
    values: ir.Value,
    payload: ir.Value,
    offsets: ir.Value,
    lengths: ir.Value,
) -> ir.Graph:
    """The loop's body: the context of one row of the batch, f32[L, H * dv].

    A miss is computed as an entry of length 1, and zeros take the place of what comes of it.
    """
    b = Builder("MemoContext/row", opset)
    iteration = ir.val("MemoContext/row/iteration", ir.DataType.INT64, [])
    condition = ir.val("MemoContext/row/condition", ir.DataType.BOOL, [])
    zero = b.i64(0)
    one = b.i64(1)
    at = b.op("Reshape", iteration, one)
    e = b.op("Gather", entry, at)  # [1]
    missed = b.op("Less", e, zero)
    stored = b.op("Max", e, zero)
    n = b.op("Where", missed, one, b.op("Gather", lengths, stored))  # [1]
    first = b.op("Gather", offsets, stored)
    probabilities, heads = _probabilities(b, payload, first, n, zero)
    own = b.op("Gather", values, b.op("Squeeze", at), axis=0)  # [L, H * dv]
    length, width = b.dim(own, 0), b.dim(own, 1)
    own = _split_heads(b, b.op("Slice", own, zero, n, zero), n, heads, width)
    context = _join_heads(b, b.op("MatMul", probabilities, own), n, width)
    pads = b.op("Concat", zero, zero, b.op("Sub", length, n), zero, axis=0)
    context = b.op("Pad", context, pads)  # [L, H * dv]
    context = b.op("Where", missed, b.const(0, np.float32), context)
    more = b.op("Identity", condition)
    return ir.Graph([iteration, condition], [more, context], nodes=b.nodes, name="row")


def _probabilities(
    b: Builder, payload: ir.Value, first: ir.Value, n: ir.Value, zero: ir.Value
) -> tuple[ir.Value, ir.Value]:
    """Those of the entry that begins at payload row `first`, f32[H, n, n], and the number of heads [1]."""
    square = b.op("Slice", payload, first, b.op("Add", first, b.op("Mul", n, n)), zero)
    heads = b.dim(payload, 1)
    shape = b.op("Concat", heads, n, n, axis=0)
    return b.op("Cast", b.op("Reshape", square, shape), to=FLOAT), heads


def _split_heads(b: Builder, own: ir.Value, n: ir.Value, heads: ir.Value, width: ir.Value) -> ir.Value:
    """f32[n, H * dv] as f32[H, n, dv]."""
    own = b.op("Reshape", own, b.op("Concat", n, heads, b.op("Div", width, heads), axis=0))
    return b.op("Transpose", own, perm=[1, 0, 2])


def _join_heads(b: Builder, context: ir.Value, n: ir.Value, width: ir.Value) -> ir.Value:
    """f32[H, n, dv] as f32[n, H * dv]."""
    context = b.op("Transpose", context, perm=[1, 0, 2])
    return b.op("Reshape", context, b.op("Concat", n, width, axis=0))
