"""Attention that is run as the model has it: for whole sequences, or for the rows that run.

For whole sequences rows go back into their places, with zeros in padding. Rows that run ask all rows of their
sequence, of which those that do not run are the entry's.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import onnx_ir as ir

from onnx_memo.graph import flow
from onnx_memo.graph.asking import AskingStep, Part
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
    made = {value: in_sequences(b, copier, value, rows) for value in mixing.rows}
    for node in mixing.nodes:
        inputs = [value if value is None else made.get(value, value) for value in node.inputs]
        made.update(zip(node.outputs, b.again(node, *inputs), strict=True))
    heads, width = mixing.heads, mixing.value_width
    apart = b.op("Reshape", made[mixing.context], _sizes(b, [-1, heads], length, [width]))
    beside = b.op("Transpose", apart, perm=[0, 2, 1, 3])
    return b.op("Gather", b.op("Reshape", beside, b.i64(-1, heads * width)), asking, axis=0)


def in_sequences(
    b: Builder, copier: Copier, value: ir.Value, rows: ir.Value, others: ir.Value | None = None
) -> ir.Value:
    """A value of packed rows in its own shape, with all B * L of them.

    `others` [B, L, W] are those that are not among `rows`; None: zeros.
    """
    packed, length = copier.packed(value), b.dim(copier.encoder.input, 1)
    axis = packed.index(-1)
    apart = packed[:axis] + packed[axis + 1 :]
    first = b.op(
        "Transpose", copier.made[value], perm=[axis, *(at for at in range(len(packed)) if at != axis)]
    )
    if others is None:
        count = b.op("Mul", b.dim(copier.encoder.input, 0), length)
        zero = ir.tensor(np.zeros(1, np.float32))
        before = b.op("ConstantOfShape", _sizes(b, [], count, apart), value=zero)
    else:
        before = b.op("Reshape", others, b.i64(-1, *apart))
    every = b.op("ScatterND", before, b.op("Unsqueeze", rows, b.i64(1)), first)
    sequences = b.op("Reshape", every, _sizes(b, [-1], length, apart))
    turned = b.op("Transpose", sequences, perm=[0, *range(2, axis + 2), 1, *range(axis + 2, len(packed) + 1)])
    return b.op("Reshape", turned, _sizes(b, [-1, *packed[1:axis]], length, packed[axis + 1 :]))


class Asker:
    """Writes the attention of some rows of one sequence, as the model has it; layers share what they read."""

    def __init__(
        self, b: Builder, outside: Builder, constant: Collection[ir.Node], rows: ir.Value, padded: ir.Value
    ) -> None:
        """Nodes go to `b`, but to `outside` where they are the same in every run.

        Args:
            b: takes the nodes of the branch.
            outside: takes those of the main graph.
            constant: the nodes of the main graph that are the same in every run.
            rows: the places in the sequence that ask, i64[R].
            padded: how many rows the sequence has, i64[1].
        """
        self.b, self.outside, self.constant, self.rows, self.padded = b, outside, constant, rows, padded
        self.count = b.dim(rows, 0)
        self.beside: dict[Part, ir.Value] = {}  # what rows have no part in, by what is needed
        self.columns: dict[Part, tuple[ir.Value, ir.Value]] = {}  # that are picked, by the index
        self.fixed: set[ir.Value] = set()  # of these what is the same in every run

    def context(self, copier: Copier, mixing: Mixing, kept: Sequence[ir.Value]) -> ir.Value:
        """The context of the rows that ask, packed: in the form that follows it.

        `copier` has made of these rows what `mixing` reads; `kept` are the values that it reads of all rows.
        """
        asking = mixing.asking
        assert asking is not None, "its rows can be run"
        made = {
            Part(value, copier.encoder.forms[value].axis): copier.made[value] for value in asking.asking
        } | {Part(value, None): whole for value, whole in zip(asking.kept, kept, strict=True)}
        for step in asking.steps:
            read = step.needs if step.product is None else [*step.product.needs, *step.needs]
            own = made if any(part in made for part in read) else self.beside
            parts = [Part(value, step.axis) for value in step.node.outputs]
            if parts[0] not in own:
                own.update(zip(parts, self._written(step, made), strict=True))
        return made[asking.context]

    def _inputs(self, step: AskingStep, made: dict[Part, ir.Value]) -> list[ir.Value | None]:
        return [
            None if value is None else self._read(Part(value, axis), made)
            for value, axis in zip(step.node.inputs, step.inputs, strict=True)
        ]

    def _read(self, part: Part, made: dict[Part, ir.Value]) -> ir.Value:
        """What a copy reads."""
        if part in made:
            return made[part]
        if part.axis is None:
            return self.beside.get(part, part.value)
        if part not in self.beside:
            whole = self._read(Part(part.value, None), made)
            self.beside[part] = self.b.op("Gather", whole, self.rows, axis=part.axis)
        return self.beside[part]

    def _written(self, step: AskingStep, made: dict[Part, ir.Value]) -> Sequence[ir.Value]:
        b, node = self.b, step.node
        if step.product is not None:
            return self._picked(step, step.product, made)
        inputs = self._inputs(step, made)
        if step.sizes:
            begin, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", len(step.sizes))
            sizes = step.sizes[begin:end]
            parts = [self.padded if size is None else b.i64(size) for size in sizes]
            return [b.op("Concat", *parts, axis=0)]
        if step.passes:
            assert inputs[0] is not None, "something passes"
            return [inputs[0]]
        if node.op_type in ("Reshape", "Expand") and step.axis is not None:
            # As many as ask, in place of the length.
            inputs[1] = b.op("ScatterElements", inputs[1], b.i64(step.axis), self.count, axis=0)
        given = [value for value in inputs if value is not None]
        if all(value in self.fixed or flow.is_constant(value, self.constant) for value in given):
            results = self.outside.again(node, *inputs)
            self.fixed.update(results)
            return results
        return b.again(node, *inputs)

    def _picked(
        self, step: AskingStep, product: AskingStep, made: dict[Part, ir.Value]
    ) -> Sequence[ir.Value]:
        """The columns that are picked of a product with a table: others are not multiplied.

        All that are between the first and the last one are: of distances these are the ones that occur.
        """
        b, index = self.b, step.needs[1]
        rows, table = self._inputs(product, made)
        picked = b.op("Cast", self._read(index, made), to=ir.DataType.INT64.value)
        if index not in self.columns:
            self.columns[index] = self._columns(picked)
        first, end = self.columns[index]
        some = b.op("Slice", table, first, end, b.i64(-1))
        of_some = b.again(product.node, rows, some)[0]
        return b.again(step.node, of_some, b.op("Sub", picked, first))

    def _columns(self, index: ir.Value) -> tuple[ir.Value, ir.Value]:
        """The first column of an index and the one after its last, i64[1] each; all where it counts back."""
        b = self.b
        least = b.op("Reshape", b.op("ReduceMin", index, keepdims=0), b.i64(1))
        most = b.op("Reshape", b.op("ReduceMax", index, keepdims=0), b.i64(1))
        counts_back = b.op("Less", least, b.i64(0))
        first = b.op("Where", counts_back, b.i64(0), least)
        every = b.i64(np.iinfo(np.int64).max)
        return first, b.op("Where", counts_back, every, b.op("Add", most, b.i64(1)))


def side_by_side(b: Builder, mixing: Mixing, context: ir.Value, name: str) -> ir.Value:
    """A packed context [.., R, dv] with its heads side by side, [R, H * dv], as the value `name`."""
    heads, width = mixing.heads, mixing.value_width
    apart = b.op("Transpose", b.op("Reshape", context, b.i64(heads, -1, width)), perm=[1, 0, 2])
    return b.op("Reshape", apart, b.i64(-1, heads * width), name=name)


def _sizes(b: Builder, before: list[int], length: ir.Value, after: list[int]) -> ir.Value:
    """A shape, i64[.], of which one size is known when it runs."""
    parts = [b.i64(*before)] if before else []
    parts += [length, *([b.i64(*after)] if after else [])]
    return b.op("Concat", *parts, axis=0)
