"""Whether an input is the padding mask of attention, where the model fixes its length.

A free length has a number that is found nowhere else, so a mask of [batch, length] is known by its shape
(`onnx_memo.graph.shapes`). A fixed one may as well be the number of heads or layers, or a width. There it is
tried what the input does: with a single 0 among ones, scores or probabilities may differ in the row and
the column of that position alone, and must in the column; and the block must not read the input elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import cached_property

import numpy as np
import onnx_ir as ir

from onnx_memo.graph import flow
from onnx_memo.graph.constants import evaluate
from onnx_memo.graph.cost import PRODUCTS
from onnx_memo.graph.shapes import Shape, ShapeTable

MOST_MASKED = 2**26  # numbers of what the input comes to; more is not proven


class Masks:
    """Tries the masks of a model; `length` is that of sequences, where it is free."""

    def __init__(self, model: ir.Model, table: ShapeTable, length: int) -> None:
        self.model, self.table, self.length = model, table, length
        self.tried: dict[tuple[ir.Value, ir.Value], bool] = {}

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """Of all values; what masks are made with is read from many."""
        return self.table.at(self.length, follow=True)

    def proven(self, mask: ir.Value, hidden: ir.Value, probabilities: ir.Value, output: ir.Value) -> bool:
        """Whether `mask` [B, L] does nothing but mask positions between `hidden` and `output`."""
        below, masked = flow.downstream(hidden), flow.downstream(mask)
        core = set(_up(probabilities, below, PRODUCTS))
        for node in _up(output, below - {hidden}):
            for value in flow.inputs_of(node):
                if value in masked - below and not (node in core and self._of_positions(mask, value)):
                    return False
        return True

    def _of_positions(self, mask: ir.Value, made: ir.Value) -> bool:
        if (mask, made) not in self.tried:
            self.tried[mask, made] = self._try(mask, made)
        return self.tried[mask, made]

    def _try(self, mask: ir.Value, made: ir.Value) -> bool:
        """Whether a 0 in `mask` changes what is `made` of it, seen as [.., L, L], where it may and must."""
        shape = tuple(dim or 0 for dim in self.shapes[str(mask.name)])
        length = shape[1]
        ones = np.ones(shape, (mask.dtype or ir.DataType.INT64).numpy())
        for position in (0, length - 1):
            holed = ones.copy()
            holed[-1, position] = 0
            before, after = (
                evaluate(self.model, made, self.shapes, {mask: array}, MOST_MASKED) for array in (ones, holed)
            )
            if before is None or after is None or before.ndim < 2 or {*before.shape[-2:]} - {1, length}:
                return False
            changed = np.broadcast_to(before != after, (*before.shape[:-2], length, length)).nonzero()
            row, column = changed[-2] == position, changed[-1] == position
            if not (row | column).all():
                return False
            if position == 0 and not (column & ~row).any():
                return False
        return True


def _up(value: ir.Value, among: Collection[ir.Value], until: Collection[str] = ()) -> Iterator[ir.Node]:
    """The nodes that lead to `value` through values of `among`, without those of the kinds `until`."""
    todo, seen = [value], {value}
    while todo:
        node = todo.pop().producer()
        if node is None or node.op_type in until:
            continue
        yield node
        fresh = {v for v in flow.inputs_of(node) if v in among} - seen
        seen |= fresh
        todo += fresh
