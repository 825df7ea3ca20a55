"""How many multiply-adds a piece of the graph takes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

import onnx_ir as ir

from onnx_memo.graph.shapes import LENGTHS, STANDARD, Shape, ShapeTable

PRODUCTS = frozenset({"MatMul", "Gemm", "MatMulInteger", "QLinearMatMul", "Einsum"})
CONVOLUTIONS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}  # which input holds the weights
# Standard operators that multiply in a way that is not counted here.
OTHERS = frozenset({"Attention", "ConvTranspose", "DeformConv", "GRU", "LSTM", "RNN"})
BRANCHING = frozenset({"If", "Loop", "Scan"})


class Work:
    """What the nodes of a graph multiply, as far as it is known.

    Attributes:
        uncounted: the nodes of which it is not.
    """

    def __init__(self, graph: ir.Graph, table: ShapeTable) -> None:
        """At the length at which most is known: a model may not take all lengths."""
        self.uncounted, self._taken = list(graph), dict[ir.Node, int | None]()
        for length in LENGTHS:
            shapes = table.at(length, follow=True)
            taken = {node: _of_node(node, shapes) for node in graph}
            uncounted = [node for node, count in taken.items() if count is None]
            if len(uncounted) < len(self.uncounted):
                self.uncounted, self._taken = uncounted, taken
            if not uncounted:
                break

    def share(self, part: Iterable[ir.Node]) -> float | None:
        """The share of the graph's multiply-adds that some of its nodes take, 0 to 1; None: not known."""
        if self.uncounted:
            return None
        own = sum(self._taken[node] or 0 for node in part)
        return own / max(sum(count or 0 for count in self._taken.values()), 1)


def _of_node(node: ir.Node, shapes: Mapping[str, Shape]) -> int | None:
    if node.domain not in STANDARD or node.op_type in OTHERS:
        return None
    if node.op_type in BRANCHING:
        return None if any(_of_node(inner, {}) != 0 for inner in _inside(node)) else 0
    if node.op_type in PRODUCTS:
        left, out = _known(node.inputs[0], shapes), _known(node.outputs[0], shapes)
        if out is None or not left:
            return None
        inner = left[0] if node.attributes.get_int("transA", 0) else left[-1]
        return math.prod(out) * inner
    if node.op_type in CONVOLUTIONS:
        weight = _known(node.inputs[CONVOLUTIONS[node.op_type]], shapes)
        out = _known(node.outputs[0], shapes)
        return None if weight is None or out is None else math.prod(out) * math.prod(weight[1:])
    return 0


def _inside(node: ir.Node) -> Iterator[ir.Node]:
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield from attribute.as_graph()


def _known(value: ir.Value | None, shapes: Mapping[str, Shape]) -> tuple[int, ...] | None:
    shape = shapes.get(value.name or "") if value is not None else None
    if shape is None or None in shape:
        return None
    return tuple(dim for dim in shape if dim is not None)
