"""The shape of every value at one telling size of the inputs.

Attention is recognized by shapes, and exporters name dimensions as they like. So the free
dimensions get numbers that are found nowhere else (a batch of 3, a length of 127), and ONNX's
own shape inference tells what becomes of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from onnx_memo.errors import MemoError, reason_of

BATCH = 3
LENGTHS = (127, 13)  # the second for models that know few positions

MOST_FOLDED = 1024  # of a constant that sizes may be computed from
# What exporters compute sizes with.
FOLDED = frozenset(
    {"Gather", "Concat", "Unsqueeze", "Squeeze", "Slice", "Cast", "Reshape", "Range", "ConstantOfShape"}
    | {"Add", "Sub", "Mul", "Div", "Mod", "Neg", "Max", "Min", "Equal", "Less", "Greater", "Where", "Expand"}
    | {"Size", "Identity", "ReduceProd", "ReduceMax", "Floor", "Ceil", "Sqrt"}
    | {"Not", "And", "Or"}  # what decides about branches
    | {"Split"}  # ONNX Runtime's optimizer takes shapes apart so
)

# Their results have the shape of the first operand, which ONNX's inference does not know.
LIKE_FIRST = frozenset({"GroupNormalization"})

STANDARD = ("", "ai.onnx")  # the domains of ONNX's own operators
Shape = tuple[int | None, ...]


def is_number(dtype: ir.DataType | None) -> bool:
    """Whether NumPy knows numbers of this type (truths count), and ONNX Runtime takes them from it."""
    try:
        return dtype is not None and dtype.numpy().kind in "biuf"
    except TypeError:
        return False


def batch_of(model: ir.Model) -> int:
    """The batch that shapes are inferred with: 1 where the model fixes it to 1, else `BATCH`."""
    given = [value.shape for value in model.graph.inputs if not value.is_initializer()]
    return 1 if given and all(shape is not None and shape[:1] == (1,) for shape in given) else BATCH


class ShapeTable:
    """The shapes of all values of a model, by size of the inputs; each size is inferred once.

    The model must not change meanwhile.
    """

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self._shapes: dict[tuple[int, bool], dict[str, Shape]] = {}

    def at(self, length: int, *, follow: bool = False) -> Mapping[str, Shape]:
        """Shapes by value name with a batch of `BATCH` and sequences of `length`; None: not known.

        Raises MemoError where ONNX's inference fails.

        Dimensions that the model fixes stay as they are, and so do those of inputs of rank 4 and more
        (pictures), but for the batch. With `follow`, sizes are followed through what computes with them.
        """
        if (length, follow) not in self._shapes:
            self._shapes[length, follow] = (
                self._follow(length) if follow else self._infer(self._sized(length))
            )
        return self._shapes[length, follow]

    def _follow(self, length: int) -> dict[str, Shape]:
        proto, shapes = self._sized(length), dict(self.at(length))
        constants = {tensor.name: tensor for tensor in proto.graph.initializer}
        while _fold(proto, shapes, constants):
            shapes = self._infer(proto)
        return shapes

    def _infer(self, proto: onnx.ModelProto) -> dict[str, Shape]:
        try:
            inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
        except Exception as error:  # whatever it meets in a foreign graph
            raise MemoError(
                f"ONNX cannot infer the shapes of the model ({reason_of(error)}): export it another way"
            ) from error
        return _shapes_of(inferred.graph)

    def _sized(self, length: int) -> onnx.ModelProto:
        """The model with sizes for its free dimensions."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self._bare)
        for value in proto.graph.input:
            if value.name in self._given:
                _fix(value, length)
        return proto

    @cached_property
    def _given(self) -> set[str]:
        """The names of the inputs that a caller has to give."""
        return {str(value.name) for value in self.model.graph.inputs if not value.is_initializer()}

    @cached_property
    def _bare(self) -> onnx.ModelProto:
        """The model without weights and without the shapes that it was saved with."""
        proto, _ = without_weights(self.model)
        for node in proto.graph.node:
            if node.op_type in LIKE_FIRST and node.domain in STANDARD:
                node.CopyFrom(onnx.helper.make_node("Relu", node.input[:1], node.output, node.name))
        for output in proto.graph.output:
            output.type.tensor_type.ClearField("shape")
        del proto.graph.value_info[:]
        return proto


def without_weights(model: ir.Model) -> tuple[onnx.ModelProto, dict[str, ir.TensorProtocol]]:
    """A model whose large initializers are inputs, for whom only their shapes matter; and these, by name.

    Copying them takes long.
    """
    bare, weights = model.clone(), dict[str, ir.TensorProtocol]()
    for name, value in list(bare.graph.initializers.items()):
        tensor = value.const_value
        large = tensor is not None and tensor.size > MOST_FOLDED
        if tensor is not None and (large or isinstance(tensor, ir.ExternalTensor)):
            value.type, value.shape = ir.TensorType(tensor.dtype), ir.Shape(tensor.shape.numpy())
            del bare.graph.initializers[name]
            value.const_value = None
            weights[name] = tensor
            if not value.is_graph_input():
                bare.graph.inputs.append(value)
    return ir.to_proto(bare), weights


