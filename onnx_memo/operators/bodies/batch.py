"""What the standard bodies share that serve several sequences at once: where tokens and rows are.

As in `docs/operators.md`, `rows` are those that run, of all B sequences one after the other, each as
b * L + t. What is computed row by row takes them packed, [R, ...]. What is computed sequence by sequence
takes them padded to the most that a sequence has, [B, M, ...].
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.operators.bodies.common import FLOAT, INT64


def of_one_or_many(b: Builder, entry: ir.Value, one: ir.Graph, many: ir.Graph) -> list[ir.Value]:
    """The results of `one` where the batch is one sequence, else of `many`.

    One sequence has a branch of its own, since it is a slice of the store: a batch takes four times as many
    nodes. All operators share the condition, which therefore has no constant (see `attention.py`).
    """
    names = [f"{b.prefix}/of_one_or_many/{number}" for number in range(len(one.outputs))]
    size = b.op("Shape", entry)
    alone = b.op("Equal", size, b.op("Shape", size))
    return list(b.ops("If", alone, names=names, then_branch=one, else_branch=many))


class Batch:
    """The places of a batch of B sequences padded to L tokens.

    Attributes:
        length: of each sequence, i64[B].
        places: B and L, i64[2].
        tokens: 0 .. L - 1, i64[L].
        real: whether a place holds a token, bool[B, L].
        known: whether that is a token of a sequence that has an entry, bool[B, L].
        entry: of each sequence; 0 where there is none, i64[B].
        stored_rows: the store's row of each place that is known, else 0: i64[B, L].
    """

    def __init__(
        self, b: Builder, entry: ir.Value, length: ir.Value, padded: ir.Value, offsets: ir.Value
    ) -> None:
        """`padded` is L, i64[1]."""
        self.length = length
        self.padded = padded
        self.places = b.op("Concat", b.op("Shape", entry), padded, axis=0)
        zero = b.const(0, np.int64)
        self.tokens = b.op("Range", zero, b.op("Squeeze", padded), b.const(1, np.int64))
        self.real = b.op("Less", self.tokens, _column(b, length))
        self.known = b.op("And", self.real, _column(b, b.op("GreaterOrEqual", entry, zero)))
        self.entry = b.op("Max", entry, zero)
        first = _column(b, b.op("Gather", offsets, self.entry))
        self.stored_rows = b.op("Where", self.known, b.op("Add", first, self.tokens), zero)

    def flat(self, b: Builder, value: ir.Value) -> ir.Value:
        """[B, L, ...] as [B * L, ...]."""
        rest = b.op("Slice", b.op("Shape", value), b.i64(2), b.i64(9))
        places = b.reduce("ReduceProd", self.places, 0, keepdims=True)
        return b.op("Reshape", value, b.op("Concat", places, rest, axis=0))

    def apart(self, b: Builder, value: ir.Value) -> ir.Value:
        """[B * L, ...] as [B, L, ...]."""
        rest = b.op("Slice", b.op("Shape", value), b.i64(1), b.i64(9))
        return b.op("Reshape", value, b.op("Concat", self.places, rest, axis=0))


class Packed:
    """Some places of a batch, one after the other, and where they are among those of their sequences.

    Attributes:
        sequence: of each row, i64[R].
        token: of each row, i64[R].
        count: how many rows each sequence has, i64[B].
        first: the number of its first, i64[B].
        most: the most that one has, and at least 1: i64 scalar.
    """

    def __init__(self, b: Builder, rows: ir.Value, batch: Batch) -> None:
        """`rows` i64[R] rise."""
        self.batch = batch
        padded = b.op("Max", batch.padded, b.i64(1))  # a divisor
        self.sequence = b.op("Div", rows, padded)
        self.token = b.op("Sub", rows, b.op("Mul", self.sequence, padded))
        self.count = self._counted(b, rows)
        self.first = b.op("CumSum", self.count, b.const(0, np.int64), exclusive=1)
        self.most = b.op("Max", b.reduce("ReduceMax", self.count, 0), b.const(1, np.int64))  # 0 is no width
        number = b.op("Range", b.const(0, np.int64), self.most, b.const(1, np.int64))  # [M]
        there = b.op("Less", number, _column(b, self.count))
        nothing = b.op("Shape", rows)  # the row of zeros behind all others
        self._row = b.op("Where", there, b.op("Add", _column(b, self.first), number), nothing)  # [B, M]
        own = b.op("Range", b.const(0, np.int64), b.op("Squeeze", nothing), b.const(1, np.int64))
        before = b.op("Gather", self.first, self.sequence)
        self._place = b.op(
            "Add", b.op("Mul", self.sequence, self.most), b.op("Sub", own, before)
        )  # in [B * M]

    def _counted(self, b: Builder, rows: ir.Value) -> ir.Value:
        none = b.op("ConstantOfShape", self.batch.places, value=ir.tensor(np.zeros(1, np.int64)))
        one = b.op("ConstantOfShape", b.op("Shape", rows), value=ir.tensor(np.ones(1, np.int64)))
        there = b.op("ScatterElements", self.batch.flat(b, none), rows, one, axis=0)
        return b.reduce("ReduceSum", self.batch.apart(b, there), 1)

    def padded(self, b: Builder, value: ir.Value, axes: int) -> ir.Value:
        """[R, ...] of so many axes as [B, M, ...]; zeros where there are no rows."""
        one_more = b.i64(*[0] * axes, 1, *[0] * (axes - 1))
        return b.op("Gather", b.op("Pad", value, one_more), self._row, axis=0)

    def packed(self, b: Builder, value: ir.Value) -> ir.Value:
        """[B, M, ...] as [R, ...]."""
        rest = b.op("Slice", b.op("Shape", value), b.i64(2), b.i64(9))
        flat = b.op("Reshape", value, b.op("Concat", b.i64(-1), rest, axis=0))
        return b.op("Gather", flat, self._place, axis=0)

    def reach(self, b: Builder, payload: ir.Value, squares: ir.Value) -> ir.Value:
        """What a payload with a number for each pair of an entry's tokens holds for each row: f32[R, L].

        It is 0 for rows of sequences without an entry.
        """
        batch, zero = self.batch, b.const(0, np.int64)
        size = b.op("Gather", batch.length, self.sequence)  # [R]
        first = b.op("Gather", squares, b.op("Gather", batch.entry, self.sequence))
        first = b.op("Add", first, b.op("Mul", self.token, size))
        known = b.op("Gather", batch.known, self.sequence, axis=0)  # [R, L]
        index = b.op("Where", known, b.op("Add", _column(b, first), batch.tokens), zero)
        numbers = b.op("Cast", b.op("Gather", payload, index), to=FLOAT)
        return b.op("Where", known, numbers, b.const(0, np.float32))

    def passed_on(self, b: Builder, reach: ir.Value, amounts: ir.Value) -> ir.Value:
        """The rows' `amounts`, f32[R, d], added up at each place by `reach`, f32[R, L]: f32[B, L, d]."""
        reach = b.op("Transpose", self.padded(b, reach, 2), perm=[0, 2, 1])  # [B, L, M]
        return b.op("MatMul", reach, self.padded(b, amounts, 2))


