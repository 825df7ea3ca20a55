"""Attention that is run as the model has it: rows go back into their sequences, with zeros in padding."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.graph.cores import Mixing
from onnx_memo.graph.packed import Copier


def mixed(b: Builder, copier: Copier, mixing: Mixing, rows: ir.Value, asking: ir.Value) -> ir.Value:
    """The context [Q, H * dv] of packed rows.

    Args:
        b: takes the nodes.
        copier: has made what `mixing` reads of these rows.
        mixing: the attention.
        rows: i64[R], the places of the rows among all B * L.
        asking: i64[Q], of those whose context is wanted.
    """
    length = b.dim(copier.encoder.input, 1)
    made = {value: _padded(b, copier, value, rows, length) for value in mixing.reads}
    for node in mixing.nodes:
        inputs = [value if value is None else made.get(value, value) for value in node.inputs]
        made.update(zip(node.outputs, b.again(node, *inputs), strict=True))
    heads, width = mixing.heads, mixing.value_width
    apart = b.op("Reshape", made[mixing.context], _sizes(b, [-1, heads], length, [width]))
    beside = b.op("Transpose", apart, perm=[0, 2, 1, 3])
    return b.op("Gather", b.op("Reshape", beside, b.i64(-1, heads * width)), asking, axis=0)


def _padded(b: Builder, copier: Copier, value: ir.Value, rows: ir.Value, length: ir.Value) -> ir.Value:
    """A value of packed rows in its own shape, with all B * L of them."""
    packed = copier.packed(value)
    axis = packed.index(-1)
    others = packed[:axis] + packed[axis + 1 :]
    first = b.op(
        "Transpose", copier.made[value], perm=[axis, *(at for at in range(len(packed)) if at != axis)]
    )
    count = b.op("Mul", b.dim(copier.encoder.input, 0), length)
    zeros = b.op("ConstantOfShape", _sizes(b, [], count, others), value=ir.tensor(np.zeros(1, np.float32)))
    every = b.op("ScatterND", zeros, b.op("Unsqueeze", rows, b.i64(1)), first)
    sequences = b.op("Reshape", every, _sizes(b, [-1], length, others))
    turned = b.op("Transpose", sequences, perm=[0, *range(2, axis + 2), 1, *range(axis + 2, len(packed) + 1)])
    return b.op("Reshape", turned, _sizes(b, [-1, *packed[1:axis]], length, packed[axis + 1 :]))


def _sizes(b: Builder, before: list[int], length: ir.Value, after: list[int]) -> ir.Value:
    """A shape, i64[.], of which one size is known when it runs."""
    parts = [b.i64(*before)] if before else []
    parts += [length, *([b.i64(*after)] if after else [])]
    return b.op("Concat", *parts, axis=0)