def lost_at(value: ir.Value, shapes: Mapping[str, Shape]) -> ir.Node | None:
    """A node before `value` at which shapes are lost: its inputs' are known, and not all of its results'.

    Where there are several, one that ONNX does not know counts first.
    """
    todo, seen, lost = [value], {value}, []
    while todo:
        node = todo.pop().producer()
        if node is None:
            continue
        unknown = [before for before in node.inputs if before is not None and not _known(before, shapes)]
        if not unknown and not all(_known(made, shapes) for made in node.outputs):
            lost.append(node)
        todo += [before for before in unknown if before not in seen]
        seen.update(unknown)
    return min(lost, key=lambda node: node.domain in STANDARD, default=None)


def _known(value: ir.Value, shapes: Mapping[str, Shape]) -> bool:
    return None not in shapes.get(value.name or "", (None,))


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

    ONNX's inference does not follow sizes through every operator; given the numbers it goes on. So it does
    where a branch is taken that sizes decide about. Returns whether anything was found.
    """
    nodes, found = list[onnx.NodeProto](), False
    for node in proto.graph.node:
        taken = _taken(node, constants)
        if taken is not None:
            nodes += taken
            found = True
            continue
        if node.op_type == "Constant":
            if node.output[0] not in constants:
                for attribute in node.attribute:
                    if attribute.name == "value" and math.prod(attribute.t.dims) <= MOST_FOLDED:
                        constants[node.output[0]] = attribute.t
            nodes.append(node)
            continue
        values = _folded(node, proto, shapes, constants)
        if values is None or any(value.size > MOST_FOLDED for value in values):
            nodes.append(node)
            continue
        for name, value in zip(node.output, values, strict=True):
            constants[name] = onnx.numpy_helper.from_array(value, name)
            nodes.append(onnx.helper.make_node("Constant", [], [name], name, value=constants[name]))
        found = True
    if found:
        made = onnx.GraphProto(node=nodes)
        proto.graph.ClearField("node")
        proto.graph.node.extend(made.node)
    return found


def _taken(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> list[onnx.NodeProto] | None:
    """What an `If` of a known condition comes to: the nodes of one branch; None: it is none."""
    if node.op_type != "If" or node.input[0] not in constants:
        return None
    truth = bool(onnx.numpy_helper.to_array(constants[node.input[0]]).ravel()[0])
    name = "then_branch" if truth else "else_branch"
    (branch,) = (attribute.g for attribute in node.attribute if attribute.name == name)
    given = [
        onnx.helper.make_node("Constant", [], [tensor.name], tensor.name, value=tensor)
        for tensor in branch.initializer
    ]
    passed = [
        onnx.helper.make_node("Identity", [made.name], [name], name)
        for made, name in zip(branch.output, node.output, strict=True)
    ]
    return [*given, *branch.node, *passed]


def _folded(
    node: onnx.NodeProto,
    proto: onnx.ModelProto,
    shapes: Mapping[str, Shape],
    constants: Mapping[str, onnx.TensorProto],
) -> list[npt.NDArray[Any]] | None:
    """The results of a node, if they follow from known shapes or constants; else None."""
    if node.op_type == "Shape":
        shape = shapes.get(node.input[0])
        if shape is None or None in shape:
            return None
        part = {attribute.name: attribute.i for attribute in node.attribute}
        return [np.asarray(shape[part.get("start", 0) : part.get("end", len(shape))], np.int64)]
    if node.op_type not in FOLDED or not all(name in constants for name in node.input if name):
        return None
    graph = onnx.helper.make_graph(
        [node], "one", [], [onnx.helper.make_empty_tensor_value_info(name) for name in node.output]
    )
    try:
        for name in {name for name in node.input if name}:
            array = onnx.numpy_helper.to_array(constants[name])
            graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        model = onnx.helper.make_model(graph, opset_imports=proto.opset_import)
        results = ReferenceEvaluator(model).run(None, {})
    except Exception:  # whatever the evaluator does not know stays unknown
        return None
    return [np.asarray(result) for result in results]


def _fix(value: onnx.ValueInfoProto, length: int) -> None:
    dims = value.type.tensor_type.shape.dim
    for axis, dim in enumerate(dims):
        if dim.HasField("dim_value"):
            continue
        if axis == 0:
            dim.dim_value = BATCH
        elif len(dims) < 4:
            dim.dim_value = length
