"""Which row of each sequence is read of an encoder's output: of classifiers and rerankers the first alone."""

from __future__ import annotations

import onnx_ir as ir

from onnx_memo.graph import flow
from onnx_memo.graph.encoder import Encoder

FIRST, LAST = 0, -1


def row_read(encoder: Encoder) -> int | None:
    """The only row of each sequence that anything reads of the output, FIRST or LAST; None: others too."""
    output = encoder.result
    readers = {reader for reader, _ in output.uses() if reader.op_type not in flow.SHAPE_READERS}
    rows = {_row(reader, output) for reader in readers}
    if output.is_graph_output() or len(rows) != 1:
        return None
    return rows.pop()


def _row(reader: ir.Node, states: ir.Value) -> int | None:
    """The row that a node reads of `states` [B, L, d], if it is the first or the last alone."""
    if reader.domain or reader.inputs[0] is not states:
        return None
    if reader.op_type == "Gather":
        axis = reader.attributes.get_int("axis", 0)
        numbers = _numbers(reader.inputs[1])
        return numbers[0] if axis in (1, -2) and numbers in ([FIRST], [LAST]) else None
    if reader.op_type == "Slice" and len(reader.inputs) >= 4:
        begin, end, axes = (_numbers(value) for value in reader.inputs[1:4])
        steps = _numbers(reader.inputs[4]) if len(reader.inputs) > 4 else [1]
        if axes not in ([1], [-2]) or steps != [1]:
            return None
        if (begin, end) == ([0], [1]):
            return FIRST
        if begin == [-1] and end is not None and len(end) == 1 and end[0] >= 2**31 - 1:
            return LAST
    return None


def _numbers(value: ir.Value | None) -> list[int] | None:
    """A constant's whole numbers."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else [int(number) for number in tensor.numpy().ravel()]
