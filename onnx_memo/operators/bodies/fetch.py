"""MemoFetch: the stored rows of each entry, as a padded batch."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.operators.bodies.common import FLOAT, INT64, Results


def fetch_body(
    b: Builder,
    entry: ir.Value,
    payload: ir.Value,
    offsets: ir.Value,
    lengths: ir.Value,
    padded_length: ir.Value,
) -> Results:
    """An If: where every place has a stored row, nothing is put together."""
    zero = b.const(0, np.int64)
    stored = b.op("Max", entry, zero)
    rows = b.op("Gather", lengths, stored)
    rows = b.op("Where", b.op("Less", entry, zero), zero, rows)  # [B]
    first = b.op("Gather", offsets, stored)  # [B]
    t = b.op("Range", zero, b.op("Squeeze", padded_length), b.const(1, np.int64))  # [L]
    inside = b.op("Less", t, b.op("Unsqueeze", rows, b.i64(1)))  # [B, L]
    row = b.op("Add", b.op("Unsqueeze", first, b.i64(1)), t)
    place = b.op("NonZero", b.op("Reshape", inside, b.i64(-1)))  # [1, R]
    output = b.op(
        "If",
        b.op("Equal", b.op("Size", place), b.op("Size", inside)),
        then_branch=_everywhere(b.opset, payload, row),
        else_branch=_in_some_places(b.opset, payload, row, inside, place),
    )
    return {"output": output}


def _everywhere(opset: int, payload: ir.Value, row: ir.Value) -> ir.Graph:
    b = Builder("MemoFetch/everywhere", opset)
    return ir.Graph([], [_rows(b, payload, row)], nodes=b.nodes, name="everywhere")


def _in_some_places(
    opset: int, payload: ir.Value, row: ir.Value, inside: ir.Value, place: ir.Value
) -> ir.Graph:
    """Only what is there is read and widened; all other places get one row of zeros."""
    b = Builder("MemoFetch/in some places", opset)
    place = b.op("Reshape", place, b.i64(-1))  # [R]
    fetched = _rows(b, payload, b.op("Gather", b.op("Reshape", row, b.i64(-1)), place))
    one_more = b.op("Pad", fetched, b.i64(0, 0, 1, 0))  # zeros, behind all others
    there = b.op("Cast", b.op("Reshape", inside, b.i64(-1)), to=INT64)
    number = b.op("CumSum", there, b.const(0, np.int64), exclusive=1)
    number = b.op("Where", inside, b.op("Reshape", number, b.op("Shape", inside)), b.op("Shape", place))
    return ir.Graph([], [b.op("Gather", one_more, number, axis=0)], nodes=b.nodes, name="in some places")


def _rows(b: Builder, payload: ir.Value, row: ir.Value) -> ir.Value:
    """Rows of the payload in floats. Gather first, cast after: the store itself is never cast."""
    return b.op("Cast", b.op("Gather", payload, row, axis=0), to=FLOAT)
