"""MemoRowsAttention: `MemoAttention` of queries, keys and values side by side."""

from __future__ import annotations

from onnx_memo.operators.reference.attention import memo_attention
from onnx_memo.operators.reference.common import Floats, Integers, Payload, beside, side_by_side


def memo_rows_attention(
    qkv: Floats,
    heads: Integers,
    rows: Integers,
    entry: Integers,
    length: Integers,
    padded_length: Integers,
    keys: Payload,
    values: Payload,
    offsets: Integers,
    scale: Floats,
    bias: Floats,
) -> Floats:
    """Attention of the rows that run over all tokens of their sequences: [..., R, H * dv].

    Shapes: qkv [..., R, H * (2 * dk + dv)], where axes before R are 1; heads [3], which holds H, dk and dv;
    the others as those of `memo_attention`. Raises ValueError if they do not fit.
    """
    query, key, value = side_by_side(qkv, heads)
    context = memo_attention(
        query,
        key.transpose(0, 2, 1),
        value,
        rows,
        entry,
        length,
        padded_length,
        keys,
        values,
        offsets,
        scale,
        bias,
    )
    return beside(context, qkv)
