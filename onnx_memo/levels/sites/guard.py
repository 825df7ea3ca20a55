"""Guard attention blocks: each an `If` around the block, all reading the entry that a lookup found.

The first guard looks up, and so does every other that has a lookup of its own; else a guard shares the entry
that the guard before it found. An entry is reused if it is near enough, or only if the states from which the
blocks follow repeat it literally.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import onnx_ir as ir

from onnx_memo.graph import flow
from onnx_memo.graph.build import Builder
from onnx_memo.graph.by_sequence import Reads
from onnx_memo.graph.shapes import Shape
from onnx_memo.graph.site import Site
from onnx_memo.levels.apart import Apart, Chosen, as_branch, distinct_of, each_of
from onnx_memo.levels.inserter import Inserter, add_operators
from onnx_memo.levels.literal import hit_name
from onnx_memo.levels.lookup import Lookup
from onnx_memo.levels.sites.payload import Payload
from onnx_memo.operators.bodies.common import norms
from onnx_memo.operators.spec import DOMAIN, NO_ENTRY

INT32 = ir.DataType.INT32.value


def repeats_name(name: str) -> str:
    """The name of the value that says which sequences repeat what a site's lookup found, bool[B]."""
    return f"memo/{name}/repeats"


@dataclass(frozen=True)
class Repeated:
    """What must be repeated literally for an entry to be reused, and what says whether it is."""

    states: ir.Value  # [B, L, d], from which the blocks follow
    stored: ir.TensorProtocol  # f16[T, d]
    offsets: ir.TensorProtocol  # i64[N], the first row of each entry
    epsilon: ir.TensorProtocol  # f32 scalar: relative change of a row above which it is no repeat


@dataclass(frozen=True)
class Guard:
    """A site, what a hit reuses of it, and what is read for that."""

    site: Site
    payload: Payload
    stored: ir.TensorProtocol  # f16
    offsets: ir.TensorProtocol  # i64[N], shared by the guards of one level
    lengths: ir.TensorProtocol  # i64[N], shared by all guards
    lookup: Lookup | None  # None: the entry is the one that the guard before it found
    repeated: Repeated | None = None  # None: what is near enough is reused


@dataclass(frozen=True)
class Choice:
    """Which sequences of a batch run, and the entries that the others reuse, i64[B]."""

    runs: Chosen
    entry: ir.Value


class Found:
    """What a lookup found.

    Attributes:
        entry: of each sequence, i64[B]; -1: none.
        hit: whether all of the batch reuse theirs, bool.
    """

    def __init__(self, entry: ir.Value, hit: ir.Value) -> None:
        self.entry, self.hit = entry, hit
        self._choice: Choice | None = None

    def choice(self, b: Builder) -> Choice:
        """For all guards that share what was found; made once, in the main graph, where not all hit."""
        if self._choice is None:
            some, nothing = (Builder(f"{b.prefix}/{part}", b.opset) for part in ("some run", "none runs"))
            runs, entry = self.choose(some)
            none, no = nothing.i64(), nothing.const([False], np.bool_)
            nowhere = nothing.const(np.zeros((0, 1)), np.int64)
            names = [f"{b.prefix}/{part.name}" for part in fields(Chosen)]
            *chosen, entry = b.ops(
                "If",
                self.hit,
                names=[*names, f"{b.prefix}/reuses"],
                then_branch=as_branch(nothing, no, none, nowhere, none, no, self._same(nothing)),
                else_branch=as_branch(some, *runs.values, entry),
            )
            self._choice = Choice(Chosen(*chosen), entry)
        return self._choice

    def choose(self, b: Builder) -> tuple[Chosen, ir.Value]:
        """Which sequences run, and the others' entries: here, those that have one."""
        return each_of(b, b.op("Less", self.entry, b.const(0, np.int64))), self._same(b)

    def _same(self, b: Builder) -> ir.Value:
        return b.op("Identity", self.entry)


class FoundRepeats(Found):
    """What a lookup found, if the sequences repeat it literally; equal ones run once.

    Args:
        entry: as found.
        repeats: whether they do, bool[B].
        hit: as of `Found`.
        key: of the sequences, f32[B, k].
        given: all that the blocks follow from; the states first.
    """

    def __init__(
        self, entry: ir.Value, repeats: ir.Value, hit: ir.Value, key: ir.Value, given: Sequence[ir.Value]
    ) -> None:
        super().__init__(entry, hit)
        self.repeats, self.key, self.given = repeats, key, given

    def choose(self, b: Builder) -> tuple[Chosen, ir.Value]:
        """Which sequences run, and the others' entries: those that they repeat."""
        missing = b.op("Not", self.repeats)
        runs = distinct_of(b, missing, self.key, Reads(self.given[0], tuple(self.given), (), ()))
        return runs, b.op("Where", missing, b.i64(NO_ENTRY), self.entry)


