"""Guard attention blocks: each an `If` around the block, all reading the entry that a lookup found.

The first guard looks up, and so does every other that has a lookup of its own; else a guard shares the entry
that the guard before it found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnx_memo.graph import flow
from onnx_memo.graph.build import Builder
from onnx_memo.graph.by_sequence import Reads
from onnx_memo.graph.shapes import Shape
from onnx_memo.graph.site import Site
from onnx_memo.levels.apart import Apart, Chosen, numbers_of
from onnx_memo.levels.inserter import Inserter, add_operators
from onnx_memo.levels.lookup import Lookup
from onnx_memo.levels.sites.payload import Payload


@dataclass(frozen=True)
class Guard:
    """A site, what a hit reuses of it, and what is read for that."""

    site: Site
    payload: Payload
    stored: ir.TensorProtocol  # f16
    offsets: ir.TensorProtocol  # i64[N], shared by the guards of one level
    lengths: ir.TensorProtocol  # i64[N], shared by all guards
    lookup: Lookup | None  # None: the entry is the one that the guard before it found


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
        self.found: tuple[ir.Value, ir.Value] | None = None  # entry and hit of the newest lookup

    def insert(self, guards: Sequence[Guard]) -> None:
        """Guard the sites, in the model's order."""
        cuts = [guard.payload.cut(guard.site) for guard in guards]
        # All of them first: what two regions read is in none, even once one of them reads copies.
        regions = [flow.region(self.graph, *cut, self.constant) for cut in cuts]
        for guard, (result, boundary), region in zip(guards, cuts, regions, strict=True):
            reads = self.reads(region, boundary)
            b = Builder(f"memo/{guard.site.name}", self.opset)
            entry, hit = self.find(b, guard)
            apart = None if reads is None else self._apart(guard, reads, entry)
            self.make_conditional(b, region, result, hit, self._reuse_branch(guard, entry), apart=apart)

    def _apart(self, guard: Guard, reads: Reads, entry: ir.Value) -> Apart:
        """The sequences run without an entry; the others reuse theirs."""

        def choose(b: Builder) -> Chosen:
            missing = b.op("Less", entry, b.const(0, np.int64))
            return Chosen(missing, numbers_of(b, missing))

        def reused(b: Builder, chosen: Chosen) -> ir.Value:
            del chosen
            fetched, _ = self._fetch(b, guard, entry)
            return fetched

        return Apart(reads, choose, reused)

    def find(self, b: Builder, guard: Guard) -> tuple[ir.Value, ir.Value]:
        """The entries [B] to reuse at a site, and whether to reuse them."""
        if guard.lookup is not None:
            site = guard.site
            threshold = b.op("Mul", self.initializer(guard.lookup.threshold), self.strictness(b))
            lengths, weights = self.request(b, site.mask, site.positions, site.hidden)
            query = self.query(b, guard.lookup, weights, site.hidden)
            self.found = self.look_up(b, guard.lookup, query, lengths, guard.lengths, threshold)
        assert self.found is not None, "the first guard looks up"
        return self.found

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
