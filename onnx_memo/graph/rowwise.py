"""Which axis of a value holds a sequence's rows, and what a node does to it.

Between attention cores an encoder works on every row (token, patch) by itself. This module proves that node
by node: from the form of a node's inputs follows the form of its outputs, and whatever would mix rows is
refused with the reason. Rules, by kind of node:

1. *Elementwise* nodes keep the axis; what they read beside rows must not vary along it, or is a table with
   numbers for each position, of all sequences or of each, of which the right rows are taken.
2. Products with a constant right side, normalizations and reductions over the last axis keep it, and so do
   products of anything with columns that are the rows.
3. `Transpose`, `Reshape`, `Squeeze`, `Unsqueeze` move it; `Expand` on other axes keeps it.
4. `Split`, `Slice`, `Gather`, `Concat` on other axes keep it; `Gather` by rows makes rows of what it takes.
5. `DynamicQuantizeLinear` keeps it; its scale and zero point are numbers of the whole tensor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from onnx_memo.graph.shapes import BATCH, Shape

ELEMENTWISE = frozenset(
    {"Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Erf", "Tanh", "Sigmoid", "Relu", "Gelu", "Exp", "Neg", "Abs"}
    | {
        "Reciprocal",
        "Where",
        "Cast",
        "Identity",
        "Dropout",
        "Clip",
        "Min",
        "Max",
        "LeakyRelu",
        "Elu",
        "Swish",
    }
    | {
        "HardSigmoid",
        "HardSwish",
        "Softplus",
        "IsNaN",
        "Equal",
        "Less",
        "Greater",
        "Not",
        "And",
        "Or",
        "Mish",
    }
    | {"QuantizeLinear", "DequantizeLinear", "Sin", "Cos", "Sign", "Log", "Mod"}
)
NORMALIZATIONS = frozenset({"LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"})
SIZED = frozenset({"Reshape", "Expand"})  # read the sizes of their results
REDUCTIONS = frozenset({"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceSumSquare"})


class Refused(Exception):
    """Carries the reason why a model does not allow the level `rows`."""


@dataclass(frozen=True)
class Rows:
    """The form of a value made of rows. `axis` holds the L rows of each sequence; the batch leads on axis 0.

    With `merged`, axis 0 holds the rows of all sequences, B * L. An axis of None: one number for all rows.
    """

    axis: int | None
    merged: bool = False


@dataclass(frozen=True)
class Table:
    """What is read beside rows and has numbers for each position, along `axis`.

    Where each sequence has its own, `joined` is the form (as `Reshape` takes it) in which those of all
    sequences stand along this axis, one sequence after the other.
    """

    axis: int
    joined: tuple[int, ...] | None = None


class RowRules:
    """What nodes do to rows, in a graph with these shapes.

    Args:
        shapes: of all values, by name.
        constant: the constant value of small inputs such as axes, or None where it is not known.
        batch: that of the shapes.
    """

    def __init__(
        self,
        shapes: Mapping[str, Shape],
        constant: Callable[[ir.Value], list[float] | None],
        batch: int = BATCH,
    ) -> None:
        self.shapes = shapes
        self.constant = constant
        self.batch = batch

    def shape(self, value: ir.Value) -> tuple[int, ...]:
        """The shape of a value. Raises Refused if it is not known."""
        shape = self.shapes.get(value.name or "")
        if shape is None or any(dim is None for dim in shape):
            raise Refused(f"the shape of '{value.name}' cannot be inferred")
        return tuple(dim for dim in shape if dim is not None)

    def outputs(self, node: ir.Node, forms: Mapping[ir.Value, Rows]) -> list[Rows]:
        """The forms of a node's outputs. Raises Refused where it mixes rows or is not known."""
        kind = node.op_type
        if node.domain not in ("", "com.microsoft"):
            raise Refused(f"'{kind}' of the domain '{node.domain}' is not known to work row by row")
        if kind in ELEMENTWISE:
            return [self._elementwise(node, forms)] * len(node.outputs)
        form = forms.get(node.inputs[0]) if node.inputs and node.inputs[0] is not None else None
        beside = _BESIDE.get(kind)
        if form is None and beside is not None and node.inputs[1] in forms:
            return beside(self, node, forms[_second(node)], forms)
        rule = _RULES.get(kind)
        if rule is None or (form is None and kind != "Concat"):
            raise Refused(f"'{node.name}' ({kind}) is not known to work row by row")
        if kind != "Concat" and any(v in forms and forms[v].axis is not None for v in node.inputs[1:] if v):
            raise Refused(f"'{node.name}' ({kind}) joins rows with rows")
        return rule(self, node, form or Rows(None), forms)

    def table(self, value: ir.Value, node: ir.Node, form: Rows) -> Table | None:
        """What an input beside the rows of an elementwise `node` is, if it has numbers for each position.

        None: it is the same for all positions. Raises Refused where it differs by more than sequence and
        position.
        """
        if form.axis is None:
            return None
        shape, rank = self.shape(value), len(self.shape(node.outputs[0]))
        axis = form.axis - (rank - len(shape))
        if axis < 0 or shape[axis] == 1:
            return None
        if not form.merged and math.prod(shape[:axis]) == 1:
            return Table(axis)
        if math.prod(shape[int(not form.merged) : axis]) != 1 or (not form.merged and len(shape) != rank):
            raise Refused(f"'{value.name}' has numbers of its own for more than every sequence and position")
        return Table(axis, (*[1] * axis, -1, *[0] * (len(shape) - axis - 1)))

    # ---- Rules

    def _elementwise(self, node: ir.Node, forms: Mapping[ir.Value, Rows]) -> Rows:
        rank = len(self.shape(node.outputs[0]))
        found: set[tuple[int, bool]] = set()
        for value in node.inputs:
            form = forms.get(value) if value is not None else None
            if value is not None and form is not None and form.axis is not None:
                found.add((form.axis + rank - len(self.shape(value)), form.merged))
        if len(found) > 1:
            raise Refused(f"'{node.name}' ({node.op_type}) joins rows on different axes")
        return Rows(*found.pop()) if found else Rows(None)

    def _along_last(self, node: ir.Node, form: Rows, forms: Mapping[ir.Value, Rows]) -> list[Rows]:
        """Works along the last axis, which must not be that of the rows."""
        rank = len(self.shape(_first(node)))
        axis = node.attributes.get_int("axis", -1)
        if axis % rank != rank - 1 or form.axis == rank - 1:
            raise Refused(f"'{node.name}' ({node.op_type}) works along axis {axis}, across rows")
        return [form] * len(node.outputs)

    def _reduce(self, node: ir.Node, form: Rows, forms: Mapping[ir.Value, Rows]) -> list[Rows]:
        rank = len(self.shape(_first(node)))
        axes = self._axes(node)
        if axes is None or form.axis is None or any(axis % rank <= form.axis for axis in axes):
            raise Refused(f"'{node.name}' ({node.op_type}) works across rows")
        return [form]

    def _product(self, node: ir.Node, form: Rows, forms: Mapping[ir.Value, Rows]) -> list[Rows]:
        rank = len(self.shape(_first(node)))
        right = _second(node)
        if form.axis is None or form.axis == rank - 1 or node.attributes.get_int("transA", 0) == 1:
            raise Refused(f"'{node.name}' ({node.op_type}) adds up rows")
        if len(self.shape(right)) > 2:
            raise Refused(f"'{node.name}' ({node.op_type}) has a weight of its own for every sequence or row")
        return [form]

    def _columns(self, node: ir.Node, form: Rows, forms: Mapping[ir.Value, Rows]) -> list[Rows]:
        """A product of anything with rows that are columns, one beside the other."""
        right, rank = self.shape(_second(node)), len(self.shape(node.outputs[0]))
        if form != Rows(len(right) - 1) or rank != len(right):
            raise Refused(f"'{node.name}' ({node.op_type}) adds up rows")
        return [form]

    def _looked_up(self, node: ir.Node, form: Rows, forms: Mapping[ir.Value, Rows]) -> list[Rows]:
        """Takes what stands in a table where rows say."""
        if node.attributes.get_int("axis", 0) != 0:
            raise Refused(f"'{node.name}' (Gather) moves the batch")
        return [form]

    def _transpose(self, node: ir.Node, form: Rows, forms: Mapping[ir.Value, Rows]) -> list[Rows]:
        rank = len(self.shape(_first(node)))
        perm = list(node.attributes.get_ints("perm", range(rank - 1, -1, -1)))
        if form.axis is None or perm[0] != 0:
            raise Refused(f"'{node.name}' (Transpose) moves the batch")
        return [Rows(perm.index(form.axis), form.merged)]

    def _reshape(self, node: ir.Node, form: Rows, forms: Mapping[ir.Value, Rows]) -> list[Rows]:
        before, after = self.shape(_first(node)), self.shape(node.outputs[0])
        if form.axis is None:
            raise Refused(f"'{node.name}' (Reshape) makes rows of a single number")
        return [reshaped(form, before, after, node.name or "?", self.batch)]

    def _expand(self, node: ir.Node, form: Rows, forms: Mapping[ir.Value, Rows]) -> list[Rows]:
        """Repeats along axes that are neither the rows' nor the batch's."""
        before, after = self.shape(_first(node)), self.shape(node.outputs[0])
        if form.axis is None or len(before) != len(after):
            raise Refused(f"'{node.name}' (Expand) moves the batch: {list(before)} to {list(after)}")
        if any(before[axis] != after[axis] for axis in (0, form.axis)):
            raise Refused(f"'{node.name}' (Expand) repeats rows: {list(before)} to {list(after)}")
        return [form]

    def _squeeze(self, node: ir.Node, form: Rows, forms: Mapping[ir.Value, Rows]) -> list[Rows]:
        before, after = self.shape(_first(node)), self.shape(node.outputs[0])
        axes = self._axes(node)
        if axes is None or form.axis is None:
            raise Refused(f"'{node.name}' ({node.op_type}) has axes that are not constant")
        if node.op_type == "Squeeze":
            moved = form.axis - sum(axis % len(before) < form.axis for axis in axes)
        else:
            new = {axis % len(after) for axis in axes}
            old = [axis for axis in range(len(after)) if axis not in new]
            moved = old[form.axis]
            if old[0] != 0:
                raise Refused(f"'{node.name}' (Unsqueeze) moves the batch")
        return [Rows(moved, form.merged)]

    def _across(self, node: ir.Node, form: Rows, forms: Mapping[ir.Value, Rows]) -> list[Rows]:
        """Takes parts along an axis that is neither the rows' nor the batch's."""
        rank = len(self.shape(_first(node)))
        axes = [node.attributes.get_int("axis", 0)]
        if node.op_type == "Slice":
            given = self.constant(node.inputs[3]) if len(node.inputs) > 3 and node.inputs[3] else None
            if given is None:
                raise Refused(f"'{node.name}' (Slice) has axes that are not constant")
            axes = [int(axis) for axis in given]
        if any(axis % rank in (0, form.axis) for axis in axes):
            raise Refused(f"'{node.name}' ({node.op_type}) takes rows apart")
        rank_lost = 0
        if node.op_type == "Gather":
            rank_lost = 1 - len(self.shape(_second(node)))
            if rank_lost and form.axis is not None and axes[0] % rank < form.axis:
                return [Rows(form.axis - rank_lost, form.merged)]
        return [form] * len(node.outputs)

    def _concat(self, node: ir.Node, form: Rows, forms: Mapping[ir.Value, Rows]) -> list[Rows]:
        found = {forms.get(value) for value in node.inputs if value is not None}
        rank = len(self.shape(node.outputs[0]))
        (only,) = found if len(found) == 1 else (None,)
        if only is None or node.attributes.get_int("axis", 0) % rank in (0, only.axis):
            raise Refused(f"'{node.name}' (Concat) joins rows with something else")
        return [only]

    def _quantize(self, node: ir.Node, form: Rows, forms: Mapping[ir.Value, Rows]) -> list[Rows]:
        return [form, Rows(None), Rows(None)]

    def _axes(self, node: ir.Node) -> list[int] | None:
        if "axes" in node.attributes:
            return list(node.attributes.get_ints("axes", ()))
        if len(node.inputs) > 1 and node.inputs[1] is not None:
            given = self.constant(node.inputs[1])
            return None if given is None else [int(axis) for axis in given]
        return None


