"""Guard the encoder at the level `rows`: run only the rows that changed, and those they influence.

Requires: the encoder of this very model, found on its present graph. Ensures: the model's inputs and outputs
keep their names and order; where `hit` is false exactly the original nodes run.

    entry = MemoLookup(key of the input)
    rows, stored_rows, hit = MemoRows(input, entry, ...)
    states, spread = If(any row) { the encoder on these rows alone } else { nothing }
    output = If(hit) { MemoMerge(states, spread, rows, ...) } else { the original encoder }

The two `If` follow each other: in a branch within a branch ONNX Runtime does not rearrange weights for its
products, which then take up to three times as long. Where `hit` is false there are no rows.

The encoder on some rows is a copy of its nodes (`Encoder.steps`) that reads a batch of one sequence, which is
the rows of all sequences packed, [1, R, d]. Cores become `MemoAttention`. `spread` is the learned first-order
correction: what a changed row passes on to those that did not run, a product of its change at the encoder's
output with one matrix (`onnx_memo.rows.correction`). Where the tolerance allows, the copies' products are
int8: with few rows they take as long as reading their weights does.

`memo_strictness` scales the bound: 1 (the default) as calibrated, 0 runs the original.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnx_memo.graph import flow
from onnx_memo.graph.build import Builder
from onnx_memo.graph.encoder import Core, Encoder
from onnx_memo.graph.guard import Inserter, Lookup, add_operators
from onnx_memo.graph.operators import DOMAIN
from onnx_memo.graph.rowwise import SIZED, packed_shape

NAME = "encoder"
ROWS = f"memo/{NAME}/rows"  # the value that holds the rows that run, i64[R]
HIT = f"memo/{NAME}/reused"  # and whether only they run, bool


@dataclass(frozen=True)
class RowsGuard:
    """What the guard of an encoder reads, as tensors named after their place in the memo data."""

    lookup: Lookup  # its threshold is not scaled by the strictness
    lengths: ir.TensorProtocol  # i64[N]
    offsets: ir.TensorProtocol  # i64[N], rows of payloads that have one for each token
    squares: ir.TensorProtocol  # i64[N], numbers of `influence` and `rollout`
    stored: ir.TensorProtocol  # f16[T, d], states at the encoder's input
    final: ir.TensorProtocol  # f32[T, d], states at the encoder's output
    influence: ir.TensorProtocol  # f16[Q], what rows are chosen by
    rollout: ir.TensorProtocol  # f16[Q], what the correction is spread by
    keys: Sequence[ir.TensorProtocol]  # of each core, f16[T, H * dk]; empty: only literal repeats are reused
    values: Sequence[ir.TensorProtocol]  # of each core, f16[T, H * dv]
    correction: ir.TensorProtocol | None  # f32[d, d]
    # Of each of `whole_products` weights i8[K, M], their scales f32[M], and what x is multiplied with before,
    # f32[K]; None or empty: the product is the original's.
    int8: Sequence[Sequence[ir.TensorProtocol] | None]
    epsilon: ir.TensorProtocol  # f32 scalar: relative change above which a row counts as changed
    bound: ir.TensorProtocol  # f32 scalar: influence that may be left out, a row
    limit: ir.TensorProtocol  # f32 scalar: share of rows up to which running them alone is worth it


def insert_rows_guard(model: ir.Model, encoder: Encoder, guard: RowsGuard) -> None:
    """Guard `encoder`; `model` is changed."""
    _RowsInserter(model, encoder, guard).run()
    add_operators(model)


class _RowsInserter(Inserter):
    def __init__(self, model: ir.Model, encoder: Encoder, guard: RowsGuard) -> None:
        super().__init__(model)
        self.encoder, self.guard = encoder, guard

    def run(self) -> None:
        encoder, guard = self.encoder, self.guard
        b = Builder(f"memo/{NAME}", self.opset)
        self.length, weights = self.request(b, encoder.mask, encoder.input)
        query = self.query(b, guard.lookup, weights, encoder.input)
        radius = self.initializer(guard.lookup.threshold)
        self.padded = b.dim(encoder.input, 1)
        self.entry, found = self.look_up(b, guard.lookup, query, self.length, guard.lengths, radius)
        bound = b.op("Mul", self.initializer(guard.bound), self.strictness(b))
        limit = self.initializer(guard.limit)
        if guard.int8:
            bound, limit = self._only_reused(b, found, bound, limit)
        stored = (guard.stored, guard.influence, guard.offsets, guard.squares)
        self.rows, self.stored_rows, hit = b.ops(
            "MemoRows",
            encoder.input,
            self.entry,
            self.length,
            *(self.initializer(tensor) for tensor in stored),
            self.initializer(guard.epsilon),
            bound,
            limit,
            domain=DOMAIN,
            names=(ROWS, f"memo/{NAME}/stored_rows", HIT),
        )
        states, spread = self._ran(b)
        region = flow.region(self.graph, encoder.output, encoder.boundary, self.constant)
        self.make_conditional(b, region, encoder.output, hit, self._merged(states, spread))

    def _only_reused(
        self, b: Builder, found: ir.Value, bound: ir.Value, limit: ir.Value
    ) -> tuple[ir.Value, ir.Value]:
        """Bound and limit with which int8 serves only requests that reuse something.

        `MemoRows` lets sequences without an entry, and padded ones, run whole among others. In floats that is
        the original's result; in int8 it would not be. So there the original runs, where a sequence has no
        entry, and where more of the real rows than the limit's share would run.
        """
        bound = b.op("Where", found, bound, b.const(-np.inf, np.float32))
        real = b.reduce("ReduceMean", b.op("Cast", self.length, to=ir.DataType.FLOAT.value), 0, keepdims=True)
        share = b.op("Div", real, b.op("Cast", self.padded, to=ir.DataType.FLOAT.value))
        return bound, b.op("Mul", limit, share)

    def _ran(self, b: Builder) -> Sequence[ir.Value]:
        """The final states of the rows that run, and what they spread: [R, d] both."""
        if not self.guard.keys:  # only literal repeats are reused: nothing ever runs
            return [b.const(np.zeros((0, self.encoder.width)), np.float32)] * 2
        some = b.op("Greater", b.op("Size", self.rows), b.const(0, np.int64))
        names = (f"{b.prefix}/states", f"{b.prefix}/spread")
        return b.ops("If", some, names=names, then_branch=self._run(), else_branch=self._nothing())

    def _merged(self, states: ir.Value, spread: ir.Value) -> ir.Graph:
        """The branch of a hit: the rows that ran, merged with what is stored."""
        guard = self.guard
        b = Builder(f"memo/{NAME}/reuse", self.opset)
        stored = (guard.final, guard.rollout, guard.offsets, guard.squares)
        merged = b.op(
            "MemoMerge",
            states,
            spread,
            self.rows,
            self.entry,
            self.length,
            self.padded,
            *(self.initializer(tensor) for tensor in stored),
            domain=DOMAIN,
        )
        return _graph(b, [merged], [None, None, self.encoder.width])

    def _nothing(self) -> ir.Graph:
        b = Builder(f"memo/{NAME}/nothing", self.opset)
        empty = np.zeros((0, self.encoder.width), np.float32)
        return _graph(b, [b.const(empty, np.float32), b.const(empty, np.float32)], [None, self.encoder.width])

    def _run(self) -> ir.Graph:
        """The encoder on the rows that run: their final states and what they spread, [R, d] both."""
        guard, encoder = self.guard, self.encoder
        b = Builder(f"memo/{NAME}/run", self.opset)
        flat = b.op("Reshape", encoder.input, b.i64(-1, encoder.width))
        before = b.op("Gather", flat, self.rows, axis=0)
        packed = b.op("Unsqueeze", before, b.i64(0))
        positions = b.op("Mod", self.rows, self.padded) if encoder.tables else None
        copier = _Copier(b, encoder, self.constant, positions)
        if guard.int8:
            products = whole_products(encoder, self.constant)
            for node, tensors in zip(products, guard.int8, strict=True):
                if tensors is not None:
                    copier.int8[node] = [self.initializer(tensor) for tensor in tensors]
        copier.made[encoder.input] = packed
        attended = 0
        for node in encoder.steps:
            core = copier.core(node)
            if core is None:
                copier.copy(node)
            else:
                copier.made[core.context] = self._attend(b, core, copier, attended)
                attended += 1
        states = b.op("Reshape", copier.made[encoder.output], b.i64(-1, encoder.width))
        change = b.op("Sub", states, self._stored(b, guard.final))
        passed_on = b.op("Mul", change, self._changed(b, before))
        assert guard.correction is not None, "rows that run move others"
        spread = b.op("MatMul", passed_on, self.initializer(guard.correction))
        return _graph(b, [states, spread], [None, encoder.width])

    def _changed(self, b: Builder, before: ir.Value) -> ir.Value:
        """1 for the rows that changed, 0 for those that run beside them: f32[R, 1], as `MemoRows` has it."""
        stored = self._stored(b, self.guard.stored)
        moved = b.reduce("ReduceL2", b.op("Sub", before, stored), 1, keepdims=True)
        size = b.reduce("ReduceL2", stored, 1, keepdims=True)
        same = b.op("LessOrEqual", moved, b.op("Mul", size, self.initializer(self.guard.epsilon)))
        return b.op("Cast", b.op("Not", same), to=ir.DataType.FLOAT.value)

    def _stored(self, b: Builder, payload: ir.TensorProtocol) -> ir.Value:
        """The store's rows of the rows that run, f32[R, d]."""
        taken = b.op("Gather", self.initializer(payload), self.stored_rows, axis=0)
        wide = payload.dtype == ir.DataType.FLOAT
        return taken if wide else b.op("Cast", taken, to=ir.DataType.FLOAT.value)

    def _attend(self, b: Builder, core: Core, copier: _Copier, number: int) -> ir.Value:
        """A core for the rows that run: its context, in the form that follows it."""
        parts = [
            b.op("Reshape", copier.made[value], b.i64(core.heads, *size))
            for value, size in (
                (core.query, (-1, core.key_width)),
                (core.key, (core.key_width, -1)),
                (core.value, (-1, core.value_width)),
            )
        ]
        if core.bias is None:
            bias = b.const(np.zeros((1, 1, 1, 1)), np.float32)
        else:
            bias = b.op("Expand", core.bias, b.i64(1, 1, 1, 1))  # of four axes, whatever it had
        context = b.op(
            "MemoAttention",
            *parts,
            self.rows,
            self.entry,
            self.length,
            self.padded,
            self.initializer(self.guard.keys[number]),
            self.initializer(self.guard.values[number]),
            self.initializer(self.guard.offsets),
            b.const(core.scale, np.float32),
            bias,
            domain=DOMAIN,
        )
        return b.op("Reshape", context, b.i64(*copier.packed(core.context)))


