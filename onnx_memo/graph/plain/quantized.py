"""Rules for operators in 8 bits: dynamic, in ONNX Runtime's QOperator form, and between quantizers (QDQ)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.between import INTEGER_PRODUCTS
from onnx_memo.graph.build import Builder
from onnx_memo.graph.plain.blocks import in_blocks
from onnx_memo.graph.plain.integers import (
    MOVES,
    constant,
    dequantized,
    dequantized_along,
    floats,
    inputs_of,
    moved,
    needed,
    quantized,
    unquantized,
)
from onnx_memo.graph.plain.rule import MICROSOFT, Kept, Rules

Results = Sequence[ir.Value | None]


# ---- QDQ


def _dequantize_linear(b: Builder, node: ir.Node) -> Results | None:
    value, scale, zero = inputs_of(node, 3)
    value, scale = needed(value), needed(scale)
    blocks = node.attributes.get_int("block_size", 0)
    if not blocks and (made_of := unquantized(b, value, scale, zero)) is not None:
        return [made_of]
    tensor = constant(value)
    if tensor is None:
        return None
    axis = node.attributes.get_int("axis", 1)
    if blocks or tensor.dtype.bitwidth < 8:
        return [in_blocks(b, tensor, scale, zero, axis, blocks)]
    return [dequantized_along(b, value, scale, zero, axis)]


# ---- Dynamic: the scale of activations is that of their peaks


def _product_after(b: Builder, left: ir.Value, right: ir.Value, bias: ir.Value | None) -> Results:
    product = b.op("MatMul", left, right)
    return [product if bias is None else b.op("Add", product, bias)]


def _dynamic_quantize_matmul(b: Builder, node: ir.Node) -> Results:
    left, weight, scale, zero, bias = inputs_of(node, 5)
    return _product_after(b, needed(left), floats(b, weight, scale, zero), bias)


def _matmul_integer_to_float(b: Builder, node: ir.Node) -> Results:
    left, right, left_scale, right_scale, left_zero, right_zero, bias = inputs_of(node, 7)
    rows = floats(b, left, left_scale, left_zero, columns=False)
    return _product_after(b, rows, floats(b, right, right_scale, right_zero), bias)


def _mul(b: Builder, node: ir.Node) -> Results | None:
    """A product of integers, `Cast`, and this `Mul` with the product of both operands' scales."""
    for product, scale in (node.inputs, node.inputs[::-1]):
        found = _scaled_product(b, product, scale)
        if found is not None:
            return [found]
    return None


def _scaled_product(b: Builder, product: ir.Value | None, scale: ir.Value | None) -> ir.Value | None:
    cast = _made_by(product, "Cast")
    integers = _made_by(cast.inputs[0], *INTEGER_PRODUCTS) if cast is not None else None
    if integers is None or scale is None:
        return None
    both = _made_by(scale, "Mul")
    factors = list(both.inputs) if both is not None else [scale]
    left, right, left_zero, right_zero = inputs_of(integers, 4)
    operands: list[ir.Value] = []
    for value, zero in ((left, left_zero), (right, right_zero)):
        quantizer = _made_by(value, "DynamicQuantizeLinear")
        if quantizer is not None and quantizer.outputs[2] is zero and quantizer.outputs[1] in factors:
            factors.remove(quantizer.outputs[1])
            operands.append(needed(quantizer.inputs[0]))
        elif operands and factors:
            columns = integers.op_type == "MatMulInteger"
            operands.append(floats(b, value, factors.pop(), zero, columns))
        else:
            return None
    return b.again(integers, *operands, op_type=integers.op_type.removesuffix("Integer"))[0]


