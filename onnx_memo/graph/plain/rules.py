"""The rules of all operators that are taken apart.

What ONNX Runtime has no CPU kernel for does not stand here: no model with it can be opened.
"""

from __future__ import annotations

import onnx_ir as ir

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
    unrolled,
)
from onnx_memo.graph.plain.integers import MOVES
from onnx_memo.graph.plain.rule import Rule, Rules
from onnx_memo.graph.shapes import STANDARD

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
    **unrolled.RULES,
}

# Operators of ONNX's own domain that ONNX Runtime had there first: from this opset on they are plain.
PLAIN_SINCE = {("", "LayerNormalization"): norms.NATIVE}

# Operators of any model, whose rules only go on with what others began: quantizers, or exponentials.
FOLLOWING = MOVES | {"Mul", "Div"}
BEGINNING = frozenset({"QuantizeLinear", "DynamicQuantizeLinear", unrolled.FIRST})


def is_plain(graph: ir.Graph) -> bool:
    """Whether no rule has anything to take apart in a graph."""
    opset = graph.opset_imports[""]
    for node in graph:
        if node.op_type in BEGINNING or (node.op_type not in FOLLOWING and rule_of(node, opset)):
            return False
    return True


def rule_of(node: ir.Node, opset: int) -> Rule | None:
    """The rule for a node of a model of this opset; None: it is plain, or there is none."""
    operator = ("" if node.domain in STANDARD else node.domain, node.op_type)
    since = PLAIN_SINCE.get(operator)
    return RULES.get(operator) if since is None or opset < since else None
