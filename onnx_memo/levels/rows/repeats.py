"""Guard a span for requests that repeat a stored input literally: then nothing of it runs.

Requires: a span of this very model, found on its present graph. Ensures: the model's inputs and outputs keep
their names and order; what reuses nothing runs exactly the original nodes.

    entry = MemoLookup(key of the input)
    rows, ..., some = MemoRows(input, entry, ...)
    output = If(no row at all) { MemoMerge(entry) } else { the original nodes, for sequences with such rows }

`MemoRows` names the rows that are not as stored: sequences that have some run (`onnx_memo.levels.apart`), the
others of a batch are reused.
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
from onnx_memo.levels.apart import Apart, Chosen, as_branch, distinct_of, everything
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


def missing_sequences(b: Builder, operator: ir.Node) -> ir.Value:
    """Which sequences of a batch repeat nothing literally, bool[B], by the guard's `MemoRows`.

    It names rows of them, some or all; or says by its `hit` that nothing can be reused.
    """
    states, (rows, _, possible, *_) = operator.inputs[0], operator.outputs
    assert states is not None, "MemoRows reads them"
    sequence = b.op("Div", rows, b.op("Max", b.dim(states, 1), b.i64(1)))
    zeros = b.op("ConstantOfShape", b.dim(states, 0), value=ir.tensor(np.zeros(1, np.int64)))
    ones = b.op("ConstantOfShape", b.op("Shape", sequence), value=ir.tensor(np.ones(1, np.int64)))
    runs = b.op("ScatterElements", zeros, sequence, ones, axis=0)
    return b.op("Or", b.op("Not", possible), b.op("Cast", runs, to=ir.DataType.BOOL.value))


ROWS, HIT = rows_name(NAME), hit_name(NAME)


class RepeatsInserter(Inserter):
    """Guards the span of a model, which is changed.

    Attributes:
        name: of the guard.
        entry: what its lookup found, i64[B], once it has run.
        all_found: whether it found one for every sequence, bool.
        hit: whether all is reused, bool.
        answer: what takes the place of the span's result.
    """

    name = NAME
    entry: ir.Value
    all_found: ir.Value
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
        region = self.region()
        reads = self.reads(region, self.begin())
        if reads is None:
            self.choose_rows(b, self.bound, self.initializer(self.guard.limit), hit_name(self.name))
            self.answer = self.make_conditional(b, region, self.span.result, self.hit, self._all_reused())
            return
        self.choose_rows(b, self.bound, b.const(1, np.float32), f"memo/{self.name}/some")
        apart = Apart(reads, partial(self._choose, reads), self._reused)
        none = b.op("Equal", b.op("Size", self.rows), b.const(0, np.int64))
        self.hit = b.op("And", self.hit, none, name=hit_name(self.name))
        self.answer = self.make_conditional(
            b, region, self.span.result, self.hit, self._all_reused(), apart=apart
        )

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
        self.entry, self.all_found = self.look_up(
            b, guard.lookup, self.key, self.kinds(b), guard.lengths, radius
        )
        self.bound = b.op("Mul", self.initializer(guard.bound), self.strictness(b))

    def choose_rows(self, b: Builder, bound: ir.Value, limit: ir.Value, hit: str) -> None:
        """The rows that run, and whether they alone may, by the name `hit`."""
        guard = self.guard
        stored = (guard.stored, guard.influence, guard.offsets, guard.squares)
        names = ("stored_rows", "change", "predicted")
        stored_rows, change, predicted = (f"memo/{self.name}/{part}" for part in names)
        self.rows, self.stored_rows, self.hit, self.change, self.predicted = b.ops(
            "MemoRows",
            self.states,
            self.entry,
            self.length,
            *(self.initializer(tensor) for tensor in stored),
            self.initializer(guard.epsilon),
            bound,
            limit,
            domain=DOMAIN,
            names=(rows_name(self.name), stored_rows, hit, change, predicted),
        )
        self.operator = b.nodes[-1]

    def begin(self) -> list[ir.Value]:
        """Values that the region reads of which it is known that they are [B, ...]."""
        return [self.span.input]

    def _choose(self, reads: Reads, b: Builder) -> Chosen:
        """The sequences that reuse nothing: those of which rows would have to run; or all."""
        batch = b.dim(self.states, 0)
        one, several = Builder(f"{b.prefix}/one", self.opset), Builder(f"{b.prefix}/several", self.opset)
        missing = missing_sequences(several, self.operator)
        branches = everything(one, batch), distinct_of(several, missing, self.key, reads)
        then, other = (
            as_branch(own, *chosen.values) for own, chosen in zip((one, several), branches, strict=True)
        )
        names = [f"{b.prefix}/{part.name}" for part in fields(Chosen)]
        alone = b.op("LessOrEqual", batch, b.i64(1))
        return Chosen(*b.ops("If", alone, names=names, then_branch=then, else_branch=other))

    def _all_reused(self) -> ir.Graph:
        """The branch where nothing runs."""
        b = Builder(f"memo/{self.name}/reuse", self.opset)
        merged = self.put_together(b, *self._nothing(b), self.entry, self.length)
        return branch_of(b, [merged], [None, None, self.span.output_width])

    def _nothing(self, b: Builder) -> tuple[ir.Value, ir.Value, ir.Value]:
        """The states of no rows, and what they spread, [0, d], and which they are."""
        states = b.const(np.zeros((0, self.span.per_row)), np.float32)
        return states, states, b.i64()

    def _reused(self, b: Builder, chosen: Chosen) -> ir.Value:
        """What is stored for the sequences that reuse it."""
        entry = b.op("Where", chosen.missing, b.i64(NO_ENTRY), self.entry)
        length = b.op(
            "Where", chosen.missing, b.i64(0), self.length
        )  # without an entry, every token has to run
        return self.put_together(b, *self._nothing(b), entry, length)

    def put_together(
        self,
        b: Builder,
        states: ir.Value,
        spread: ir.Value,
        rows: ir.Value,
        entry: ir.Value,
        length: ir.Value,
    ) -> ir.Value:
        """Rows that ran, merged with what is stored for each sequence."""
        guard = self.guard
        stored = (guard.final, guard.rollout, guard.offsets, guard.squares)
        merged = b.op(
            "MemoMerge",
            states,
            spread,
            rows,
            entry,
            length,
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
