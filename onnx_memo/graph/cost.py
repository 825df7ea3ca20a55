"""How many multiply-adds a piece of the graph takes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import onnx_ir as ir

from onnx_memo.graph.shapes import Shape

PRODUCTS = frozenset({"MatMul", "Gemm", "MatMulInteger", "QLinearMatMul", "Einsum"})


def multiply_adds(nodes: Iterable[ir.Node], shapes: Mapping[str, Shape]) -> int:
    """The multiply-adds of all products and convolutions among `nodes`; what has no shape counts 0."""
    return sum(_of_node(node, shapes) for node in nodes)


def _of_node(node: ir.Node, shapes: Mapping[str, Shape]) -> int:
    out = _known(node.outputs[0], shapes)
    if out is None:
        return 0
    if node.op_type in PRODUCTS:
        left = _known(node.inputs[0], shapes)
        if not left:
            return 0
        inner = left[0] if node.attributes.get_int("transA", 0) else left[-1]
        return math.prod(out) * inner
    if node.op_type == "Conv":
        weight = _known(node.inputs[1], shapes)
        return math.prod(out) * math.prod(weight[1:]) if weight else 0
    return 0


def _known(value: ir.Value | None, shapes: Mapping[str, Shape]) -> tuple[int, ...] | None:
    shape = shapes.get(value.name or "") if value is not None else None
    if shape is None or None in shape:
        return None
    return tuple(dim for dim in shape if dim is not None)
