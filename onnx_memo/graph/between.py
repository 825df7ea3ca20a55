"""What may stand between two cuts of an attention block, and what may not stand beside one."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from onnx_memo.graph import flow

INTEGER_PRODUCTS = frozenset({"MatMulInteger", "ConvInteger"})
QUANTIZERS = frozenset({"QuantizeLinear", "DynamicQuantizeLinear"})

# What may stand between two cuts: moves data, or works on every element or row by itself.
MOVES = frozenset(
    {"Transpose", "Reshape", "Identity", "Cast", "Squeeze", "Unsqueeze", "Flatten", "Split", "Slice"}
    | {"Gather", "Expand", "Dropout"}
)
ROW_WISE = frozenset({"Mul", "Div", "Add", "Sub", "Where", "IsNaN", "DynamicQuantizeLinear", "Clip"}) | {
    "LayerNormalization",
    "QuantizeLinear",
    "DequantizeLinear",
}


def why_no_level(graph: ir.Graph, batch: int, constant: Collection[ir.Node]) -> str | None:
    """Why no block of a model can be guarded by itself, if so; `batch` is the one that it fixes, if any.

    Where the batch is fixed to one, and around quantizers, ONNX Runtime fuses across all cuts but those
    around the encoder: what misses would not be the original's to the last bit. And what a hit gives in half
    precision would be quantized again, with steps more or less that later layers amplify.
    """
    if batch == 1:
        return "the model fixes the batch to one, where only whole requests are reused"
    for node in graph:
        if node.op_type in QUANTIZERS and node not in constant:
            return f"the model quantizes what attention passes on ('{node.name}', {node.op_type})"
    return None


def is_float(value: ir.Value) -> bool:
    """Whether the numbers are meant as they are: no integers, and none cast that still lack their scale."""
    producer = value.producer()
    if producer is not None and producer.op_type == "Cast":
        source = producer.inputs[0]
        producer = source.producer() if source is not None else None
        if producer is None or producer.op_type not in INTEGER_PRODUCTS:
            producer = None
    if producer is not None and producer.op_type in INTEGER_PRODUCTS | QUANTIZERS:
        return False
    return value.dtype in (None, ir.DataType.FLOAT)


def products_after(probabilities: ir.Value) -> list[tuple[ir.Value, ir.Node]]:
    """The products that a softmax's result enters, through whatever keeps its shape, and in which form."""
    seen = {probabilities}
    todo = [probabilities]
    products: list[tuple[ir.Value, ir.Node]] = []
    while todo:
        value = todo.pop(0)
        for reader in readers_of(value):
            if reader.op_type == "MatMul":
                products.append((value, reader))
            elif reader.op_type in MOVES | ROW_WISE:
                fresh = [result for result in reader.outputs if result not in seen]
                seen.update(fresh)
                todo.extend(fresh)
    return products


def readers_of(value: ir.Value) -> list[ir.Node]:
    """The nodes that read the data of `value`, each once."""
    found: dict[ir.Node, None] = {}
    for node, _ in value.uses():
        if node.op_type not in flow.SHAPE_READERS:
            found[node] = None
    return list(found)