def moved_by(b: Builder, batch: Batch, weight: ir.Value, influence: ir.Value, squares: ir.Value) -> ir.Value:
    """What the tokens' changes, f32[B, L], do to each place by an influence: f32[B, L].

    What did not change does nothing at all, even where its influence is not finite.
    """
    flat = batch.flat(b, weight)
    changed = b.op("Squeeze", b.op("NonZero", flat), b.i64(0))
    packed = Packed(b, changed, batch)
    amounts = _column(b, b.op("Gather", flat, changed))
    moved = packed.passed_on(b, packed.reach(b, influence, squares), amounts)
    return b.op("Squeeze", moved, b.i64(2))


def positions(b: Builder, runs: ir.Value) -> ir.Value:
    """The flat places where `runs`, bool[B * L], holds: i64[R]."""
    return b.op("Squeeze", b.op("NonZero", runs), b.i64(0))


def ranks(b: Builder, runs: ir.Value) -> ir.Value:
    """How many places before each one run: i64[B * L]."""
    return b.op("CumSum", b.op("Cast", runs, to=INT64), b.const(0, np.int64), exclusive=1)


def _column(b: Builder, value: ir.Value) -> ir.Value:
    """[B] as [B, 1]."""
    return b.op("Unsqueeze", value, b.i64(1))
