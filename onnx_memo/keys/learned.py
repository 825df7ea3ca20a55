"""Fit the key network so that the distance of two keys predicts the error of reuse.

Reusing the payload of input j for input i makes an error that grows with the distance of their
payloads, |Y_i - Y_j|. So the keys are made to be coordinates of the payloads: reduced-rank ridge
regression (Izenman, 1975) of the payloads on the segment means. Only inputs of one length are ever
compared, so both sides are centered length by length. Payloads are too large to keep for this; a count
sketch (Charikar, Chen and Farach-Colton, 2002) of each keeps their distances.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from onnx_memo.keys.fixed import fit_keys
from onnx_memo.keys.network import KEY_WIDTH, SAMPLE, KeyNetwork
from onnx_memo.operators.spec import SEGMENTS

# With 64, the factored network picked worse entries than the unfactored one; with 96 about as good ones.
LEARNED_WIDTH = 96
SKETCH_WIDTH = 1024  # squared distances are kept to about sqrt(2 / SKETCH_WIDTH) = 4 %
RIDGE = (1e-3, 1e-2, 1e-1)  # tried, relative to the mean variance of the means
NOVEL = 8  # columns of either reduction that watch what the sample never showed
LEAST_COMPARABLE = 16  # comparable inputs below which nothing is learned
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
    if _comparable(lengths).sum() < LEAST_COMPARABLE:
        return fixed
    # Both sides enter by their inner products, which the folds share.
    x_products, y_products = ((part := rows - rows.mean(axis=0)) @ part.T for rows in (x, y))
    number = rng.permutation(len(x)) % FOLDS
    errors = np.zeros((1 + len(RIDGE), FOLDS))
    for fold in range(FOLDS):
        held = number == fold
        rest = np.ix_(~held, ~held)
        learned = _regress(x[~held], x_products[rest], y_products[rest], lengths[~held], RIDGE, rng)
        errors[:, fold] = [
            picked_error(network(means[chosen]), y, lengths, held) for network in (fixed, *learned)
        ]
    best = int(errors.mean(axis=1).argmin())
    if not best:
        return fixed
    return _regress(x, x_products, y_products, lengths, RIDGE[best - 1 : best], rng)[0]


def picked_error(
    keys: npt.NDArray[np.float32],
    sketches: Matrix,
    lengths: npt.NDArray[np.int64],
    requests: npt.NDArray[np.bool_],
) -> float:
    """Mean error of reusing, for each of `requests`, the nearest other input of its length by key.

    Infinite where no request has anything to be compared with.
    """
    errors: list[float] = []
    for length in np.unique(lengths[requests]):
        asking, others = (np.flatnonzero((lengths == length) & part) for part in (requests, ~requests))
        if len(others):
            nearest = others[squared_distances(keys[asking], keys[others]).argmin(axis=1)]
            errors += np.sqrt(np.square(sketches[nearest] - sketches[asking]).sum(axis=1)).tolist()
    return float(np.mean(errors)) if errors else np.inf


def squared_distances(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Between all rows of two sets of keys: [len(a), len(b)]; exactly 0 for equal ones."""
    return np.stack([np.square(b - row).sum(axis=1) for row in a])


