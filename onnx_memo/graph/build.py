"""Write nodes one under the other, each result with a name of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

Attribute = int | float | str | Sequence[int] | ir.Graph | ir.TensorProtocol | ir.Attr


def register(graph: ir.Graph, tensor: ir.TensorProtocol) -> ir.Value:
    """A new initializer of the graph, which holds `tensor` and has its name."""
    value = ir.Value(
        name=str(tensor.name),
        shape=ir.Shape(tensor.shape.numpy()),
        type=ir.TensorType(tensor.dtype),
        const_value=tensor,
    )
    graph.register_initializer(value)
    return value


class Builder:
    """Collects nodes; every value gets the name `prefix/number`, so that scopes never clash.

    Attributes:
        nodes: what was written, in order.
        initializers: what `weight` made, for whoever takes the nodes to register in the main graph.
    """

    def __init__(self, prefix: str, opset: int) -> None:
        self.prefix = prefix
        self.opset = opset
        self.nodes: list[ir.Node] = []
        self.initializers: list[ir.Value] = []
        self._count = 0

    def op(
        self,
        op_type: str,
        *inputs: ir.Value | None,
        domain: str = "",
        name: str | None = None,
        **attributes: Attribute,
    ) -> ir.Value:
        """Append a node with one result and return the result (named `name`, if given)."""
        (result,) = self.ops(
            op_type, *inputs, domain=domain, names=(name or f"{self.prefix}/{self._count}",), **attributes
        )
        return result

    def ops(
        self,
        op_type: str,
        *inputs: ir.Value | None,
        domain: str = "",
        names: Sequence[str],
        **attributes: Attribute,
    ) -> Sequence[ir.Value]:
        """Append a node with as many results as there are `names`, and return them."""
        node = ir.node(op_type, inputs, attributes, domain=domain, num_outputs=len(names))
        for value, name in zip(node.outputs, names, strict=True):
            value.name = name
        node.name = names[0]
        self._count += 1
        self.nodes.append(node)
        return node.outputs

    def const(self, value: npt.ArrayLike, dtype: npt.DTypeLike) -> ir.Value:
        """A constant of any shape, as a node: subgraphs and functions hold no initializers of ours."""
        tensor = ir.tensor(np.asarray(value, dtype))
        result = self.op("Constant", value=tensor)
        result.shape = ir.Shape(tensor.shape.numpy())
        result.type = ir.TensorType(tensor.dtype)
        return result

    def weight(self, compute: Callable[[], npt.NDArray[np.float32]], shape: Sequence[int]) -> ir.Value:
        """A constant in floats that takes neither time nor memory until it is read, each time anew."""
        name = f"{self.prefix}/{self._count}"
        self._count += 1
        tensor = ir.LazyTensor(lambda: ir.tensor(compute()), ir.DataType.FLOAT, ir.Shape(shape), name=name)
        value = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
        self.initializers.append(value)
        return value

    def again(
        self,
        node: ir.Node,
        *inputs: ir.Value | None,
        op_type: str | None = None,
        domain: str | None = None,
    ) -> Sequence[ir.Value]:
        """Append a node with the attributes of `node` and as many results, which reads other inputs.

        It is of another operator where one is named.
        """
        return self.ops(
            op_type or node.op_type,
            *inputs,
            domain=node.domain if domain is None else domain,
            names=[f"{self.prefix}/{self._count}.{number}" for number in range(len(node.outputs))],
            **node.attributes,
        )

    def i64(self, *values: int) -> ir.Value:
        """A 1-D int64 constant."""
        return self.const(values, np.int64)

    def reduce(self, op_type: str, value: ir.Value, axis: int, keepdims: bool = False) -> ir.Value:
        """A reduction over one axis; its axes became an input with opset 18 (ReduceSum: 13)."""
        if op_type == "ReduceSum" or self.opset >= 18:
            return self.op(op_type, value, self.i64(axis), keepdims=int(keepdims))
        return self.op(op_type, value, axes=[axis], keepdims=int(keepdims))

    def dim(self, value: ir.Value, axis: int) -> ir.Value:
        """The size of one axis, as int64[1]."""
        if self.opset >= 15:
            return self.op("Shape", value, start=axis, end=axis + 1)
        return self.op("Gather", self.op("Shape", value), self.i64(axis), axis=0)
