"""MemoRowsAttention: `MemoAttention` of queries, keys and values side by side."""

from __future__ import annotations

import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.operators.bodies.attention import attention_body
from onnx_memo.operators.bodies.common import Results
from onnx_memo.operators.bodies.heads import SideBySide, beside


def rows_attention_body(
    b: Builder,
    qkv: ir.Value,
    heads: ir.Value,
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
    """Heads are taken apart, and their contexts put side by side again."""
    fresh = SideBySide(b, qkv, heads)
    query, key, value = (
        b.op("Transpose", part, perm=turn)
        for part, turn in zip(fresh.apart(b, b.i64(-1)), ([1, 0, 2], [1, 2, 0], [1, 0, 2]), strict=True)
    )
    attended = (rows, entry, length, padded_length, keys, values, offsets, scale, bias)
    context = attention_body(b, query, key, value, *attended)["context"]
    return {"context": beside(b, b.op("Transpose", context, perm=[1, 0, 2]), qkv, fresh.values)}