def _comparable(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which inputs share their length with another."""
    _, inverse, counts = np.unique(lengths, return_inverse=True, return_counts=True)
    shared: npt.NDArray[np.bool_] = counts[inverse] > 1
    return shared


def _center(rows: Matrix, lengths: npt.NDArray[np.int64]) -> Matrix:
    """`rows` less the mean of the rows of their length."""
    _, inverse, counts = np.unique(lengths, return_inverse=True, return_counts=True)
    member = (inverse == np.arange(len(counts))[:, None]).astype(np.float64)
    centered: Matrix = rows - (member @ rows / counts[:, None])[inverse]
    return centered


def _regress(
    x: Matrix,
    x_products: Matrix,
    y_products: Matrix,
    lengths: npt.NDArray[np.int64],
    ridges: Sequence[float],
    rng: np.random.Generator,
) -> list[KeyNetwork]:
    """Ridge regression of the payloads' principal coordinates, factored into the two steps of the network.

    Args:
        x: segment means [n, SEGMENTS * d].
        x_products: their inner products [n, n], from any origin.
        y_products: those of the payloads.
        lengths: [n].
        ridges: one network is fitted for each.
        rng: for the columns that watch for novelty.
    """
    shared = _comparable(lengths)
    shared |= not shared.any()
    lengths, both = lengths[shared], np.ix_(shared, shared)
    x_centered = _center(x[shared], lengths)
    # Centered products are the products of centered rows.
    gram, target = (_center(_center(part[both], lengths).T, lengths) for part in (x_products, y_products))
    strength, left = np.linalg.eigh(target)
    rank = min(KEY_WIDTH - NOVEL, len(strength))
    coordinates = left[:, -rank:] * np.sqrt(np.maximum(strength[-rank:], 0))
    scale = np.sqrt(np.trace(target) / max(np.trace(gram), 1e-30))
    segments = x_centered.reshape(-1, x.shape[1] // SEGMENTS)
    variance, axes = np.linalg.eigh(segments.T @ segments / len(segments))
    networks = []
    for ridge in ridges:
        damped = gram + (ridge * np.trace(gram) / len(gram) + 1e-12) * np.eye(len(gram))
        weights = x_centered.T @ np.linalg.solve(damped, coordinates)  # [SEGMENTS * d, rank]
        reduction, projection = _factor(weights, variance, axes)
        reduction, projection = _watch_novelty(reduction, projection, variance, axes, scale, rng)
        reduced = (x.reshape(len(x), SEGMENTS, -1) @ reduction).reshape(len(x), -1)
        bias = -(reduced.mean(axis=0) @ projection)  # small numbers, so that nothing cancels
        parts = (part.astype(np.float32) for part in (reduction, projection, bias))
        networks.append(KeyNetwork(*parts))
    return networks


def _factor(weights: Matrix, variance: Matrix, axes: Matrix) -> tuple[Matrix, Matrix]:
    """The best reduction [d, r] shared by all segments, and the projection [SEGMENTS * r, rank] on top.

    Best for segment means of the covariance seen (its eigenvalues and eigenvectors): the leading directions
    of the weights, whitened by it.
    """
    width = len(axes)
    root = np.sqrt(np.maximum(variance, 1e-9 * max(variance[-1], 1e-30)))
    by_width = weights.reshape(SEGMENTS, width, -1).transpose(1, 0, 2).reshape(width, -1)
    whitened = root[:, None] * (axes.T @ by_width)
    columns = min(LEARNED_WIDTH - NOVEL, *whitened.shape)
    leading = np.linalg.eigh(whitened @ whitened.T)[1][:, ::-1][:, :columns]
    reduction = axes @ (leading / root[:, None])
    inner = leading.T @ whitened  # [columns, SEGMENTS * rank]
    projection = inner.reshape(columns, SEGMENTS, -1).transpose(1, 0, 2)
    return reduction, projection.reshape(SEGMENTS * columns, -1)


def _watch_novelty(
    reduction: Matrix,
    projection: Matrix,
    variance: Matrix,
    axes: Matrix,
    scale: float,
    rng: np.random.Generator,
) -> tuple[Matrix, Matrix]:
    """Add random directions in which the sample does not vary, so that what it never showed looks far.

    `scale` is the error per distance of the means over the sample: what is unknown counts as usual.
    """
    width = len(axes)
    seen = axes[:, variance > 1e-6 * max(variance[-1], 1e-30)]
    novel = rng.standard_normal((width, LEARNED_WIDTH - reduction.shape[1]))
    novel -= seen @ (seen.T @ novel)
    novel /= np.sqrt(max(novel.shape[1], 1))
    known, added, rank = reduction.shape[1], novel.shape[1], projection.shape[1]
    spare = KEY_WIDTH - rank
    watch = rng.standard_normal((SEGMENTS * added, spare)) * (scale / np.sqrt(max(spare, 1)))
    full = np.zeros((SEGMENTS, known + added, KEY_WIDTH))
    full[:, :known, :rank] = projection.reshape(SEGMENTS, known, rank)
    full[:, known:, rank:] = watch.reshape(SEGMENTS, added, spare)
    return np.concatenate([reduction, novel], axis=1), full.reshape(-1, KEY_WIDTH)
