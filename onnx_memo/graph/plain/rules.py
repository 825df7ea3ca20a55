"""How operators are taken apart: the rules of all of them."""

from __future__ import annotations

from onnx_memo.graph.plain import blocks, quantized
from onnx_memo.graph.plain.rule import MICROSOFT, Kept, Rule, Rules

__all__ = ["MICROSOFT", "RULES", "Kept", "Rule"]

RULES: Rules = {**quantized.RULES, **blocks.RULES}
