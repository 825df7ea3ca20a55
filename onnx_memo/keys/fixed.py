"""A key network that rests on the inputs alone, not on what becomes of them.

Each segment's mean is reduced to 32 numbers, and these 256 to the 64 of the key. Both reductions are fitted
to the captured inputs: their principal components, and beside them random directions for everything in which
those inputs do not differ, so that an input unlike all of them is not mistaken for one (Johnson and
Lindenstrauss, 1984: random projections keep distances on average).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from onnx_memo.keys.network import KEY_WIDTH, SAMPLE, FloatArray, KeyNetwork
from onnx_memo.operators.spec import SEGMENTS

FIXED_WIDTH = 32  # of each segment's mean
PRINCIPAL = 0.75  # of a reduction's columns; the rest are random directions


def fit_keys(means: FloatArray, seed: int = 0) -> KeyNetwork:
    """Fit the network to the captured segment means [n, SEGMENTS * d], n at least 1."""
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(means))[:SAMPLE])
    sample = means[chosen].astype(np.float64)
    segments = sample.reshape(len(sample), SEGMENTS, -1)
    reduction = _reduction(
        (segments - segments.mean(axis=0)).reshape(-1, segments.shape[2]), FIXED_WIDTH, rng
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
