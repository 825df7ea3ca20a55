"""Guard the encoder at the level `rows`: run only the rows that changed, and those they influence.

Requires: the encoder of this very model, found on its present graph. Ensures: the model's inputs and outputs
keep their names and order; for sequences that do not hit exactly the original nodes run. Where these run in 8
bits, the original nodes run at `memo_strictness` 0 alone, and where the processor's own products of bytes are
not exact and no native library is there; if the original's weights are left out, in their place runs the form
of nodes that are exact on every processor.

    entry = MemoLookup(key of the input)
    rows, stored_rows, hit, all_hit, change, predicted = MemoRows(input, entry, ...)
    states, spread, rows = If(any row) { the encoder on these rows alone } else { nothing }
    output = If(all_hit) { MemoMerge(states, spread, rows, ...) }
             else { the original encoder, for sequences that do not hit; MemoMerge for the others }

So each sequence is answered as it would be alone. The two `If` follow each other: in a branch within a branch
ONNX Runtime does not rearrange weights for its products, which then take up to three times as long. Where no
sequence hits there are no rows.

What runs on these rows, and what `spread` is: `onnx_memo.levels.rows.run`.

`memo_strictness` scales the bound: 1 (the default) as calibrated, 0 reuses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.graph.copies import remove_graft
from onnx_memo.graph.cores import Mixing
from onnx_memo.graph.encoder import Encoder
from onnx_memo.graph.plain.floats import HALVES
from onnx_memo.graph.prune import prune
from onnx_memo.graph.shapes import Shape
from onnx_memo.graph.span import Span
from onnx_memo.graph.stages import find_stages
from onnx_memo.levels.apart import AsAWhole, as_branch
from onnx_memo.levels.inserter import add_operators, to_be_guarded
from onnx_memo.levels.rows.attention import Request, Running
from onnx_memo.levels.rows.reads import InBytes, RowsGuard
from onnx_memo.levels.rows.repeats import NAME, ROWS, RepeatsInserter
from onnx_memo.levels.rows.run import Moved, RowsRun, branch_of
from onnx_memo.levels.whole import whole_branch
from onnx_memo.operators.spec import DOMAIN
from onnx_memo.precision.whole import WholeInCopy

WHOLE = f"memo/{NAME}/whole"  # the value that holds what reuses nothing and ran in 8 bits, f32[B, L, d]


def misses_in_bytes(model: ir.Model) -> bool:
    """Whether requests that reuse nothing run in 8 bits in a guarded model."""
    return any(str(node.outputs[0].name) == WHOLE for node in model.graph)


def insert_rows_guard(
    model: ir.Model,
    span: Span,
    guard: RowsGuard,
    in_bytes: InBytes | None = None,
    shapes: Mapping[str, Shape] | None = None,
) -> None:
    """Guard `span`, an encoder where rows run; `model` is changed.

    `in_bytes` says what runs in 8 bits, `shapes` are as of `Inserter`.
    """
    if isinstance(span, Encoder):
        span = to_be_guarded(model, span)
    if guard.kept:
        RowsInserter(model, span, guard, in_bytes, shapes).run()
    else:
        RepeatsInserter(model, span, guard, shapes).run()
    add_operators(model)
    remove_graft(model, span)
    if in_bytes is not None and in_bytes.compact:
        prune(model)


class RowsInserter(RepeatsInserter):
    """Guards the encoder of a model, which is changed."""

    def __init__(
        self,
        model: ir.Model,
        span: Span,
        guard: RowsGuard,
        in_bytes: InBytes | None,
        shapes: Mapping[str, Shape] | None,
    ) -> None:
        super().__init__(model, span, guard, shapes)
        self.in_bytes = in_bytes
        self.as_a_whole = AsAWhole(self._beside)

    @property
    def encoder(self) -> Encoder:
        """The span, where rows run."""
        assert isinstance(self.span, Encoder), "rows run in an encoder"
        return self.span

    def run(self) -> None:
        """Insert the guard."""
        b = Builder(f"memo/{self.name}", self.opset)
        self.find(b)
        limit = self.initializer(self.guard.limit)
        exact = b.op("MemoExact", self.strictness(b), domain=DOMAIN) if self._any_in_bytes else None
        if self._rows_in_bytes:  # where they are not exact, only repeats are reused, of which no row runs
            limit = b.op("Where", exact, limit, b.const(0, np.float32))
        if any(isinstance(meeting, Mixing) for meeting in self.encoder.meetings):
            # Their rows ask those of one sequence.
            alone = b.op("Equal", b.dim(self.encoder.input, 0), b.i64(1))
            limit = b.op("Where", b.op("Squeeze", alone), limit, b.const(0, np.float32))
        self.choose_rows(b, limit)
        self.those_that_ran = self._run_rows(b)
        if exact is None or self.in_bytes is None or not self.in_bytes.misses:
            self.answer = self.instead_of_region(b)
            return
        whole, instead = self.in_bytes.whole, None
        answered, either = self._or_whole(b, exact, whole)
        if self.in_bytes.compact:
            instead = whole_branch(self, self.encoder, whole, self.hits, everywhere=True)
            after = Builder(f"memo/{NAME}/compact", self.opset)
            instead.outputs[:] = [self._beside(after, instead.outputs[0])]
            instead.extend(after.nodes)
        # The original is left for `memo_strictness` 0, and where products of bytes are not exact.
        self.answer = self.make_conditional(b, self.region(), self.span.result, answered, either, instead)

    def ran(self, b: Builder) -> tuple[ir.Value, ir.Value, ir.Value]:
        """The final states of the rows that ran, what they spread, [R, d], and which they are."""
        del b
        return self.those_that_ran

    def _or_whole(self, b: Builder, exact: ir.Value, whole: WholeInCopy) -> tuple[ir.Value, ir.Graph]:
        """Whether the original is not needed, and the branch that gives what was reused, or ran in 8 bits.

        What runs in 8 bits has an `If` of the main graph, as the rows that run have.
        """
        width = self.encoder.width
        runs = b.op("And", exact, b.op("Not", self.hit))
        nothing = Builder(f"memo/{NAME}/unneeded", self.opset)
        empty = branch_of(nothing, [nothing.const(np.zeros((0, 0, width)), np.float32)], [None, None, width])
        branch = whole_branch(self, self.encoder, whole, self.hits)
        ran = b.op("If", runs, name=WHOLE, then_branch=branch, else_branch=empty)
        some, either = (Builder(f"memo/{NAME}/{part}", self.opset) for part in ("beside", "either"))
        chosen = either.op(
            "If",
            self.hit,
            then_branch=self.reused_branch(),
            else_branch=branch_of(some, [self._beside(some, ran)], [None, None, width]),
        )
        return b.op("Or", self.hit, exact), branch_of(either, [chosen], [None, None, width])

    def _beside(self, b: Builder, ran: ir.Value) -> ir.Value:
        """What ran, [B, L, d], and in the places of sequences that hit, if any do, what is reused."""
        any_hit = b.reduce("ReduceMax", b.op("Cast", self.hits, to=ir.DataType.INT32.value), 0)
        some, none = (Builder(f"{b.prefix}/{part}", self.opset) for part in ("some", "none"))
        each = some.op("Unsqueeze", self.hits, some.i64(1, 2))
        reused = self.put_together(some)
        if ran.dtype in HALVES:
            reused = some.op("Cast", reused, to=ran.dtype.value)
        together = some.op("Where", each, reused, ran)
        beside = b.op(
            "If",
            b.op("Cast", any_hit, to=ir.DataType.BOOL.value),
            then_branch=as_branch(some, together),
            else_branch=as_branch(none, none.op("Identity", ran)),
        )
        beside.type = ir.TensorType(ran.dtype if ran.dtype in HALVES else ir.DataType.FLOAT)
        beside.shape = ir.Shape([None, None, self.span.output_width])
        return beside

    def _run_rows(self, b: Builder) -> tuple[ir.Value, ir.Value, ir.Value]:
        """The final states of the rows that run, what they spread, [R, d], and which they are."""
        some = b.op("Greater", b.op("Size", self.rows), b.const(0, np.int64))
        stages = find_stages(self.encoder)[1:]
        names = [f"{b.prefix}/states", f"{b.prefix}/spread", *(f"{ROWS}.{stage.layer}" for stage in stages)]
        request = Request(b, self.entry, self.length, self.padded, self.turned)
        first = Running(self.rows, self.stored_rows, self.predicted)
        moved = Moved(self.states, self.change, self.bound, first)
        run = RowsRun(self, self.encoder, self.guard, self.in_bytes, request, moved)
        then, other = run.branch(f"{b.prefix}/run", stages), run.nothing(f"{b.prefix}/nothing", len(stages))
        states, spread, *rows = b.ops("If", some, names=names, then_branch=then, else_branch=other)
        return states, spread, rows[-1] if rows else self.rows

    @property
    def _any_in_bytes(self) -> bool:
        return self.in_bytes is not None and (self.in_bytes.rows or self.in_bytes.misses)

    @property
    def _rows_in_bytes(self) -> bool:
        return self.in_bytes is not None and self.in_bytes.rows
