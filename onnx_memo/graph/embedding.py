"""How many rows the tables have in which a model looks its inputs up: what tokens there are, for one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx_ir as ir

from onnx_memo.graph import flow
from onnx_memo.graph.shapes import Shape

# What leaves whole numbers as they are.
SAME_NUMBERS = frozenset({"Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Transpose"})


def rows_looked_up(graph: ir.Graph, shapes: Mapping[str, Shape]) -> dict[str, int]:
    """For each input that a constant table is gathered by, how many rows that has; of several the smallest.

    Gathering takes -rows to rows - 1; with any other number the model does not run.

    Args:
        graph: the main graph, in which every node runs.
        shapes: of its values, by name.
    """
    constant = flow.constant_nodes(graph)
    found: dict[str, int] = {}
    for value in graph.inputs:
        for gather in _gathers(value):
            table = gather.inputs[0]
            if table is None or not flow.is_constant(table, constant):
                continue
            shape, axis = shapes.get(str(table.name)) or (), gather.attributes.get_int("axis", 0)
            rows = shape[axis] if -len(shape) <= axis < len(shape) else None
            if rows is not None:
                found[str(value.name)] = min(rows, found.get(str(value.name), rows))
    return found


def _gathers(start: ir.Value) -> Iterator[ir.Node]:
    """The nodes that gather by the numbers of `start`."""
    todo = [start]
    while todo:
        for node, at in todo.pop().uses():
            if node.op_type == "Gather" and at == 1:
                yield node
            elif node.op_type in SAME_NUMBERS and at == 0:
                todo += node.outputs
