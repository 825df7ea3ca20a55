"""The branch that runs a whole encoder in 8 bits (`onnx_memo.precision.form`), padding left out."""

from __future__ import annotations

import functools

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.graph.cores import Core, Meeting, Mixing
from onnx_memo.graph.encoder import Encoder
from onnx_memo.graph.packed import Copier, Places
from onnx_memo.graph.row_read import FIRST, row_read
from onnx_memo.graph.scores import Bias
from onnx_memo.keys.nodes import for_all
from onnx_memo.levels.inserter import Inserter, four_axes
from onnx_memo.levels.mixing import mixed
from onnx_memo.operators.bodies.product import multiply_bytes, multiply_halves, product_nodes
from onnx_memo.operators.spec import DOMAIN
from onnx_memo.precision.form import Form, FormBuilder
from onnx_memo.precision.nodes import coarse_product
from onnx_memo.precision.whole import WholeInCopy


def whole_branch(
    inserter: Inserter,
    encoder: Encoder,
    whole: WholeInCopy,
    reused: ir.Value | None = None,
    everywhere: bool = False,
) -> ir.Graph:
    """The branch: from the encoder's input of the main graph to its output [B, L, d], zeros in other rows.

    Where only the first or the last row of each sequence is read, no other goes on after the last core.

    Args:
        inserter: of the guard.
        encoder: in the model that is guarded.
        whole: the same in 8 bits.
        reused: which sequences do not run, bool[B]: all of their rows are zeros.
        everywhere: by nodes that are exact on every processor, and slower.
    """
    b = Builder("memo/int8/everywhere" if everywhere else "memo/int8", inserter.opset)
    padded = b.dim(encoder.input, 1)
    read = row_read(encoder)
    place = None if read is None else _place(b, read, padded)
    rows = _rows_that_run(b, encoder, padded, place, reused)
    flat = b.op("Reshape", encoder.input, b.i64(-1, encoder.width))
    places = Places(b, rows, padded)
    copier = Copier(b, encoder, inserter.constant, places)
    packed = b.op("Gather", flat, rows, axis=0)
    copier.made[encoder.input] = b.op("Reshape", packed, b.i64(*copier.packed(encoder.input)))
    values = {key: [inserter.initializer(tensor) for tensor in own] for key, own in whole.products.items()}
    biases: dict[Bias, ir.Value] = {}
    asking = rows

    def attend(core: Meeting, qkv: ir.Value | None) -> ir.Value:
        if isinstance(core, Mixing):
            return mixed(b, copier, core, rows, asking)
        assert isinstance(core, Core) and qkv is not None, "cores are given what they read"
        if core.bias not in biases:
            biases[core.bias] = four_axes(b, core.bias)
        heads = b.i64(core.heads, core.key_width, core.value_width)
        scale, bias = b.const(core.scale, np.float32), biases[core.bias]
        context = b.op("MemoSelfAttention", qkv, heads, rows, asking, padded, scale, bias, domain=DOMAIN)
        if any(reader.op_type == "IsNaN" for reader, _ in core.probabilities.uses()):
            # Of a sequence without tokens all scores may be -inf: such models take 0 for its probabilities.
            context = b.op("Where", b.op("IsNaN", context), b.const(0, np.float32), context)
        return context

    by_nodes = whole.coarse or everywhere
    chains = whole.chains.linear() if by_nodes else whole.chains
    product = functools.partial(
        coarse_product if whole.coarse else product_nodes,
        multiply=multiply_halves if everywhere else multiply_bytes,
    )
    form = FormBuilder(b, Form(encoder, chains), copier, values, attend, product if by_nodes else None)
    for node in encoder.steps:
        last = copier.meeting(node) is encoder.meetings[-1]
        if last and place is not None:
            index = b.op("Reshape", b.op("NonZero", b.op("Equal", places.positions, place)), b.i64(-1))
            asking = b.op("Gather", rows, index)
        form.run(node)
        if last and place is not None:
            form.narrow(encoder.meetings[-1], index, Places(b, asking, padded))
    states = b.op("Reshape", copier.made[encoder.output], b.i64(-1, encoder.width))
    zeros = b.op("ConstantOfShape", b.op("Shape", flat), value=ir.tensor(np.zeros(1, np.float32)))
    scattered = b.op("ScatterND", zeros, b.op("Unsqueeze", asking, b.i64(1)), states)
    output = b.op("Reshape", scattered, b.op("Shape", encoder.input))
    output.type = ir.TensorType(ir.DataType.FLOAT)
    output.shape = ir.Shape([None, None, encoder.width])
    return ir.Graph([], [output], nodes=b.nodes, name=b.prefix)


def _place(b: Builder, read: int, padded: ir.Value) -> ir.Value:
    """Where in each sequence the row stands that is read, i64[1]."""
    return b.i64(0) if read == FIRST else b.op("Sub", padded, b.i64(1))


def _rows_that_run(
    b: Builder, encoder: Encoder, padded: ir.Value, place: ir.Value | None, reused: ir.Value | None
) -> ir.Value:
    """The rows that run, i64[R]: real tokens, of a sequence without any all that it has, and what is read.

    What padding attends to in a mixing is not known: a sequence of which padding is read runs whole there.
    """
    if encoder.mask is None and reused is not None:
        shape = b.op("Concat", b.dim(encoder.input, 0), padded, axis=0)
        runs = b.op("Expand", b.op("Unsqueeze", b.op("Not", reused), b.i64(1)), shape)
        return b.op("Reshape", b.op("NonZero", b.op("Reshape", runs, b.i64(-1))), b.i64(-1))
    if encoder.mask is None:
        count = b.op("Squeeze", b.op("Mul", b.dim(encoder.input, 0), padded), b.i64(0))
        return b.op("Range", b.const(0, np.int64), count, b.const(1, np.int64))
    real = b.op("Cast", for_all(b, encoder.mask, encoder.input), to=ir.DataType.FLOAT.value)
    most = b.reduce("ReduceMax", b.op("Abs", real), 1, keepdims=True)
    if place is not None and encoder.why_no_rows is not None:
        most = b.op("Abs", b.op("Gather", real, place, axis=1))
    empty = b.op("Equal", most, b.const(0, np.float32))
    runs = b.op("Or", b.op("Cast", real, to=ir.DataType.BOOL.value), empty)
    if place is not None:
        number = b.op("Range", b.const(0, np.int64), b.op("Squeeze", padded, b.i64(0)), b.const(1, np.int64))
        runs = b.op("Or", runs, b.op("Equal", number, place))
    if reused is not None:
        runs = b.op("And", runs, b.op("Unsqueeze", b.op("Not", reused), b.i64(1)))
    return b.op("Reshape", b.op("NonZero", b.op("Reshape", runs, b.i64(-1))), b.i64(-1))
