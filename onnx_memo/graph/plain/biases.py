"""What is added to scores: masks of all forms, and the order of positions, as one value of rank 4."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.graph.plain.rule import Kept, rank_of

LOWEST = float(np.finfo(np.float32).min)


def positions(b: Builder, value: ir.Value, axis: int) -> ir.Value:
    """The numbers of the positions along an axis of a value, int64 [L]."""
    end = b.op("Squeeze", b.dim(value, axis), b.i64(0))
    return b.op("Range", b.const(0, np.int64), end, b.const(1, np.int64))


def causal(b: Builder, query: ir.Value, key: ir.Value) -> ir.Value:
    """Where a row may attend: up to its own position. bool [1, 1, L, T] of [B, H, L, k] and [B, H, T, k]."""
    rows = b.op("Unsqueeze", positions(b, query, 2), b.i64(0, 1, 3))
    columns = b.op("Unsqueeze", positions(b, key, 2), b.i64(0, 1, 2))
    return b.op("LessOrEqual", columns, rows)


def before(b: Builder, lengths: ir.Value, key: ir.Value) -> ir.Value:
    """The positions before an end for each sequence, given as integers [B]: bool [B, 1, 1, T]."""
    return b.op("Less", _columns(b, key), _apart(b, lengths))


def up_to(b: Builder, last: ir.Value, key: ir.Value) -> ir.Value:
    """The positions up to the last one of each sequence, given as integers [B]: bool [B, 1, 1, T]."""
    return b.op("LessOrEqual", _columns(b, key), _apart(b, last))


def padding(b: Builder, node: ir.Node, mask: ir.Value, query: ir.Value, key: ir.Value) -> ir.Value:
    """Where the mask of `node`, in one of the forms that ONNX Runtime's operators take, lets rows attend.

    bool [B, 1, 1 or L, T], of query [B, H, L, k] and key [B, H, T, k]. The forms are: lengths [B]; ends and
    starts [2 * B]; [B, T] and [B, L, T] with 1 where there is a token.

    Raises:
        Kept: the mask has another form, or it is not known which.
    """
    match rank_of(mask):
        case 1 if _is_per_sequence(node, mask, 1):
            return before(b, mask, key)
        case 1 if _is_per_sequence(node, mask, 2):
            ends, starts = (
                b.op("Slice", mask, *place, b.i64(0))
                for place in ((b.i64(0), b.dim(query, 0)), (b.dim(query, 0), b.i64(np.iinfo(np.int64).max)))
            )
            return b.op("And", before(b, ends, key), b.op("Not", before(b, starts, key)))
        case 1:
            raise Kept(f"its mask '{mask.name}' has one axis, and it is not known that it holds lengths")
        case 2:
            return b.op("Unsqueeze", _is_set(b, mask), b.i64(1, 2))
        case 3:
            return b.op("Unsqueeze", _is_set(b, mask), b.i64(1))
        case rank:
            form = "a form that is not known" if rank is None else f"{rank} axes"
            raise Kept(f"its mask '{mask.name}' has {form}")


def bias_of(b: Builder, allowed: ir.Value, shut_out: float) -> ir.Value:
    """0 where rows may attend, and `shut_out` elsewhere; of rank 4, whatever the rank of `allowed` is."""
    nothing, out = (b.const(np.full((1, 1, 1, 1), number), np.float32) for number in (0, shut_out))
    return b.op("Where", allowed, nothing, out)


def both(b: Builder, allowed: Sequence[ir.Value]) -> ir.Value:
    """Where all of several allow rows to attend."""
    return functools.reduce(lambda one, other: b.op("And", one, other), allowed)


def added(b: Builder, biases: Sequence[ir.Value]) -> ir.Value | None:
    """The sum: scores get one bias."""
    return functools.reduce(lambda one, other: b.op("Add", one, other), biases) if biases else None


def _columns(b: Builder, key: ir.Value) -> ir.Value:
    return b.op("Unsqueeze", positions(b, key, 2), b.i64(0, 1, 2))


def _apart(b: Builder, numbers: ir.Value) -> ir.Value:
    """Integers, one for each sequence, as int64 [B, 1, 1, 1]."""
    return b.op("Reshape", b.op("Cast", numbers, to=ir.DataType.INT64.value), b.i64(-1, 1, 1, 1))


def _is_set(b: Builder, mask: ir.Value) -> ir.Value:
    return b.op("Greater", b.op("Cast", mask, to=ir.DataType.INT64.value), b.const(0, np.int64))


def _is_per_sequence(node: ir.Node, mask: ir.Value, numbers: int) -> bool:
    """Whether a mask of one axis has so many numbers per sequence: a model's inputs begin with the batch."""
    size = mask.shape[0] if mask.shape is not None else None
    given = [] if node.graph is None else [v for v in node.graph.inputs if not v.is_initializer()]
    batches = {value.shape[0] for value in given if value.shape is not None and len(value.shape) > 1}
    if isinstance(size, int):
        return size % numbers == 0 and size // numbers in batches
    return numbers == 1 and size in batches and size != ir.SymbolicDim(None)
