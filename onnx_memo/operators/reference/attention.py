"""MemoAttention: attention of the rows that run over stored keys and values, in which theirs are fresh."""

from __future__ import annotations

import numpy as np

from onnx_memo.operators.reference.common import (
    Floats,
    Integers,
    Payload,
    check_fit,
    owned,
    sequences,
    single,
)
from onnx_memo.operators.spec import NO_ENTRY


def memo_attention(
    query: Floats,
    key: Floats,
    value: Floats,
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
    """Attention of the rows that run over all tokens of their sequences: [H, R, dv].

    Keys and values of tokens that do not run are the entry's.

    Shapes: query [H, R, dk], key [H, dk, R], value [H, R, dv], rows [R], entry and length [B],
    padded_length and scale [] or [1], keys [T, H * dk], values [T, H * dv], offsets [N],
    bias [B, H, L, L], each dimension of which may be 1. Raises ValueError if they do not fit.
    """
    check_fit(query.ndim == 3 and key.shape == (query.shape[0], query.shape[2], query.shape[1]), query, key)
    check_fit(value.ndim == 3 and value.shape[:2] == query.shape[:2], query, value)
    (heads, count, width), value_width = query.shape, value.shape[2]
    check_fit(rows.shape == (count,), query, rows)
    check_fit(keys.ndim == 2 and keys.shape[1] == heads * width, query, keys)
    check_fit(values.shape == (len(keys), heads * value_width), value, keys, values)
    padded, factor = single("padded_length", padded_length), single("scale", scale)
    bias = _spread(bias, (len(entry), heads, padded, padded))
    context = np.zeros((heads, count, value_width), np.float32)
    for b, e, n, at, tokens in sequences(rows, entry, length, padded, offsets):
        all_keys = np.zeros((heads, width, n), np.float32)
        all_values = np.zeros((heads, n, value_width), np.float32)
        if e != NO_ENTRY:
            all_keys = owned(keys, e, offsets, n).reshape(all_keys.shape)
            all_values = owned(values, e, offsets, n).reshape(all_values.shape)
        all_keys[:, :, tokens] = key[:, :, at]
        all_values[:, tokens] = value[:, at]
        scores = np.float32(factor) * (query[:, at] @ all_keys) + bias[b][:, tokens, :n]
        context[:, at] = _softmax(scores) @ all_values
    return context


def _softmax(scores: Floats) -> Floats:
    """Over the last axis; NaN where all scores are -inf."""
    with np.errstate(invalid="ignore"):
        powers = np.exp(scores - scores.max(axis=-1, keepdims=True, initial=-np.inf))
    probabilities: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return probabilities


def _spread(bias: Floats, shape: tuple[int, ...]) -> Floats:
    """The bias with all dimensions full."""
    if bias.ndim != 4 or any(have not in (1, want) for have, want in zip(bias.shape, shape, strict=True)):
        raise ValueError(f"a bias of shape {bias.shape} does not spread to {shape}")
    return np.broadcast_to(bias, shape)
