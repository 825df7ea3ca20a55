"""Random batches for the operators of single rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from support import MODES

INF = float("inf")
NAN = float("nan")
LOWEST = np.finfo(np.float32).min
MISS = -1

LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=6).map(lambda n: np.sort(np.array(n, np.int64)))
SEEDS = st.integers(0, 2**31)
NATIVE = MODES[1]


def i64(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def f32(value: Any) -> np.ndarray:
    return np.array(value, np.float32)


def random_batch(rng: np.random.Generator, mode: str, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Entries of a batch and the lengths of its sequences; for the standard bodies just one."""
    batch = 1 if mode == "stock" else int(rng.integers(1, 5))
    entry = rng.integers(0, len(lengths), batch)
    length = lengths[entry]
    if mode == "native":
        entry[rng.random(batch) < 0.3] = MISS
    return entry, length


def random_rows(
    rng: np.random.Generator, entry: np.ndarray, length: np.ndarray, padded: int, share: float
) -> np.ndarray:
    """About that share of the tokens, and all tokens of a sequence without an entry."""
    runs = (np.arange(padded) < length[:, None]) & (
        (rng.random((len(entry), padded)) < share) | (entry[:, None] == MISS)
    )
    return np.flatnonzero(runs)
