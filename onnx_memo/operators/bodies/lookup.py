"""MemoLookup: the stored entry nearest to each row of a request, by exact search."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.operators.bodies.common import Results
from onnx_memo.operators.spec import NO_ENTRY


def lookup_body(
    b: Builder,
    query: ir.Value,
    length: ir.Value,
    keys: ir.Value,
    lengths: ir.Value,
    threshold: ir.Value,
    index: ir.Value,
) -> Results:
    """The nearest of equal length, if it is near enough; the index is not needed to be exact."""
    best = _nearest(b, query, length, keys, lengths)
    # The distance that decides comes from the difference: the expansion of `_nearest` cancels near zero.
    key = b.op("Transpose", b.op("Gather", keys, best, axis=1), perm=[1, 0])  # [B, k]
    distance = b.reduce("ReduceL2", b.op("Sub", query, key), 1)
    near = b.op("LessOrEqual", distance, threshold)  # false for NaN
    fits = b.op("Equal", b.op("Gather", lengths, best), length)
    entry = b.op("Where", b.op("And", near, fits), best, b.i64(NO_ENTRY))
    # The last row's number joins the entries: it is negative in an empty batch, which thus misses.
    last = b.op("Sub", b.op("Shape", entry), b.i64(1))
    worst = b.op("ReduceMin", b.op("Concat", entry, last, axis=0), keepdims=0)
    return {"entry": entry, "hit": b.op("GreaterOrEqual", worst, b.const(0, np.int64))}


def _nearest(b: Builder, query: ir.Value, length: ir.Value, keys: ir.Value, lengths: ir.Value) -> ir.Value:
    """The entry at which `q.k - |k|^2 / 2` is largest, among those of equal length if there are any: [B]."""
    # ONNX Runtime folds the keys' norms when it loads the model.
    norms = b.reduce("ReduceSumSquare", keys, 0)  # [N]
    half = b.const(0.5, np.float32)
    nearness = b.op("Sub", b.op("MatMul", query, keys), b.op("Mul", norms, half))  # [B, N]
    column = b.op("Unsqueeze", length, b.i64(1))
    comparable = b.op("Equal", column, lengths)  # [B, N]
    nearness = b.op("Where", comparable, nearness, b.const(-np.inf, np.float32))
    return b.op("ArgMax", nearness, axis=1, keepdims=0)
