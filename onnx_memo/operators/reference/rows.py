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
) -> tuple[Integers, Integers, Bools, Bools, Floats, Floats]:
    """Which rows run, and what is known of all rows.

    Returns the rows that run, the store's row of each, of which sequences running only them is allowed and
    worth it, whether that is all of them, how much each token changed, and what change at the output is
    predicted of it: [B, L] both.

    Shapes: states [B, L, d], entry and length [B], stored [T, d], influence [Q], offsets and squares [N],
    epsilon, bound and limit [] or [1]. Raises ValueError if they do not fit, or an entry is not in the store.
    """
    check_fit(states.ndim == 3 and stored.ndim == 2 and states.shape[2] == stored.shape[1], states, stored)
    check_fit(influence.ndim == 1 and squares.shape == offsets.shape, influence, offsets, squares)
    check_fit(entry.shape == length.shape == states.shape[:1], states, entry, length)
    batch, padded, _ = states.shape
    smallest, most = single("epsilon", epsilon), single("bound", bound)
    share = single("limit", limit)
    hit = np.zeros(batch, np.bool_)
    changes, predicted = np.zeros((2, batch, padded), np.float32)
    rows, stored_rows = [], []
    for b, (e, n) in enumerate(zip(entry, length, strict=True)):
        check_sequence(b, e, n, padded, len(offsets))
        if e == NO_ENTRY or n < 0:
            continue
        change = relative_change(states[b, :n], owned(stored, e, offsets, n))
        changed = ~(change <= smallest)  # NaN: changed
        change = np.where(changed, at_most(change), 0)
        moved = moved_by(change, square(influence, e, squares, n))
        running = np.flatnonzero(changed | ~(moved <= np.float32(most)))
        # What the original makes of a sequence that is all padding, only the original knows.
        hit[b] = n > 0 and most >= 0 and len(running) <= share * n
        if hit[b]:
            changes[b, :n], predicted[b, :n] = change, moved
            rows.append(b * padded + running)
            stored_rows.append(offsets[e] + running)
    none = np.zeros(0, np.int64)
    chosen = np.concatenate([none, *rows]), np.concatenate([none, *stored_rows])
    return *chosen, hit, np.asarray(batch > 0 and hit.all()), changes, predicted
