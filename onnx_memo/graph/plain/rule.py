"""What a rule is: it writes what an operator computes in plain operators, in floats.

A rule is given a builder and a node, whose inputs are plain already: floats where the model has any floating
type. It writes nodes of ONNX's own that any opset from 14 on has, in the form in which
`onnx_memo.graph.sites` and `onnx_memo.graph.encoder` find attention, and returns what takes the place of the
node's outputs, in order, of all that the operator may have, whether the node names them or not; None where an
output is not made, which then nobody may read. A rule that returns nothing at all leaves the node as it is,
plain. What it writes may have rules of its own: they are applied.

A result in integers is written as `QuantizeLinear` of the floats that it stands for, and whoever takes
integers for floats looks through the quantizer (`onnx_memo.graph.plain.integers`). So every value keeps its
type and its meaning, whoever reads it, and quantizers that nobody reads any more are removed in the end.

What this module has beside the interface is what rules ask of a node.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import onnx_ir as ir

from onnx_memo.graph.build import Builder

MICROSOFT = "com.microsoft"


class Kept(Exception):
    """A node is not taken apart; carries the reason, as it is said to people."""


Rule = Callable[[Builder, ir.Node], Sequence[ir.Value | None] | None]
Rules = Mapping[tuple[str, str], Rule]  # by domain ("" is ONNX's own) and operator


def optional(node: ir.Node, at: int) -> ir.Value | None:
    """An input, if it is given."""
    return node.inputs[at] if at < len(node.inputs) else None


def required(node: ir.Node, at: int) -> ir.Value:
    """An input. Raises Kept where it is not given."""
    value = optional(node, at)
    if value is None:
        raise Kept(f"its input {at} is not given")
    return value


def check_inputs(node: ir.Node, others: Mapping[int, str], known: int) -> None:
    """Raises Kept where a node reads what no plain form is written for.

    Args:
        node: the node.
        others: inputs that are refused, with what they are.
        known: how many inputs are known; what stands behind them came with a newer version.
    """
    for at in range(len(node.inputs)):
        if optional(node, at) is not None and (at in others or at >= known):
            raise Kept(f"it reads {others.get(at, f'an input that is not known, number {at}')}")


def check_attributes(node: ir.Node, known: Collection[str]) -> None:
    """Raises Kept where a node has an attribute beside those `known`: it came with a newer version."""
    for name in node.attributes:
        if name not in known:
            raise Kept(f"its attribute '{name}' is not known")


def width_of(value: ir.Value) -> int | None:
    """The size of the last axis, if the value states it, or the weight or bias that it is made with."""
    node = value.producer()
    width = _stated(value)
    if width is None and node is not None and node.op_type in ("MatMul", "Add"):
        beside = node.inputs[1:] if node.op_type == "MatMul" else node.inputs
        widths = (_stated(other) for other in beside if other is not None)
        width = next((found for found in widths if found not in (None, 1)), None)
    return width


def _stated(value: ir.Value) -> int | None:
    last = value.shape[-1] if value.shape else None
    return last if isinstance(last, int) else None


def rank_of(value: ir.Value) -> int | None:
    """The number of axes, if the value states it, or the node that makes it."""
    node = value.producer()
    if value.shape is not None:
        return len(value.shape)
    if node is None or node.inputs[:1] in ((), (None,)):
        return None
    if node.op_type == "Transpose" and "perm" in node.attributes:
        return len(node.attributes.get_ints("perm", ()))
    if node.op_type == "Reshape" and node.inputs[1] is not None and node.inputs[1].shape is not None:
        size = node.inputs[1].shape[0]
        return size if isinstance(size, int) else None
    return rank_of(node.inputs[0]) if node.op_type in ("Cast", "Identity") and node.inputs[0] else None


# What makes truths of whatever it is given.
_TRUTHS = frozenset({"And", "Or", "Xor", "Not", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"})
_SAME_TYPE = {
    "Where": 1,
    **dict.fromkeys(("Unsqueeze", "Squeeze", "Expand", "Reshape", "Identity", "Slice"), 0),
}


def type_of(value: ir.Value) -> ir.DataType | None:
    """The type of a value's numbers, if the value states it, or what makes it."""
    node = value.producer()
    if value.dtype is not None or node is None:
        return value.dtype
    if node.op_type in _TRUTHS:
        return ir.DataType.BOOL
    if node.op_type == "Cast":
        return ir.DataType(node.attributes.get_int("to", 0))
    source = node.inputs[_SAME_TYPE[node.op_type]] if node.op_type in _SAME_TYPE else None
    return None if source is None else type_of(source)
