"""MemoSegments: the real lengths of a mask's rows, and the weights that average their segments."""

from __future__ import annotations

import numpy as np

from onnx_memo.operators.reference.common import Floats, Integers
from onnx_memo.operators.spec import SEGMENTS


def memo_segments(mask: Integers) -> tuple[Integers, Floats]:
    """The real length of each row of a mask [B, L], and their segments' weights [B, SEGMENTS, L].

    A row counts if it is ones followed by zeros; the length of any other is -1, its weights are zero.
    """
    batch, count = mask.shape
    length = np.full(batch, -1, np.int64)
    weights = np.zeros((batch, SEGMENTS, count), np.float32)
    for row in range(batch):
        n = int((mask[row] == 1).sum())
        if np.array_equal(mask[row], np.arange(count) < n):
            length[row] = n
            for t in range(n):
                weights[row, SEGMENTS * t // n, t] = 1
    return length, weights / np.maximum(weights.sum(axis=2, keepdims=True), 1)
