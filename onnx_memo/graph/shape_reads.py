"""Read the sizes of rows at the encoder's input, wherever a model reads them.

Exporters take batch and length from the shapes of inner values. Such a reader would keep inner nodes out of
the encoder's region (`onnx_memo.graph.flow.region`). Requires: the forms of values made of rows. Ensures: no
node outside reads the shape of one of them; the model computes the same.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from onnx_memo.graph.build import Builder
from onnx_memo.graph.rowwise import Rows
from onnx_memo.graph.shapes import Shape


def read_shapes_at(
    model: ir.Model, start: ir.Value, forms: Mapping[ir.Value, Rows], shapes: Mapping[str, Shape]
) -> None:
    """Replace every `Shape` of a value in `forms` by its numbers, B and L taken from the shape of `start`.

    `model` is changed; what only its shape was read of is removed.
    """
    one = int(shapes[str(start.name)][0] or 1)  # the batch that the shapes are of
    for node in list(model.graph):
        value = node.inputs[0] if node.op_type == "Shape" else None
        form = forms.get(value) if value is not None else None
        if value is None or form is None or form.axis is None or value is start:
            continue
        shape = tuple(int(dim or 0) for dim in shapes[str(value.name)])
        _replace(model.graph, node, start, form, shape, one)
    RemoveUnusedNodesPass()(model)


def _replace(
    graph: ir.Graph, node: ir.Node, start: ir.Value, form: Rows, shape: tuple[int, ...], one: int
) -> None:
    b = Builder(f"memo/shape/{node.outputs[0].name}", graph.opset_imports[""])
    parts: list[ir.Value] = []
    for axis, dim in enumerate(shape):
        if axis == form.axis:
            length = b.dim(start, 1)
            parts.append(b.op("Mul", b.dim(start, 0), length) if form.merged else length)
        elif axis == 0:
            batch = b.dim(start, 0)
            parts.append(batch if dim == one else b.op("Mul", batch, b.i64(dim // one)))
        else:
            parts.append(b.i64(dim))
    first = node.attributes.get_int("start", 0)
    end = node.attributes.get_int("end", len(shape))
    whole = b.op("Concat", *parts[first:end], axis=0) if parts[first:end] else b.const([], "int64")
    graph.insert_before(node, b.nodes)
    node.outputs[0].replace_all_uses_with(whole)
    graph.remove(node, safe=True)
