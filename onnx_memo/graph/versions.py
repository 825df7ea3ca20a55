"""The versions of ONNX that a model asks for: as low as its content allows, so that old runtimes read it."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx_ir as ir

FUNCTIONS_SINCE = 8  # the IR version that brought model-local functions

# What IR versions brought element types; the operators that take them came with opsets that need these.
_TYPES_SINCE = {
    9: ("FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ"),
    10: ("INT4", "UINT4"),
    11: ("FLOAT4E2M1",),
    12: ("FLOAT8E8M0",),
    13: ("INT2", "UINT2"),
}
_SINCE = {name: version for version, names in _TYPES_SINCE.items() for name in names}


def lower_versions(model: ir.Model) -> None:
    """Drop operator sets that no node is of, and state the lowest IR version that the rest needs.

    Exporters often state a newer one. It is raised only where the model holds functions, which need 8.
    """
    nodes = [*model.graph.all_nodes()]
    for function in model.functions.values():
        nodes.extend(function.all_nodes())
    used = {node.domain for node in nodes}
    for domain in [domain for domain in model.opset_imports if domain and domain not in used]:
        del model.opset_imports[domain]
    least = FUNCTIONS_SINCE if model.functions else 0
    model.ir_version = max(least, min(model.ir_version, _needed(model, nodes)))


def _needed(model: ir.Model, nodes: list[ir.Node]) -> int:
    """The IR version that operator sets and element types need."""
    standard = {"", *(domain for domain in model.opset_imports if domain.startswith("ai.onnx"))}
    opsets = [onnx.helper.make_opsetid(domain, model.opset_imports[domain]) for domain in standard]
    try:
        needed = onnx.helper.find_min_ir_version_for(opsets)
    except ValueError:  # newer than the installed ONNX knows
        return model.ir_version
    return max(needed, *(_SINCE.get(dtype.name, 0) for dtype in _types(model, nodes)))


def _types(model: ir.Model, nodes: list[ir.Node]) -> Iterator[ir.DataType]:
    """The element types of values and tensors, as far as they are known; at least one."""
    yield ir.DataType.FLOAT
    graphs = (model.graph, *model.graph.subgraphs())
    values = [value for graph in graphs for value in (*graph.inputs, *graph.initializers.values())]
    values += [value for node in nodes for value in node.outputs]
    yield from (value.dtype for value in values if value.dtype is not None)
    for attribute in (attribute for node in nodes for attribute in node.attributes.values()):
        if isinstance(attribute, ir.Attr) and attribute.type == ir.AttributeType.TENSOR:
            yield attribute.as_tensor().dtype
