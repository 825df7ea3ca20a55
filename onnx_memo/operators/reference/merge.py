"""MemoMerge: puts the final states of the rows that ran between those of the store."""

from __future__ import annotations

import numpy as np

from onnx_memo.operators.reference.common import (
    Floats,
    Integers,
    Payload,
    check_fit,
    owned,
    sequences,
    single,
    square,
)
from onnx_memo.operators.spec import NO_ENTRY


def memo_merge(
    states: Floats,
    spread: Floats,
    rows: Integers,
    entry: Integers,
    length: Integers,
    padded_length: Integers,
    final: Floats,
    influence: Payload,
    offsets: Integers,
    squares: Integers,
) -> Floats:
    """The encoder's output: the rows that ran, and the entry's others moved by what ran: [B, L, d].

    Shapes: states and spread [R, d], rows [R], entry and length [B], padded_length [] or [1],
    final [T, d], influence [Q], offsets and squares [N]. Raises ValueError if they do not fit.
    """
    check_fit(states.ndim == 2 and spread.shape == states.shape, states, spread)
    check_fit(rows.shape == states.shape[:1], states, rows)
    check_fit(final.ndim == 2 and final.shape[1] == states.shape[1], states, final)
    check_fit(influence.ndim == 1 and squares.shape == offsets.shape, influence, offsets, squares)
    padded = single("padded_length", padded_length)
    output = np.zeros((len(entry), max(padded, 0), states.shape[1]), np.float32)
    for b, e, n, at, tokens in sequences(rows, entry, length, padded, offsets):
        if e != NO_ENTRY:
            reach = square(influence, e, squares, n)[tokens]
            output[b, :n] = owned(final, e, offsets, n) + reach.T @ spread[at]
        output[b, tokens] = states[at]
    return output
