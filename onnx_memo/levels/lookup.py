"""What finds an entry, as every level stores it: the key network, the entries' keys, and perhaps an index."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.keys.network import KEY_WIDTH, KeyNetwork
from onnx_memo.operators.spec import SEGMENTS
from onnx_memo.store.index import EXACT_SEARCH, MOST_PER_KEY, annoy_available, build_index, largest_group
from onnx_memo.store.layout import Integers, TensorSpec, entries

LENGTHS = "memo/lengths"  # i64[N], shared by all lookups
EXCLUDED = 1e15  # each number of a key that is never found
PARTS = ("reduction", "projection", "bias", "keys", "index")


@dataclass(frozen=True)
class Lookup:
    """What finds an entry, as tensors named after their place in the memo data."""

    reduction: ir.TensorProtocol  # f32[d, r], of the key network, like the next two
    projection: ir.TensorProtocol  # f32[SEGMENTS * r, k]
    bias: ir.TensorProtocol  # f32[k]
    keys: ir.TensorProtocol  # f32[k, N]
    index: ir.TensorProtocol  # u8[S]
    threshold: ir.TensorProtocol  # f32 scalar


def lengths_spec() -> TensorSpec:
    """The entries' lengths."""
    return TensorSpec(LENGTHS, np.int64, (entries,))


def lookup_specs(name: str, width: int, reduced: int) -> list[TensorSpec]:
    """The tensors of the lookup `name`, at hidden states of `width`; each segment's mean is `reduced`."""

    def index_bytes(lengths: Integers) -> Integers:
        built = largest_group(lengths) > EXACT_SEARCH
        return np.full(len(lengths), MOST_PER_KEY * KEY_WIDTH * 4 if built else 0, np.int64)

    parts: dict[str, tuple[npt.DTypeLike, tuple[Any, ...]]] = {
        "reduction": (np.float32, (width, reduced)),
        "projection": (np.float32, (SEGMENTS * reduced, KEY_WIDTH)),
        "bias": (np.float32, (KEY_WIDTH,)),
        "keys": (np.float32, (KEY_WIDTH, entries)),
        "index": (np.uint8, (index_bytes,)),
    }
    return [TensorSpec(f"memo/{name}/{part}", *parts[part], at_most=part == "index") for part in PARTS]


def found_only(
    keys: npt.NDArray[np.float32], allowed: npt.NDArray[np.bool_] | None
) -> npt.NDArray[np.float32]:
    """Keys [N, k] of which only those of `allowed` entries, bool[N], are ever found; None: all."""
    return keys if allowed is None else np.where(allowed[:, None], keys, np.float32(EXCLUDED))


def lookup_contents(
    name: str,
    network: KeyNetwork,
    keys: npt.NDArray[np.float32],
    lengths: Integers,
    scratch: Path,
    notes: list[str],
) -> dict[str, npt.NDArray[Any]]:
    """The contents of these tensors, by name, for entries with `keys` [N, k] and `lengths`."""
    index = np.zeros(0, np.uint8)
    if largest_group(lengths) > EXACT_SEARCH:
        if annoy_available():
            index = build_index(keys, lengths, scratch / "index")
        elif (note := "annoy is not installed: no index is built, exact search serves") not in notes:
            notes.append(note)
    parts: dict[str, npt.NDArray[Any]] = {
        "reduction": network.reduction,
        "projection": network.projection,
        "bias": network.bias,
        "keys": np.ascontiguousarray(keys.T),
        "index": index,
    }
    return {f"memo/{name}/{part}": parts[part] for part in PARTS}
