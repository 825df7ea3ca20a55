"""MemoContext: stored attention probabilities times the request's own values."""

from __future__ import annotations

import numpy as np

from onnx_memo.operators.reference.common import Floats, Integers, Payload, owned, stored_sequences


def memo_context(
    entry: Integers, values: Floats, payload: Payload, offsets: Integers, lengths: Integers
) -> Floats:
    """Stored probabilities times the request's own values, heads side by side: [B, L, H * dv].

    Shapes: entry [B], values [B, L, H * dv], payload [S, H], offsets [N], lengths [N].
    Raises ValueError for entries that are not in the store, or do not fit.
    """
    heads = payload.shape[1]
    _, padded, width = values.shape
    if not heads or width % heads:
        raise ValueError(f"{heads} heads do not divide values of width {width}")
    output = np.zeros_like(values)
    for b, e, n in stored_sequences(entry, lengths, padded):
        probabilities = owned(payload, e, offsets, n * n).reshape(heads, n, n)
        own = values[b, :n].reshape(n, heads, width // heads)
        output[b, :n] = np.einsum("hij,jhv->ihv", probabilities, own).reshape(n, width)
    return output
