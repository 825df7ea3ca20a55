"""What the references share: their arrays, what is read of the store, what is refused, changes of rows.

As in `docs/operators.md`, `b` is a sequence of the batch, `t` a token of it, `e` its entry and `n` its
length. `rows` are those that run, of all sequences one after the other, each as b * L + t.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_memo.operators.spec import MOST_CHANGE, NO_ENTRY

Floats = npt.NDArray[np.float32]
Payload = npt.NDArray[np.float16] | npt.NDArray[np.float32]  # f16, which Python operators get widened
Integers = npt.NDArray[np.int64]
Integers32 = npt.NDArray[np.int32]
Bytes = npt.NDArray[np.uint8]
SignedBytes = npt.NDArray[np.int8]
Bools = npt.NDArray[np.bool_]


def check_fit(fits: bool, *arrays: npt.NDArray[Any]) -> None:
    """Raise ValueError, with the shapes of `arrays`, unless they fit each other."""
    if not fits:
        raise ValueError(f"shapes {', '.join(str(array.shape) for array in arrays)} do not fit")


def single(name: str, value: npt.NDArray[Any]) -> Any:
    """The number in an input that holds one, [] or [1]; ValueError for any other shape."""
    if value.shape not in ((), (1,)):
        raise ValueError(f"{name} of shape {value.shape} is not one number")
    return value.item()


# ---- Heads


def side_by_side(qkv: Floats, heads: Integers) -> tuple[Floats, Floats, Floats]:
    """The queries [H, R, dk], keys [H, R, dk] and values [H, R, dv] of rows [..., R, H * (2 * dk + dv)].

    `heads` holds H, dk and dv. Raises ValueError if they do not fit, or an axis before R is not 1.
    """
    check_fit(heads.shape == (3,) and qkv.ndim > 1 and set(qkv.shape[:-2]) <= {1}, heads, qkv)
    count, width, value_width = (int(number) for number in heads)
    if min(count, width, value_width) < 1 or qkv.shape[-1] != count * (2 * width + value_width):
        raise ValueError(f"heads {heads.tolist()} do not fit rows of {qkv.shape[-1]}")
    rows = qkv.reshape(qkv.shape[-2:])
    query, key, value = (
        part.reshape(len(rows), count, part.shape[1] // count).transpose(1, 0, 2)
        for part in np.split(rows, [count * width, 2 * count * width], axis=1)
    )
    return query, key, value


def beside(context: Floats, qkv: Floats) -> Floats:
    """A context [H, Q, dv] as [..., Q, H * dv], with the axes of `qkv` before its rows."""
    heads, rows, width = context.shape
    return context.transpose(1, 0, 2).reshape(*qkv.shape[:-2], rows, heads * width)


# ---- The store


def owned(payload: Payload, e: int, firsts: Integers, count: int) -> Floats:
    """The `count` rows (or numbers) of a payload that an entry owns, from `firsts[e]` on, widened to f32.

    Raises ValueError if the payload does not hold them all.
    """
    first = int(firsts[e])
    if first < 0 or first + int(count) > len(payload):
        raise ValueError(f"{count} from {first} on of entry {e}: that is not in a payload of {len(payload)}")
    return payload[first : first + count].astype(np.float32)


def square(payload: Payload, e: int, squares: Integers, n: int) -> Floats:
    """The matrix [n, n] of an entry, in a payload that holds a number for each pair of tokens."""
    return owned(payload, e, squares, n * n).reshape(n, n)


def stored_sequences(entry: Integers, lengths: Integers, padded: int) -> Iterator[tuple[int, int, int]]:
    """Of each sequence of a batch that has an entry: b, e, and n, which is the entry's length.

    Raises ValueError for an entry that is not in the store, or is longer than the padded request.
    """
    for b, e in enumerate(entry):
        if e == NO_ENTRY:
            continue
        if not 0 <= e < len(lengths):
            raise ValueError(f"entry {e} is not in a store of {len(lengths)}")
        n = int(lengths[e])
        if not 0 <= n <= padded:
            raise ValueError(f"entry {e} of length {n} does not fit a request of length {padded}")
        yield b, int(e), n


# ---- Sequences of which single rows run


def check_sequence(b: int, e: int, n: int, padded: int, entries: int) -> None:
    """Raise ValueError unless the entry is in the store, or none, and the length fits the padded request."""
    if not NO_ENTRY <= e < entries:
        raise ValueError(f"entry {e} is not in a store of {entries}")
    if n > padded:
        raise ValueError(f"length {n} of sequence {b} does not fit a request of length {padded}")


def sequences(
    rows: Integers, entry: Integers, length: Integers, padded: int, offsets: Integers
) -> Iterator[tuple[int, int, int, slice, Integers]]:
    """Of each sequence b, e, n, where its rows are among all that run, and their tokens.

    Raises ValueError for `rows` that do not rise, are none of the batch, or lie in the padding, and for a
    sequence without an entry of which not all tokens run.
    """
    check_fit(entry.ndim == 1 and length.shape == entry.shape and offsets.ndim == 1, entry, length, offsets)
    places = len(entry) * padded
    if padded < 0 or (rows.size and not (rows[0] >= 0 and rows[-1] < places and (np.diff(rows) > 0).all())):
        raise ValueError(f"rows do not rise within the {places} places of the batch")
    for b, (e, n) in enumerate(zip(entry, length, strict=True)):
        check_sequence(b, e, n, padded, len(offsets))
        begin, end = np.searchsorted(rows, [b * padded, (b + 1) * padded])
        tokens = rows[begin:end] - b * padded
        if n < 0 or (tokens.size and tokens[-1] >= n):
            raise ValueError(f"sequence {b} has {n} tokens, and one after these runs")
        if e == NO_ENTRY and len(tokens) != n:
            raise ValueError(f"sequence {b} has no entry, and {len(tokens)} of its {n} tokens run")
        yield b, int(e), int(n), slice(begin, end), tokens


# ---- Changes


def relative_change(own: Floats, stored: Floats) -> Floats:
    """The distance of each row from the stored one, relative to that one's norm: [n]; 0/0 is 0."""
    with np.errstate(all="ignore"):
        moved, norm = np.linalg.norm(own - stored, axis=1), np.linalg.norm(stored, axis=1)
        change: Floats = np.where((moved == 0) & (norm == 0), np.float32(0), moved / norm)
    return change


def at_most(change: Floats) -> Floats:
    """What a change counts: `MOST_CHANGE` if it is larger, or NaN."""
    return np.where(change <= MOST_CHANGE, change, np.float32(MOST_CHANGE))


def moved_by(weight: Floats, influence: Floats) -> Floats:
    """What the tokens' changes, [n], do to each row by an influence [n, n]: [n].

    What did not change does nothing at all, even where its influence is not finite.
    """
    some = np.flatnonzero(weight)
    with np.errstate(invalid="ignore", over="ignore"):
        moved: Floats = weight[some] @ influence[some]
    return moved
