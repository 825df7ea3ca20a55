"""Where more rows may join those that run: before a layer, at the one value that all rows pass through."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from onnx_memo.graph.encoder import Encoder
from onnx_memo.graph.rowwise import Rows

MOST_STAGES = 4


@dataclass(frozen=True)
class Stage:
    """Some layers that run the same rows."""

    layer: int  # the first
    states: ir.Value  # the hidden states before it: [B, L, d], or [B * L, d]


def find_stages(encoder: Encoder) -> list[Stage]:
    """At most four stages of as many layers each, but for the last; the first begins at the encoder's input.

    A layer that no single value leads to begins none.
    """
    layers = len(encoder.meetings)
    every = -(-layers // MOST_STAGES)
    before = _states_before(encoder) | {0: encoder.input}
    return [Stage(layer, before[layer]) for layer in range(0, layers, every) if layer in before]


def _states_before(encoder: Encoder) -> dict[int, ir.Value]:
    """For each layer the last value before its attention that everything after it depends on alone."""
    contexts = {meeting.context: meeting for meeting in encoder.meetings}
    last_read: dict[ir.Value, int] = {encoder.output: len(encoder.steps)}
    for at, node in enumerate(encoder.steps):
        meeting = contexts.get(node.outputs[0])
        for value in meeting.reads if meeting else node.inputs:
            if value in encoder.forms:
                last_read[value] = max(last_read.get(value, 0), at)
    found: dict[int, ir.Value] = {}
    live = {encoder.input}
    layer = 0
    for at, node in enumerate(encoder.steps):
        layer += node.outputs[0] in contexts
        live.update(value for value in node.outputs if value in last_read)
        live = {value for value in live if last_read[value] > at}
        if len(live) == 1 and _is_states(encoder, *live):
            (found[layer],) = live
    return found


def _is_states(encoder: Encoder, value: ir.Value) -> bool:
    form, shape = encoder.forms[value], encoder.shapes[value]
    rows_lead = (form == Rows(1) and len(shape) == 3) or (form == Rows(0, merged=True) and len(shape) == 2)
    return rows_lead and shape[-1] == encoder.width and value.dtype in (None, ir.DataType.FLOAT)
