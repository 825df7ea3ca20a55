"""A model that computes in half precision, in floats."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.graph.cost import PRODUCTS
from onnx_memo.graph.plain.rule import MICROSOFT

HALVES = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16})
_TYPES = frozenset(int(dtype) for dtype in HALVES)
FLOAT = ir.DataType.FLOAT


def half_values(graph: ir.Graph) -> dict[str, ir.DataType]:
    """A graph's values of half precision by name, and which it is.

    Where a type is not stated, a node gives what it is given: few operators mix floating types.
    """
    given = [*graph.inputs, *graph.initializers.values()]
    found = {str(value.name): dtype for value in given if (dtype := _type_of(value)) in HALVES}
    for node in graph:
        for value in node.outputs:
            dtype = value.dtype or _made_by(node, found)
            if dtype in HALVES:
                found[str(value.name)] = dtype
    return found


def computes_in_halves(graph: ir.Graph) -> bool:
    """Whether products, or operators of ONNX Runtime's own, are of half precision; a mask alone may be."""
    halves = half_values(graph)
    return any(
        node.op_type in PRODUCTS or node.domain == MICROSOFT
        for node in graph
        if any(str(value.name) in halves for value in node.outputs)
    )


def _made_by(node: ir.Node, halves: Mapping[str, ir.DataType]) -> ir.DataType | None:
    if node.op_type == "Cast":
        return ir.DataType(node.attributes.get_int("to", 0))
    if node.op_type == "Constant":
        tensor = node.attributes.get_tensor("value", None)
        return None if tensor is None else tensor.dtype
    names = (str(read.name) for read in node.inputs if read is not None)
    return next((halves[name] for name in names if name in halves), None)


def compute_in_floats(model: ir.Model, halves: Collection[str], prefix: str) -> None:
    """Let a model compute in floats what it computes in half precision; `model` is changed.

    Weights become floats when they are read.

    Args:
        model: the model.
        halves: its values of half precision (`half_values`).
        prefix: of the names of new values.
    """
    graph = model.graph
    b = Builder(f"{prefix}/float", graph.opset_imports[""])
    for value in [value for value in graph.inputs if _is_half(value)]:
        readers = list(value.uses())
        cast = b.op("Cast", value, to=FLOAT.value)
        cast.type, cast.shape = ir.TensorType(FLOAT), value.shape
        for reader, at in readers:
            reader.replace_input_with(at, cast)
    for node in graph.all_nodes():
        _convert(node)
    for inner in (graph, *graph.subgraphs()):
        for value in inner.initializers.values():
            if _is_half(value) and value.const_value is not None and not value.is_graph_input():
                value.const_value = _float_tensor(value.const_value)
                value.type = ir.TensorType(FLOAT)
    for node in graph.all_nodes():
        for value in node.outputs:
            if _is_half(value):
                value.type = ir.TensorType(FLOAT)
    _drop_casts(graph, halves)
    if b.nodes:
        graph.insert_before(graph[0], b.nodes)


def _drop_casts(graph: ir.Graph, halves: Collection[str]) -> None:
    """Remove casts between half precision and floats, which now change nothing."""
    for node in list(graph):
        if node.op_type != "Cast" or node.attributes.get_int("to", 0) != FLOAT.value:
            continue
        given, (made,) = node.inputs[0], node.outputs
        if given is None or made.is_graph_output() or str(given.name) not in halves:
            continue
        made.replace_all_uses_with(given)
        graph.remove(node, safe=True)


def _convert(node: ir.Node) -> None:
    """Let a node make floats where it says that it makes half precision."""
    for name in ("to", "dtype"):
        if node.attributes.get_int(name, 0) in _TYPES:
            node.attributes[name] = ir.AttrInt64(name, FLOAT.value)
    tensor = node.attributes.get_tensor("value", None)
    if tensor is not None and tensor.dtype in HALVES:
        node.attributes["value"] = ir.AttrTensor("value", _float_tensor(tensor))


def _float_tensor(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    def floats() -> ir.TensorProtocol:
        return ir.tensor(tensor.numpy().astype(np.float32), name=tensor.name)

    return ir.LazyTensor(floats, FLOAT, ir.Shape(tensor.shape.numpy()), name=tensor.name)


def _type_of(value: ir.Value) -> ir.DataType | None:
    tensor = value.const_value
    return value.dtype if tensor is None else tensor.dtype


def _is_half(value: ir.Value) -> bool:
    return _type_of(value) in HALVES
