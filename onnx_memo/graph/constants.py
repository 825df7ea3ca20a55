"""Small values that are fixed although no initializer says so: they follow from sizes that never change.

Exporters compute scales and sizes from shapes inside the layers (the square root of a head's width, say).
Such a value is evaluated at two lengths of the input; if it comes out the same, it is a constant.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx import reference

from onnx_memo.graph import flow
from onnx_memo.graph.shapes import Shape, infer_shapes

OTHER_LENGTH = 12
MOST_NODES = 200
MOST_NUMBERS = 64


class Constants:
    """Evaluates values of one model.

    Attributes:
        found: what came out as constant so far.
    """

    def __init__(self, model: ir.Model, shapes: Mapping[str, Shape]) -> None:
        """`shapes` are those of the model at one size (`onnx_memo.graph.shapes`)."""
        self.model = model
        self.shapes = (shapes, infer_shapes(model, OTHER_LENGTH, follow=True))
        self.found: dict[ir.Value, npt.NDArray[Any]] = {}
        self.failed: set[ir.Value] = set()

    def array(self, value: ir.Value) -> npt.NDArray[Any] | None:
        """The constant value of a small tensor, or None."""
        if value in self.found:
            return self.found[value]
        if value in self.failed:
            return None
        results = [evaluate(self.model, value, shapes) for shapes in self.shapes]
        first, second = results
        if first is None or second is None or not np.array_equal(first, second):
            self.failed.add(value)
            return None
        self.found[value] = first
        return first

    def numbers(self, value: ir.Value) -> list[float] | None:
        """As `array`, flat."""
        array = self.array(value)
        return None if array is None else [float(number) for number in array.ravel()]


def evaluate(
    model: ir.Model,
    value: ir.Value,
    shapes: Mapping[str, Shape],
    given: Mapping[ir.Value, npt.NDArray[Any]] | None = None,
    most_numbers: int = MOST_NUMBERS,
) -> npt.NDArray[Any] | None:
    """The value where tensors have these shapes; None if it depends on data, or is large.

    Args:
        model: the value's.
        value: what is wanted.
        shapes: of what the model reads the shapes of, by name.
        given: data that is known.
        most_numbers: how many numbers the value and the constants that it is made of may have.
    """
    nodes: list[ir.Node] = []
    known: dict[str, npt.NDArray[Any]] = {str(key.name): array for key, array in (given or {}).items()}
    seen: set[ir.Value] = set(given or ())
    todo = [value]
    while todo:
        current = todo.pop()
        if current in seen:
            continue
        seen.add(current)
        producer = current.producer()
        if producer is None:
            tensor = current.const_value
            if tensor is None or current.is_graph_input() or tensor.size > most_numbers:
                return None
            known[str(current.name)] = tensor.numpy()
        elif producer.op_type == "Shape":
            source = producer.inputs[0]
            shape = shapes.get(str(source.name)) if source is not None else None
            if shape is None or any(dim is None for dim in shape):
                return None
            begin = producer.attributes.get_int("start", 0)
            end = producer.attributes.get_int("end", len(shape))
            known[str(current.name)] = np.asarray(shape[begin:end], np.int64)
        elif len(nodes) > MOST_NODES or producer.op_type in flow.RANDOM or producer.op_type == "If":
            return None
        else:
            if producer not in nodes:
                nodes.append(producer)
            todo.extend(flow.inputs_of(producer))
    array = _run(model, value, nodes, known)
    return array if array is not None and array.size <= most_numbers else None


def _run(
    model: ir.Model, value: ir.Value, nodes: list[ir.Node], known: Mapping[str, npt.NDArray[Any]]
) -> npt.NDArray[Any] | None:
    name = str(value.name)
    if name in known:
        return known[name]
    wanted = set(nodes)
    ordered = [ir.serde.serialize_node(node) for node in model.graph if node in wanted]
    graph = onnx.helper.make_graph(
        ordered,
        "constant",
        [],
        [onnx.helper.make_empty_tensor_value_info(name)],
        [onnx.numpy_helper.from_array(array, key) for key, array in known.items()],
    )
    opset = onnx.helper.make_opsetid("", model.opset_imports[""])
    proto = onnx.helper.make_model(graph, opset_imports=[opset])
    try:
        (result,) = reference.ReferenceEvaluator(proto).run(None, {})
    except Exception:  # whatever the evaluator does not know is not proven constant
        return None
    return np.asarray(result)
