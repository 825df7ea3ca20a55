"""Fit the key network so that the distance of two keys predicts the error of reuse.

Reusing the payload of input j for input i makes an error that grows with the distance of their
payloads, |Y_i - Y_j|. So the keys are made to be coordinates of the payloads: reduced-rank ridge
regression (Izenman, 1975) of the payloads on the segment means. Only inputs of one length are ever
compared, so both sides are centered length by length. Payloads are too large to keep for this; a count
sketch (Charikar, Chen and Farach-Colton, 2002) of each keeps their distances.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from onnx_memo.graph.operators import SEGMENTS
from onnx_memo.keys import KEY_WIDTH, SAMPLE, KeyNetwork, fit_keys

# With 64, the factored network picked worse entries than the unfactored one; with 96 about as good ones.
REDUCED_WIDTH = 96
SKETCH_WIDTH = 1024  # squared distances are kept to about sqrt(2 / SKETCH_WIDTH) = 4 %
RIDGE = (1e-3, 1e-2, 1e-1)  # tried, relative to the mean variance of the means
NOVEL = 8  # columns of either reduction that watch what the sample never showed
ENOUGH = 16  # comparable inputs below which nothing is learned
FOLDS = 4  # of the inputs, to choose between the candidates

Matrix = npt.NDArray[np.float64]


@functools.lru_cache(maxsize=8)
def _hashes(size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    rng = np.random.default_rng(size)
    return rng.integers(0, SKETCH_WIDTH, size), rng.integers(0, 2, size) * 2 - 1


def sketch(payload: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A linear sketch f32[SKETCH_WIDTH] of a payload of any shape; equal shapes are comparable."""
    flat = payload.ravel()
    bucket, sign = _hashes(flat.size)
    return np.bincount(bucket, weights=sign * flat, minlength=SKETCH_WIDTH).astype(np.float32)


def fit_learned(
    means: npt.NDArray[np.float32],
    sketches: npt.NDArray[np.float32],
    lengths: npt.NDArray[np.int64],
    seed: int = 0,
) -> KeyNetwork:
    """The key network for these inputs: learned, or the fixed one where that picks better entries.

    Args:
        means: segment means [n, SEGMENTS * d].
        sketches: of the payloads [n, m], scaled so that distances are relative errors.
        lengths: [n]; only inputs of equal length are compared.
        seed: of the choice which inputs are held back.
    """
    rng = np.random.default_rng(seed)
    fixed = fit_keys(means, seed)
    chosen = np.sort(rng.permutation(len(means))[:SAMPLE])
    x, y, lengths = means[chosen].astype(np.float64), sketches[chosen].astype(np.float64), lengths[chosen]
    if _comparable(lengths).sum() < ENOUGH:
        return fixed
    number = rng.permutation(len(x)) % FOLDS
    folds = [number == fold for fold in range(FOLDS)]
    least = np.mean([picked_error(fixed(means[chosen]), y, lengths, held) for held in folds])
    strength = None
    for ridge in RIDGE:
        errors = []
        for held in folds:
            candidate = _regress(x[~held], y[~held], lengths[~held], ridge, rng)
            errors.append(picked_error(candidate(means[chosen]), y, lengths, held))
        if np.mean(errors) < least:
            least, strength = np.mean(errors), ridge
    return fixed if strength is None else _regress(x, y, lengths, strength, rng)


def picked_error(
    keys: npt.NDArray[np.float32],
    sketches: Matrix,
    lengths: npt.NDArray[np.int64],
    requests: npt.NDArray[np.bool_],
) -> float:
    """Mean error of reusing, for each of `requests`, the nearest other input of its length by key.

    Infinite where no request has anything to be compared with.
    """
    errors = []
    for at in np.flatnonzero(requests):
        others = np.flatnonzero((lengths == lengths[at]) & ~requests)
        if len(others):
            nearest = others[np.square(keys[others] - keys[at]).sum(axis=1).argmin()]
            errors.append(np.sqrt(np.square(sketches[nearest] - sketches[at]).sum()))
    return float(np.mean(errors)) if errors else np.inf


