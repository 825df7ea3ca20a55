"""Attention between heads, in the form in which it is searched."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.graph.plain.rule import Kept

MOST_HEADS = 65536  # a file may say anything
SWAPPED = [0, 2, 1, 3]  # rows and heads


def split_heads(b: Builder, value: ir.Value, heads: int, width: int | None) -> ir.Value:
    """From [B, L, width] to [B, heads, L, w].

    Raises:
        Kept: the width is known, and not that of so many heads.
    """
    if heads < 1 or (width is not None and width % heads):
        raise Kept(f"its width of {width} is not that of {heads} heads")
    each = -1 if width is None else width // heads
    return b.op("Transpose", b.op("Reshape", value, b.i64(0, 0, heads, each)), perm=SWAPPED)


def repeat_heads(b: Builder, value: ir.Value, heads: int, repeats: int) -> ir.Value:
    """From [B, heads, L, w] to [B, heads * repeats, L, w]: as many copies of each head, in a row.

    Raises:
        Kept: they would be more than any model has.
    """
    if repeats == 1:
        return value
    if heads * repeats > MOST_HEADS:
        raise Kept(f"it has {heads * repeats} heads")
    return b.op("Gather", value, b.const(np.repeat(np.arange(heads), repeats), np.int64), axis=1)


def merge_heads(b: Builder, value: ir.Value, width: int | None) -> ir.Value:
    """From [B, H, L, w] to [B, L, H * w], which is `width` if that is known."""
    return b.op("Reshape", b.op("Transpose", value, perm=SWAPPED), b.i64(0, 0, width or -1))


def attend(
    b: Builder,
    query: ir.Value,
    key: ir.Value,
    value: ir.Value,
    *,
    scale: float | None,
    width: int | None,
    bias: ir.Value | None,
    cap: float = 0.0,
) -> ir.Value:
    """softmax(query key' scale + bias) value, [B, H, L, w].

    Args:
        b: takes the nodes.
        query: [B, H, L, k].
        key: [B, H, T, k].
        value: [B, H, T, w].
        scale: of the scores; None: 1 / sqrt(k).
        width: k, if it is known.
        bias: of rank 4, added to the scaled scores.
        cap: the scaled scores x become cap * tanh(x / cap) before the bias is added; 0: they stay.
    """
    factor = _factor(b, query, scale, width)
    product = b.op("MatMul", query, b.op("Transpose", key, perm=[0, 1, 3, 2]))
    scores = b.op("Mul", product, factor)
    if cap:
        limit = b.const(cap, np.float32)
        scores = b.op("Mul", b.op("Tanh", b.op("Div", scores, limit)), limit)
    if bias is not None:
        scores = b.op("Add", scores, bias)
    return b.op("MatMul", b.op("Softmax", scores, axis=-1), value)


def _factor(b: Builder, query: ir.Value, scale: float | None, width: int | None) -> ir.Value:
    if scale is not None:
        return b.const(scale, np.float32)
    if width is not None:
        return b.const(1 / math.sqrt(width), np.float32)
    size = b.op("Cast", b.dim(query, 3), to=ir.DataType.FLOAT.value)
    return b.op("Reciprocal", b.op("Sqrt", size))
