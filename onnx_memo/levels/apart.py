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
        leader: of each missing sequence the number of the one that runs for it, i64[B]; None: it runs itself.
    """

    missing: ir.Value
    numbers: ir.Value
    leader: ir.Value | None = None

    def each(self, b: Builder, ran: ir.Value) -> ir.Value:
        """What those that ran gave, [C, ...], at each missing sequence; at others anything: [B, ...]."""
        zeros = b.op("ConstantOfShape", b.op("Shape", self.missing), value=ir.tensor(np.zeros(1, np.int64)))
        count = b.op("Range", b.const(0, np.int64), b.op("Size", self.numbers), b.const(1, np.int64))
        place = b.op("ScatterElements", zeros, self.numbers, count, axis=0)
        if self.leader is not None:
            place = b.op("Gather", place, self.leader)
        return b.op("Gather", ran, place, axis=0)


def numbers_of(b: Builder, truths: ir.Value) -> ir.Value:
    """The places where bool[B] holds, i64[C]."""
    return b.op("Squeeze", b.op("NonZero", truths), b.i64(0))


def everything(b: Builder, batch: ir.Value) -> Chosen:
    """All of a batch of the size `batch`, i64[1]."""
    numbers = b.op("Range", b.const(0, np.int64), b.op("Squeeze", batch), b.const(1, np.int64))
    return Chosen(b.op("Equal", numbers, numbers), numbers, numbers)


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
    return Chosen(missing, numbers_of(b, b.op("And", missing, b.op("Equal", leader, own))), leader)


def _equal_rows(b: Builder, one: ir.Value, other: ir.Value) -> ir.Value:
    """Of [B, ...], whether the rows are equal, bool[B]."""
    equal = b.op("Cast", b.op("Equal", one, other), to=INT32)
    return b.op("Cast", b.reduce("ReduceMin", b.op("Flatten", equal, axis=1), 1), to=ir.DataType.BOOL.value)


@dataclass(frozen=True)
class Apart:
    """How a region runs apart.

    Attributes:
        reads: what it reads.
        choose: says, with nodes in the branch of a miss, for which sequences it runs.
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
        batch = after.op("Shape", chosen.missing)
        all_run = after.op("Equal", after.op("Shape", chosen.numbers), batch)
        same, then = Builder(f"{prefix}/all", opset), Builder(f"{prefix}/some", opset)
        own = chosen.each(then, result)
        reused = self.reused(then, chosen)
        if result.dtype in HALVES:
            reused = then.op("Cast", reused, to=result.dtype.value)
        missing = then.op("Unsqueeze", chosen.missing, then.i64(1, 2))
        together = after.op(
            "If",
            all_run,
            then_branch=as_branch(same, same.op("Identity", result)),
            else_branch=as_branch(then, then.op("Where", missing, own, reused)),
        )
        return [*before.nodes, *region, *after.nodes], together


def as_branch(b: Builder, *results: ir.Value) -> ir.Graph:
    """The nodes of a builder as a branch."""
    return ir.Graph([], results, nodes=b.nodes, name=b.prefix)
