"""The branch that runs a whole encoder in 8 bits (`onnx_memo.precision.form`), padding left out."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.graph.cores import Core
from onnx_memo.graph.encoder import Encoder
from onnx_memo.graph.packed import Copier
from onnx_memo.levels.inserter import Inserter, four_axes
from onnx_memo.operators.spec import DOMAIN
from onnx_memo.precision.form import Form, FormBuilder
from onnx_memo.precision.whole import WholeInCopy


def whole_branch(inserter: Inserter, encoder: Encoder, whole: WholeInCopy) -> ir.Graph:
    """The branch: from the encoder's input of the main graph to its output [B, L, d], zeros in other rows.

    Args:
        inserter: of the guard.
        encoder: in the model that is guarded.
        whole: the same in 8 bits.
    """
    b = Builder("memo/int8", inserter.opset)
    rows = _real_rows(b, encoder)
    padded = b.dim(encoder.input, 1)
    flat = b.op("Reshape", encoder.input, b.i64(-1, encoder.width))
    positions = b.op("Mod", rows, padded) if encoder.tables else None
    copier = Copier(b, encoder, inserter.constant, positions)
    packed = b.op("Gather", flat, rows, axis=0)
    copier.made[encoder.input] = b.op("Reshape", packed, b.i64(*copier.packed(encoder.input)))
    values = {key: [inserter.initializer(tensor) for tensor in own] for key, own in whole.products.items()}
    biases: dict[ir.Value | None, ir.Value] = {}

    def attend(core: Core, qkv: ir.Value) -> ir.Value:
        if core.bias not in biases:
            biases[core.bias] = four_axes(b, core.bias)
        heads = b.i64(core.heads, core.key_width, core.value_width)
        scale = b.const(core.scale, np.float32)
        bias = biases[core.bias]
        context = b.op("MemoSelfAttention", qkv, heads, rows, padded, scale, bias, domain=DOMAIN)
        if any(reader.op_type == "IsNaN" for reader, _ in core.probabilities.uses()):
            # Of a sequence without tokens all scores may be -inf: such models take 0 for its probabilities.
            context = b.op("Where", b.op("IsNaN", context), b.const(0, np.float32), context)
        return context

    form = FormBuilder(b, Form(encoder, whole.chains), copier, values, attend, whole.coarse)
    for node in encoder.steps:
        form.run(node)
    states = b.op("Reshape", copier.made[encoder.output], b.i64(-1, encoder.width))
    zeros = b.op("ConstantOfShape", b.op("Shape", flat), value=ir.tensor(np.zeros(1, np.float32)))
    whole = b.op("ScatterND", zeros, b.op("Unsqueeze", rows, b.i64(1)), states)
    output = b.op("Reshape", whole, b.op("Shape", encoder.input))
    output.type = ir.TensorType(ir.DataType.FLOAT)
    output.shape = ir.Shape([None, None, encoder.width])
    return ir.Graph([], [output], nodes=b.nodes, name=b.prefix)


def _real_rows(b: Builder, encoder: Encoder) -> ir.Value:
    """The rows that run, i64[R]: all real tokens, and of a sequence without any all that it has."""
    flat = b.op("Reshape", encoder.input, b.i64(-1, encoder.width))
    if encoder.mask is None:
        count = b.op("Squeeze", b.dim(flat, 0), b.i64(0))
        return b.op("Range", b.const(0, np.int64), count, b.const(1, np.int64))
    real = b.op("Cast", encoder.mask, to=ir.DataType.FLOAT.value)
    most = b.reduce("ReduceMax", b.op("Abs", real), 1, keepdims=True)
    empty = b.op("Equal", most, b.const(0, np.float32))
    runs = b.op("Or", b.op("Cast", real, to=ir.DataType.BOOL.value), empty)
    return b.op("Reshape", b.op("NonZero", b.op("Reshape", runs, b.i64(-1))), b.i64(-1))
