"""Whether an input gives the positions of tokens to attention, as decoders take them: the graph proves it.

Its name and its shape prove nothing: the types of tokens are [B, L] integers as well. Positions reach nothing
but queries, keys and values, and those only by what is looked up for each: in a table with a row for every
position, or as sines and cosines. And each row of queries, keys and values is made with its own position, not
with that of another row, or of padding. So with the same positions of its real tokens the attention is the
same, whatever stands in padding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx_ir as ir

from onnx_memo.graph import flow
from onnx_memo.graph.cost import PRODUCTS
from onnx_memo.graph.rowwise import Refused, RowRules, Rows
from onnx_memo.graph.shapes import Shape

WAVES = frozenset({"Sin", "Cos"})


def form_made_of(
    value: ir.Value, graph: ir.Graph, rules: RowRules, start: Mapping[ir.Value, Rows]
) -> tuple[Rows | None, str]:
    """The form of a value that is made row by row of those of `start`, or None and why it is not."""
    made = set[ir.Value]().union(*(flow.downstream(first) for first in start)) - set(start)
    nodes = set(flow.leading_to(value, made))
    forms = dict(start)
    try:
        for node in graph:
            if node in nodes and node.op_type not in flow.SHAPE_READERS:
                forms.update(zip(node.outputs, rules.outputs(node, forms), strict=False))
    except Refused as refused:
        return None, str(refused)
    return forms[value], ""


class Positions:
    """Knows the positions of one model's attention."""

    def __init__(self, graph: ir.Graph, shapes: Mapping[str, Shape], rules: RowRules, length: int) -> None:
        """`shapes` are those of the graph's values at `length`."""
        self.graph, self.shapes, self.rules, self.length = graph, shapes, rules, length

    def why_none(
        self, value: ir.Value, hidden: ir.Value, probabilities: ir.Value, context: ir.Value, output: ir.Value
    ) -> str | None:
        """Why an input [B, L] is not the positions of the attention between `hidden` and `output`."""
        if value.dtype is None or not value.dtype.is_integer():
            return "it holds no integers"
        below = flow.downstream(hidden)
        operands = _operands(probabilities, context, below)
        if value in flow.sources(output, (hidden, *operands)):
            return "it reaches more than queries, keys and values"
        made = flow.downstream(value)
        looked_up = [v for node in _readers(made) if self._looks_up(node, made) for v in node.outputs]
        if any(value in flow.sources(operand, (hidden, *looked_up)) for operand in operands):
            return "it is neither looked up in a table of positions nor made sines and cosines of"
        start = {hidden: Rows(1), value: Rows(1)}
        for operand in operands:
            if value in flow.sources(operand, (hidden,)):
                form, why = form_made_of(operand, self.graph, self.rules, start)
                if form is None:
                    return why
        return None

    def _looks_up(self, node: ir.Node, made: set[ir.Value]) -> bool:
        """Whether a node takes positions for what a table has at them, or makes a wave of them."""
        if node.op_type in WAVES:
            return True
        table = node.inputs[0] if node.op_type == "Gather" else None
        if table is None or table in made:
            return False
        rows = self.shapes.get(table.name or "", (None,))[0]
        return rows is not None and rows >= self.length


def _operands(probabilities: ir.Value, context: ir.Value, below: set[ir.Value]) -> list[ir.Value]:
    """What the products of an attention read of `below`: queries, keys and values."""
    core = list(flow.leading_to(probabilities, below, PRODUCTS))
    inner = {value for node in core for value in node.outputs}
    makers = {value.producer() for node in core for value in flow.inputs_of(node) if value in below}
    products = [node for node in (*(makers - set(core)), context.producer()) if node is not None]
    read = [value for node in products for value in flow.inputs_of(node) if value in below]
    return [value for value in dict.fromkeys(read) if value not in inner]


def _readers(values: Iterable[ir.Value]) -> set[ir.Node]:
    return {node for value in values for node, _ in value.uses()}
