"""Attention of the rows that run, over the rows of their entries, of which those that run are fresh.

Cores become `MemoAttention`, in 8 bits `MemoRowsAttention`. Mixings are copied as the model has them, for the
rows that ask (`onnx_memo.levels.mixing`); what they read of all rows is put together of what is stored and
what is fresh. That is of one sequence: a batch of several reuses literal repeats there, or runs the original.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.graph.cores import Core, Meeting, Mixing
from onnx_memo.graph.encoder import Encoder
from onnx_memo.graph.packed import Copier
from onnx_memo.graph.scores import Bias
from onnx_memo.levels.inserter import Inserter, four_axes
from onnx_memo.levels.mixing import Asker, in_sequences, side_by_side
from onnx_memo.levels.rows.reads import RowsGuard
from onnx_memo.levels.rows.turned import Turned
from onnx_memo.operators.spec import DOMAIN

ASKED = "memo/asked"  # what contexts of mixings are called, with a number for each layer
_ATTENTION = ("MemoAttention", "MemoRowsAttention")


def count_layers(model: ir.Model) -> int:
    """The layers of which rows run in a guarded model; 0 where only literal repeats are reused."""
    nodes = list(model.graph.all_nodes())
    asked = sum(str(node.outputs[0].name).startswith(f"{ASKED}/") for node in nodes)
    return asked + sum(node.op_type in _ATTENTION for node in nodes)


@dataclass(frozen=True)
class Request:
    """What is known of a request in the main graph, whose nodes `b` takes."""

    b: Builder
    entry: ir.Value  # i64[B]
    length: ir.Value  # real tokens, i64[B]
    padded: ir.Value  # i64[1]
    turned: Turned | None  # where padding stands in front


@dataclass(frozen=True)
class Running:
    """The rows that run at some depth."""

    rows: ir.Value  # i64[R]
    stored: ir.Value  # the store's rows of them, i64[R]
    predicted: ir.Value  # relative change of every token, f32[B, L]


class RowsAttention:
    """Writes the attention of an encoder for the rows that run."""

    def __init__(
        self, inserter: Inserter, encoder: Encoder, guard: RowsGuard, request: Request, b: Builder
    ) -> None:
        """`b` takes the nodes of the branch in which rows run."""
        self.inserter, self.guard, self.request, self.b = inserter, guard, request, b
        self.numbers = {meeting.context: number for number, meeting in enumerate(encoder.meetings)}
        self.biases: dict[Bias, ir.Value] = {}
        self.askers: dict[ir.Value, Asker] = {}  # by the rows that run

    def copied(self, meeting: Meeting, copier: Copier, running: Running) -> ir.Value:
        """The context, in the form that follows it; `copier` has made what it reads of the rows that run."""
        b = self.b
        if isinstance(meeting, Mixing):
            context = self._asked(meeting, copier, running)
            turned = b.op("Reshape", context, b.i64(-1, meeting.heads, meeting.value_width))
            context = b.op("Transpose", turned, perm=[1, 0, 2])
            return b.op("Reshape", context, b.i64(*copier.packed(meeting.context)))
        assert isinstance(meeting, Core), "rows meet in cores or mixings"
        parts = [
            b.op("Reshape", copier.made[value], b.i64(meeting.heads, *size))
            for value, size in (
                (meeting.query, (-1, meeting.key_width)),
                (meeting.key, (meeting.key_width, -1)),
                (meeting.value, (-1, meeting.value_width)),
            )
        ]
        context = b.op("MemoAttention", *parts, *self._attended(meeting, running), domain=DOMAIN)
        return b.op("Reshape", context, b.i64(*copier.packed(meeting.context)))

    def packed(self, meeting: Meeting, qkv: ir.Value | None, copier: Copier, running: Running) -> ir.Value:
        """The same with the heads side by side, of a core's queries, keys and values side by side."""
        if isinstance(meeting, Mixing):
            return self._asked(meeting, copier, running)
        assert isinstance(meeting, Core) and qkv is not None, "cores are given what they read"
        heads = self.b.i64(meeting.heads, meeting.key_width, meeting.value_width)
        return self.b.op("MemoRowsAttention", qkv, heads, *self._attended(meeting, running), domain=DOMAIN)

    def _attended(self, core: Core, running: Running) -> list[ir.Value]:
        """What both operators read after queries, keys and values."""
        if core.bias not in self.biases:
            bias, turned = four_axes(self.b, core.bias), self.request.turned
            if turned is not None and core.bias.values:
                bias = turned.bias(self.b, bias)
            self.biases[core.bias] = bias
        return [
            running.rows,
            self.request.entry,
            self.request.length,
            self.request.padded,
            *self._stored(core),
            self.inserter.initializer(self.guard.offsets),
            self.b.const(core.scale, np.float32),
            self.biases[core.bias],
        ]

    def _stored(self, meeting: Meeting) -> list[ir.Value]:
        kept = self.guard.kept[self.numbers[meeting.context]]
        return [self.inserter.initializer(tensor) for tensor in kept]

    def _asked(self, mixing: Mixing, copier: Copier, running: Running) -> ir.Value:
        """The context of the rows that run, [R, H * dv]."""
        b, request, asking = self.b, self.request, mixing.asking
        assert asking is not None, "its rows can be run"
        if running.rows not in self.askers:
            constant = self.inserter.constant
            self.askers[running.rows] = Asker(b, request.b, constant, running.rows, request.padded)
        places = [self.inserter.initializer(part) for part in (self.guard.offsets, self.guard.lengths)]
        kept = []
        for value, stored in zip(asking.kept, self._stored(mixing), strict=True):
            others = b.op("MemoFetch", request.entry, stored, *places, request.padded, domain=DOMAIN)
            kept.append(in_sequences(b, copier, value, running.rows, others))
        context = self.askers[running.rows].context(copier, mixing, kept)
        return side_by_side(b, mixing, context, f"{ASKED}/{self.numbers[mixing.context]}")