def whole_products(encoder: Encoder, constant: set[ir.Node]) -> list[ir.Node]:
    """The products of rows with a constant weight [K, M] of floats, which can be done in int8."""
    found = []
    for node in encoder.steps:
        weight = node.inputs[1] if node.op_type == "MatMul" else None
        if weight is None or not flow.is_constant(weight, constant):
            continue
        if weight.dtype in (None, ir.DataType.FLOAT) and weight.shape is not None and len(weight.shape) == 2:
            found.append(node)
    return found


class _Copier:
    """Copies nodes that work row by row into the branch where only some rows run.

    Attributes:
        made: the copies of the values that are made of rows.
        int8: products that are done in int8, with their weights, scales, and what x is multiplied with.
    """

    def __init__(
        self, b: Builder, encoder: Encoder, constant: set[ir.Node], positions: ir.Value | None
    ) -> None:
        self.b, self.encoder, self.constant, self.positions = b, encoder, constant, positions
        self.cores = {core.context: core for core in encoder.cores}
        self.made: dict[ir.Value, ir.Value] = {}
        self.int8: dict[ir.Node, list[ir.Value]] = {}
        self.other: dict[ir.Value, ir.Value] = {}  # constants and rows of tables
        self.quantized: dict[ir.Value, Sequence[ir.Value]] = {}  # int8 forms of values in `made`

    def core(self, node: ir.Node) -> Core | None:
        """The core that ends in `node`, if one does."""
        return self.cores.get(node.outputs[0])

    def packed(self, value: ir.Value) -> list[int]:
        """The shape of a value's copy; -1 for the rows."""
        encoder = self.encoder
        return packed_shape(encoder.forms[value], encoder.shapes[str(value.name)], encoder.batch)

    def copy(self, node: ir.Node) -> None:
        """Copy one node; all it reads that is made of rows was copied before."""
        if node.op_type in SIZED:
            source = node.inputs[0]
            assert source is not None
            sizes = self.packed(node.outputs[0])
            if node.op_type == "Expand":  # 1 leaves the rows as many as they are
                sizes = [abs(size) for size in sizes]
            self.made[node.outputs[0]] = self.b.op(node.op_type, self.made[source], self.b.i64(*sizes))
            return
        if node in self.int8:
            self.made[node.outputs[0]] = self._int8_product(node)
            return
        inputs = [None if value is None else self.input(value) for value in node.inputs]
        names = [f"{self.b.prefix}/{value.name}" for value in node.outputs]
        attributes: Mapping[str, ir.Attr] = node.attributes
        copied = ir.Node(node.domain, node.op_type, inputs, list(attributes.values()), num_outputs=len(names))
        for value, original, name in zip(copied.outputs, node.outputs, names, strict=True):
            value.name = name
            self.made[original] = value
        copied.name = f"{self.b.prefix}/{node.name or names[0]}"
        self.b.nodes.append(copied)

    def _int8_product(self, node: ir.Node) -> ir.Value:
        """The product in the form that ONNX Runtime takes for one: quantize, multiply, scale."""
        b, (weight, scales, smooth) = self.b, self.int8[node]
        source = node.inputs[0]
        assert source is not None
        if source not in self.quantized:
            names = [f"{b.prefix}/{source.name}/{part}" for part in ("int8", "scale", "zero")]
            even = b.op("Mul", self.made[source], smooth)
            self.quantized[source] = b.ops("DynamicQuantizeLinear", even, names=names)
        rows, scale, zero = self.quantized[source]
        product = b.op("Cast", b.op("MatMulInteger", rows, weight, zero), to=ir.DataType.FLOAT.value)
        return b.op("Mul", product, b.op("Mul", scale, scales))

    def input(self, value: ir.Value) -> ir.Value:
        """What a copy reads in place of `value`."""
        if value in self.made:
            return self.made[value]
        axis = self.encoder.tables.get(value)  # with a fixed length a table may be a constant
        if axis is None and flow.is_constant(value, self.constant):
            return value
        if value not in self.other:
            if axis is not None:
                assert self.positions is not None, "there are positions where there are tables"
                self.other[value] = self.b.op("Gather", value, self.positions, axis=axis)
            else:
                array = self.encoder.constants[value]
                self.other[value] = self.b.const(array, array.dtype)
        return self.other[value]


def _graph(b: Builder, outputs: Sequence[ir.Value], shape: Sequence[int | None]) -> ir.Graph:
    for value in outputs:
        value.type = ir.TensorType(ir.DataType.FLOAT)
        value.shape = ir.Shape(shape)
    return ir.Graph([], outputs, nodes=b.nodes, name=b.prefix)
