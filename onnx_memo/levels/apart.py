"""What reuses nothing of a batch runs apart from what does: for these sequences alone, the region computes.

The region stands in the branch of a miss, once. There what it reads is taken of the sequences that run, and
what it gives is put back in their places, between what the others reuse. Where all run, nothing is put back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.graph.by_sequence import Reads, read_instead
from onnx_memo.graph.plain.floats import HALVES

TOGETHER = "together"  # in the names of nodes that put the answers of a batch together
INT32 = ir.DataType.INT32.value


def run_apart(model: ir.Model) -> set[str]:
    """The prefixes of the guards of a model whose sequences run apart: memo/encoder ..."""
    names = (node.name or "" for node in model.graph.all_nodes())
    return {name.partition(f"/{TOGETHER}/")[0] for name in names if f"/{TOGETHER}/" in name}


@dataclass(frozen=True)
class Chosen:
    """Which sequences of a batch run.

    Attributes:
        missing: whether a sequence reuses nothing, bool[B].
        numbers: of the sequences that run, i64[C], rising.
        places: of the sequences that reuse nothing, i64[M, 1], rising.
        runs_for: for each of these which of those that run answers it, i64[M], from 0.
        all_run: whether that is the whole batch, bool[1].
    """

    missing: ir.Value
    numbers: ir.Value
    places: ir.Value
    runs_for: ir.Value
    all_run: ir.Value

    @property
    def values(self) -> tuple[ir.Value, ...]:
        """All of them, as a branch gives them."""
        return self.missing, self.numbers, self.places, self.runs_for, self.all_run

    def put(self, b: Builder, reused: ir.Value, ran: ir.Value) -> ir.Value:
        """What is reused, [B, ...], with what those that ran gave, [C, ...], at each missing sequence."""
        each = b.op("Gather", ran, self.runs_for, axis=0)
        return b.op("ScatterND", reused, self.places, each)


def numbers_of(b: Builder, truths: ir.Value) -> ir.Value:
    """The places where bool[B] holds, i64[C]."""
    return b.op("Squeeze", b.op("NonZero", truths), b.i64(0))


def each_of(b: Builder, missing: ir.Value) -> Chosen:
    """All that reuse nothing, bool[B], each for itself."""
    numbers = numbers_of(b, missing)
    places = b.op("Unsqueeze", numbers, b.i64(1))
    return Chosen(missing, numbers, places, _count(b, numbers), _is_all(b, numbers, missing))


def everything(b: Builder, batch: ir.Value) -> Chosen:
    """All of a batch of the size `batch`, i64[1]."""
    numbers = b.op("Range", b.const(0, np.int64), b.op("Squeeze", batch), b.const(1, np.int64))
    missing = b.op("Equal", numbers, numbers)
    places = b.op("Unsqueeze", numbers, b.i64(1))
    return Chosen(missing, numbers, places, numbers, _is_all(b, numbers, missing))


def _count(b: Builder, values: ir.Value) -> ir.Value:
    """From 0 on as many numbers as there are values."""
    return b.op("Range", b.const(0, np.int64), b.op("Size", values), b.const(1, np.int64))


def _is_all(b: Builder, numbers: ir.Value, missing: ir.Value) -> ir.Value:
    return b.op("Equal", b.op("Shape", numbers), b.op("Shape", missing))


def distinct_of(b: Builder, missing: ir.Value, key: ir.Value, reads: Reads) -> Chosen:
    """The missing sequences, of equal ones the first.

    Whether two are equal is told by all that is read of them; their keys tell only which two may be.

    Args:
        b: takes the nodes.
        missing: as of `Chosen`.
        key: of each sequence, f32[B, k].
        reads: all that is read of the sequences.
    """
    mark = b.reduce("ReduceSum", key, 1)  # [B]
    same = b.op("Equal", b.op("Unsqueeze", mark, b.i64(1)), b.op("Unsqueeze", mark, b.i64(0)))  # [B, B]
    maybe = b.op("ArgMax", b.op("Cast", same, to=INT32), axis=1, keepdims=0)  # the first; for NaN 0
    own = b.op("Range", b.const(0, np.int64), b.op("Squeeze", b.op("Shape", mark)), b.const(1, np.int64))
    alike = b.op("Not", b.op("Equal", maybe, own))
    some = b.op("Greater", b.reduce("ReduceSum", b.op("Cast", alike, to=INT32), 0), b.const(0, np.int32))
    then, other = Builder(f"{b.prefix}/alike", b.opset), Builder(f"{b.prefix}/distinct", b.opset)
    equal = then.op("And", alike, then.op("Gather", missing, maybe))
    for value in reads.begin:
        equal = then.op("And", equal, _equal_rows(then, value, reads.taken(then, value, maybe)))
    leader = b.op(
        "If",
        some,
        then_branch=as_branch(then, then.op("Where", equal, maybe, own)),
        else_branch=as_branch(other, other.op("Identity", own)),
    )
    numbers = numbers_of(b, b.op("And", missing, b.op("Equal", leader, own)))
    places = numbers_of(b, missing)
    zeros = b.op("ConstantOfShape", b.op("Shape", missing), value=ir.tensor(np.zeros(1, np.int64)))
    place = b.op("ScatterElements", zeros, numbers, _count(b, numbers), axis=0)  # of those that run
    runs_for = b.op("Gather", place, b.op("Gather", leader, places))
    places = b.op("Unsqueeze", places, b.i64(1))
    return Chosen(missing, numbers, places, runs_for, _is_all(b, numbers, missing))


def _equal_rows(b: Builder, one: ir.Value, other: ir.Value) -> ir.Value:
    """Of [B, ...], whether the rows are equal, bool[B]."""
    equal = b.op("Cast", b.op("Equal", one, other), to=INT32)
    return b.op("Cast", b.reduce("ReduceMin", b.op("Flatten", equal, axis=1), 1), to=ir.DataType.BOOL.value)


@dataclass(frozen=True)
class Apart:
    """How a region runs apart.

    Attributes:
        reads: what it reads.
        choose: says for which sequences it runs; nodes that this takes are in the branch of a miss.
        reused: gives there what the others reuse, [B, L, d], anything in the places of the missing ones.
    """

    reads: Reads
    choose: Callable[[Builder], Chosen]
    reused: Callable[[Builder, Chosen], ir.Value]

    def run(
        self, prefix: str, opset: int, region: Sequence[ir.Node], result: ir.Value
    ) -> tuple[list[ir.Node], ir.Value]:
        """The nodes of the branch, the region among them, and what they give in place of its `result`."""
        before = Builder(f"{prefix}/apart", opset)
        chosen = self.choose(before)
        read_instead(region, self.reads.of(before, chosen.numbers))
        after = Builder(f"{prefix}/{TOGETHER}", opset)
        same, then = Builder(f"{prefix}/all", opset), Builder(f"{prefix}/some", opset)
        reused = self.reused(then, chosen)
        if result.dtype in HALVES:
            reused = then.op("Cast", reused, to=result.dtype.value)
        together = after.op(
            "If",
            chosen.all_run,
            then_branch=as_branch(same, same.op("Identity", result)),
            else_branch=as_branch(then, chosen.put(then, reused, result)),
        )
        return [*before.nodes, *region, *after.nodes], together


@dataclass(frozen=True)
class AsAWhole:
    """How a region runs for all of a batch, though some of it is reused.

    Attributes:
        beside: puts what is reused into the places of what the region gives, [B, L, d].
    """

    beside: Callable[[Builder, ir.Value], ir.Value]

    def run(
        self, prefix: str, opset: int, region: Sequence[ir.Node], result: ir.Value
    ) -> tuple[list[ir.Node], ir.Value]:
        """As of `Apart`."""
        after = Builder(f"{prefix}/whole", opset)
        together = self.beside(after, result)
        return [*region, *after.nodes], together


def as_branch(b: Builder, *results: ir.Value) -> ir.Graph:
    """The nodes of a builder as a branch."""
    return ir.Graph([], results, nodes=b.nodes, name=b.prefix)
