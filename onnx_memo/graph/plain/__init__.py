"""A model in plain operators: fused, new and quantized ones taken apart, and computed in floats.

What is searched for attention is this form. What the user's model computes where nothing is reused stays as
it is.
"""

from __future__ import annotations

import onnx_ir as ir

from onnx_memo.graph.plain import activations, attention, grouped, norms, products, rotary, standard
from onnx_memo.graph.plain.rules import Rule, Rules
from onnx_memo.graph.shapes import STANDARD

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

# Operators of ONNX's own domain that ONNX Runtime had there first: from this opset on they are plain.
PLAIN_SINCE = {("", "LayerNormalization"): norms.NATIVE}


def rule_of(node: ir.Node, opset: int) -> Rule | None:
    """The rule for a node of a model of this opset; None: it is plain, or there is none."""
    operator = ("" if node.domain in STANDARD else node.domain, node.op_type)
    since = PLAIN_SINCE.get(operator)
    return RULES.get(operator) if since is None or opset < since else None
