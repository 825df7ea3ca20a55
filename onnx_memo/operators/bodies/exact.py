"""MemoExact: whether products in 8 bits are to run, and are exact on this processor."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.operators.bodies.common import Results
from onnx_memo.operators.spec import STEPS

# Products of a form that no library computes otherwise than large ones. Without VNNI, ONNX Runtime adds two
# products of bytes in 16 bits, and cuts the sum off.
ROWS, INNER, COLUMNS = 4, 64, 16
MOST = 127  # of a weight


def exact_body(b: Builder, strictness: ir.Value) -> Results:
    """Multiplies the largest bytes with the largest weights, to see whether their sums are cut off.

    The bytes depend on the strictness, so that nothing is worked out on the machine that saved the model.
    """
    positive = b.op("Greater", b.op("Reshape", strictness, b.i64(1, 1)), b.const(0, np.float32))
    largest = b.op("Where", positive, b.const(STEPS, np.uint8), b.const(0, np.uint8))
    rows = b.op("Expand", largest, b.i64(ROWS, INNER))
    weights = b.const(np.full((INNER, COLUMNS), MOST), np.int8)
    sums = b.op("MatMulInteger", rows, weights)
    least = b.op("ReduceMin", sums, keepdims=0)
    return {"exact": b.op("Equal", least, b.const(STEPS * MOST * INNER, np.int32))}
