"""The key of a request: a short vector that says how near two inputs are at a site.

The hidden states are averaged over eight segments of the real tokens, each average is reduced to some
numbers, and all of these together to the 64 of the key. Two small steps in place of a large one: what a
request pays for a projection is reading its weights. How the two matrices are found: `fixed`, `learned`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnx_memo.operators.spec import SEGMENTS

KEY_WIDTH = 64
SAMPLE = 1024  # inputs that a network is fitted to, at most

FloatArray = npt.NDArray[np.float32]


def segment_means(hidden: FloatArray) -> FloatArray:
    """The means of the hidden states [L, d] of one input over its segments: [SEGMENTS * d].

    Token t belongs to segment t * SEGMENTS // L. Segments without a token are zero.
    """
    length, width = hidden.shape
    # Segment s holds the tokens from ceil(s * L / SEGMENTS) on.
    bounds = -(-np.arange(SEGMENTS + 1) * length // SEGMENTS)
    means = np.zeros((SEGMENTS, width), np.float32)
    for segment, (first, end) in enumerate(itertools.pairwise(bounds)):
        if end > first:
            means[segment] = hidden[first:end].mean(axis=0)
    return means.reshape(-1)


@dataclass(frozen=True)
class KeyNetwork:
    """key = flat(means @ reduction) @ projection + bias; two captured inputs are about 1 apart."""

    reduction: FloatArray  # [d, r]
    projection: FloatArray  # [SEGMENTS * r, KEY_WIDTH]
    bias: FloatArray  # [KEY_WIDTH]

    def __call__(self, means: FloatArray) -> FloatArray:
        """Keys [n, KEY_WIDTH] of segment means [n, SEGMENTS * d]."""
        segments = means.reshape(len(means), SEGMENTS, -1) @ self.reduction
        keys = segments.reshape(len(means), -1) @ self.projection + self.bias
        return keys.astype(np.float32, copy=False)