def reshaped(
    form: Rows, before: tuple[int, ...], after: tuple[int, ...], name: str, batch: int = BATCH
) -> Rows:
    """Where the rows are after a Reshape. Raises Refused where they are torn apart.

    The rows stay whole where an axis of the result begins at the same place and has the same size; the batch
    may be split off them (`merged` -> axis 1), or joined to them.
    """
    assert form.axis is not None
    size = before[form.axis]
    start = math.prod(before[: form.axis])
    for axis, dim in enumerate(after):
        if math.prod(after[:axis]) == start and dim == size:
            if not form.merged and after[0] % batch:
                raise Refused(f"'{name}' (Reshape) moves the batch: {list(before)} to {list(after)}")
            return Rows(axis, form.merged)
    if form.merged and len(after) > 1 and after[0] == batch and after[0] * after[1] == size:
        return Rows(1)
    if not form.merged and form.axis == 1 and before[0] == batch and after[0] == before[0] * before[1]:
        return Rows(0, merged=True)
    raise Refused(f"'{name}' (Reshape) tears rows apart: {list(before)} to {list(after)}")


def packed_shape(form: Rows, shape: tuple[int, ...], batch: int = BATCH) -> list[int]:
    """A value's shape when a batch of one sequence holds just the rows that run; -1 for their number."""
    packed = list(shape)
    if not form.merged:
        packed[0] = shape[0] // batch
    if form.axis is not None:
        packed[form.axis] = -1
    return packed


