"""The encoder on the rows that run: a copy of its nodes (`Encoder.steps`).

It reads a batch of one sequence, which is the rows of all sequences packed, [1, R, d]. What cores and mixings
become: `onnx_memo.levels.rows.attention`. Before some layers (`find_stages`) `MemoGrow` adds the rows that by
then are predicted to change. What is spread is the learned first-order correction: what a changed row passes
on to those that did not run, a product of its change at the encoder's output with one matrix (`correction`).
Where the tolerance allows, the copies' products are int8: with few rows they take as long as reading their
weights does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.graph.cores import Meeting
from onnx_memo.graph.encoder import Encoder
from onnx_memo.graph.packed import Copier, Int8Weight, Places, whole_products
from onnx_memo.graph.stages import Stage
from onnx_memo.levels.inserter import Inserter
from onnx_memo.levels.rows.attention import Request, RowsAttention, Running
from onnx_memo.levels.rows.reads import InBytes, RowsGuard, StageData
from onnx_memo.operators.spec import DOMAIN
from onnx_memo.precision.form import Form, FormBuilder


@dataclass(frozen=True)
class Moved:
    """What a request moves of its entry, as `MemoRows` found it."""

    states: ir.Value  # at the encoder's input, f32[B, L, d]
    change: ir.Value  # there, relative, of every token, f32[B, L]
    bound: ir.Value  # f32, up to which change rows do not run
    first: Running  # the rows that run from the first layer on


class RowsRun:
    """Writes the branches of the `If` in which rows run."""

    def __init__(
        self,
        inserter: Inserter,
        encoder: Encoder,
        guard: RowsGuard,
        in_bytes: InBytes | None,
        request: Request,
        moved: Moved,
    ) -> None:
        self.inserter, self.encoder, self.guard, self.in_bytes = inserter, encoder, guard, in_bytes
        self.request, self.moved = request, moved

    def branch(self, prefix: str, stages: Sequence[Stage]) -> ir.Graph:
        """The encoder on the rows that run: final states, what they spread, the rows of `stages`."""
        guard, encoder = self.guard, self.encoder
        b = Builder(prefix, self.inserter.opset)
        flat = b.op("Reshape", self.moved.states, b.i64(-1, encoder.width))
        running = self.moved.first
        copier = Copier(b, encoder, self.inserter.constant, self._places(b, running.rows))
        if guard.int8:
            products = whole_products(encoder, self.inserter.constant)
            for node, read in zip(products, guard.int8, strict=True):
                if read is not None:
                    tensors, steps = read
                    weight, scales, smooth = map(self.inserter.initializer, tensors)
                    copier.int8[node] = Int8Weight(weight, scales, smooth, steps)
        copier.made[encoder.input] = b.op("Unsqueeze", b.op("Gather", flat, running.rows, axis=0), b.i64(0))
        begins = dict(zip((stage.states for stage in stages), guard.stages, strict=True))
        attention = RowsAttention(self.inserter, encoder, guard, self.request, b)

        def attend(meeting: Meeting, qkv: ir.Value | None) -> ir.Value:
            return attention.packed(meeting, qkv, copier, running)

        form = self._form(b, copier, begins, attend)
        rows = []
        for node in encoder.steps:
            meeting = copier.meeting(node)
            if form is not None:
                form.run(node)
            elif meeting is None:
                copier.copy(node)
            else:
                copier.made[meeting.context] = attention.copied(meeting, copier, running)
            if node.outputs[0] in begins:
                running = self._grow(b, node.outputs[0], copier, running, begins[node.outputs[0]])
                rows.append(running.rows)
        states = b.op("Reshape", copier.made[encoder.output], b.i64(-1, encoder.width))
        moved = b.op(
            "Sub", states, b.op("Gather", self.inserter.initializer(guard.final), running.stored, axis=0)
        )
        change = b.op("Gather", b.op("Reshape", self.moved.change, b.i64(-1)), running.rows, axis=0)
        changed = b.op("Cast", b.op("Greater", change, b.const(0, np.float32)), to=ir.DataType.FLOAT.value)
        passed_on = b.op("Mul", moved, b.op("Unsqueeze", changed, b.i64(1)))
        assert guard.correction is not None, "rows that run move others"
        spread = b.op("MatMul", passed_on, self.inserter.initializer(guard.correction))
        return branch_of(b, [states, spread], [None, encoder.width], rows)

    def nothing(self, prefix: str, stages: int) -> ir.Graph:
        """The same where no row runs."""
        b = Builder(prefix, self.inserter.opset)
        empty = np.zeros((0, self.encoder.width), np.float32)
        floats = [b.const(empty, np.float32) for _ in range(2)]
        return branch_of(b, floats, [None, self.encoder.width], [b.i64() for _ in range(stages)])

    def _form(
        self,
        b: Builder,
        copier: Copier,
        begins: Collection[ir.Value],
        attend: Callable[[Meeting, ir.Value | None], ir.Value],
    ) -> FormBuilder | None:
        """What writes the rows that run in 8 bits, if they do. With values of `begins` other rows join."""
        if self.in_bytes is None or not self.in_bytes.rows:
            return None
        whole = self.in_bytes.whole
        form = Form(self.encoder, whole.chains.parted(begins))
        products = {
            key: [self.inserter.initializer(tensor) for tensor in own] for key, own in whole.products.items()
        }
        return FormBuilder(b, form, copier, products, attend)

    def _places(self, b: Builder, rows: ir.Value) -> Places:
        """Where rows stand in the request."""
        turned = self.request.turned
        return Places(b, rows if turned is None else b.op("Gather", turned.rows, rows), self.request.padded)

    def _grow(
        self, b: Builder, states: ir.Value, copier: Copier, running: Running, data: StageData
    ) -> Running:
        """Let rows join that are predicted to change, and copy what follows for all of them."""
        names = [f"{b.prefix}/{states.name}/{part}" for part in ("grown", "rows", "stored_rows", "predicted")]
        grown, rows, stored_rows, predicted = b.ops(
            "MemoGrow",
            b.op("Reshape", copier.made[states], b.i64(-1, self.encoder.width)),
            running.rows,
            self.moved.change,
            running.predicted,
            self.request.entry,
            self.request.length,
            self.inserter.initializer(data.stored),
            self.inserter.initializer(data.influence),
            self.inserter.initializer(self.guard.offsets),
            self.inserter.initializer(self.guard.squares),
            self.moved.bound,
            self.inserter.initializer(data.correction),
            self.inserter.initializer(data.past),
            domain=DOMAIN,
            names=names,
        )
        copier.begin(states, grown, self._places(b, rows))
        return Running(rows, stored_rows, predicted)


def branch_of(
    b: Builder, floats: Sequence[ir.Value], shape: Sequence[int | None], rows: Sequence[ir.Value] = ()
) -> ir.Graph:
    """A branch that gives `floats` of one shape and `rows`."""
    for value in floats:
        value.type = ir.TensorType(ir.DataType.FLOAT)
        value.shape = ir.Shape(shape)
    for value in rows:
        value.type = ir.TensorType(ir.DataType.INT64)
        value.shape = ir.Shape([None])
    return ir.Graph([], [*floats, *rows], nodes=b.nodes, name=b.prefix)
