"""The operators of single rows in plain NumPy: MemoRows, MemoGrow, MemoAttention and MemoMerge.

As in `onnx_memo.operators.reference`, they are the specification in code (`docs/operators.md` in words).
`b` is a sequence of the batch, `t` a token of it, `e` its entry, `n` its length. `rows` are those that
run, of all sequences one after the other, each as b * L + t.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_memo.operators.spec import MOST_CHANGE

Floats = npt.NDArray[np.float32]
Payload = npt.NDArray[np.float16] | npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

NO_ENTRY = -1


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
) -> tuple[Integers, Integers, npt.NDArray[np.bool_], Floats, Floats]:
    """Which rows run, and what is known of all rows.

    Returns the rows that run, the store's row of each, whether running only them is allowed and worth it,
    how much each token changed, and what change at the output is predicted of it: [B, L] both.

    Shapes: states [B, L, d], entry and length [B], stored [T, d], influence [Q], offsets and squares [N],
    epsilon, bound and limit [] or [1]. Raises ValueError if they do not fit, or an entry is not in the store.
    """
    _fit(states.ndim == 3 and stored.ndim == 2 and states.shape[2] == stored.shape[1], states, stored)
    _fit(influence.ndim == 1 and squares.shape == offsets.shape, influence, offsets, squares)
    _fit(entry.shape == length.shape == states.shape[:1], states, entry, length)
    smallest, most = _single("epsilon", epsilon), _single("bound", bound)
    most_rows = _single("limit", limit) * states.shape[0] * states.shape[1]
    changes, predicted = np.zeros((2, *states.shape[:2]), np.float32)
    rows, stored_rows = [], []
    for b, (e, n) in enumerate(zip(entry, length, strict=True)):
        _check_sequence(b, e, n, states.shape[1], len(offsets))
        running, origin = np.arange(n), 0 * np.arange(n)
        if e != NO_ENTRY and n >= 0:
            change = _change(states[b, :n], _block(stored, e, offsets, n))
            changed = ~(change <= smallest)  # NaN: changed
            changes[b, :n] = np.where(changed, _at_most(change), 0)
            predicted[b, :n] = _moved(changes[b, :n], _block(influence, e, squares, n * n))
            running = np.flatnonzero(changed | ~(predicted[b, :n] <= np.float32(most)))
            origin = offsets[e] + running
        rows.append(b * states.shape[1] + running)
        stored_rows.append(origin)
    some = len(entry) > 1 or entry.tolist() not in ([], [NO_ENTRY])
    allowed = some and most >= 0 and bool((length > 0).all())
    if not allowed or not sum(map(len, rows)) <= most_rows:
        none, nothing = np.zeros(0, np.int64), np.zeros_like(changes)
        return none, none, np.asarray(False), nothing, nothing
    return np.concatenate(rows), np.concatenate(stored_rows), np.asarray(True), changes, predicted


def _change(own: Floats, stored: Floats) -> Floats:
    """The distance of each row from the stored one, relative to that one's norm: [n]."""
    with np.errstate(all="ignore"):
        moved, norm = np.linalg.norm(own - stored, axis=1), np.linalg.norm(stored, axis=1)
        change: Floats = np.where((moved == 0) & (norm == 0), np.float32(0), moved / norm)
    return change


def _at_most(change: Floats) -> Floats:
    """What a change counts; most of all one that is NaN."""
    return np.where(change <= MOST_CHANGE, change, np.float32(MOST_CHANGE))


def _moved(weight: Floats, influence: Floats) -> Floats:
    """What the tokens' changes, f32[n], do to each row: f32[n]. What did not change does nothing at all."""
    some = np.flatnonzero(weight)
    with np.errstate(invalid="ignore", over="ignore"):
        moved: Floats = weight[some] @ influence.reshape(len(weight), len(weight))[some]
    return moved


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
    _fit(states.ndim == 2 and rows.shape == states.shape[:1], states, rows)
    _fit(change.ndim == 2 and predicted.shape == change.shape, change, predicted)
    _fit(entry.shape == change.shape[:1], change, entry)
    _fit(stored.ndim == 2 and stored.shape[1] == states.shape[1], states, stored)
    _fit(correction.shape == (states.shape[1], states.shape[1]), states, correction)
    _fit(influence.ndim == rollout.ndim == 1, influence, rollout)
    _fit(squares.shape == offsets.shape, offsets, squares)
    most, padded = np.float32(_single("bound", bound)), change.shape[1]
    now = np.zeros_like(predicted)
    grown, grown_rows, stored_rows = [states[:0]], [rows[:0]], [rows[:0]]
    for b, e, n, at, tokens in _sequences(rows, entry, length, padded, offsets):
        own, origin = states[at], 0 * tokens
        if e != NO_ENTRY:
            block, reach = _block(stored, e, offsets, n), _block(rollout, e, squares, n * n).reshape(n, n)
            weight = predicted[b, :n].copy()
            weight[tokens] = _at_most(_change(own, block[tokens]))
            now[b, :n] = _moved(weight, _block(influence, e, squares, n * n))
            runs = ~(now[b, :n] <= most)
            runs[tokens] = True
            changed = change[b, tokens] != 0
            passed_on = (own - block[tokens])[changed] @ correction
            start = block + reach[tokens[changed]].T @ passed_on
            start[tokens] = own
            tokens, own = np.flatnonzero(runs), start[runs]
            origin = offsets[e] + tokens
        grown.append(own)
        grown_rows.append(b * padded + tokens)
        stored_rows.append(origin)
    return np.concatenate(grown), np.concatenate(grown_rows), np.concatenate(stored_rows), now


