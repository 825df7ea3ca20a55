"""The rules of all operators that are taken apart.

What ONNX Runtime has no CPU kernel for does not stand here: no model with it can be opened.
"""

from __future__ import annotations

from onnx_memo.graph.plain import (
    activations,
    attention,
    blocks,
    grouped,
    norms,
    products,
    quantized,
    rotary,
    standard,
)
from onnx_memo.graph.plain.rule import Rules

RULES: Rules = {
    **activations.RULES,
    **attention.RULES,
    **blocks.RULES,
    **grouped.RULES,
    **norms.RULES,
    **products.RULES,
    **quantized.RULES,
    **rotary.RULES,
    **standard.RULES,
}
