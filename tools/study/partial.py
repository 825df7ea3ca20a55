"""Requests beside the entries that serve them, and their partial runs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from tools.study.encoder import Encoder, Entry, attention

EPSILON, MOST = 0.01, 8.0  # a row is changed above the one, and counts at most as the other


@dataclass(frozen=True, eq=False)
class Pair:
    """A request, known by its whole run, and the entry that serves it."""

    entry: Entry
    request: Entry

    @functools.cached_property
    def change(self) -> Tensor:
        """The relative change of each row at the encoder's input; 0 where it is not changed."""
        change = relative(self.request.at(0), self.entry.at(0))
        return torch.where(change > EPSILON, change, 0.0)

    @functools.cached_property
    def changed(self) -> Tensor:
        """Which rows are changed."""
        return self.change > 0

    def moves(self, depth: int) -> Tensor:
        """How far each row's state is from the entry's before a layer: [n, d]."""
        return self.request.at(depth) - self.entry.at(depth)


def relative(states: Tensor, stored: Tensor) -> Tensor:
    """The L2 distance of each row relative to what is stored: [n], at most `MOST`."""
    distance = torch.linalg.vector_norm(states - stored, dim=1)
    return torch.clamp(distance / torch.linalg.vector_norm(stored, dim=1), max=MOST)


def nearest(states: Sequence[Tensor], stored: Sequence[Tensor], count: int) -> list[list[int]]:
    """For each input the stored ones of its length, nearest first; never those of distance 0.

    Distance: the relative squared change of a row, summed over rows. Rows are normalized, of one length.
    """
    flat = [functional.normalize(x, dim=1).flatten() for x in stored]
    found = []
    for x in states:
        own = functional.normalize(x, dim=1).flatten()
        same = [n for n, other in enumerate(flat) if len(other) == len(own)]
        far = {n: float((own - flat[n]).square().sum()) for n in same}
        found.append(sorted((n for n in same if far[n] > 1e-3), key=far.__getitem__)[:count])
    return found


# Called before each layer with its number, the states there (the entry's, of rows that have not run) and the
# mask of the rows that have run (at first, of the changed ones). Returns the mask of the rows that run from
# here on, and the states that they start from.
Plan = Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class Run:
    """What a partial run gave: the rows that ran in the last layer, their final states, row-layers run."""

    pair: Pair
    rows: Tensor
    final: Tensor
    cost: float

    @property
    def moves(self) -> Tensor:
        """How far the final states are from the entry's."""
        return self.final - self.pair.entry.final[self.rows]


def run(encoder: Encoder, pair: Pair, plan: Plan) -> Run:
    """Run a request's rows by a plan; a row that ran once runs in all later layers."""
    entry, mask, x, cost = pair.entry, pair.changed, pair.request.at(0), 0
    for layer in range(encoder.layers):
        more, x = plan(layer, x, mask)
        mask = mask | more
        rows = mask.nonzero()[:, 0]
        cost += len(rows)
        query, new_key, new_value = encoder.project(layer, x[rows])
        key, value = entry.keys[layer].float(), entry.values[layer].float()
        key[:, rows], value[:, rows] = new_key, new_value
        ran = encoder.finish(layer, x[rows], attention(query, key), value)
        x = entry.at(layer + 1).index_copy(0, rows, ran)
    return Run(pair, rows, ran, cost / (encoder.layers * len(x)))
