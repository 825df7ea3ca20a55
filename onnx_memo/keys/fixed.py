"""The key of a request: a short vector that says how near two inputs are at a site.

For now a fixed network: the hidden states are averaged over eight segments of the real tokens, each
average is reduced to 32 numbers, and these 256 to the 64 of the key. Both reductions are fitted to
the captured inputs: their principal components, and beside them random directions for everything in
which those inputs do not differ, so that an input unlike all of them is not mistaken for one
(Johnson and Lindenstrauss, 1984: random projections keep distances on average). Two small steps in
place of a large one: what a request pays for a projection is reading its weights.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.operators.spec import DOMAIN, SEGMENTS

REDUCED_WIDTH = 32  # of each segment's mean
KEY_WIDTH = 64
PRINCIPAL = 0.75  # of a reduction's columns; the rest are random directions
SAMPLE = 1024  # inputs that the principal components are computed from

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


def fit_keys(means: FloatArray, seed: int = 0) -> KeyNetwork:
    """Fit the network to the captured segment means [n, SEGMENTS * d], n at least 1."""
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(means))[:SAMPLE])
    sample = means[chosen].astype(np.float64)
    segments = sample.reshape(len(sample), SEGMENTS, -1)
    reduction = _reduction(
        (segments - segments.mean(axis=0)).reshape(-1, segments.shape[2]), REDUCED_WIDTH, rng
    )
    reduced = (segments @ reduction).reshape(len(sample), -1)
    center = reduced.mean(axis=0)
    projection = _reduction(reduced - center, KEY_WIDTH, rng)
    spread = np.sqrt(2.0 * np.square((reduced - center) @ projection).sum(axis=1).mean())
    if spread < 1e-6:  # one input, or copies of one: its own size serves as the unit
        spread = max(float(np.linalg.norm(center)), 1e-6)
    projection /= spread
    bias = -center @ projection
    return KeyNetwork(reduction.astype(np.float32), projection.astype(np.float32), bias.astype(np.float32))


def _reduction(
    centered: npt.NDArray[np.float64], columns: int, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """A matrix [width, columns] that keeps the distances between rows of `centered`, others on average."""
    width = centered.shape[1]
    principal = _principal_components(centered, min(int(PRINCIPAL * columns), width))
    rest = columns - principal.shape[1]
    random = rng.standard_normal((width, rest))
    random -= principal @ (principal.T @ random)
    # The few stand for the squared distance of all.
    return np.concatenate([principal, random / np.sqrt(rest)], axis=1)


def _principal_components(centered: npt.NDArray[np.float64], most: int) -> npt.NDArray[np.float64]:
    """Orthonormal columns [width, at most `most`] by falling variance, without those that have none."""
    variances, components = np.linalg.eigh(centered.T @ centered)
    keep = int(np.count_nonzero(variances[-most:] > 1e-12 * max(variances[-1], 1e-24)))
    principal: npt.NDArray[np.float64] = components[:, ::-1][:, :keep]
    return principal


def emit_segments(b: Builder, mask: ir.Value | None, hidden: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Nodes for the lengths int64 [B] and the segments' weights [B, SEGMENTS, L] of a request."""
    names = (f"{b.prefix}/lengths", f"{b.prefix}/weights")
    lengths, weights = b.ops("MemoSegments", _integer_mask(b, mask, hidden), domain=DOMAIN, names=names)
    return lengths, weights


def emit_key(
    b: Builder,
    weights: ir.Value,
    hidden: ir.Value,
    reduction: ir.Value,
    projection: ir.Value,
    bias: ir.Value,
) -> ir.Value:
    """Nodes for the keys [B, KEY_WIDTH] of hidden states [B, L, d]."""
    means = b.op("MatMul", b.op("MatMul", weights, hidden), reduction)
    # 0 copies the batch, so that an empty one stays legal.
    flat = b.op("Reshape", means, b.i64(0, _rows(projection)))
    return b.op("Add", b.op("MatMul", flat, projection), bias)


def _integer_mask(b: Builder, mask: ir.Value | None, hidden: ir.Value) -> ir.Value:
    """The mask as int64[B, L]; without one all tokens are real."""
    if mask is None:
        shape = b.op("Concat", b.dim(hidden, 0), b.dim(hidden, 1), axis=0)
        return b.op("ConstantOfShape", shape, value=ir.tensor([1], ir.DataType.INT64))
    if mask.dtype in (None, ir.DataType.INT64):
        return mask
    integers = b.op("Cast", mask, to=ir.DataType.INT64.value)
    if mask.dtype in (ir.DataType.BOOL, ir.DataType.INT32):
        return integers
    # A fraction is no mask: -1 makes the row irregular, so that it misses.
    same = b.op("Equal", mask, b.op("Cast", integers, to=mask.dtype.value))
    return b.op("Where", same, integers, b.i64(-1))


def _rows(matrix: ir.Value) -> int:
    assert matrix.shape is not None, "the tensors of the store have shapes"
    return int(matrix.shape.numpy()[0])
