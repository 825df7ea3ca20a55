"""MemoSegments: the real lengths of a mask's rows, and the weights that average their segments."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.operators.bodies.common import FLOAT, INT64, Results
from onnx_memo.operators.spec import SEGMENTS


def segments_body(b: Builder, mask: ir.Value) -> Results:
    """A row is regular if it is the mask that has its number of ones, all at the beginning."""
    count = b.reduce("ReduceSum", mask, 1)
    end = b.op("Squeeze", b.dim(mask, 1))
    t = b.op("Range", b.const(0, np.int64), end, b.const(1, np.int64))  # [L]
    prefix = b.op("Less", t, b.op("Unsqueeze", count, b.i64(1)))
    differs = b.op("Not", b.op("Equal", mask, b.op("Cast", prefix, to=INT64)))
    differing = b.reduce("ReduceSum", b.op("Cast", differs, to=INT64), 1)
    regular = b.op("Equal", differing, b.const(0, np.int64))
    length = b.op("Where", regular, count, b.i64(-1))
    return {"length": length, "weights": _weights(b, t, length)}


def _weights(b: Builder, t: ir.Value, length: ir.Value) -> ir.Value:
    """1 / (tokens of the segment) where a token lies in a segment: f32[B, SEGMENTS, L]; `t` is 0 .. L - 1."""
    column = b.op("Unsqueeze", length, b.i64(1))
    segment = b.op("Div", b.op("Mul", t, b.i64(SEGMENTS)), b.op("Max", column, b.i64(1)))  # [B, L]
    segment = b.op("Where", b.op("Less", t, column), segment, b.i64(-1))
    numbers = b.const(np.arange(SEGMENTS)[:, None], np.int64)
    member = b.op("Equal", b.op("Unsqueeze", segment, b.i64(1)), numbers)
    weights = b.op("Cast", member, to=FLOAT)
    tokens = b.reduce("ReduceSum", weights, 2, keepdims=True)
    return b.op("Div", weights, b.op("Max", tokens, b.const(1, np.float32)))
