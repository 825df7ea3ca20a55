"""Copies of the nodes that work row by row, to run for some rows only, packed as one sequence [1, R, ...]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx_ir as ir

from onnx_memo.graph import flow
from onnx_memo.graph.build import Builder
from onnx_memo.graph.cores import Meeting
from onnx_memo.graph.encoder import Encoder
from onnx_memo.graph.rowwise import SIZED, Table, packed_shape


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


class Places:
    """Where the rows that run stand.

    Attributes:
        rows: their numbers among the rows of all sequences, padding included, i64[R].
    """

    def __init__(self, b: Builder, rows: ir.Value, padded: ir.Value) -> None:
        """`padded` is how many rows each sequence has, i64[1]."""
        self.b, self.rows, self.padded = b, rows, padded

    @cached_property
    def positions(self) -> ir.Value:
        """Their positions in their sequences, i64[R]."""
        return self.b.op("Mod", self.rows, self.padded)


@dataclass(frozen=True)
class Steps:
    """How rows become bytes: round(x / step) + zero, cut to 0 to 255. No row depends on another.

    Attributes:
        step, zero: the same for all rows.
        by_row: whether each row is first divided by the least number that brings it between `low` and
            `high`, and its product multiplied by it.
    """

    step: float
    zero: int
    by_row: bool = False

    @staticmethod
    def between(low: float, high: float, by_row: bool = False) -> Steps:
        """All of them between two numbers, of which zero is one if they are not both on one side of it."""
        step = max((max(high, 0.0) - min(low, 0.0)) / 255, float(np.finfo(np.float32).tiny))
        return Steps(step, round(-min(low, 0.0) / step), by_row)

    @property
    def low(self) -> float:
        """The least number that is not cut."""
        return -self.zero * self.step

    @property
    def high(self) -> float:
        """The greatest number that is not cut."""
        return (255 - self.zero) * self.step


@dataclass(frozen=True)
class Int8Weight:
    """A product's weight in bytes, i8[K, M], its scales f32[M], what x is multiplied by before, f32[K]."""

    weight: ir.Value
    scales: ir.Value
    smooth: ir.Value
    steps: Steps


@dataclass(frozen=True)
class Bytes:
    """Rows as bytes u8[1, R, K]; their step and zero; of each row what its products are multiplied with."""

    rows: ir.Value
    step: ir.Value
    zero: ir.Value
    peaks: ir.Value | None


def to_bytes(b: Builder, value: ir.Value, own: Int8Weight) -> Bytes:
    """Rows f32[1, R, K] as bytes, by the steps of a product that reads them."""
    steps, peaks = own.steps, None
    even = b.op("Mul", value, own.smooth)
    if steps.by_row:
        least = b.const(np.finfo(np.float32).tiny, np.float32)  # of a row of zeros
        up, down = (b.reduce(kind, even, -1, keepdims=True) for kind in ("ReduceMax", "ReduceMin"))
        up = b.op("Div", up, b.const(steps.high, np.float32))
        down = b.op("Div", down, b.const(steps.low, np.float32))
        peaks = b.op("Max", up, down, least)
        even = b.op("Div", even, peaks)
    zero = b.const(steps.zero, np.uint8)
    step = b.op("Mul", b.const(steps.step, np.float32), _one(b, value))
    return Bytes(b.op("QuantizeLinear", even, step, zero), step, zero, peaks)


def product_of_bytes(b: Builder, x: Bytes, own: Int8Weight) -> ir.Value:
    """The product f32[1, R, M], in the form that ONNX Runtime takes for one node: multiply, scale."""
    whole = b.op("Cast", b.op("MatMulInteger", x.rows, own.weight, x.zero), to=ir.DataType.FLOAT.value)
    product = b.op("Mul", whole, b.op("Mul", x.step, own.scales))
    return product if x.peaks is None else b.op("Mul", product, x.peaks)


def _one(b: Builder, rows: ir.Value) -> ir.Value:
    """1, f32 scalar, which ONNX Runtime does not know to be constant.

    It takes an integer product, its scales and its bias for one node only where the step is computed.
    """
    some = b.op("Min", b.dim(rows, 1), b.i64(1))  # as many as rows, which are not none
    return b.op("Cast", b.op("Squeeze", some), to=ir.DataType.FLOAT.value)


class Copier:
    """Copies nodes that work row by row into the branch where only some rows run.

    Attributes:
        made: the copies of the values that are made of rows.
        int8: products that are done in int8.
    """

    def __init__(
        self, b: Builder, encoder: Encoder, constant: set[ir.Node], places: Places | None = None
    ) -> None:
        """`places` are those of the rows; None where no tables are read."""
        self.b, self.encoder, self.constant, self.places = b, encoder, constant, places
        self.meetings = {meeting.context: meeting for meeting in encoder.meetings}
        self.made: dict[ir.Value, ir.Value] = {}
        self.int8: dict[ir.Node, Int8Weight] = {}
        self.other: dict[ir.Value, ir.Value] = {}  # constants and rows of tables
        self.quantized: dict[ir.Value, Bytes] = {}  # of values in `made`

    def begin(self, states: ir.Value, grown: ir.Value, places: Places) -> None:
        """Go on with other rows: `grown` [R, d] in place of `states`, which all that follows is made of."""
        self.go_on({states: self.b.op("Reshape", grown, self.b.i64(*self.packed(states)))}, places)

    def go_on(self, made: dict[ir.Value, ir.Value], places: Places) -> None:
        """Go on with other rows, which stand at `places`; `made` is all that is read of them."""
        self.made, self.places = made, places
        self.other, self.quantized = {}, {}

    def meeting(self, node: ir.Node) -> Meeting | None:
        """The attention that ends in `node`, if one does."""
        return self.meetings.get(node.outputs[0])

    def packed(self, value: ir.Value) -> list[int]:
        """The shape of a value's copy; -1 for the rows."""
        encoder = self.encoder
        return packed_shape(encoder.forms[value], encoder.shapes[value], encoder.batch)

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
        own, source = self.int8[node], node.inputs[0]
        assert source is not None
        if source not in self.quantized:
            self.quantized[source] = to_bytes(self.b, self.made[source], own)
        return product_of_bytes(self.b, self.quantized[source], own)

    def input(self, value: ir.Value) -> ir.Value:
        """What a copy reads in place of `value`."""
        if value in self.made:
            return self.made[value]
        table = self.encoder.tables.get(value)  # with a fixed length a table may be a constant
        if table is None and flow.is_constant(value, self.constant):
            return value
        if value not in self.other:
            if table is not None:
                self.other[value] = self._of_rows(value, table)
            else:
                array = self.encoder.constants[value]
                self.other[value] = self.b.const(array, array.dtype)
        return self.other[value]

    def _of_rows(self, value: ir.Value, table: Table) -> ir.Value:
        """What a table has for the rows."""
        b, places = self.b, self.places
        assert places is not None, "where tables are read, rows have places"
        if table.joined is None:
            return b.op("Gather", value, places.positions, axis=table.axis)
        return b.op("Gather", b.op("Reshape", value, b.i64(*table.joined)), places.rows, axis=table.axis)
