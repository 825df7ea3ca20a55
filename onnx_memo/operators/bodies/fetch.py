"""MemoFetch: the stored rows of each entry, as a padded batch."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.operators.bodies.common import FLOAT, Results


def fetch_body(
    b: Builder,
    entry: ir.Value,
    payload: ir.Value,
    offsets: ir.Value,
    lengths: ir.Value,
    padded_length: ir.Value,
) -> Results:
    """Gather the payload row of every token, row 0 for padding and misses; then set those to zero."""
    zero = b.const(0, np.int64)
    stored = b.op("Max", entry, zero)
    rows = b.op("Gather", lengths, stored)
    rows = b.op("Where", b.op("Less", entry, zero), zero, rows)  # [B]
    first = b.op("Gather", offsets, stored)  # [B]
    t = b.op("Range", zero, b.op("Squeeze", padded_length), b.const(1, np.int64))  # [L]
    inside = b.op("Less", t, b.op("Unsqueeze", rows, b.i64(1)))  # [B, L]
    row = b.op("Add", b.op("Unsqueeze", first, b.i64(1)), t)
    row = b.op("Where", inside, row, zero)
    # Gather first, cast after: the store itself is never cast.
    fetched = b.op("Cast", b.op("Gather", payload, row, axis=0), to=FLOAT)
    output = b.op("Where", b.op("Unsqueeze", inside, b.i64(2)), fetched, b.const(0, np.float32))
    return {"output": output}
