"""A model in plain operators: fused, new and quantized ones taken apart, and computed in floats.

What is searched for attention is this form. What the user's model computes where nothing is reused stays as
it is.
"""

from __future__ import annotations

from onnx_memo.graph.plain import activations, attention, grouped, norms, products, rotary, standard
from onnx_memo.graph.plain.rules import Rules

# What ONNX Runtime has no CPU kernel for does not stand here: no model with it can be opened.
RULES: Rules = {
    **activations.RULES,
    **attention.RULES,
    **grouped.RULES,
    **norms.RULES,
    **products.RULES,
    **rotary.RULES,
    **standard.RULES,
}