def _made_by(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type in op_types else None


# ---- QOperator


def _qlinear_matmul(b: Builder, node: ir.Node) -> Results:
    left, left_scale, left_zero, right, right_scale, right_zero, scale, zero = inputs_of(node, 8)
    product = b.op(
        "MatMul",
        floats(b, left, left_scale, left_zero, columns=False),
        floats(b, right, right_scale, right_zero),
    )
    return [quantized(b, product, scale, zero)]


def _qlinear_conv(b: Builder, node: ir.Node) -> Results:
    value, own_scale, own_zero, weight, weight_scale, weight_zero, scale, zero, bias = inputs_of(node, 9)
    inputs = [
        floats(b, value, own_scale, own_zero, columns=False),
        dequantized_along(b, needed(weight), needed(weight_scale), weight_zero, 0),
    ]
    if bias is not None:
        inputs.append(dequantized(b, bias, b.op("Mul", own_scale, weight_scale), None))
    return [quantized(b, b.again(node, *inputs, op_type="Conv", domain="")[0], scale, zero)]


def _qgemm(b: Builder, node: ir.Node) -> Results:
    left, left_scale, left_zero, right, right_scale, right_zero, bias, scale, zero = inputs_of(node, 9)
    alpha = node.attributes.get_float("alpha", 1.0)
    transposed = node.attributes.get_int("transA", 0)
    if node.attributes.get_int("transB", 0):
        right = _transposed(b, needed(right))
    inputs = [
        floats(b, left, left_scale, left_zero, columns=False),
        floats(b, right, right_scale, right_zero),
    ]
    if bias is not None:
        # Its integers count in steps of the product's.
        step = b.op("Mul", b.op("Mul", left_scale, right_scale), b.const(alpha, np.float32))
        inputs.append(dequantized(b, bias, step, None))
    product = b.op("Gemm", *inputs, alpha=alpha, transA=transposed)
    return [product if scale is None else quantized(b, product, scale, zero)]


def _transposed(b: Builder, matrix: ir.Value) -> ir.Value:
    result = b.op("Transpose", matrix, perm=[1, 0])
    if matrix.shape is not None:
        result.shape = ir.Shape(list(matrix.shape)[::-1])
    return result


def _elementwise(op_type: str) -> Callable[[Builder, ir.Node], Results]:
    """The rule for an operator of two operands."""

    def rule(b: Builder, node: ir.Node) -> Results:
        left, left_scale, left_zero, right, right_scale, right_zero, scale, zero = inputs_of(node, 8)
        operands = floats(b, left, left_scale, left_zero), floats(b, right, right_scale, right_zero)
        return [quantized(b, b.op(op_type, *operands), scale, zero)]

    return rule


def _activation(op_type: str) -> Callable[[Builder, ir.Node], Results]:
    """The rule for an operator of one operand, with the attributes of the one in floats."""

    def rule(b: Builder, node: ir.Node) -> Results:
        value, own_scale, own_zero, scale, zero = inputs_of(node, 5)
        (result,) = b.again(node, floats(b, value, own_scale, own_zero), op_type=op_type, domain="")
        return [quantized(b, result, scale, zero)]

    return rule


def _qlinear_softmax(b: Builder, node: ir.Node) -> Results:
    value, own_scale, own_zero, scale, zero = inputs_of(node, 5)
    axis = node.attributes.get_int("axis", -1)
    if node.attributes.get_int("opset", 13) < 13 and axis != -1:
        # It flattened what it read: over the last axis that is the same.
        shape = needed(value).shape
        if shape is None or axis != len(shape) - 1:
            raise Kept(f"it runs over all axes from {axis} on, as before opset 13")
        axis = -1
    result = b.op("Softmax", floats(b, value, own_scale, own_zero), axis=axis)
    return [quantized(b, result, scale, zero)]


def _qlinear_concat(b: Builder, node: ir.Node) -> Results:
    scale, zero, *rest = inputs_of(node, max(len(node.inputs), 2))
    if not rest or len(rest) % 3:
        raise Kept("its inputs are not triples of integers, scale and zero point")
    parts = [floats(b, *part) for part in zip(rest[::3], rest[1::3], rest[2::3], strict=True)]
    return [quantized(b, b.again(node, *parts, op_type="Concat", domain="")[0], scale, zero)]


def _qlinear_where(b: Builder, node: ir.Node) -> Results:
    condition, yes, yes_scale, yes_zero, no, no_scale, no_zero, scale, zero = inputs_of(node, 9)
    chosen = b.op(
        "Where", needed(condition), floats(b, yes, yes_scale, yes_zero), floats(b, no, no_scale, no_zero)
    )
    return [quantized(b, chosen, scale, zero)]


# ---- Fused, as ONNX Runtime's operator of the same name in floats


def _qattention(b: Builder, node: ir.Node) -> Results:
    value, weight, bias, scale, weight_scale, mask, zero, weight_zero, past = inputs_of(node, 9)
    rows, weights = floats(b, value, scale, zero, columns=False), floats(b, weight, weight_scale, weight_zero)
    return b.again(node, rows, weights, bias, mask, past, op_type="Attention")


def _qembed_layer_normalization(b: Builder, node: ir.Node) -> Results:
    ids, segments, word, position, segment, gamma, beta, mask, *parameters = inputs_of(node, 18)
    scales, zeros = parameters[:5], parameters[5:]
    tables = [
        floats(b, *table)
        for table in zip(
            (word, position, gamma, beta), scales[:2] + scales[3:], zeros[:2] + zeros[3:], strict=True
        )
    ]
    types = None if segment is None else floats(b, segment, scales[2], zeros[2])
    return b.again(
        node, needed(ids), segments, *tables[:2], types, *tables[2:], mask, op_type="EmbedLayerNormalization"
    )


RULES: Rules = {
    **dict.fromkeys((("", name) for name in sorted(MOVES)), moved),
    ("", "DequantizeLinear"): _dequantize_linear,
    (MICROSOFT, "DequantizeLinear"): _dequantize_linear,
    ("", "Mul"): _mul,
    (MICROSOFT, "DynamicQuantizeMatMul"): _dynamic_quantize_matmul,
    (MICROSOFT, "MatMulIntegerToFloat"): _matmul_integer_to_float,
    ("", "QLinearMatMul"): _qlinear_matmul,
    ("", "QLinearConv"): _qlinear_conv,
    (MICROSOFT, "QGemm"): _qgemm,
    (MICROSOFT, "QLinearAdd"): _elementwise("Add"),
    (MICROSOFT, "QLinearMul"): _elementwise("Mul"),
    (MICROSOFT, "QLinearSigmoid"): _activation("Sigmoid"),
    (MICROSOFT, "QLinearLeakyRelu"): _activation("LeakyRelu"),
    (MICROSOFT, "QLinearSoftmax"): _qlinear_softmax,
    (MICROSOFT, "QLinearConcat"): _qlinear_concat,
    (MICROSOFT, "QLinearWhere"): _qlinear_where,
    (MICROSOFT, "QAttention"): _qattention,
    (MICROSOFT, "QEmbedLayerNormalization"): _qembed_layer_normalization,
}
