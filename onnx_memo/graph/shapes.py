"""The shape of every value at one telling size of the inputs.

Attention is recognized by shapes, and exporters name dimensions as they like. So the free
dimensions get numbers that are found nowhere else (a batch of 3, a length of 127), and ONNX's
own shape inference tells what becomes of them.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir

BATCH = 3
LENGTHS = (127, 13)  # the second for models that know few positions

Shape = tuple[int | None, ...]


def infer_shapes(model: ir.Model, length: int) -> dict[str, Shape]:
    """Shapes by value name with a batch of `BATCH` and sequences of `length`; None: not known.

    Dimensions that the model fixes stay as they are, and so do those of inputs of rank 4 and more
    (pictures), but for the batch.
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
    inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    shapes: dict[str, Shape] = {}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        if value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            shapes[value.name] = tuple(d.dim_value if d.HasField("dim_value") else None for d in dims)
    for tensor in inferred.initializer:
        shapes[tensor.name] = tuple(tensor.dims)
    return shapes


def _fix(value: onnx.ValueInfoProto, length: int) -> None:
    dims = value.type.tensor_type.shape.dim
    for axis, dim in enumerate(dims):
        if dim.HasField("dim_value"):
            continue
        if axis == 0:
            dim.dim_value = BATCH
        elif len(dims) < 4:
            dim.dim_value = length
