"""MemoGrow: lets more rows run from some depth of the encoder on."""

from __future__ import annotations

import numpy as np

from onnx_memo.operators.reference.common import (
    Bools,
    Floats,
    Integers,
    Payload,
    at_most,
    check_fit,
    moved_by,
    owned,
    relative_change,
    sequences,
    single,
    square,
)
from onnx_memo.operators.spec import NO_ENTRY


def memo_grow(
    states: Floats,
    rows: Integers,
    change: Floats,
    predicted: Floats,
    entry: Integers,
    length: Integers,
    stored: Payload,
    influence: Payload,
    offsets: Integers,
    squares: Integers,
    bound: Floats,
    correction: Floats,
    rollout: Payload,
) -> tuple[Floats, Integers, Integers, Floats]:
    """The rows that run from here on: those that ran, and those of which too large a change is predicted.

    Returns the states of the rows, the rows, the store's row of each, and the predicted change of all
    tokens, [B, L]. A row that joins starts with the stored state, moved by what changed.

    Shapes: states [R, d], rows [R], change and predicted [B, L], entry and length [B], stored [T, d],
    influence and rollout [Q], offsets and squares [N], bound [] or [1], correction [d, d].
    Raises ValueError if they do not fit.
    """
    check_fit(states.ndim == 2 and rows.shape == states.shape[:1], states, rows)
    check_fit(change.ndim == 2 and predicted.shape == change.shape, change, predicted)
    check_fit(entry.shape == change.shape[:1], change, entry)
    check_fit(stored.ndim == 2 and stored.shape[1] == states.shape[1], states, stored)
    check_fit(correction.shape == (states.shape[1], states.shape[1]), states, correction)
    check_fit(influence.ndim == rollout.ndim == 1, influence, rollout)
    check_fit(squares.shape == offsets.shape, offsets, squares)
    most, padded = np.float32(single("bound", bound)), change.shape[1]
    now = np.zeros_like(predicted)
    grown, grown_rows, stored_rows = [states[:0]], [rows[:0]], [rows[:0]]
    for b, e, n, at, tokens in sequences(rows, entry, length, padded, offsets):
        own, origin = states[at], 0 * tokens
        if e != NO_ENTRY:
            block, reach = owned(stored, e, offsets, n), square(rollout, e, squares, n)
            now[b, :n] = _predict(predicted[b, :n], tokens, own, block, square(influence, e, squares, n))
            starts = _starts(tokens, own, block, change[b, tokens] != 0, correction, reach)
            runs = ~(now[b, :n] <= most)  # NaN: runs
            runs[tokens] = True
            tokens, own = np.flatnonzero(runs), starts[runs]
            origin = offsets[e] + tokens
        grown.append(own)
        grown_rows.append(b * padded + tokens)
        stored_rows.append(origin)
    return np.concatenate(grown), np.concatenate(grown_rows), np.concatenate(stored_rows), now


def _predict(before: Floats, tokens: Integers, own: Floats, block: Floats, influence: Floats) -> Floats:
    """What change of each row follows now: [n].

    Of the `tokens` that ran it is known how far their states, `own`, are from the stored ones; of all others
    counts what was predicted before, [n].
    """
    weight = before.copy()
    weight[tokens] = at_most(relative_change(own, block[tokens]))
    return moved_by(weight, influence)


def _starts(
    tokens: Integers, own: Floats, block: Floats, changed: Bools, correction: Floats, reach: Floats
) -> Floats:
    """The states with which all rows of a sequence would run: [n, d].

    Those of `tokens` are their own; the stored ones, `block`, are moved by what the changed ones pass on.
    """
    passed_on = (own - block[tokens])[changed] @ correction
    starts = block.copy()
    starts += reach[tokens[changed]].T @ passed_on
    starts[tokens] = own
    return starts
