"""Guard a span for requests that repeat a stored input literally: then nothing of it runs.

Requires: a span of this very model, found on its present graph. Ensures: the model's inputs and outputs keep
their names and order; what reuses nothing runs exactly the original nodes.

    entry = MemoLookup(key of the input)
    ..., hit, all_hit, ... = MemoRows(input, entry, ...)
    output = If(all_hit) { MemoMerge(entry) } else { the original nodes, for sequences that do not hit }

A sequence hits if no row is other than stored: the others of its batch run (`onnx_memo.levels.apart`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import partial

import numpy as np
import onnx_ir as ir

from onnx_memo.graph import flow
from onnx_memo.graph.build import Builder
from onnx_memo.graph.by_sequence import Reads
from onnx_memo.graph.shapes import Shape
from onnx_memo.graph.span import Span
from onnx_memo.keys.nodes import for_all
from onnx_memo.levels.apart import Apart, AsAWhole, Chosen, as_branch, distinct_of, everything
from onnx_memo.levels.inserter import Inserter
from onnx_memo.levels.literal import hit_name
from onnx_memo.levels.rows.reads import RowsGuard
from onnx_memo.levels.rows.run import branch_of
from onnx_memo.levels.rows.turned import Turned
from onnx_memo.operators.spec import DOMAIN, NO_ENTRY

NAME = "encoder"


def rows_name(name: str) -> str:
    """The name of the value that holds the rows that run, i64[R], of the guard of a name."""
    return f"memo/{name}/rows"


ROWS, HIT = rows_name(NAME), hit_name(NAME)


class RepeatsInserter(Inserter):
    """Guards the span of a model, which is changed.

    Attributes:
        name: of the guard.
        as_a_whole: how a batch runs that is not taken apart; None: as the original, all of it.
        entry: what its lookup found, i64[B]; once rows are chosen, of sequences that hit.
        length: real tokens of each sequence, i64[B]; once rows are chosen, of those that hit, else 0.
        hits: which sequences are reused, bool[B].
        hit: whether all are, bool.
        answer: what takes the place of the span's result.
    """

    name = NAME
    as_a_whole: AsAWhole | None = None
    entry: ir.Value
    length: ir.Value
    hits: ir.Value
    hit: ir.Value
    answer: ir.Value

    def __init__(
        self, model: ir.Model, span: Span, guard: RowsGuard, shapes: Mapping[str, Shape] | None
    ) -> None:
        super().__init__(model, shapes)
        self.span, self.guard = span, guard
        self.turned: Turned | None = None

    def kinds(self, b: Builder) -> ir.Value:
        """What an entry must have in common with each sequence for its key to be compared, i64[B]."""
        del b
        return self.length

    def region(self) -> list[ir.Node]:
        """The nodes that a hit saves."""
        return flow.region(self.graph, self.span.result, self.span.boundary, self.constant)

    def run(self) -> None:
        """Insert the guard."""
        b = Builder(f"memo/{self.name}", self.opset)
        self.find(b)
        self.choose_rows(b, self.initializer(self.guard.limit))
        self.answer = self.instead_of_region(b)

    def instead_of_region(self, b: Builder) -> ir.Value:
        """Put `If(all hit) { what is reused } else { the region, for those that do not }` in its place."""
        region, reused = self.region(), self.reused_branch()
        reads = self.reads(region, self.begin())
        apart = self.as_a_whole if reads is None else Apart(reads, partial(self._choose, reads), self._reused)
        return self.make_conditional(b, region, self.span.result, self.hit, reused, apart=apart)

    def find(self, b: Builder) -> None:
        """Look up what a request may reuse."""
        span, guard = self.span, self.guard
        self.states, mask, positions = span.input, span.mask, span.positions
        if span.turns:
            assert mask is not None and positions is not None, "what is turned has both"
            mask, positions = (for_all(b, given, span.input) for given in (mask, positions))
            self.turned = Turned(b, mask)
            self.states = self.turned.states(b, span.input)
            mask, positions = self.turned.tokens(b, mask), self.turned.tokens(b, positions)
        self.length, weights = self.request(b, mask, positions, self.states)
        self.key = self.query(b, guard.lookup, weights, self.states)
        radius = self.initializer(guard.lookup.threshold)
        self.padded = b.dim(span.input, 1)
        self.entry, _ = self.look_up(b, guard.lookup, self.key, self.kinds(b), guard.lengths, radius)
        self.bound = b.op("Mul", self.initializer(guard.bound), self.strictness(b))

    def choose_rows(self, b: Builder, limit: ir.Value) -> None:
        """Which sequences are reused, and which rows of these run all the same."""
        guard = self.guard
        stored = (guard.stored, guard.influence, guard.offsets, guard.squares)
        names = ("stored_rows", "all_hit", "change", "predicted")
        stored_rows, all_hit, change, predicted = (f"memo/{self.name}/{part}" for part in names)
        self.rows, self.stored_rows, self.hits, self.hit, self.change, self.predicted = b.ops(
            "MemoRows",
            self.states,
            self.entry,
            self.length,
            *(self.initializer(tensor) for tensor in stored),
            self.initializer(guard.epsilon),
            self.bound,
            limit,
            domain=DOMAIN,
            names=(rows_name(self.name), stored_rows, hit_name(self.name), all_hit, change, predicted),
        )
        # Without an entry all tokens of a sequence would have to run: it has none here.
        self.entry = b.op("Where", self.hits, self.entry, b.i64(NO_ENTRY))
        self.length = b.op("Where", self.hits, self.length, b.i64(0))

    def begin(self) -> list[ir.Value]:
        """Values that the region reads of which it is known that they are [B, ...]."""
        return [self.span.input]

    def _choose(self, reads: Reads, b: Builder) -> Chosen:
        """The sequences that do not hit; or all."""
        batch = b.dim(self.states, 0)
        one, several = Builder(f"{b.prefix}/one", self.opset), Builder(f"{b.prefix}/several", self.opset)
        missing = several.op("Not", self.hits)
        branches = everything(one, batch), distinct_of(several, missing, self.key, reads)
        then, other = (
            as_branch(own, *chosen.values) for own, chosen in zip((one, several), branches, strict=True)
        )
        names = [f"{b.prefix}/{part.name}" for part in fields(Chosen)]
        alone = b.op("LessOrEqual", batch, b.i64(1))
        return Chosen(*b.ops("If", alone, names=names, then_branch=then, else_branch=other))

    def reused_branch(self) -> ir.Graph:
        """The branch where all is reused."""
        b = Builder(f"memo/{self.name}/reuse", self.opset)
        return branch_of(b, [self.put_together(b)], [None, None, self.span.output_width])

    def _reused(self, b: Builder, chosen: Chosen) -> ir.Value:
        """What sequences that hit reuse; zeros for the others, which are the chosen ones."""
        del chosen
        return self.put_together(b)

    def ran(self, b: Builder) -> tuple[ir.Value, ir.Value, ir.Value]:
        """The final states of the rows that ran, what they spread, [R, d], and which they are: none."""
        states = b.const(np.zeros((0, self.span.per_row)), np.float32)
        return states, states, b.i64()

    def put_together(self, b: Builder) -> ir.Value:
        """Rows that ran, merged with what is stored for each sequence that hits; zeros for the others."""
        guard = self.guard
        stored = (guard.final, guard.rollout, guard.offsets, guard.squares)
        merged = b.op(
            "MemoMerge",
            *self.ran(b),
            self.entry,
            self.length,
            self.padded,
            *(self.initializer(tensor) for tensor in stored),
            domain=DOMAIN,
        )
        if self.turned is not None:
            merged = self.turned.back(b, merged)
        width = self.span.output_width
        if width != self.span.per_row:  # it is stored with as many rows as the input has
            merged = b.op("Reshape", merged, b.i64(0, -1, width))
        return merged
