"""Normalizations with what ONNX Runtime fuses into them: residuals, biases, embeddings.

The forms are those of ONNX Runtime's documentation of its operators (docs/ContribOperators.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.graph.plain.rule import MICROSOFT, Kept, Rules, check_attributes, optional, rank_of, required

EPSILON = 1e-12  # where nothing is said
NATIVE = 17  # the opset that brought LayerNormalization


def layer_normalization(
    b: Builder, x: ir.Value, gamma: ir.Value, beta: ir.Value | None, epsilon: float
) -> ir.Value:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta, over the last axis."""
    if b.opset >= NATIVE:
        return b.op("LayerNormalization", x, gamma, *([beta] if beta else []), axis=-1, epsilon=epsilon)
    centred = b.op("Sub", x, b.reduce("ReduceMean", x, -1, keepdims=True))
    even = b.op("Mul", _over_root_mean_square(b, centred, epsilon), gamma)
    return even if beta is None else b.op("Add", even, beta)


def rms_normalization(b: Builder, x: ir.Value, gamma: ir.Value, epsilon: float) -> ir.Value:
    """x / sqrt(mean of squares + epsilon) * gamma, over the last axis."""
    return b.op("Mul", _over_root_mean_square(b, x, epsilon), gamma)


def _over_root_mean_square(b: Builder, x: ir.Value, epsilon: float) -> ir.Value:
    squares = b.reduce("ReduceMean", b.op("Mul", x, x), -1, keepdims=True)
    return b.op("Div", x, b.op("Sqrt", b.op("Add", squares, b.const(epsilon, np.float32))))


def _skip_layer_normalization(b: Builder, node: ir.Node) -> Sequence[ir.Value | None]:
    check_attributes(node, ("epsilon",))
    total = _with_skip(b, node, optional(node, 4))
    epsilon = node.attributes.get_float("epsilon", EPSILON)
    normalized = layer_normalization(b, total, required(node, 2), optional(node, 3), epsilon)
    return normalized, None, None, total


def _skip_rms_normalization(b: Builder, node: ir.Node) -> Sequence[ir.Value | None]:
    check_attributes(node, ("epsilon",))
    total = _with_skip(b, node, optional(node, 3))
    epsilon = node.attributes.get_float("epsilon", EPSILON)
    return rms_normalization(b, total, required(node, 2), epsilon), None, None, total


def _with_skip(b: Builder, node: ir.Node, bias: ir.Value | None) -> ir.Value:
    """The sum of input, skip and bias; the bias goes to the one that is a product, whose own it is."""
    x, skip = required(node, 0), required(node, 1)
    if bias is not None:
        producer = skip.producer()
        if producer is not None and producer.op_type == "MatMul":
            skip = b.op("Add", skip, bias)
        else:
            x = b.op("Add", x, bias)
    return b.op("Add", x, skip)


def _layer_normalization(b: Builder, node: ir.Node) -> Sequence[ir.Value | None]:
    """ONNX Runtime has it before ONNX does, in ONNX's own domain."""
    x, gamma, beta = required(node, 0), required(node, 1), optional(node, 2)
    return layer_normalization(b, x, gamma, beta, _epsilon_along_last(node)), None, None


def _simplified_layer_normalization(b: Builder, node: ir.Node) -> Sequence[ir.Value | None]:
    epsilon = _epsilon_along_last(node)
    return rms_normalization(b, required(node, 0), required(node, 1), epsilon), None


def _epsilon_along_last(node: ir.Node) -> float:
    """The epsilon of a normalization. Raises Kept where it may work along other axes than the last one."""
    check_attributes(node, ("axis", "epsilon", "stash_type"))
    axis = node.attributes.get_int("axis", -1)
    if axis != -1 and axis + 1 != rank_of(required(node, 0)):
        raise Kept(f"it works along axis {axis}, and it is not known that this is the last one")
    return node.attributes.get_float("epsilon", 1e-5)


def _embed_layer_normalization(b: Builder, node: ir.Node) -> Sequence[ir.Value | None]:
    check_attributes(node, ("epsilon", "mask_index_type"))
    ids, segments, mask = required(node, 0), optional(node, 1), optional(node, 7)
    total = b.op("Gather", required(node, 2), ids, axis=0)
    total = b.op("Add", total, _of_positions(b, required(node, 3), ids, optional(node, 8)))
    if segments is not None:
        total = b.op("Add", total, b.op("Gather", required(node, 4), segments, axis=0))
    epsilon = node.attributes.get_float("epsilon", EPSILON)
    normalized = layer_normalization(b, total, required(node, 5), required(node, 6), epsilon)
    return normalized, _count_of_ones(b, b.op("Sub", ids, ids) if mask is None else mask, ids), total


def _of_positions(b: Builder, table: ir.Value, ids: ir.Value, positions: ir.Value | None) -> ir.Value:
    if positions is not None:
        return b.op("Gather", table, positions, axis=0)
    return b.op("Slice", table, b.i64(0), b.dim(ids, 1), b.i64(0))


def _count_of_ones(b: Builder, mask: ir.Value, ids: ir.Value) -> ir.Value:
    """How many numbers of each row are 1: the lengths [B] of sequences that only padding follows."""
    ones = b.op("Equal", b.op("Cast", mask, to=ir.DataType.INT64.value), b.const(1, np.int64))
    count = b.reduce("ReduceSum", b.op("Cast", ones, to=ir.DataType.INT32.value), 1)
    count.type = ir.TensorType(ir.DataType.INT32)
    shapes = [value.shape for value in (mask, ids) if value.shape is not None]
    if shapes:
        count.shape = ir.Shape([shapes[0][0]])
    return count


RULES: Rules = {
    (MICROSOFT, "SkipLayerNormalization"): _skip_layer_normalization,
    (MICROSOFT, "SkipSimplifiedLayerNormalization"): _skip_rms_normalization,
    (MICROSOFT, "EmbedLayerNormalization"): _embed_layer_normalization,
    # ONNX Runtime has these in ONNX's own domain.
    ("", "LayerNormalization"): _layer_normalization,
    ("", "SimplifiedLayerNormalization"): _simplified_layer_normalization,
}
