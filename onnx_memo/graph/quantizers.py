"""What ONNX Runtime fuses around quantizers stays as it is when nodes are merged, or moved into a branch.

Beside `QuantizeLinear` and `DequantizeLinear` ONNX Runtime takes other operators, of integers (QLinearMatMul,
QLinearAdd, MatMulNBits), which round otherwise. Whether it does depends on

- who reads a quantizer: bytes with a sign become bytes without one only where a single node reads them;
- where it stands: what is fused stands in one graph;
- where its constants stand: of some it reads the numbers, and looks for them in that very graph.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import DeduplicateInitializersPass

from onnx_memo.graph.build import Builder, register

Q_AND_DQ = frozenset({"QuantizeLinear", "DequantizeLinear"})
# Operators with one scale for all positions of a request, padded ones too, which the request itself sets.
DYNAMIC = frozenset({"DynamicQuantizeLinear", "DynamicQuantizeMatMul"})
# What ONNX Runtime moves a `DequantizeLinear` past, or removes where nothing comes of it.
PASSED = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "MaxPool", "Cast", "Identity"})


def rounds_by_request(model: ir.Model) -> bool:
    """Whether a model rounds what it computes, with scales that a request itself sets."""
    return any(node.op_type in DYNAMIC for node in model.graph.all_nodes())


def merge_initializers(model: ir.Model) -> None:
    """Merge equal initializers, but those that quantizers read; `model` is changed.

    Quantizers of one value that read the same constants are one to ONNX Runtime, and then have two readers.
    """
    graph = model.graph
    quantizers = [node for node in graph if node.op_type in Q_AND_DQ]
    read = {value for node in quantizers for value in node.inputs if value is not None}
    kept = [value for value in graph.initializers.values() if value in read]
    for value in kept:
        del graph.initializers[str(value.name)]
    DeduplicateInitializersPass()(model)
    for value in kept:
        graph.register_initializer(value)


def take_in_dequantized(branch: ir.Graph, graph: ir.Graph, prefix: str) -> None:
    """Let a branch itself dequantize, and move, what it reads from outside so, by constants of its own.

    Both graphs are changed. Beside other last bits: where what moves a dequantized value stands outside and a
    branch reads its result, ONNX Runtime 1.32 ends the process that loads the model (its
    QDQPropagationTransformer takes the reader for a node with that many inputs).

    Args:
        branch: of a node in `graph`.
        graph: the main graph, whose initializers are the constants.
        prefix: of the names of what is added.
    """
    own = set(branch)
    read = dict.fromkeys(value for node in branch for value in node.inputs if value is not None)
    for number, value in enumerate(value for value in read if value.producer() not in own):
        nodes = dequantizing(value)
        if not nodes:
            continue
        b = Builder(f"{prefix}/dequantized.{number}", branch.opset_imports.get("", 0))
        made = nodes[0].inputs[0]
        for node in nodes:
            (made,) = b.again(node, made, *node.inputs[1:])
        readers = [(reader, at) for reader, at in value.uses() if reader in own]
        branch.insert_before(branch[0], b.nodes)
        for reader, at in readers:
            reader.replace_input_with(at, made)
        for node in reversed(nodes):
            if not any(result.uses() or result.is_graph_output() for result in node.outputs):
                graph.remove(node, safe=True)
    _take_in_constants(branch, graph, prefix)


def dequantizing(value: ir.Value) -> list[ir.Node]:
    """The `DequantizeLinear` that makes a value, and what moves its result, in order; else none."""
    moves = list[ir.Node]()
    node = value.producer()
    while node is not None and node.op_type in PASSED and node.inputs[0] is not None:
        moves.append(node)
        node = node.inputs[0].producer()
    dequantizes = node is not None and node.op_type == "DequantizeLinear"
    return [node, *reversed(moves)] if node is not None and dequantizes else []


def _take_in_constants(branch: ir.Graph, graph: ir.Graph, prefix: str) -> None:
    """Let the quantizers of a branch read initializers of their own in place of the main graph's."""
    constants = {value for value in graph.initializers.values() if not value.is_graph_input()}
    taken: dict[ir.Value, ir.Value] = {}
    for node in (node for node in branch if node.op_type in Q_AND_DQ):
        for at, value in enumerate(node.inputs):
            if value not in constants or value.const_value is None:
                continue
            if value not in taken:
                taken[value] = register(branch, _named(value.const_value, f"{prefix}/{value.name}"))
            node.replace_input_with(at, taken[value])
    for value in taken:
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[str(value.name)]


def _named(tensor: ir.TensorProtocol, name: str) -> ir.TensorProtocol:
    """A tensor by another name."""
    if isinstance(tensor, ir.ExternalTensor):
        return ir.ExternalTensor(
            tensor.location,
            tensor.offset,
            tensor.length,
            tensor.dtype,
            shape=tensor.shape,
            name=name,
            base_dir=tensor.base_dir,
        )
    return ir.Tensor(tensor.numpy(), dtype=tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=name)
