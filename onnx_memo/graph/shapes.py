"""The shape of every value at one telling size of the inputs.

Attention is recognized by shapes, and exporters name dimensions as they like. So the free
dimensions get numbers that are found nowhere else (a batch of 3, a length of 127), and ONNX's
own shape inference tells what becomes of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

BATCH = 3
LENGTHS = (127, 13)  # the second for models that know few positions

MOST_NUMBERS = 1024  # of a constant that sizes may be computed from
# What exporters compute sizes with.
FOLDED = frozenset(
    {"Gather", "Concat", "Unsqueeze", "Squeeze", "Slice", "Cast", "Reshape", "Range", "ConstantOfShape"}
    | {"Add", "Sub", "Mul", "Div", "Mod", "Neg", "Max", "Min", "Equal", "Less", "Greater", "Where", "Expand"}
    | {"Size", "Identity", "ReduceProd", "ReduceMax", "Floor", "Ceil", "Sqrt"}
)

Shape = tuple[int | None, ...]


def batch_of(model: ir.Model) -> int:
    """The batch that shapes are inferred with: 1 where the model fixes it to 1, else `BATCH`."""
    given = [value.shape for value in model.graph.inputs if not value.is_initializer()]
    return 1 if given and all(shape is not None and shape[:1] == (1,) for shape in given) else BATCH


def infer_shapes(model: ir.Model, length: int, *, follow: bool = False) -> dict[str, Shape]:
    """Shapes by value name with a batch of `BATCH` and sequences of `length`; None: not known.

    Dimensions that the model fixes stay as they are, and so do those of inputs of rank 4 and more
    (pictures), but for the batch. With `follow`, sizes are followed through what computes with them.
    """
    proto = ir.to_proto(model)
    graph = proto.graph
    initializers = {tensor.name for tensor in graph.initializer}
    for value in graph.input:
        if value.name not in initializers:
            _fix(value, length)
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    del graph.value_info[:]
    _leave_out_weights(graph)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    while True:
        shapes = _shapes_of(onnx.shape_inference.infer_shapes(proto, data_prop=True).graph)
        if not follow or not _fold(proto, shapes, constants):
            return shapes


def _leave_out_weights(graph: onnx.GraphProto) -> None:
    """Make inputs of all large initializers: only their shapes matter, and copying them takes long."""
    given = {value.name for value in graph.input}
    small = [tensor for tensor in graph.initializer if math.prod(tensor.dims) <= MOST_NUMBERS]
    for tensor in graph.initializer:
        if math.prod(tensor.dims) > MOST_NUMBERS and tensor.name not in given:
            graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            )
    kept = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in small]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _shapes_of(graph: onnx.GraphProto) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            shapes[value.name] = tuple(d.dim_value if d.HasField("dim_value") else None for d in dims)
    for tensor in graph.initializer:
        shapes[tensor.name] = tuple(tensor.dims)
    return shapes


def _fold(
    proto: onnx.ModelProto, shapes: Mapping[str, Shape], constants: dict[str, onnx.TensorProto]
) -> bool:
    """Turn sizes that are known by now, and what is computed from them alone, into constants.

    ONNX's inference does not follow sizes through every operator; given the numbers it goes on. Returns
    whether anything was found.
    """
    found = False
    for node in proto.graph.node:
        if node.op_type == "Constant":
            if node.output[0] not in constants:
                for attribute in node.attribute:
                    if attribute.name == "value" and math.prod(attribute.t.dims) <= MOST_NUMBERS:
                        constants[node.output[0]] = attribute.t
            continue
        value = _folded(node, proto, shapes, constants)
        if value is not None and value.size <= MOST_NUMBERS:
            constants[node.output[0]] = onnx.numpy_helper.from_array(value, node.output[0])
            node.CopyFrom(
                onnx.helper.make_node("Constant", [], node.output, node.name, value=constants[node.output[0]])
            )
            found = True
    return found


def _folded(
    node: onnx.NodeProto,
    proto: onnx.ModelProto,
    shapes: Mapping[str, Shape],
    constants: Mapping[str, onnx.TensorProto],
) -> npt.NDArray[Any] | None:
    """The result of a node, if it follows from known shapes or constants; else None."""
    if node.op_type == "Shape":
        shape = shapes.get(node.input[0])
        if shape is None or None in shape:
            return None
        part = {attribute.name: attribute.i for attribute in node.attribute}
        return np.asarray(shape[part.get("start", 0) : part.get("end", len(shape))], np.int64)
    if node.op_type not in FOLDED or not all(name in constants for name in node.input if name):
        return None
    given = {name: constants[name] for name in node.input if name}
    graph = onnx.helper.make_graph(
        [node], "one", [], [onnx.helper.make_empty_tensor_value_info(node.output[0])]
    )
    for name, tensor in given.items():
        graph.initializer.append(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), name))
    model = onnx.helper.make_model(graph, opset_imports=proto.opset_import)
    try:
        (result,) = ReferenceEvaluator(model).run(None, {})
    except Exception:  # whatever the evaluator does not know stays unknown
        return None
    return np.asarray(result)


def _fix(value: onnx.ValueInfoProto, length: int) -> None:
    dims = value.type.tensor_type.shape.dim
    for axis, dim in enumerate(dims):
        if dim.HasField("dim_value"):
            continue
        if axis == 0:
            dim.dim_value = BATCH
        elif len(dims) < 4:
            dim.dim_value = length
