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


def multiply_adds(nodes: Iterable[ir.Node], shapes: Mapping[str, Shape]) -> int | None:
    """The multiply-adds of all products and convolutions among `nodes`; None where one is not known."""
    total = 0
    for node in nodes:
        taken = _of_node(node, shapes)
        if taken is None:
            return None
        total += taken
    return total


def share_of(part: Iterable[ir.Node], graph: ir.Graph, table: ShapeTable) -> float | None:
    """The share of a graph's multiply-adds that a part of it takes, 0 to 1; None where one is not known."""
    shapes = _best_known(graph, table)
    total, own = multiply_adds(graph, shapes), multiply_adds(part, shapes)
    return None if total is None or own is None else own / max(total, 1)


def uncounted(graph: ir.Graph, table: ShapeTable) -> list[ir.Node]:
    """The nodes of a graph of which it is not known what they multiply."""
    return _uncounted(graph, _best_known(graph, table))


def _best_known(graph: ir.Graph, table: ShapeTable) -> Mapping[str, Shape]:
    """The shapes at the length at which most products are known: a model may not take all lengths."""
    best, fewest = table.at(LENGTHS[0], follow=True), len(graph) + 1
    for length in LENGTHS:
        shapes = table.at(length, follow=True)
        missing = len(_uncounted(graph, shapes))
        if missing < fewest:
            best, fewest = shapes, missing
        if not missing:
            break
    return best


def _uncounted(graph: ir.Graph, shapes: Mapping[str, Shape]) -> list[ir.Node]:
    return [node for node in graph if _of_node(node, shapes) is None]


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
