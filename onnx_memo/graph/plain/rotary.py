"""Rotary positions: numbers of each row are turned in pairs, by angles that grow with its position.

As ONNX's RotaryEmbedding says it, and ONNX Runtime's of the same name (docs/ContribOperators.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.graph.plain.heads import SWAPPED, merge_heads, split_heads
from onnx_memo.graph.plain.rule import (
    MICROSOFT,
    Kept,
    Rules,
    check_attributes,
    optional,
    rank_of,
    required,
    width_of,
)

END = int(np.iinfo(np.int64).max)


def rotated(
    b: Builder, x: ir.Value, cos: ir.Value, sin: ir.Value, half: int, *, interleaved: bool, whole: bool
) -> ir.Value:
    """Values [B, H, L, w] of which the first 2 * `half` numbers of each row are turned in pairs.

    Args:
        b: takes the nodes.
        x: the values.
        cos: of the angles, [L, half] or [B, 1, L, half].
        sin: of the angles, likewise.
        half: how many pairs there are.
        interleaved: a pair is two numbers beside each other, else `half` apart.
        whole: w is 2 * `half`: no numbers are left over.
    """
    if interleaved:
        one, other = (_numbers(b, x, begin, 2 * half, 2) for begin in (0, 1))
    else:
        one, other = (_numbers(b, x, begin, begin + half) for begin in (0, half))
    turned = [
        b.op("Sub", b.op("Mul", one, cos), b.op("Mul", other, sin)),
        b.op("Add", b.op("Mul", other, cos), b.op("Mul", one, sin)),
    ]
    if interleaved:
        pairs = b.op("Concat", *(b.op("Unsqueeze", part, b.i64(4)) for part in turned), axis=4)
        turned = [b.op("Reshape", pairs, b.i64(0, 0, 0, 2 * half))]
    rest = [] if whole else [_numbers(b, x, 2 * half, END)]
    parts = [*turned, *rest]
    return b.op("Concat", *parts, axis=3) if len(parts) > 1 else parts[0]


def of_first_rows(b: Builder, table: ir.Value, length: ir.Value) -> ir.Value:
    """The first rows of a table [P, half], as many as `length` says, int64 [1]."""
    return b.op("Slice", table, b.i64(0), length, b.i64(0))


def of_positions(b: Builder, table: ir.Value, positions: ir.Value) -> ir.Value:
    """The rows of a table [P, half] at positions [B, L], as [B, 1, L, half]."""
    return b.op("Unsqueeze", b.op("Gather", table, positions, axis=0), b.i64(1))


def pairs_of(cos: ir.Value) -> int:
    """How many pairs a table of angles turns. Raises Kept where that is not known."""
    half = width_of(cos)
    if not half:
        raise Kept(f"it is not known how many angles '{cos.name}' has for a position")
    return half


def _numbers(b: Builder, x: ir.Value, begin: int, end: int, step: int = 1) -> ir.Value:
    return b.op("Slice", x, b.i64(begin), b.i64(end), b.i64(3), b.i64(step))


def _microsoft(b: Builder, node: ir.Node) -> Sequence[ir.Value | None]:
    check_attributes(
        node, ("interleaved", "num_heads", "rotary_embedding_dim", "is_packed_batching", "scale")
    )
    if node.attributes.get_float("scale", 1.0) != 1:
        raise Kept("it scales, which versions of ONNX Runtime do or do not")
    if node.attributes.get_int("is_packed_batching", 0):
        raise Kept("its batch is packed")
    x, positions, cos, sin = (required(node, at) for at in range(4))
    half, whole = pairs_of(cos), node.attributes.get_int("rotary_embedding_dim", 0) == 0
    heads = None if whole else node.attributes.get_int("num_heads", 0)
    apart = _apart(b, x, heads or None, 2 * half if whole else None)
    match rank_of(positions):
        case 2:
            angles = [of_positions(b, table, positions) for table in (cos, sin)]
        case 0 | 1:  # where the first row stands
            begin = b.op("Reshape", b.op("Cast", positions, to=ir.DataType.INT64.value), b.i64(1))
            end = b.op("Add", begin, b.dim(apart, 2))
            angles = [b.op("Slice", table, begin, end, b.i64(0)) for table in (cos, sin)]
        case _:
            raise Kept(f"the number of axes of its positions '{positions.name}' is not known")
    interleaved = bool(node.attributes.get_int("interleaved", 0))
    turned = rotated(b, apart, angles[0], angles[1], half, interleaved=interleaved, whole=whole)
    return (_like(b, x, turned),)


def _standard(b: Builder, node: ir.Node) -> Sequence[ir.Value | None]:
    check_attributes(node, ("interleaved", "num_heads", "rotary_embedding_dim"))
    x, cos, sin, positions = (required(node, 0), required(node, 1), required(node, 2), optional(node, 3))
    half, whole = pairs_of(cos), node.attributes.get_int("rotary_embedding_dim", 0) == 0
    apart = _apart(b, x, node.attributes.get_int("num_heads", 0) or None, None)
    if positions is None:
        angles = [b.op("Unsqueeze", table, b.i64(1)) for table in (cos, sin)]
    else:
        angles = [of_positions(b, table, positions) for table in (cos, sin)]
    interleaved = bool(node.attributes.get_int("interleaved", 0))
    turned = rotated(b, apart, angles[0], angles[1], half, interleaved=interleaved, whole=whole)
    return (_like(b, x, turned),)


def _apart(b: Builder, x: ir.Value, heads: int | None, each: int | None) -> ir.Value:
    """Values with their heads apart, [B, H, L, w], of which the number of heads or w (`each`) is known."""
    if rank_of(x) == 4:
        return x
    if heads is not None:
        return split_heads(b, x, heads, width_of(x))
    if each is None:
        raise Kept("it is not said how many heads it has")
    return b.op("Transpose", b.op("Reshape", x, b.i64(0, 0, -1, each)), perm=SWAPPED)


def _like(b: Builder, x: ir.Value, turned: ir.Value) -> ir.Value:
    """Heads side by side again, where they came so."""
    return turned if rank_of(x) == 4 else merge_heads(b, turned, width_of(x))


RULES: Rules = {
    (MICROSOFT, "RotaryEmbedding"): _microsoft,
    ("", "RotaryEmbedding"): _standard,
}
