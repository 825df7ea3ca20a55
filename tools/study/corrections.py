"""What is added to stored states of rows that did not run: features, a matrix, and how it is fitted."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tools.study.partial import Pair, Run

RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # relative to the mean square of a feature
HELD = 4  # one in so many stored inputs judges the ridge

# Of a pair, of rows that ran (by number) and of their moves [R, d], what they pass on to all rows: [n, d].
Features = Callable[[Pair, Tensor, Tensor], Tensor]
Pairs = Sequence[tuple[int, int, Pair]]  # request, entry, both by number, and what they make


def from_all(pair: Pair, rows: Tensor, moves: Tensor) -> Tensor:
    """What all rows that ran pass on by the rollout."""
    return pair.entry.influence[:, rows] @ moves


def from_changed(pair: Pair, rows: Tensor, moves: Tensor) -> Tensor:
    """What the changed rows pass on by the rollout."""
    which = pair.changed[rows]
    return pair.entry.influence[:, rows[which]] @ moves[which]


def from_changed_until(depth: int) -> Features:
    """What the changed rows pass on by the rollout of the layers before `depth` alone."""
    past = functools.cache(lambda entry: entry.rollout(0, depth, 0.5))

    def features(pair: Pair, rows: Tensor, moves: Tensor) -> Tensor:
        which = pair.changed[rows]
        passed_on: Tensor = past(pair.entry)[:, rows[which]] @ moves[which]
        return passed_on

    return features


@dataclass(frozen=True, eq=False)
class Correction:
    """Features, and the matrix [d, d] that makes of them what is added."""

    features: Features
    matrix: Tensor

    def step(self, pair: Pair, rows: Tensor, moves: Tensor) -> Tensor:
        """What is added to each row's state: [n, d]."""
        return self.features(pair, rows, moves) @ self.matrix


def error(made: Run, correction: Correction | None = None) -> float:
    """1 - cosine of the mean-pooled output."""
    out, true = made.pair.entry.final, made.pair.request.final.mean(0)
    if correction:
        out = out + correction.step(made.pair, made.rows, made.moves)
    out = out.index_copy(0, made.rows, made.final).mean(0)
    return float(1 - out @ true / (out.norm() * true.norm()))


def changed(pair: Pair) -> Tensor:
    """The mask of the changed rows."""
    return pair.changed


class Products:
    """The sums that a regression of y on x needs."""

    def __init__(self, width: int) -> None:
        self.gram, self.cross = torch.zeros(width, width), torch.zeros(width, width)

    def __add__(self, other: Products) -> Products:
        both = Products(0)
        both.gram, both.cross = self.gram + other.gram, self.cross + other.cross
        return both

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add rows."""
        self.gram += x.T @ x
        self.cross += x.T @ y

    def solve(self, ridge: float) -> Tensor:
        """The matrix of least squares with a ridge."""
        gram = self.gram.double()
        gram = gram + ridge * gram.diagonal().mean() * torch.eye(len(gram))
        matrix: Tensor = torch.linalg.solve(gram, self.cross.double()).float()
        return matrix

    def rest(self, matrix: Tensor) -> float:
        """What a matrix leaves of y, squared, up to a constant."""
        return float((matrix * (self.gram @ matrix - 2 * self.cross)).double().sum())


class Fit:
    """Ridge regression of stored inputs' moves on what the rows of their neighbours pass on.

    Each stored input is the request of its nearest neighbours. No run is needed: their states are known.

    Args:
        pairs: of stored inputs.
        depth: before which layer; the number of layers: of the final states.
        features: what is passed on.
        select: the rows that count as run.
    """

    def __init__(
        self,
        pairs: Pairs,
        depth: int,
        features: Features = from_changed,
        select: Callable[[Pair], Tensor] = changed,
    ) -> None:
        self.pairs, self.features = len(pairs), features
        self.final = depth == len(pairs[0][2].entry.states)
        self.used, self.held, self.judge = (Products(pairs[0][2].entry.final.shape[1]) for _ in range(3))
        self.judges: dict[int, Run] = {}
        for request, entry, pair in pairs:
            mask, moves = select(pair), pair.moves(depth)
            rows = mask.nonzero()[:, 0]
            x, y = features(pair, rows, moves[rows])[~mask], moves[~mask]
            held = [number % HELD == 0 for number in (request, entry)]
            # both ends, since a pair has a mirror image
            (self.held if any(held) else self.used).add(x, y)
            if held == [True, False]:
                self.judge.add(x, y)
                self.judges.setdefault(request, Run(pair, rows, pair.request.final[rows], 0.0))

    def ridge(self) -> float:
        """The best on stored inputs held back: by the output's error, or before a layer by the moves."""
        errors = {}
        for ridge in RIDGES:
            tried = Correction(self.features, self.used.solve(ridge))
            if self.final:
                errors[ridge] = float(np.mean([error(made, tried) for made in self.judges.values()]))
            else:
                errors[ridge] = self.judge.rest(tried.matrix)
        return min(errors, key=errors.__getitem__)

    def correction(self, ridge: float | None = None) -> Correction:
        """What all pairs teach; by default with the best ridge."""
        matrix = (self.used + self.held).solve(self.ridge() if ridge is None else ridge)
        return Correction(self.features, matrix)
