"""MemoSelfAttention: attention of packed sequences, each among its own rows."""

from __future__ import annotations

import numpy as np

from onnx_memo.operators.reference.common import Floats, Integers, beside, check_fit, side_by_side, single


def memo_self_attention(
    qkv: Floats,
    heads: Integers,
    rows: Integers,
    asking: Integers,
    padded_length: Integers,
    scale: Floats,
    bias: Floats,
) -> Floats:
    """The context of each row of `asking` among the rows of its sequence: [..., Q, H * dv].

    Shapes: qkv [..., R, H * (2 * dk + dv)], where axes before R are 1; heads [3], which holds H, dk and dv,
    rows [R], asking [Q], padded_length and scale [] or [1], bias [B, H, L, L], each dimension of which may be
    1. Raises ValueError if they do not fit, or rows do not rise.
    """
    query, key, value = side_by_side(qkv, heads)
    check_fit(rows.shape == (query.shape[1],), qkv, rows)
    count, padded, factor = len(query), int(single("padded_length", padded_length)), single("scale", scale)
    if rows.size and not (padded >= 1 and rows[0] >= 0 and (np.diff(rows) > 0).all()):
        raise ValueError(f"rows do not rise, or have no padded length: it is {padded}")
    if not (np.isin(asking, rows).all() and (np.diff(asking) > 0).all()):
        raise ValueError("rows that ask do not rise, or are not among the rows")
    last = int(rows[-1]) // padded if rows.size else -1
    full = zip(bias.shape[1:], (count, padded, padded), strict=True)
    if (bias.shape[0] != 1 and bias.shape[0] <= last) or any(have not in (1, want) for have, want in full):
        raise ValueError(f"a bias of shape {bias.shape} does not spread to {count} heads and {padded} tokens")

    context = np.zeros_like(value)
    for b in np.unique(rows // padded) if rows.size else ():
        at = np.flatnonzero(rows // padded == b)
        tokens = rows[at] % padded
        q, k, v = query[:, at], key[:, at], value[:, at]
        whole = np.broadcast_to(bias[b if len(bias) > 1 else 0], (count, padded, padded))
        scores = np.float32(factor) * (q @ k.transpose(0, 2, 1)) + whole[:, tokens][:, :, tokens]
        context[:, at] = _softmax(scores) @ v
    return beside(context[:, np.isin(rows, asking)], qkv)


def _softmax(scores: Floats) -> Floats:
    """Over the last axis; NaN where all scores are -inf."""
    with np.errstate(invalid="ignore"):
        powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
        probabilities: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return probabilities
