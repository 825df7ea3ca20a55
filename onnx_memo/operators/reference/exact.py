"""MemoExact: whether products in 8 bits are to run."""

from __future__ import annotations

import numpy as np

from onnx_memo.operators.reference.common import Bools, Floats, single


def memo_exact(strictness: Floats) -> Bools:
    """Whether the strictness is above zero, and products of bytes are exact here: NumPy's are."""
    return np.asarray(single("strictness", strictness) > 0)
