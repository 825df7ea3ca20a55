"""Inputs of the operators: small ones that fit, and random batches."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from support import MODES

from onnx_memo.operators.spec import NO_ENTRY, OPERATORS

INF = float("inf")
NAN = float("nan")
LOWEST = np.finfo(np.float32).min
MISS = NO_ENTRY

LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=6).map(lambda n: np.sort(np.array(n, np.int64)))
SEEDS = st.integers(0, 2**31)
NATIVE = MODES[1]


def i64(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def f32(value: Any) -> np.ndarray:
    return np.array(value, np.float32)


def random_batch(
    rng: np.random.Generator, mode: str, lengths: np.ndarray, most: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """Entries of at most so many sequences, and their lengths; in standard bodies one alone has an entry."""
    batch = int(rng.integers(1, most + 1))
    entry = rng.integers(0, len(lengths), batch)
    length = lengths[entry]
    if mode == "native" or batch > 1:
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


def random_f32(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def random_f16(*shape: int) -> np.ndarray:
    return random_f32(*shape).astype(np.float16)


def packed_weights(weight: np.ndarray) -> np.ndarray:
    """A matrix [K, M] of whole numbers as `MemoProduct` reads it: i8[P, K / 4, 48, 4]."""
    inner, columns = weight.shape
    padded = np.zeros((inner, -(-columns // 48) * 48), np.int8)
    padded[:, :columns] = np.rint(weight)
    return np.ascontiguousarray(padded.reshape(inner // 4, 4, -1, 48).transpose(2, 0, 3, 1))


def random_product(
    rng: np.random.Generator, shape: tuple[int, ...], columns: int, apart: int, most: int = 64
) -> dict[str, np.ndarray]:
    """Inputs of `MemoProduct`.

    Weights of 64 at most: those are exact on every processor, in the standard body, too.
    """
    inner = shape[-1]
    weight = rng.integers(-most, most + 1, (inner, columns))
    return {
        "x": rng.standard_normal(shape, np.float32),
        "packed": packed_weights(weight),
        "sums": weight.sum(axis=0).astype(np.int32),
        "scales": rng.random(columns, np.float32) / 100,
        "bias": rng.standard_normal(columns, np.float32),
        "channels": np.sort(rng.permutation(inner)[:apart]),
        "apart": rng.standard_normal((apart, columns), np.float32),
    }


def inputs_of(op: str) -> dict[str, np.ndarray]:
    """Two sequences padded to 5 tokens: 4 with entry 1, and 2 without one. Entry 0 has 3 tokens."""
    shared = {
        **{"rows": i64(1, 3, 5, 6), "entry": i64(1, MISS), "length": i64(4, 2), "padded_length": i64(5)},
        **{"lengths": i64(3, 4), "offsets": i64(0, 3), "squares": i64(0, 9)},
        "influence": np.abs(random_f16(25)),
    }
    one = f32(1)
    own: dict[str, dict[str, np.ndarray]] = {
        "MemoSegments": {"mask": np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]])},
        "MemoLookup": {
            **{"query": random_f32(2, 8), "keys": random_f32(8, 2), "threshold": f32(INF)},
            "index": np.zeros(0, np.uint8),
        },
        "MemoFetch": {"payload": random_f16(7, 6)},
        "MemoContext": {
            **{"values": random_f32(2, 5, 6), "payload": random_f16(25, 2), "offsets": i64(0, 9)},
        },
        "MemoRows": {
            **{"states": random_f32(2, 5, 6), "stored": random_f16(7, 6)},
            **{"epsilon": one, "bound": one, "limit": one},
        },
        "MemoGrow": {
            **{"states": random_f32(4, 6), "stored": random_f16(7, 6), "bound": one},
            **{"change": np.abs(random_f32(2, 5)), "predicted": np.abs(random_f32(2, 5))},
            **{"correction": random_f32(6, 6), "rollout": np.abs(random_f16(25))},
        },
        "MemoAttention": {
            **{"query": random_f32(2, 4, 3), "key": random_f32(2, 3, 4), "value": random_f32(2, 4, 5)},
            **{"keys": random_f16(7, 6), "values": random_f16(7, 10), "scale": one},
            "bias": random_f32(2, 1, 1, 5),
        },
        "MemoMerge": {"states": random_f32(4, 6), "spread": random_f32(4, 6), "final": random_f32(7, 6)},
    }
    own["MemoExact"] = {"strictness": one}
    own["MemoProduct"] = {
        **{
            "x": random_f32(3, 8),
            "packed": packed_weights(random_f32(8, 5) * 40),
            "sums": np.zeros(5, np.int32),
        },
        **{"scales": random_f32(5), "bias": random_f32(5), "channels": i64(1, 6), "apart": random_f32(2, 5)},
    }
    beside = {"qkv": random_f32(4, 22), "heads": i64(2, 3, 5)}
    own["MemoRowsAttention"] = own["MemoAttention"] | beside
    own["MemoSelfAttention"] = beside | {
        **{"asking": i64(1, 5), "scale": one},
        "bias": random_f32(2, 1, 1, 5),
    }
    product = own["MemoProduct"]
    own |= {name: product for name in OPERATORS if name.startswith("MemoProduct")}
    own["MemoProductNorm"] = product | {
        **{"residual": random_f32(3, 5), "gamma": random_f32(5), "beta": random_f32(5), "epsilon": one},
    }
    return {tensor.name: (shared | own[op])[tensor.name] for tensor in OPERATORS[op].inputs}