def _comparable(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which inputs share their length with another."""
    _, inverse, counts = np.unique(lengths, return_inverse=True, return_counts=True)
    shared: npt.NDArray[np.bool_] = counts[inverse] > 1
    return shared


def _center(rows: Matrix, lengths: npt.NDArray[np.int64]) -> Matrix:
    """`rows` less the mean of the rows of their length."""
    _, inverse, counts = np.unique(lengths, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), rows.shape[1]))
    np.add.at(sums, inverse, rows)
    centered: Matrix = rows - (sums / counts[:, None])[inverse]
    return centered


def _regress(
    x: Matrix, y: Matrix, lengths: npt.NDArray[np.int64], ridge: float, rng: np.random.Generator
) -> KeyNetwork:
    """Ridge regression of the payloads' principal coordinates, factored into the two steps of the network."""
    shared = _comparable(lengths)
    x_centered = _center(x[shared], lengths[shared])
    y_centered = _center(y[shared], lengths[shared])
    left, strength, _ = np.linalg.svd(y_centered, full_matrices=False)
    rank = min(KEY_WIDTH - NOVEL, len(strength))
    coordinates = left[:, :rank] * strength[:rank]
    gram = x_centered @ x_centered.T
    gram[np.diag_indices_from(gram)] += ridge * np.trace(gram) / len(gram) + 1e-12
    weights = x_centered.T @ np.linalg.solve(gram, coordinates)  # [SEGMENTS * d, rank]
    reduction, projection = _factor(weights, x_centered)
    scale = np.sqrt(np.square(y_centered).sum() / max(np.square(x_centered).sum(), 1e-30))
    reduction, projection = _watch_novelty(reduction, projection, x_centered, scale, rng)
    reduced = (x.reshape(len(x), SEGMENTS, -1) @ reduction).reshape(len(x), -1)
    bias = -(reduced.mean(axis=0) @ projection)  # small numbers, so that nothing cancels
    return KeyNetwork(reduction.astype(np.float32), projection.astype(np.float32), bias.astype(np.float32))


def _factor(weights: Matrix, x: Matrix) -> tuple[Matrix, Matrix]:
    """The best reduction [d, r] shared by all segments, and the projection [SEGMENTS * r, rank] on top.

    Best for segment means of the covariance seen: the leading directions of the weights, whitened by it.
    """
    width = x.shape[1] // SEGMENTS
    segments = x.reshape(-1, width)
    variance, axes = np.linalg.eigh(segments.T @ segments / len(segments))
    root = np.sqrt(np.maximum(variance, 1e-9 * max(variance[-1], 1e-30)))
    by_width = weights.reshape(SEGMENTS, width, -1).transpose(1, 0, 2).reshape(width, -1)
    whitened = root[:, None] * (axes.T @ by_width)
    leading, _, _ = np.linalg.svd(whitened, full_matrices=False)
    columns = min(REDUCED_WIDTH - NOVEL, leading.shape[1])
    reduction = axes @ (leading[:, :columns] / root[:, None])
    inner = leading[:, :columns].T @ whitened  # [columns, SEGMENTS * rank]
    projection = inner.reshape(columns, SEGMENTS, -1).transpose(1, 0, 2)
    return reduction, projection.reshape(SEGMENTS * columns, -1)


def _watch_novelty(
    reduction: Matrix, projection: Matrix, x: Matrix, scale: float, rng: np.random.Generator
) -> tuple[Matrix, Matrix]:
    """Add random directions in which the sample does not vary, so that what it never showed looks far.

    `scale` is the error per distance of the means over the sample: what is unknown counts as usual.
    """
    width = x.shape[1] // SEGMENTS
    segments = x.reshape(-1, width)
    variance, axes = np.linalg.eigh(segments.T @ segments / len(segments))
    seen = axes[:, variance > 1e-6 * max(variance[-1], 1e-30)]
    novel = rng.standard_normal((width, REDUCED_WIDTH - reduction.shape[1]))
    novel -= seen @ (seen.T @ novel)
    novel /= np.sqrt(max(novel.shape[1], 1))
    known, added, rank = reduction.shape[1], novel.shape[1], projection.shape[1]
    spare = KEY_WIDTH - rank
    watch = rng.standard_normal((SEGMENTS * added, spare)) * (scale / np.sqrt(max(spare, 1)))
    full = np.zeros((SEGMENTS, known + added, KEY_WIDTH))
    full[:, :known, :rank] = projection.reshape(SEGMENTS, known, rank)
    full[:, known:, rank:] = watch.reshape(SEGMENTS, added, spare)
    return np.concatenate([reduction, novel], axis=1), full.reshape(-1, KEY_WIDTH)
