"""The learned first-order correction: how rows that did not run follow those that did.

A row t that is taken from the store is moved by the sum over the changed rows j of J[j, t] * s_j, where J is
the entry's attention rollout and s_j = (change of j) @ B. At the encoder's output that moves the rows that
never ran, before a stage those that join there; changes and rollout are then those at that depth. One matrix
B [d, d] a depth serves all entries and all bounds: ridge regression over pairs of stored inputs, of what
really changed. No run is needed for it. Too weak a ridge is worse than no correction, so it is chosen on
pairs that were held back, and B is zero where none helps (`docs/rows.md`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnx_memo.levels.rows.capture import RowsCapture
from onnx_memo.threads import side_by_side

NEIGHBOURS = 4  # entries that each stored input is compared with
PAIRS = 3000
ROWS_OF_A_PAIR = 48  # rows of a pair that are looked at, at most
BLOCK = 100  # pairs whose rows are multiplied at once
RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0)  # relative to the features' mean square
HELD_BACK = 4  # every fourth input is held back

Floats = npt.NDArray[np.float32]
Pairs = npt.NDArray[np.int64]


@dataclass
class _Moments:
    """Sums over rows: features x features, features x targets, and the targets' squares."""

    gram: npt.NDArray[np.float64]
    cross: npt.NDArray[np.float64]
    square: float = 0.0

    @staticmethod
    def zero(width: int) -> _Moments:
        return _Moments(np.zeros((width, width)), np.zeros((width, width)))

    def add(self, features: Floats, targets: Floats) -> None:
        self.gram += features.T @ features
        self.cross += features.T @ targets
        self.square += float(np.square(targets, dtype=np.float64).sum())

    def plus(self, other: _Moments) -> _Moments:
        return _Moments(self.gram + other.gram, self.cross + other.cross, self.square + other.square)

    def solve(self, ridge: float) -> npt.NDArray[np.float64]:
        """Ridge regression."""
        strength = ridge * np.trace(self.gram) / len(self.gram) + 1e-12
        return np.linalg.solve(self.gram + strength * np.eye(len(self.gram)), self.cross)

    def error(self, b: npt.NDArray[np.float64]) -> float:
        """The squared error that is left of `square`."""
        return self.square - 2 * float((b * self.cross).sum()) + float((b * (self.gram @ b)).sum())


def neighbour_pairs(keys: Floats, lengths: npt.NDArray[np.int64], seed: int = 0) -> Pairs:
    """Pairs (request, entry) [P, 2] of inputs and their nearest others of the same length."""
    pairs: list[tuple[int, int]] = []
    for length in np.unique(lengths):
        group = np.flatnonzero(lengths == length)
        for at in group:
            others = group[group != at]
            distance = np.square(keys[others] - keys[at]).sum(axis=1)
            nearest = others[np.argsort(distance, kind="stable")[:NEIGHBOURS]]
            pairs.extend((int(at), int(entry)) for entry in nearest)
    found = np.asarray(pairs, np.int64).reshape(-1, 2)
    return np.random.default_rng(seed).permutation(found)[:PAIRS]


def fit_corrections(
    captured: RowsCapture, pairs: Pairs, epsilon: float, limit: float, advance: Callable[[], None]
) -> list[Floats]:
    """The corrections before each stage but the first, and last at the encoder's output.

    `advance` is called after each pair at each depth; the other arguments are those of `fit_correction`.
    """
    depths = range(1, len(captured.stages) + 1)
    return [*side_by_side(lambda at: fit_correction(captured, at, pairs, epsilon, limit, advance), depths)]


def fit_correction(
    captured: RowsCapture,
    stage: int,
    pairs: Pairs,
    epsilon: float,
    limit: float,
    advance: Callable[[], None],
) -> Floats:
    """The correction B before a stage, f32[d, d].

    Args:
        captured: the stored inputs.
        stage: the number of stages: at the encoder's output.
        pairs: from `neighbour_pairs`.
        epsilon: relative change of a row above which it has changed.
        limit: pairs in which a larger share of the rows changed teach nothing.
        advance: called after each pair.
    """
    back = np.arange(len(captured.lengths)) % HELD_BACK == 0
    # A pair and its mirror image say the same: no input may be on both sides.
    seen = pairs[~back[pairs].any(axis=1)]
    unseen = pairs[back[pairs[:, 0]] & ~back[pairs[:, 1]]]
    rest = pairs[back[pairs[:, 1]]]
    known, held, others = (
        _moments(_Examples(captured, stage, epsilon, limit), some, advance) for some in (seen, unseen, rest)
    )
    best, chosen = held.square, None
    for ridge in RIDGES:
        error = held.error(known.solve(ridge))
        if error < best:
            best, chosen = error, ridge
    if chosen is None:
        return np.zeros((captured.width, captured.width), np.float32)
    return known.plus(held).plus(others).solve(chosen).astype(np.float32)


def _moments(examples: _Examples, pairs: Pairs, advance: Callable[[], None]) -> _Moments:
    moments = _Moments.zero(examples.width)
    features: list[Floats] = []
    targets: list[Floats] = []
    for number, (request, entry) in enumerate(pairs, 1):
        example = examples.of(int(request), int(entry))
        if example is not None:
            features.append(example[0])
            targets.append(example[1])
        if features and (number % BLOCK == 0 or number == len(pairs)):
            moments.add(np.concatenate(features), np.concatenate(targets))
            features, targets = [], []
        advance()
    return moments


class _Examples:
    """What pairs of a request and its entry say of rows that did not change, at one depth."""

    def __init__(self, captured: RowsCapture, stage: int, epsilon: float, limit: float) -> None:
        """As for `fit_correction`."""
        self.captured, self.epsilon, self.limit = captured, epsilon, limit
        self.width = captured.width
        self.inputs, self.states, self.past = captured.states(0), captured.states(stage), captured.past(stage)
        self.rng = np.random.default_rng(0)

    def of(self, request: int, entry: int) -> tuple[Floats, Floats] | None:
        """Features and targets [m, d] of some of these rows; None where the pair teaches nothing."""
        n = int(self.captured.lengths[entry])
        own, other = self.captured.tokens(request), self.captured.tokens(entry)
        before = self.inputs[other].astype(np.float32)
        moved = np.linalg.norm(self.inputs[own] - before, axis=1)
        changed = moved > self.epsilon * np.linalg.norm(before, axis=1)
        same = np.flatnonzero(~changed)
        if not changed.any() or not len(same) or changed.sum() > self.limit * n:
            return None
        if len(same) > ROWS_OF_A_PAIR:
            same = np.sort(self.rng.choice(same, ROWS_OF_A_PAIR, replace=False))
        difference = self.states[own].astype(np.float32) - self.states[other]
        past = self.past[self.captured.numbers(entry)].reshape(n, n)
        reach = past[changed][:, same].astype(np.float32)
        return reach.T @ difference[changed], difference[same]