def _first(node: ir.Node) -> ir.Value:
    value = node.inputs[0]
    assert value is not None, "a node that works on rows reads them"
    return value


def _second(node: ir.Node) -> ir.Value:
    value = node.inputs[1]
    assert value is not None, "a product or a Gather has two inputs"
    return value


Rule = Callable[[RowRules, ir.Node, Rows, Mapping[ir.Value, Rows]], list[Rows]]
_RULES: dict[str, Rule] = {
    **dict.fromkeys(NORMALIZATIONS | {"Softmax", "LogSoftmax"}, RowRules._along_last),
    **dict.fromkeys(REDUCTIONS, RowRules._reduce),
    **dict.fromkeys(("MatMul", "Gemm", "MatMulInteger"), RowRules._product),
    **dict.fromkeys(("Split", "Slice", "Gather"), RowRules._across),
    **dict.fromkeys(("Squeeze", "Unsqueeze"), RowRules._squeeze),
    "Transpose": RowRules._transpose,
    "Reshape": RowRules._reshape,
    "Expand": RowRules._expand,
    "Concat": RowRules._concat,
    "DynamicQuantizeLinear": RowRules._quantize,
}
# Where rows are the second input alone.
_BESIDE: dict[str, Rule] = {"MatMul": RowRules._columns, "Gather": RowRules._looked_up}
