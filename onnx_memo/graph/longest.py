"""How many tokens a model has positions for: with more it does not run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.graph import flow
from onnx_memo.graph.constants import OTHER_LENGTH, evaluate
from onnx_memo.graph.shapes import Shape, ShapeTable, is_number

TOKEN = 5  # that stands for any; padding, which some models do not count, is seldom this one
MOST_NUMBERS = 1 << 17  # of what positions are made of, such as all that there are


def most_positions(model: ir.Model, table: ShapeTable, mask: str | None) -> int | None:
    """The most tokens that a sequence may have; None: the graph does not tell.

    Looked at are tables of positions: constants that are gathered by 0, 1, 2, ... (or from another number
    on), whatever these are made of, and constants that are cut to the length. Positions that are an input
    have the rows of `onnx_memo.graph.embedding`.

    Args:
        model: it is only read.
        table: of its shapes.
        mask: the input that says which tokens are real.
    """
    shapes = table.at(OTHER_LENGTH, follow=True)
    constant = flow.constant_nodes(model.graph)
    given = _given(model.graph, shapes, mask)
    found = []
    for node in model.graph:
        first = node.inputs[0] if node.inputs else None
        if first is None or not flow.is_constant(first, constant):
            continue
        before = shapes.get(str(first.name)) or ()
        if node.op_type == "Slice":
            after = shapes.get(str(node.outputs[0].name)) or ()
            cut = [size for size, left in zip(before, after, strict=False) if left == OTHER_LENGTH]
            found += [size for size in cut if size is not None and size > OTHER_LENGTH]
        elif node.op_type == "Gather" and len(before) == 2 and not node.attributes.get_int("axis", 0):
            rows, begin = before[0], _counts_from(model, node.inputs[1], shapes, given)
            found += [] if rows is None or begin is None else [rows - begin]
    return min(found, default=None)


def _given(
    graph: ir.Graph, shapes: Mapping[str, Shape], mask: str | None
) -> dict[ir.Value, npt.NDArray[Any]]:
    """Numbers for the inputs [batch, length] of whole ones: tokens that are all real."""
    found = {}
    for value in graph.inputs:
        shape = shapes.get(str(value.name)) or ()
        sizes = [size for size in shape if size is not None]
        whole = value.dtype is not None and is_number(value.dtype) and value.dtype.is_integer()
        if whole and not value.is_initializer() and len(sizes) == len(shape) == 2:
            assert value.dtype is not None
            found[value] = np.full(sizes, 1 if value.name == mask else TOKEN, value.dtype.numpy())
    return found


def _counts_from(
    model: ir.Model,
    indices: ir.Value | None,
    shapes: Mapping[str, Shape],
    given: Mapping[ir.Value, npt.NDArray[Any]],
) -> int | None:
    """From which number on indices count the tokens of a sequence; None: they do not."""
    if indices is None:
        return None
    shape = shapes.get(str(indices.name)) or ()
    if indices in given or shape[-1:] != (OTHER_LENGTH,):
        return None
    with np.errstate(all="ignore"):  # bins of distances take logarithms of 0, and do not use them
        array = evaluate(model, indices, shapes, given, MOST_NUMBERS)
    if array is None or not array.size:
        return None
    begin = int(array.reshape(-1)[0])
    counted = np.array_equal(array, np.broadcast_to(begin + np.arange(OTHER_LENGTH), array.shape))
    return begin if counted else None