def insert_guards(model: ir.Model, guards: Sequence[Guard], shapes: Mapping[str, Shape] | None) -> None:
    """Guard every site of `guards` (in the model's order, the first with a lookup); `model` is changed.

    `shapes` as of `Inserter`.
    """
    SitesInserter(model, shapes).insert(guards)
    add_operators(model)


class SitesInserter(Inserter):
    """Inserts guards one by one. What it asks to find the entry, `find`, a trial may override."""

    def __init__(self, model: ir.Model, shapes: Mapping[str, Shape] | None) -> None:
        super().__init__(model, shapes)
        self.found: Found | None = None  # by the newest lookup

    def insert(self, guards: Sequence[Guard]) -> None:
        """Guard the sites, in the model's order."""
        cuts = [guard.payload.cut(guard.site) for guard in guards]
        # All of them first: what two regions read is in none, even once one of them reads copies.
        regions = [flow.region(self.graph, *cut, self.constant) for cut in cuts]
        for guard, (result, boundary), region in zip(guards, cuts, regions, strict=True):
            reads = self.reads(region, boundary)
            b = Builder(f"memo/{guard.site.name}", self.opset)
            found = self.find(b, guard)
            apart = None if reads is None else self._apart(guard, reads, found.choice(b))
            reuse = self._reuse_branch(guard, found.entry)
            self.make_conditional(b, region, result, found.hit, reuse, apart=apart)

    def _apart(self, guard: Guard, reads: Reads, choice: Choice) -> Apart:
        def reused(b: Builder, chosen: Chosen) -> ir.Value:
            del chosen
            fetched, _ = self._fetch(b, guard, choice.entry)
            return fetched

        return Apart(reads, lambda _: choice.runs, reused)

    def find(self, b: Builder, guard: Guard) -> Found:
        """The entries to reuse at a site, and whether to reuse them."""
        if guard.lookup is not None:
            self.found = self._look_up(b, guard, guard.lookup)
        assert self.found is not None, "the first guard looks up"
        return self.found

    def _look_up(self, b: Builder, guard: Guard, lookup: Lookup) -> Found:
        site, repeated = guard.site, guard.repeated
        states = site.hidden if repeated is None else repeated.states
        threshold = b.op("Mul", self.initializer(lookup.threshold), self.strictness(b))
        lengths, weights = self.request(b, site.mask, site.positions, states)
        query = self.query(b, lookup, weights, states)
        entry, hit = self.look_up(b, lookup, query, lengths, guard.lengths, threshold)
        if repeated is None:
            return Found(entry, hit)
        given = [value for value in (states, site.mask, site.positions) if value is not None]
        repeats = self._repeats(b, guard, repeated, entry, lengths)
        least = b.reduce("ReduceMin", b.op("Cast", repeats, to=INT32), 0)
        # The lookup's own as well: it says that nothing is found where the batch is empty.
        hit = b.op("And", hit, b.op("Cast", least, to=ir.DataType.BOOL.value), name=hit_name(site.name))
        return FoundRepeats(entry, repeats, hit, query, given)

    def _repeats(
        self, b: Builder, guard: Guard, repeated: Repeated, entry: ir.Value, lengths: ir.Value
    ) -> ir.Value:
        """Which sequences repeat their entries, row by row, bool[B]."""
        states, rows = repeated.states, b.dim(repeated.states, 1)
        stored = (self.initializer(tensor) for tensor in (repeated.stored, repeated.offsets, guard.lengths))
        own = b.op("MemoFetch", entry, *stored, rows, domain=DOMAIN)
        gap, size = (norms(b, value) for value in (b.op("Sub", states, own), own))
        changed = b.op("Not", b.op("LessOrEqual", gap, b.op("Mul", size, self.initializer(repeated.epsilon))))
        count = b.op("Range", b.const(0, np.int64), b.op("Squeeze", rows), b.const(1, np.int64))
        real = b.op("Less", count, b.op("Unsqueeze", lengths, b.i64(1)))
        most = b.reduce("ReduceMax", b.op("Cast", b.op("And", changed, real), to=INT32), 1)
        none = b.op(
            "Or", b.op("Cast", most, to=ir.DataType.BOOL.value), b.op("Less", entry, b.const(0, np.int64))
        )
        return b.op("Not", none, name=repeats_name(guard.site.name))

    def _reuse_branch(self, guard: Guard, entry: ir.Value) -> ir.Graph:
        b = Builder(f"memo/{guard.site.name}/reuse", self.opset)
        fetched, width = self._fetch(b, guard, entry)
        fetched.type = ir.TensorType(ir.DataType.FLOAT)
        fetched.shape = ir.Shape([None, None, width])
        return ir.Graph([], [fetched], nodes=b.nodes, name=b.prefix)

    def _fetch(self, b: Builder, guard: Guard, entry: ir.Value) -> tuple[ir.Value, int]:
        """What is stored, [B, L, width], zeros where there is no entry; and its width."""
        stored = [self.initializer(tensor) for tensor in (guard.stored, guard.offsets, guard.lengths)]
        return guard.payload.fetch(b, guard.site, entry, stored)
