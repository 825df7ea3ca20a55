"""The key network as nodes of a graph."""

from __future__ import annotations

import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.operators.spec import DOMAIN


def emit_segments(b: Builder, mask: ir.Value | None, hidden: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Nodes for the lengths int64 [B] and the segments' weights [B, SEGMENTS, L] of a request."""
    names = (f"{b.prefix}/lengths", f"{b.prefix}/weights")
    lengths, weights = b.ops("MemoSegments", _integer_mask(b, mask, hidden), domain=DOMAIN, names=names)
    return lengths, weights


def emit_key(
    b: Builder,
    weights: ir.Value,
    hidden: ir.Value,
    reduction: ir.Value,
    projection: ir.Value,
    bias: ir.Value,
) -> ir.Value:
    """Nodes for the keys [B, KEY_WIDTH] of hidden states [B, L, d]."""
    means = b.op("MatMul", b.op("MatMul", weights, hidden), reduction)
    # 0 copies the batch, so that an empty one stays legal.
    flat = b.op("Reshape", means, b.i64(0, _rows(projection)))
    return b.op("Add", b.op("MatMul", flat, projection), bias)


def for_all(b: Builder, given: ir.Value, hidden: ir.Value) -> ir.Value:
    """What is `given` for each token, [B, L], for hidden states [B, L, d].

    Callers may give one row for all sequences, or one number for all tokens, as ONNX broadcasts them.
    """
    wide = b.op("Expand", given, b.op("Slice", b.op("Shape", hidden), b.i64(0), b.i64(2)))
    wide.type = given.type
    return wide


def _integer_mask(b: Builder, mask: ir.Value | None, hidden: ir.Value) -> ir.Value:
    """The mask as int64[B, L]; without one all tokens are real."""
    if mask is None:
        shape = b.op("Concat", b.dim(hidden, 0), b.dim(hidden, 1), axis=0)
        return b.op("ConstantOfShape", shape, value=ir.tensor([1], ir.DataType.INT64))
    mask = for_all(b, mask, hidden)
    if mask.dtype in (None, ir.DataType.INT64):
        return mask
    if mask.dtype.is_integer() or mask.dtype == ir.DataType.BOOL:
        return b.op("Cast", mask, to=ir.DataType.INT64.value)
    # A fraction is no mask: -1 makes the row irregular, so that it misses.
    floats = b.op("Cast", mask, to=ir.DataType.FLOAT.value)
    integers = b.op("Cast", floats, to=ir.DataType.INT64.value)
    same = b.op("Equal", floats, b.op("Cast", integers, to=ir.DataType.FLOAT.value))
    return b.op("Where", same, integers, b.i64(-1))


def _rows(matrix: ir.Value) -> int:
    assert matrix.shape is not None, "the tensors of the store have shapes"
    return int(matrix.shape.numpy()[0])
