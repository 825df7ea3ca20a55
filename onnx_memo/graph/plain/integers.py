"""Integers that stand for floats: (integer - zero point) * scale.

Weights are dequantized, as a few nodes on constants that ONNX Runtime computes when it loads the model. (It
does not compute `DequantizeLinear` there: with a product behind it, it makes one in 8 or 4 bits of them that
quantizes the other operand as well.) Activations are not quantized in the first place: what reads integers
is given the floats that the quantizer in front of it reads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.graph.plain.rule import Kept

QUANTIZE = "QuantizeLinear"  # of ONNX, and of Microsoft's domain with more types
# Move integers as they would move the floats that they stand for.
MOVES = frozenset(
    {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Split", "Slice", "Gather", "Expand"}
)
# No result is below these.
LEAST = {"Softmax": 0, "Relu": 0, "Sigmoid": 0, "Exp": 0, "Abs": 0, "Sqrt": 0, "Erf": -1, "Tanh": -1}
KEEP_LEAST = MOVES | {"ReduceMean", "ReduceMax"}


def constant(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The tensor of a constant that no caller can replace; None if `value` is no constant."""
    if value is None or value.is_graph_input():
        return None
    producer = value.producer()
    if producer is not None:
        attribute = producer.attributes.get("value") if producer.op_type == "Constant" else None
        return attribute.as_tensor() if attribute is not None else None
    return value.const_value


def inputs_of(node: ir.Node, count: int) -> list[ir.Value | None]:
    """The inputs of a node, as many as its operator has; None for those that are left out."""
    return [*node.inputs, *[None] * count][:count]


def needed(value: ir.Value | None) -> ir.Value:
    """`value`; raises Kept if it is left out."""
    if value is None:
        raise Kept("it lacks an input")
    return value


def floats(
    b: Builder,
    value: ir.Value | None,
    scale: ir.Value | None,
    zero: ir.Value | None,
    columns: bool = True,
) -> ir.Value:
    """What integers stand for, whether they are weights or activations.

    Args:
        b: takes the nodes.
        value: the integers.
        scale: one number, or one for each column, which is a place of the last axis.
        zero: the zero point, one number or as many as scales; None: 0.
        columns: whether there may be more than one scale.

    Raises:
        Kept: the scales are others.
    """
    value, scale = needed(value), needed(scale)
    made_of = unquantized(b, value, scale, zero)
    if made_of is not None:
        return made_of
    last = None if value.shape is None else tuple(value.shape)[-1:]
    for parameter in (scale, zero):
        if parameter is None or is_single(parameter):
            continue
        if not columns or parameter.shape is None or tuple(parameter.shape) != last:
            raise Kept(f"the scales of '{value.name}' are neither one number nor one a column")
    return dequantized(b, value, scale, zero)


def dequantized(b: Builder, value: ir.Value, scale: ir.Value, zero: ir.Value | None) -> ir.Value:
    """(value - zero) * scale, as nodes; all three broadcast. A single constant number is written as such."""
    tensor = constant(value)
    if tensor is not None and tensor.size == 1 and is_single(scale) and (zero is None or is_single(zero)):
        number, factor, offset = _numbers(value), _numbers(scale), _numbers(zero)
        if number is not None and factor is not None and offset is not None:
            return b.const(((number - offset) * factor).reshape(tensor.shape.numpy()), np.float32)
    steps = b.op("Cast", value, to=ir.DataType.FLOAT.value)
    if zero is not None:
        steps = b.op("Sub", steps, b.op("Cast", zero, to=ir.DataType.FLOAT.value))
    return b.op("Mul", steps, scale)


def dequantized_along(
    b: Builder, value: ir.Value, scale: ir.Value, zero: ir.Value | None, axis: int
) -> ir.Value:
    """As `dequantized`, with one scale, or one for each place of an axis.

    Raises:
        Kept: the scales are others, or the rank is not known.
    """
    if not is_single(scale):
        shape = [] if value.shape is None else list(value.shape)
        if scale.shape is None or not -len(shape) <= axis < len(shape) or scale.shape != (shape[axis],):
            raise Kept(f"the scales of '{value.name}' do not fit its axis {axis}")
        after = range(1, len(shape) - axis % len(shape))
        if after:
            axes = b.i64(*after)
            scale = b.op("Unsqueeze", scale, axes)
            zero = b.op("Unsqueeze", zero, axes) if zero is not None and not is_single(zero) else zero
    return dequantized(b, value, scale, zero)


