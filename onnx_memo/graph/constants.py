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
from onnx_memo.graph.shapes import Shape, ShapeTable

OTHER_LENGTH = 12
MOST_NODES = 200
MOST_NUMBERS = 64


class Constants:
    """Evaluates values of one model.

    Attributes:
        found: what came out as constant so far.
    """

    def __init__(self, model: ir.Model, table: ShapeTable, length: int) -> None:
        """Compares what comes out at `length` and at another one."""
        self.model = model
        self.shapes = [table.at(size, follow=True) for size in (length, OTHER_LENGTH)]
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
    known: dict[str, npt.NDArray[Any]] = {str(key.name): array for key, array in (given or {}).items()}
    nodes = _gather(value, shapes, known, set(given or ()), most_numbers)
    array = None if nodes is None else _run(model, value, nodes, known)
    return array if array is not None and array.size <= most_numbers else None


def _gather(
    value: ir.Value,
    shapes: Mapping[str, Shape],
    known: dict[str, npt.NDArray[Any]],
    seen: set[ir.Value],
    most_numbers: int,
) -> list[ir.Node] | None:
    """The nodes that make `value` of what is `known`; None where that is impossible.

    Constants and shapes are added to what is known. Values of `seen` are not followed further.
    """
    nodes: list[ir.Node] = []
    todo = [value]
    while todo:
        current = todo.pop()
        if current in seen:
            continue
        seen.add(current)
        producer = current.producer()
        if producer is None or producer.op_type == "Shape":
            array = _stored(current, most_numbers) if producer is None else _read_shape(producer, shapes)
            if array is None:
                return None
            known[str(current.name)] = array
        elif len(nodes) > MOST_NODES or producer.op_type in flow.RANDOM or producer.op_type == "If":
            return None
        else:
            if producer not in nodes:
                nodes.append(producer)
            todo.extend(flow.inputs_of(producer))
    return nodes


def _stored(value: ir.Value, most_numbers: int) -> npt.NDArray[Any] | None:
    """The content of an initializer, if it is a small one that no caller can replace."""
    tensor = value.const_value
    if tensor is None or value.is_graph_input() or tensor.size > most_numbers:
        return None
    return tensor.numpy()


def _read_shape(node: ir.Node, shapes: Mapping[str, Shape]) -> npt.NDArray[np.int64] | None:
    """What a `Shape` node gives, if the shape is known."""
    source = node.inputs[0]
    shape = shapes.get(str(source.name)) if source is not None else None
    if shape is None or any(dim is None for dim in shape):
        return None
    begin, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", len(shape))
    return np.asarray(shape[begin:end], np.int64)


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
