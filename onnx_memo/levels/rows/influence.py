"""Which rows a change moves, stage by stage: what `MemoRows` and `MemoGrow` predict by.

How attention reaches the rows of a stage, from the entry alone, ranks them well but says little of how far
they move. The sample knows that. For an entry, its nearest other inputs are taken as pretended requests: C
[k, n] is how far each of their rows is from the entry's before the stage, Y [k, n] after it (relative, as in
`MemoRows`). The influence is the ridge regression of Y on C around the scaled reach R:

    s = <Y, C R> / |C R|^2,    J = max(0, s R + C^T (C C^T + r Id)^-1 (Y - s C R))

with r relative to the mean of the diagonal of C C^T, and where R is not 0: what no attention reaches is not
moved, whatever the sample says.

It needs no run. What it is worth: `docs/rows.md`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
import numpy.typing as npt

from onnx_memo.files import NewFile
from onnx_memo.levels.rows.capture import RowsCapture
from onnx_memo.threads import side_by_side

NEIGHBOURS = 60
RIDGE = 0.3
LEAST = float(np.finfo(np.float16).smallest_subnormal)

Floats = npt.NDArray[np.float32]


def write_influence(
    captured: RowsCapture,
    keys: Floats,
    allowed: npt.NDArray[np.bool_],
    epsilon: float,
    most: float,
    advance: Callable[[], None],
) -> None:
    """Write the influence of every entry at every stage, f16[Q], to the captured files (`influence.0` ...).

    Args:
        captured: the stored inputs.
        keys: [N, k]; the nearest by key are compared.
        allowed: which inputs may be pretended requests, bool[N].
        epsilon: relative change up to which a row has not changed, at the encoder's input.
        most: what a change counts at most.
        advance: called after each entry.
    """
    stages = range(len(captured.stages))
    reaches = [captured.reach(stage) for stage in stages]
    depths = [captured.states(stage) for stage in range(len(captured.stages) + 1)]

    def learned(entry: int) -> list[npt.NDArray[np.float16]]:
        n = int(captured.lengths[entry])
        pretended = _pretended(captured.lengths, keys, allowed, entry)
        changes = [_changes(captured, states, entry, pretended, most) for states in depths]
        changes[0][changes[0] <= epsilon] = 0
        own = [reach[captured.numbers(entry)].reshape(n, n).astype(np.float32) for reach in reaches]
        if len(pretended):
            own = [learned_influence(*given) for given in zip(own, changes[:-1], changes[1:], strict=True)]
        return [influence.astype(np.float16) for influence in own]

    with ExitStack() as files:
        written = [
            files.enter_context(NewFile(captured.path(f"influence.{stage}"), replace=True))
            for stage in stages
        ]
        for influences in side_by_side(learned, range(len(keys))):
            for file, influence in zip(written, influences, strict=True):
                file.array(influence)
            advance()


def learned_influence(reach: Floats, changes: Floats, moves: Floats) -> Floats:
    """The influence J[n, n] of an entry at a stage.

    Args:
        reach: of token j (row) on row t (column), [n, n].
        changes: of pretended requests before the stage, [k, n].
        moves: the same after it.
    """
    reached = changes @ reach
    scale = (moves * reached).sum() / max(np.square(reached).sum(), 1e-30)
    gram = changes @ changes.T
    strength = RIDGE * np.trace(gram) / len(gram) + 1e-12
    ridge = gram + strength * np.eye(len(gram), dtype=np.float32)
    learned = scale * reach + changes.T @ np.linalg.solve(ridge, moves - scale * reached)
    # What attention reaches must have some influence, however little, and what it does not reach none: then
    # a bound of nearly 0 runs every row that can differ, and of a causal model none before the first change.
    return np.where(reach > 0, np.maximum(learned, LEAST), 0).astype(np.float32)


def _pretended(
    lengths: npt.NDArray[np.int64], keys: Floats, allowed: npt.NDArray[np.bool_], entry: int
) -> npt.NDArray[np.int64]:
    """The nearest other inputs of the entry's length."""
    comparable = np.flatnonzero(allowed & (lengths == lengths[entry]))
    comparable = comparable[comparable != entry]
    distances = np.square(keys[comparable] - keys[entry]).sum(axis=1)
    nearest: npt.NDArray[np.int64] = comparable[np.argsort(distances, kind="stable")[:NEIGHBOURS]]
    return nearest


def _changes(
    captured: RowsCapture,
    states: npt.NDArray[np.floating],
    entry: int,
    others: npt.NDArray[np.int64],
    most: float,
) -> Floats:
    """How far each row of other inputs is from the entry's, relative to that one's norm: [k, n]."""
    own = states[captured.tokens(entry)].astype(np.float32)
    size = np.maximum(np.linalg.norm(own, axis=1), np.finfo(np.float32).tiny)
    if not len(others):
        return np.zeros((0, len(own)), np.float32)
    moved = np.stack([states[captured.tokens(int(other))] for other in others]) - own
    changes: Floats = np.sqrt(np.einsum("ktd,ktd->kt", moved, moved)) / size
    return np.minimum(changes, most)
