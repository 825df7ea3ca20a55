"""Read the sizes of rows at the encoder's input, wherever a model reads them.

Exporters take batch and length from the shapes of inner values. Such a reader would keep inner nodes out of
the encoder's region (`onnx_memo.graph.flow.region`). So the search for an encoder takes these readers as
moved already, and whoever guards it moves them first.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.graph.prune import prune
from onnx_memo.graph.rowwise import Rows


def shape_reads(graph: ir.Graph, start: ir.Value, forms: Mapping[ir.Value, Rows]) -> list[ir.Node]:
    """The nodes that read the shape of a value made of rows, other than `start`."""
    found = []
    for node in graph:
        value = node.inputs[0] if node.op_type == "Shape" else None
        form = forms.get(value) if value is not None else None
        if form is not None and form.axis is not None and value is not start:
            found.append(node)
    return found


def read_shapes_at(
    model: ir.Model,
    start: ir.Value,
    forms: Mapping[ir.Value, Rows],
    shapes: Mapping[ir.Value, tuple[int, ...]],
    batch: int,
) -> dict[ir.Value, ir.Value]:
    """Replace every `shape_reads` by its numbers, with B and L taken from the shape of `start`.

    `model` is changed, but computes the same. Nodes whose results nobody reads then are removed.

    Args:
        model: the model.
        start: the encoder's input, [B, L, d].
        forms: of values made of rows.
        shapes: of these values, at one size of the inputs.
        batch: that of the shapes.

    Returns:
        The values that were replaced, and by what.
    """
    replaced = {}
    for node in shape_reads(model.graph, start, forms):
        value = node.inputs[0]
        assert value is not None, "its shape is read"
        numbers = _numbers(model.graph, node, start, forms[value], shapes[value], batch)
        replaced[node.outputs[0]] = numbers
        node.outputs[0].replace_all_uses_with(numbers)
        model.graph.remove(node, safe=True)
    prune(model)
    return replaced


def _numbers(
    graph: ir.Graph, node: ir.Node, start: ir.Value, form: Rows, shape: tuple[int, ...], batch: int
) -> ir.Value:
    """What the `Shape` node gives, from the shape of `start`; its nodes go before `node`."""
    b = Builder(f"memo/shape/{node.outputs[0].name}", graph.opset_imports[""])
    parts: list[ir.Value] = []
    for axis, dim in enumerate(shape):
        if axis == form.axis:
            length = b.dim(start, 1)
            parts.append(b.op("Mul", b.dim(start, 0), length) if form.merged else length)
        elif axis == 0:
            own = b.dim(start, 0)
            parts.append(own if dim == batch else b.op("Mul", own, b.i64(dim // batch)))
        else:
            parts.append(b.i64(dim))
    first = node.attributes.get_int("start", 0)
    end = node.attributes.get_int("end", len(shape))
    whole = b.op("Concat", *parts[first:end], axis=0) if parts[first:end] else b.const([], "int64")
    graph.insert_before(node, b.nodes)
    return whole
