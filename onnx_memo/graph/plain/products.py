"""Products with what ONNX Runtime fuses into them.

The forms are those of ONNX Runtime's documentation of its operators (docs/ContribOperators.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.graph.plain.rule import MICROSOFT, Kept, Rules, check_attributes, rank_of, required

PARTS = ("transA", "transB", "transBatchA", "transBatchB")
# What FusedGemm may do at its end, and what its attributes `activation_*` are called there.
ACTIVATIONS = {
    "Relu": (),
    "Sigmoid": (),
    "Tanh": (),
    "LeakyRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "Elu": ("alpha",),
}


def _fused_matmul(b: Builder, node: ir.Node) -> Sequence[ir.Value]:
    check_attributes(node, (*PARTS, "alpha"))
    left, right = (
        _turned(
            b,
            required(node, at),
            turned=bool(node.attributes.get_int(f"trans{side}", 0)),
            batched=bool(node.attributes.get_int(f"transBatch{side}", 0)),
        )
        for at, side in enumerate("AB")
    )
    product = b.op("MatMul", left, right)
    alpha = node.attributes.get_float("alpha", 1.0)
    return (product if alpha == 1 else b.op("Mul", product, b.const(alpha, np.float32)),)


def _turned(b: Builder, value: ir.Value, *, turned: bool, batched: bool) -> ir.Value:
    """A factor with its batches before its rows (`batched`: its first axis holds the rows), then turned."""
    if not turned and not batched:
        return value
    rank = rank_of(value)
    if rank is None:
        raise Kept(f"it turns '{value.name}', of which the number of axes is not known")
    if rank < 2:  # vectors stay as they are
        return value
    order = list(range(rank))
    if batched:
        order = [*order[1:-1], 0, rank - 1]
    if turned:
        order[-2:] = reversed(order[-2:])
    result = b.op("Transpose", value, perm=order)
    if value.shape is not None:
        result.shape = ir.Shape([value.shape[axis] for axis in order])
    result.type = value.type
    return result


def _fused_gemm(b: Builder, node: ir.Node) -> Sequence[ir.Value]:
    own = ("transA", "transB", "alpha", "beta")
    check_attributes(
        node, (*own, "activation", *(f"activation_{name}" for name in ("alpha", "beta", "gamma")))
    )
    kind = node.attributes.get_string("activation", "")
    if kind not in ACTIVATIONS:
        raise Kept(f"its activation '{kind}' is not known")
    product = b.op(
        "Gemm",
        *node.inputs,
        transA=node.attributes.get_int("transA", 0),
        transB=node.attributes.get_int("transB", 0),
        alpha=node.attributes.get_float("alpha", 1.0),
        beta=node.attributes.get_float("beta", 1.0),
    )
    shape: dict[str, Any] = {
        name: node.attributes.get_float(f"activation_{name}", 0.0)
        for name in ACTIVATIONS[kind]
        if f"activation_{name}" in node.attributes
    }
    return (b.op(kind, product, **shape),)


RULES: Rules = {
    (MICROSOFT, "FusedMatMul"): _fused_matmul,
    (MICROSOFT, "TransposeMatMul"): _fused_matmul,
    (MICROSOFT, "FusedGemm"): _fused_gemm,
}