def memo_attention(
    query: Floats,
    key: Floats,
    value: Floats,
    rows: Integers,
    entry: Integers,
    length: Integers,
    padded_length: Integers,
    keys: Payload,
    values: Payload,
    offsets: Integers,
    scale: Floats,
    bias: Floats,
) -> Floats:
    """Attention of the rows that run over all tokens of their sequences: [H, R, dv].

    Keys and values of tokens that do not run are the entry's.

    Shapes: query [H, R, dk], key [H, dk, R], value [H, R, dv], rows [R], entry and length [B],
    padded_length and scale [] or [1], keys [T, H * dk], values [T, H * dv], offsets [N],
    bias [B, H, L, L], each dimension of which may be 1. Raises ValueError if they do not fit.
    """
    _fit(query.ndim == 3 and key.shape == (query.shape[0], query.shape[2], query.shape[1]), query, key)
    _fit(value.ndim == 3 and value.shape[:2] == query.shape[:2], query, value)
    (heads, count, width), value_width = query.shape, value.shape[2]
    _fit(rows.shape == (count,), query, rows)
    _fit(keys.ndim == 2 and keys.shape[1] == heads * width, query, keys)
    _fit(values.shape == (len(keys), heads * value_width), value, keys, values)
    padded, factor = _single("padded_length", padded_length), _single("scale", scale)
    bias = _spread(bias, (len(entry), heads, padded, padded))
    context = np.zeros((heads, count, value_width), np.float32)
    for b, e, n, at, tokens in _sequences(rows, entry, length, padded, offsets):
        all_keys = np.zeros((heads, width, n), np.float32)
        all_values = np.zeros((heads, n, value_width), np.float32)
        if e != NO_ENTRY:
            all_keys = _block(keys, e, offsets, n).reshape(all_keys.shape)
            all_values = _block(values, e, offsets, n).reshape(all_values.shape)
        all_keys[:, :, tokens] = key[:, :, at]
        all_values[:, tokens] = value[:, at]
        scores = np.float32(factor) * (query[:, at] @ all_keys) + bias[b][:, tokens, :n]
        context[:, at] = _softmax(scores) @ all_values
    return context


def _softmax(scores: Floats) -> Floats:
    """Over the last axis; NaN where all scores are -inf."""
    with np.errstate(invalid="ignore"):
        powers = np.exp(scores - scores.max(axis=-1, keepdims=True, initial=-np.inf))
    probabilities: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return probabilities


def _spread(bias: Floats, shape: tuple[int, ...]) -> Floats:
    if bias.ndim != 4 or any(have not in (1, want) for have, want in zip(bias.shape, shape, strict=True)):
        raise ValueError(f"a bias of shape {bias.shape} does not spread to {shape}")
    return np.broadcast_to(bias, shape)


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
    _fit(states.ndim == 2 and spread.shape == states.shape, states, spread)
    _fit(rows.shape == states.shape[:1], states, rows)
    _fit(final.ndim == 2 and final.shape[1] == states.shape[1], states, final)
    _fit(influence.ndim == 1 and squares.shape == offsets.shape, influence, offsets, squares)
    padded = _single("padded_length", padded_length)
    output = np.zeros((len(entry), max(padded, 0), states.shape[1]), np.float32)
    for b, e, n, at, tokens in _sequences(rows, entry, length, padded, offsets):
        if e != NO_ENTRY:
            reach = _block(influence, e, squares, n * n).reshape(n, n)[tokens]
            output[b, :n] = _block(final, e, offsets, n) + reach.T @ spread[at]
        output[b, tokens] = states[at]
    return output


def _sequences(
    rows: Integers, entry: Integers, length: Integers, padded: int, offsets: Integers
) -> Iterator[tuple[int, int, int, slice, Integers]]:
    """Of each sequence b, e, n, where its rows are among all that run, and their tokens."""
    _fit(entry.ndim == 1 and length.shape == entry.shape and offsets.ndim == 1, entry, length, offsets)
    places = len(entry) * padded
    if padded < 0 or (rows.size and not (rows[0] >= 0 and rows[-1] < places and (np.diff(rows) > 0).all())):
        raise ValueError(f"rows do not rise within the {places} places of the batch")
    for b, (e, n) in enumerate(zip(entry, length, strict=True)):
        _check_sequence(b, e, n, padded, len(offsets))
        begin, end = np.searchsorted(rows, [b * padded, (b + 1) * padded])
        tokens = rows[begin:end] - b * padded
        if n < 0 or (tokens.size and tokens[-1] >= n):
            raise ValueError(f"a token behind the {n} of sequence {b} runs")
        if e == NO_ENTRY and len(tokens) != n:
            raise ValueError(f"sequence {b} has no entry, and {len(tokens)} of its {n} tokens run")
        yield b, int(e), int(n), slice(begin, end), tokens


def _check_sequence(b: int, e: int, n: int, padded: int, entries: int) -> None:
    if not NO_ENTRY <= e < entries:
        raise ValueError(f"entry {e} is not in a store of {entries}")
    if n > padded:
        raise ValueError(f"length {n} of sequence {b} does not fit a request of length {padded}")


def _block(payload: Payload, e: int, firsts: Integers, count: int) -> Floats:
    first = int(firsts[e])
    if first < 0 or first + int(count) > len(payload):
        raise ValueError(f"{count} from {first} on of entry {e}: that is not in a payload of {len(payload)}")
    return payload[first : first + count].astype(np.float32)


def _single(name: str, value: npt.NDArray[Any]) -> Any:
    """The number in an array that must hold just one."""
    if value.shape not in ((), (1,)):
        raise ValueError(f"{name} of shape {value.shape} is not one number")
    return value.item()


def _fit(fits: bool, *arrays: npt.NDArray[Any]) -> None:
    if not fits:
        raise ValueError(f"shapes {', '.join(str(array.shape) for array in arrays)} do not fit")