def quantized(b: Builder, value: ir.Value, scale: ir.Value | None, zero: ir.Value | None) -> ir.Value:
    """Integers that stand for `value`."""
    return b.op(QUANTIZE, value, needed(scale), zero)


def unquantized(b: Builder, value: ir.Value, scale: ir.Value, zero: ir.Value | None) -> ir.Value | None:
    """The floats of which a quantizer with this scale and zero point made `value`; None if none did."""
    node = value.producer()
    if node is None:
        return None
    if node.op_type == "DynamicQuantizeLinear":
        return node.inputs[0] if tuple(node.outputs) == (value, scale, zero) else None
    if node.op_type != QUANTIZE:
        return None
    source, own_scale, own_zero = inputs_of(node, 3)
    if source is None or own_scale is None or not (same(own_scale, scale) and same(own_zero, zero)):
        return None
    return _saturated(b, source, own_scale, own_zero or zero)


def is_single(value: ir.Value) -> bool:
    """Whether a value is one number."""
    return value.shape is not None and all(dim == 1 for dim in value.shape)


def same(one: ir.Value | None, other: ir.Value | None) -> bool:
    """Whether two scales, or two zero points, are the same; a zero point of None is 0."""
    if one is other:
        return True
    first, second = (_numbers(value) for value in (one, other))
    return first is not None and second is not None and np.array_equal(first, second)


def _numbers(value: ir.Value | None) -> npt.NDArray[Any] | None:
    if value is None:
        return np.zeros(1)
    tensor = constant(value)
    return None if tensor is None else tensor.numpy().astype(np.float64).ravel()


def _saturated(b: Builder, source: ir.Value, scale: ir.Value, zero: ir.Value | None) -> ir.Value | None:
    """`source`, below 0 cut off where its integers begin at 0; None where that is not known.

    ONNX Runtime's quantizer leaves out a Relu or a Clip before integers that cannot be negative anyway.
    """
    steps, first = _numbers(scale), _numbers(zero)
    if steps is None or first is None or steps.size != 1 or first.size != 1:
        return None
    dtype = ir.DataType.UINT8 if zero is None or zero.dtype is None else zero.dtype
    if not dtype.is_integer():
        return None
    lowest, highest = (-(2 ** (dtype.bitwidth - 1)) if dtype.is_signed() else 0), 2**dtype.bitwidth - 1
    if first[0] != lowest or _least(source) >= 0:
        return source
    return b.op("Clip", source, b.const(0, np.float32), b.const(steps[0] * highest, np.float32))


def _least(value: ir.Value | None, depth: int = 4) -> float:
    """A number that no element of `value` is below, as far as a few operators before it tell."""
    node = value.producer() if value is not None else None
    if value is None or depth == 0:
        return -math.inf
    if (numbers := _numbers(value)) is not None:
        return float(numbers.min(initial=math.inf))
    if node is None:
        return -math.inf
    least = LEAST.get(node.op_type)
    if least is not None:
        return least
    if node.op_type == "Mul":
        return 0 if node.inputs[0] is node.inputs[1] else -math.inf
    if node.op_type == "Pow":
        exponent = _numbers(node.inputs[1])
        return 0 if exponent is not None and not np.any(exponent % 2) else -math.inf
    if node.op_type == "Where":
        return min(_least(read, depth - 1) for read in node.inputs[1:])
    if node.op_type == "Add":
        return sum(_least(read, depth - 1) for read in node.inputs)
    return _least(node.inputs[0], depth - 1) if node.op_type in KEEP_LEAST else -math.inf


def moved(b: Builder, node: ir.Node) -> Sequence[ir.Value] | None:
    """Rule: what moves integers moves the floats that they stand for, and these are quantized after it."""
    value = node.inputs[0]
    quantizer = value.producer() if value is not None else None
    if value is None or quantizer is None or quantizer.op_type != QUANTIZE:
        return None
    source, scale, *zero = quantizer.inputs
    if scale is None or not is_single(scale) or "block_size" in quantizer.attributes:
        return None
    return [b.again(quantizer, result, scale, *zero)[0] for result in b.again(node, source, *node.inputs[1:])]
