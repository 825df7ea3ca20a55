"""MemoFetch: the stored rows of each entry, as a padded batch."""

from __future__ import annotations

import numpy as np

from onnx_memo.operators.reference.common import Floats, Integers, Payload, owned, single, stored_sequences


def memo_fetch(
    entry: Integers, payload: Payload, offsets: Integers, lengths: Integers, padded_length: Integers
) -> Floats:
    """The rows of each entry, widened to f32 and padded with zeros: [B, L, d].

    Shapes: entry [B], payload [R, d], offsets [N], lengths [N], padded_length [] or [1].
    Raises ValueError for entries that are not in the store, or do not fit.
    """
    padded = single("padded_length", padded_length)
    output = np.zeros((len(entry), padded, payload.shape[1]), np.float32)
    for b, e, n in stored_sequences(entry, lengths, padded):
        output[b, :n] = owned(payload, e, offsets, n)
    return output
