"""Find an encoder's products together with what follows them, as single operators can do it.

1. A *linear step*: rows times a constant weight, and a bias.
2. A *chain*: a linear step, then an activation, or a residual and a normalization.
3. A *projection*: the linear steps that make a core's queries, keys and values of the same rows.
4. A *merged context*: that of attention with its heads side by side, as the next product reads it.

Structure says where each may end; what it does is tried (`onnx_memo.precision.stretches`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.graph import flow
from onnx_memo.graph.cores import Core, Meeting
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.graph.rowwise import ELEMENTWISE, NORMALIZATIONS, REDUCTIONS, Rows
from onnx_memo.operators.spec import GROUP, MOST_INNER
from onnx_memo.precision.recognize import (
    Normalization,
    activation_of,
    activation_probe,
    normalization_of,
    normalization_probe,
)
from onnx_memo.precision.stretches import Floats, Stretch, Stretches, run_stretches

MOVES = frozenset(
    {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Mul", "Div", "Split", "Slice"}
)


@dataclass(frozen=True)
class Linear:
    """Rows x [.., K] times a weight [K, M] (`turned`: [M, K]), plus a bias [M]."""

    x: ir.Value
    weight: ir.Value
    turned: bool
    bias: ir.Value | None
    end: ir.Value

    @property
    def width(self) -> int:
        """M, the number of columns."""
        shape = self.weight.shape
        assert shape is not None, "a weight has a shape"
        return int(shape[0 if self.turned else 1])  # type: ignore[arg-type]


@dataclass(frozen=True)
class Chain:
    """A linear step and what follows it: an activation, or a residual and a normalization.

    Attributes:
        activation: its name in `onnx_memo.precision.recognize`, or None.
        residual: what is added to the linear step before the normalization.
        sum: what the normalization reads.
        end: what comes of all.
    """

    linear: Linear
    end: ir.Value
    activation: str | None = None
    residual: ir.Value | None = None
    norm: Normalization | None = None
    sum: ir.Value | None = None


@dataclass(frozen=True)
class Part:
    """Queries, keys or values of a core: columns of a linear step, times a factor."""

    linear: Linear
    columns: npt.NDArray[np.int64]
    factor: float


@dataclass(frozen=True)
class Projection:
    """What makes a core's queries, keys and values of the same rows."""

    core: Core
    parts: tuple[Part, Part, Part]

    @property
    def x(self) -> ir.Value:
        """The rows that all three are made of."""
        return self.parts[0].linear.x


@dataclass(frozen=True)
class Chains:
    """What was found.

    Attributes:
        chains: by their ends.
        projections: by the contexts of their cores.
        contexts: the attention of merged contexts.
    """

    chains: Mapping[ir.Value, Chain]
    projections: Mapping[ir.Value, Projection]
    contexts: Mapping[ir.Value, Meeting]

    def parted(self, values: Collection[ir.Value]) -> Chains:
        """The same without normalizations of these values, which are to be made by themselves."""
        kept = (
            Chain(chain.linear, chain.linear.end) if chain.sum in values else chain
            for chain in self.chains.values()
        )
        return replace(self, chains={chain.end: chain for chain in kept})

    def linear(self) -> Chains:
        """The same without what follows linear steps, which is to be made by itself."""
        linears = [chain.linear for chain in self.chains.values()]
        return replace(self, chains={linear.end: Chain(linear, linear.end) for linear in linears})


def find_chains(opened: OpenedModel) -> Chains:
    """The chains of the model's encoder. Every product of floats with a constant weight is in one."""
    return _Finder(opened).run()


