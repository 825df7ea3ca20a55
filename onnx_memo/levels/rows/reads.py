"""What the guard of an encoder reads, as tensors that are stored, at the level `rows`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnx_memo.graph.packed import Steps
from onnx_memo.levels.lookup import Lookup
from onnx_memo.precision.whole import WholeInCopy


@dataclass(frozen=True)
class StageData:
    """What `MemoGrow` reads before a stage."""

    stored: ir.TensorProtocol  # f16[T, d], states there
    influence: ir.TensorProtocol  # f16[Q], what joining rows are chosen by
    past: ir.TensorProtocol  # f16[Q], what the correction of their states is spread by
    correction: ir.TensorProtocol  # f32[d, d]


@dataclass(frozen=True)
class RowsGuard:
    """What the guard of an encoder reads, as tensors named after their place in the memo data."""

    lookup: Lookup  # its threshold is not scaled by the strictness
    lengths: ir.TensorProtocol  # i64[N]
    offsets: ir.TensorProtocol  # i64[N], rows of payloads that have one for each token
    squares: ir.TensorProtocol  # i64[N], numbers of `influence` and `rollout`
    stored: ir.TensorProtocol  # f16[T, d], states at the encoder's input
    influence: ir.TensorProtocol  # f16[Q], what rows are chosen by
    stages: Sequence[StageData]  # after the first
    final: ir.TensorProtocol  # f32[T, d], states at the encoder's output
    rollout: ir.TensorProtocol  # f16[Q], what the correction is spread by
    correction: ir.TensorProtocol | None  # f32[d, d]
    # Of each layer what its attention reads of all rows, f16[T, W]: of a core keys and values, W = H * dk and
    # H * dv. Empty: only literal repeats are reused.
    kept: Sequence[Sequence[ir.TensorProtocol]]
    # Of each of `whole_products` weights i8[K, M], their scales f32[M], and what x is multiplied with before,
    # f32[K], and the steps of x; None or empty: the product is the original's.
    int8: Sequence[tuple[Sequence[ir.TensorProtocol], Steps] | None]
    epsilon: ir.TensorProtocol  # f32 scalar: relative change above which a row counts as changed
    bound: ir.TensorProtocol  # f32 scalar: predicted relative change up to which a row does not run
    limit: ir.TensorProtocol  # f32 scalar: share of rows up to which running them alone is worth it


@dataclass(frozen=True)
class InBytes:
    """The encoder in 8 bits, and what runs so: the rows that run, and requests that reuse nothing.

    `compact`: both do, and the original's weights are left out.
    """

    whole: WholeInCopy
    rows: bool
    misses: bool
    compact: bool = False
