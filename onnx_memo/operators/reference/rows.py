"""MemoRows: which rows of a request have to run when all others come from the store."""

from __future__ import annotations

import numpy as np

from onnx_memo.operators.reference.common import (
    Bools,
    Floats,
    Integers,
    Payload,
    at_most,
    check_fit,
    check_sequence,
    moved_by,
    owned,
    relative_change,
    single,
    square,
)
from onnx_memo.operators.spec import NO_ENTRY


def memo_rows(
    states: Floats,
    entry: Integers,
    length: Integers,
    stored: Payload,
    influence: Payload,
    offsets: Integers,
    squares: Integers,
    epsilon: Floats,
    bound: Floats,
    limit: Floats,
) -> tuple[Integers, Integers, Bools, Floats, Floats]:
    """Which rows run, and what is known of all rows.

    Returns the rows that run, the store's row of each, whether running only them is allowed and worth it,
    how much each token changed, and what change at the output is predicted of it: [B, L] both.

    Shapes: states [B, L, d], entry and length [B], stored [T, d], influence [Q], offsets and squares [N],
    epsilon, bound and limit [] or [1]. Raises ValueError if they do not fit, or an entry is not in the store.
    """
    check_fit(states.ndim == 3 and stored.ndim == 2 and states.shape[2] == stored.shape[1], states, stored)
    check_fit(influence.ndim == 1 and squares.shape == offsets.shape, influence, offsets, squares)
    check_fit(entry.shape == length.shape == states.shape[:1], states, entry, length)
    batch, padded, _ = states.shape
    smallest, most = single("epsilon", epsilon), single("bound", bound)
    most_rows = single("limit", limit) * batch * padded
    changes, predicted = np.zeros((2, batch, padded), np.float32)
    rows, stored_rows = [], []
    for b, (e, n) in enumerate(zip(entry, length, strict=True)):
        check_sequence(b, e, n, padded, len(offsets))
        running, origin = np.arange(n), 0 * np.arange(n)
        if e != NO_ENTRY and n >= 0:
            change = relative_change(states[b, :n], owned(stored, e, offsets, n))
            changed = ~(change <= smallest)  # NaN: changed
            changes[b, :n] = np.where(changed, at_most(change), 0)
            predicted[b, :n] = moved_by(changes[b, :n], square(influence, e, squares, n))
            running = np.flatnonzero(changed | ~(predicted[b, :n] <= np.float32(most)))
            origin = offsets[e] + running
        rows.append(b * padded + running)
        stored_rows.append(origin)
    if not _allowed(entry, length, most) or not sum(map(len, rows)) <= most_rows:
        none, nothing = np.zeros(0, np.int64), np.zeros_like(changes)
        return none, none, np.asarray(False), nothing, nothing
    return np.concatenate(rows), np.concatenate(stored_rows), np.asarray(True), changes, predicted


def _allowed(entry: Integers, length: Integers, bound: float) -> bool:
    """Whether a batch may run single rows at all: only if it is more than one sequence without an entry.

    What the original makes of a sequence that is all padding, only the original knows.
    """
    some = len(entry) > 1 or entry.tolist() not in ([], [NO_ENTRY])
    return some and bound >= 0 and bool((length > 0).all())
