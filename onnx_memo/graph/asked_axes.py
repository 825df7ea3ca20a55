"""Where rows that ask stand in what a node reads, if it is known where they stand in what it makes."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator

import onnx_ir as ir

from onnx_memo.graph.rowwise import ELEMENTWISE, NORMALIZATIONS, REDUCTIONS, Refused, RowRules


def axes_of_inputs(rules: RowRules, node: ir.Node, axis: int) -> list[int | None]:
    """Which axis of each input of `node` holds the rows that stand on `axis` of its results; None: none does.

    Raises:
        Refused: rows that ask would need each other, or what the node does is not known.
    """
    return _Axes(rules, node, axis).of_inputs()


class _Axes:
    """Which axes of a node's inputs hold the rows that stand on `axis` of what it makes."""

    def __init__(self, rules: RowRules, node: ir.Node, axis: int) -> None:
        self.rules, self.node, self.axis = rules, node, axis
        self.made = rules.shape(node.outputs[0])
        self.given = [() if value is None else rules.shape(value) for value in self._data(node)]

    @staticmethod
    def _data(node: ir.Node) -> Iterator[ir.Value | None]:
        """Inputs whose shapes matter: sizes do not."""
        yield from node.inputs[:1] if node.op_type in ("Reshape", "Expand", "Slice") else node.inputs

    def of_inputs(self) -> list[int | None]:
        """One for each input. Raises Refused where rows would need each other, or it is not known."""
        kind = self.node.op_type
        if self.node.domain == "" and kind in ELEMENTWISE | {"Expand"}:
            found = [self._aligned(shape) for shape in self.given]
        elif self.node.domain == "" and kind in _AXES:
            found = _AXES[kind](self)
        else:
            raise self._refused("is not known to keep rows apart that ask")
        return found + [None] * (len(self.node.inputs) - len(found))

    def _refused(self, why: str) -> Refused:
        return Refused(f"'{self.node.name}' ({self.node.op_type}) {why}")

    def _aligned(self, shape: Collection[int]) -> int | None:
        """The axis of an input whose last axes are those of what is made."""
        axis = self.axis - (len(self.made) - len(shape))
        return None if axis < 0 or tuple(shape)[axis] == 1 else axis

    def _own_axis(self, default: int) -> int:
        return self.node.attributes.get_int("axis", default) % len(self.given[0])

    def _along(self) -> list[int | None]:
        """Works along one axis, or from it on, which must not be that of the rows that ask."""
        if self.axis >= self._own_axis(-1):
            raise self._refused("works across rows that ask")
        return [self.axis]

    def _reduced(self) -> list[int | None]:
        node = self.node
        given = self.rules.constant(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] else None
        axes = list(node.attributes.get_ints("axes", ())) or [int(axis) for axis in given or ()]
        gone = {axis % len(self.given[0]) for axis in axes}
        kept = bool(node.attributes.get_int("keepdims", 1))
        left = [axis for axis in range(len(self.given[0])) if kept or axis not in gone]
        if not gone or left[self.axis] in gone:
            raise self._refused("works across rows that ask")
        return [left[self.axis]]

    def _product(self) -> list[int | None]:
        left, right = self.given
        if min(len(left), len(right)) < 2:
            raise self._refused("multiplies with a vector")
        last = len(self.made) - 1
        if self.axis == last:
            return [None, len(right) - 1]
        if self.axis == last - 1:
            return [len(left) - 2, None]
        return [self._aligned(left), self._aligned(right)]

    def _transposed(self) -> list[int | None]:
        rank = len(self.made)
        perm = list(self.node.attributes.get_ints("perm", range(rank - 1, -1, -1)))
        return [perm[self.axis]]

    def _reshaped(self) -> list[int | None]:
        """Rows stay whole where an axis begins at the same place and has the same size."""
        (before, *_), after = self.given, self.made
        start = math.prod(after[: self.axis])
        for axis, size in enumerate(before):
            if math.prod(before[:axis]) == start and size == after[self.axis]:
                return [axis]
        raise self._refused(f"tears rows apart that ask: {list(before)} to {list(after)}")

    def _joined(self) -> list[int | None]:
        if self._own_axis(0) == self.axis:
            raise self._refused("joins rows that ask with something else")
        return [self.axis] * len(self.given)

    def _cut(self) -> list[int | None]:
        axes = [self._own_axis(0)]
        if self.node.op_type == "Slice":
            given = self.node.inputs[3] if len(self.node.inputs) > 3 else None
            numbers = self.rules.constant(given) if given is not None else None
            if numbers is None:
                raise self._refused("has axes that are not constant")
            axes = [int(axis) % len(self.made) for axis in numbers]
        if self.axis in axes:
            raise self._refused("takes rows apart that ask")
        return [self.axis]

    def _gathered(self) -> list[int | None]:
        index = self.given[1]
        own = self._own_axis(0)
        if self.axis < own:
            return [self.axis, None]
        if self.axis < own + len(index):
            return [None, self.axis - own]
        return [self.axis - len(index) + 1, None]

    def _picked(self) -> list[int | None]:
        """By numbers of its own for each: rows that ask pick, or are picked of with others' numbers."""
        own = self._own_axis(0)
        if self.axis == own:
            return [None, self.axis]
        return [self.axis, self.axis]


_AXES: dict[str, Callable[[_Axes], list[int | None]]] = {
    **dict.fromkeys(NORMALIZATIONS | {"Softmax", "LogSoftmax"}, _Axes._along),
    **dict.fromkeys(REDUCTIONS, _Axes._reduced),
    **dict.fromkeys(("Reshape", "Squeeze", "Unsqueeze"), _Axes._reshaped),
    **dict.fromkeys(("Split", "Slice"), _Axes._cut),
    "MatMul": _Axes._product,
    "Transpose": _Axes._transposed,
    "Concat": _Axes._joined,
    "Gather": _Axes._gathered,
    "GatherElements": _Axes._picked,
}