class _Finder:
    def __init__(self, opened: OpenedModel) -> None:
        self.opened, self.encoder = opened, opened.encoder
        self.stretches = Stretches(self.encoder)
        self.constant = flow.constant_nodes(opened.searched.graph)
        self.linears = [linear for node in self.encoder.steps if (linear := self._linear(node))]

    def run(self) -> Chains:
        activations, norms = self._activations(), self._norms()
        chains = {}
        for linear in self.linears:
            chain = norms.get(linear.end, Chain(linear, linear.end))
            if linear.end in activations:
                end, name = activations[linear.end]
                chain = Chain(linear, end, activation=name)
            chains[chain.end] = chain
        return Chains(chains, self._projections(), self._contexts())

    # 1. linear steps

    def _linear(self, node: ir.Node) -> Linear | None:
        """The linear step that begins with a node, if it is such a product."""
        if node.op_type not in ("MatMul", "Gemm"):
            return None
        x, weight, *rest = node.inputs
        if x is None or weight is None or not self._is_weight(weight):
            return None
        if self._width(x) % GROUP or self._width(x) > MOST_INNER:
            return None
        turned = bool(node.attributes.get_int("transB", 0))
        assert weight.shape is not None
        width = int(weight.shape[0 if turned else 1])  # type: ignore[arg-type]
        if node.op_type == "Gemm":
            factors = {node.attributes.get_float(name, 1.0) for name in ("alpha", "beta")}
            bias = rest[0] if rest else None
            fits = bias is None or self._is_vector(bias, width)
            end = self._reshaped(node.outputs[0])
            return Linear(x, weight, turned, bias, end) if factors == {1.0} and fits else None
        product = node.outputs[0]
        readers = self.stretches.readers(product)
        if len(readers) == 1 and readers[0].op_type == "Add" and not self.stretches.leaks(product, readers):
            (other,) = [value for value in readers[0].inputs if value is not product] or [None]
            if other is not None and self._is_vector(other, width):
                return Linear(x, weight, turned, other, readers[0].outputs[0])
        return Linear(x, weight, turned, None, product)

    def _reshaped(self, value: ir.Value) -> ir.Value:
        """The value after nodes that only part the batch from the rows, or join it to them."""
        while True:
            readers = self.stretches.readers(value)
            if len(readers) != 1 or readers[0].op_type != "Reshape" or self.stretches.leaks(value, readers):
                return value
            after = readers[0].outputs[0]
            if self.encoder.forms[after] not in (Rows(1), Rows(0, merged=True)):
                return value
            if len(self.encoder.shapes[after]) > 3 or self._width(after) != self._width(value):
                return value
            value = after

    def _is_weight(self, value: ir.Value) -> bool:
        floats = value.dtype in (None, ir.DataType.FLOAT)
        return flow.is_constant(value, self.constant) and floats and len(value.shape or ()) == 2

    def _is_vector(self, value: ir.Value, width: int) -> bool:
        tensor = ir.convenience.get_const_tensor(value)
        shape = value.shape if tensor is None else tensor.shape
        return (
            flow.is_constant(value, self.constant)
            and shape is not None
            and all(size == 1 for size in list(shape)[:-1])
            and len(shape) > 0
            and shape[-1] == width
        )

    # 2. chains

    def _activations(self) -> dict[ir.Value, tuple[ir.Value, str]]:
        """What linear steps go on to, and the activation."""
        ways = [way for linear in self.linears for way in self.stretches.after(linear.end, self._is_scalar)]
        inputs = [activation_probe(self._width(way.start)) for way in ways]
        found: dict[ir.Value, tuple[ir.Value, str]] = {}
        for way, given, came in zip(ways, inputs, self._run(ways, inputs), strict=True):
            name = activation_of(given, came)
            if name is not None and way.start not in found:
                found[way.start] = (way.end, name)
        return found

    def _norms(self) -> dict[ir.Value, Chain]:
        """The chains of linear steps to which a residual is added, and then a normalization follows."""
        sums = {
            add[0].outputs[0]: (linear, add[1]) for linear in self.linears if (add := self._added(linear))
        }
        ways = [way for value in sums for way in self.stretches.after(value, self._is_rowwise, alone=False)]
        inputs = [normalization_probe(self._width(way.start)) for way in ways]
        found: dict[ir.Value, Chain] = {}
        for way, given, came in zip(ways, inputs, self._run(ways, inputs), strict=True):
            linear, residual = sums[way.start]
            norm = normalization_of(given, came)
            if norm is not None and linear.end not in found:
                found[linear.end] = Chain(linear, way.end, residual=residual, norm=norm, sum=way.start)
        return found

    def _added(self, linear: Linear) -> tuple[ir.Node, ir.Value] | None:
        """The addition of other rows that a linear step alone goes into."""
        readers = self.stretches.readers(linear.end)
        if len(readers) != 1 or readers[0].op_type != "Add" or self.stretches.leaks(linear.end, readers):
            return None
        (other,) = [value for value in readers[0].inputs if value is not linear.end] or [None]
        forms, shapes = self.encoder.forms, self.encoder.shapes
        if other is None or forms.get(other) != forms[linear.end]:
            return None
        same = shapes[other] == shapes[linear.end]
        return (readers[0], other) if same else None

    def _is_scalar(self, node: ir.Node) -> bool:
        """Whether a node does the same with every number."""
        others = [value for value in node.inputs if value is not None and value not in self.encoder.forms]
        return node.op_type in ELEMENTWISE and all(self._size(value) == 1 for value in others)

    def _is_rowwise(self, node: ir.Node) -> bool:
        return node.op_type in ELEMENTWISE | REDUCTIONS | NORMALIZATIONS

    def _size(self, value: ir.Value) -> int | None:
        if value in self.encoder.constants:
            return self.encoder.constants[value].size
        tensor = ir.convenience.get_const_tensor(value)
        return None if tensor is None else tensor.size

    def _width(self, value: ir.Value) -> int:
        return self.encoder.shapes[value][-1]

    # 3. projections

    def _projections(self) -> dict[ir.Value, Projection]:
        """The projections of cores, by their contexts."""
        ends = {linear.end: linear for linear in self.linears}
        values = [value for core in self.encoder.cores for value in (core.query, core.key, core.value)]
        ways = [way for value in values if (way := self._way(value, ends)) is not None]
        inputs = [_columns_probe(self._width(way.start)) for way in ways]
        came = dict(zip((way.end for way in ways), self._run(ways, inputs), strict=True))
        starts = {way.end: ends[way.start] for way in ways}
        found = {}
        for core in self.encoder.cores:
            parts = [
                _part(starts[value], core.heads, axes, came[value])
                for value, axes in ((core.query, (0, 1, 2)), (core.key, (0, 2, 1)), (core.value, (0, 1, 2)))
                if value in starts
            ]
            query, key, value = [*parts, None, None, None][:3]
            if query and key and value and query.linear.x is key.linear.x is value.linear.x:
                found[core.context] = Projection(core, (query, key, value))
        return found

    def _way(self, value: ir.Value, ends: Mapping[ir.Value, Linear]) -> Stretch | None:
        """From the linear step that a value is made of, through nodes that move columns, to the value."""
        current: ir.Value | None = value
        while current is not None and current not in ends:
            node = self.stretches.made.get(current)
            rows = (
                [] if node is None else [v for v in node.inputs if v is not None and v in self.encoder.forms]
            )
            current = rows[0] if node is not None and node.op_type in MOVES and len(rows) == 1 else None
        return None if current is None else self.stretches.between(current, value)

    # 4. merged contexts

    def _contexts(self) -> dict[ir.Value, Meeting]:
        """The values that are a context, heads side by side."""
        ways = {
            way: meeting
            for meeting in self.encoder.meetings
            for way in self.stretches.after(meeting.context, lambda node: node.op_type in MOVES)
        }
        rows = {
            meeting: np.random.default_rng(0).standard_normal(
                (meeting.heads, 5, meeting.value_width), np.float32
            )
            for meeting in self.encoder.meetings
        }
        came = self._run(list(ways), [rows[meeting] for meeting in ways.values()])
        found = {}
        for (way, meeting), result in zip(ways.items(), came, strict=True):
            wanted = rows[meeting].transpose(1, 0, 2).reshape(5, -1)
            if result is not None and result.shape[-2:] == wanted.shape and (result == wanted).all():
                found[way.end] = meeting
        return found

    def _run(self, ways: list[Stretch], inputs: list[Floats]) -> list[Floats | None]:
        return run_stretches(self.opened, ways, inputs)


def _columns_probe(width: int) -> Floats:
    """Rows by which a mere choice of columns, times a factor, tells itself."""
    noise = np.random.default_rng(0).standard_normal(width)
    return np.stack([np.ones(width), np.arange(width) + 1.0, noise]).astype(np.float32)


def _part(linear: Linear, heads: int, axes: tuple[int, int, int], came: Floats | None) -> Part | None:
    """Which columns of a linear step became queries, keys or values, [.., H, rows, width] with `axes`."""
    if came is None:
        return None
    of_heads = came.reshape(heads, *came.shape[-2:]).transpose(axes)
    ones, numbers, noise = of_heads.transpose(1, 0, 2).reshape(3, -1).astype(np.float64)
    factor = float(ones[0])
    if not factor or not np.isfinite(factor):
        return None
    columns = np.rint(numbers / factor).astype(np.int64) - 1
    probe = _columns_probe(linear.width)
    if columns.min() < 0 or columns.max() >= probe.shape[1]:
        return None
    wanted = factor * probe[:, columns]
    same = np.allclose([ones, numbers, noise], wanted, rtol=1e-5, atol=0)
    return Part(linear, columns, factor) if same else None
