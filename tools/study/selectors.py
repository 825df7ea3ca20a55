"""Which rows run: sets fixed at the encoder's input, and sets that grow with depth.

A selector makes the plan of a partial run from a pair and a bound; an infinite bound: only the changed rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from tools.study.corrections import Correction
from tools.study.encoder import Entry
from tools.study.partial import EPSILON, Pair, Plan, relative

KEEP = 0.7  # share of the identity in what a layer passes on
STAGES = 4  # at most, where rows may join
RIDGE = 0.3  # relative to the mean square of the neighbours' changes

Selector = Callable[[Pair, float], Plan]
Neighbours = Mapping[Entry, Sequence[Entry]]


# ---- Fixed sets


def leave_out(pair: Pair, score: Tensor, bound: float) -> Tensor:
    """All rows but those of least score whose sum is at most `bound` times the number of rows."""
    order = torch.argsort(torch.where(pair.changed, torch.inf, score), stable=True)
    left = torch.cumsum(score[order], 0) <= bound * len(score)
    mask = torch.ones_like(pair.changed)
    mask[order[left]] = False
    return torch.logical_or(mask, pair.changed)


def fixed(score: Callable[[Pair], Tensor]) -> Selector:
    """The same rows in all layers: those that `leave_out` keeps by the score."""

    def select(pair: Pair, bound: float) -> Plan:
        mask = leave_out(pair, score(pair), bound)
        return lambda layer, x, ran: (mask, x)

    return select


def by_influence(influence: Callable[[Entry], Tensor]) -> Callable[[Pair], Tensor]:
    """The score: how much the changed rows influence each row."""
    return lambda pair: influence(pair.entry) @ pair.change


def true_change(pair: Pair) -> Tensor:
    """The score that no selector can know: how much each final state truly changes."""
    change: Tensor = (pair.request.final - pair.entry.final).norm(dim=1)
    return change


# ---- Sets that grow

Passes = Mapping[int, Tensor]  # layer -> [n, n], what the stage before it passes on from row j to t


def growing(
    passes: Callable[[Entry], Passes], starts: Mapping[int, Correction] | None = None, limited: bool = False
) -> Selector:
    """Rows join before those layers that `passes` has, where their predicted change is above the bound.

    The prediction is carried from stage to stage; what ran is measured instead.

    Args:
        passes: of an entry.
        starts: correct the states that joining rows start from, by layer; None: they start from the entry's.
        limited: a correction is scaled down to the change that is predicted there.
    """

    def select(pair: Pair, bound: float) -> Plan:
        entry, change, moving = pair.entry, pair.change, passes(pair.entry)

        def plan(layer: int, x: Tensor, ran: Tensor) -> tuple[Tensor, Tensor]:
            nonlocal change
            if layer not in moving:
                return ran, x
            stored = entry.at(layer)
            if layer:
                change = torch.where(ran, relative(x, stored), change)
            here, change = change, moving[layer] @ change
            mask = ran | (change > bound)
            if layer and starts:
                rows = ran.nonzero()[:, 0]
                step = starts[layer].step(pair, rows, (x - stored)[rows])
                if limited:
                    most = here * stored.norm(dim=1)
                    step *= (most / step.norm(dim=1).clamp(min=1e-9)).clamp(max=1)[:, None]
                x = torch.where((mask & ~ran)[:, None], stored + step, x)
            return mask, x

        return plan

    return select


def stages(layers: int) -> list[int]:
    """The layers before which rows may join: every so many, at most `STAGES`."""
    return list(range(0, layers, -(-layers // STAGES)))


def spans(begins: Sequence[int], layers: int) -> list[tuple[int, int]]:
    """Begin and end of each stage."""
    return list(zip(begins, [*begins[1:], layers], strict=True))


def rollouts(entry: Entry, begins: Sequence[int]) -> dict[int, Tensor]:
    """What each stage passes on by the entry's own attention alone."""
    return {begin: entry.rollout(begin, end, KEEP) for begin, end in spans(begins, len(entry.states))}


# ---- Learning from stored inputs, without any run


def learn(changes: Tensor, wanted: Tensor, prior: Tensor, ridge: float) -> Tensor:
    """Non-negative [n, n] that moves the rows of `changes` [k, n] to those of `wanted`, near the prior.

    A step of ridge regression from the prior, which is scaled by least squares.
    """
    told = changes @ prior.T
    scale = (wanted * told).sum() / told.square().sum().clamp(min=1e-30)
    gram = changes @ changes.T + ridge * torch.eye(len(changes))
    step = torch.linalg.solve(gram, wanted - scale * told).T @ changes
    return torch.clamp(scale * prior + step, min=0)


def changes_at(entry: Entry, others: Sequence[Entry], depth: int) -> Tensor:
    """The relative changes [k, n] of an entry's neighbours; at the input, 0 where a row is not changed."""
    stored = entry.at(depth)
    changes = torch.stack([relative(other.at(depth), stored) for other in others])
    return changes if depth else torch.where(changes > EPSILON, changes, 0.0)


def learned_influence(entry: Entry, others: Sequence[Entry]) -> Tensor:
    """From the changes at the encoder's input to those of the final states, around the rollout."""
    changes, moves = (changes_at(entry, others, depth) for depth in (0, len(entry.states)))
    return learn(changes, moves, entry.influence, 1.0)


def learned_passes(entry: Entry, others: Sequence[Entry], begins: Sequence[int]) -> dict[int, Tensor]:
    """From the changes at each stage to those at the next one, around what attention passes on."""
    passes, changes = {}, changes_at(entry, others, 0)
    for begin, end in spans(begins, len(entry.states)):
        following = changes_at(entry, others, end)
        ridge = RIDGE * float(changes.square().sum(1).mean())
        passes[begin] = learn(changes, following, entry.rollout(begin, end, KEEP), ridge)
        changes = following
    return passes
