"""How operators are taken apart: a rule for each writes what it computes in plain operators, in floats.

A rule is given a builder and the node, whose inputs are plain already: floats where the model has any
floating type. It writes nodes of ONNX's own that any opset from 14 on has, in the form in which
`onnx_memo.graph.sites` and `onnx_memo.graph.encoder` find attention, and returns what takes the place of the
node's outputs, in order; None where an output is not made, which then nobody may read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from onnx_memo.graph.build import Builder

MICROSOFT = "com.microsoft"


class Kept(Exception):
    """A node is not taken apart; carries the reason, as it is said to people."""


Rule = Callable[[Builder, ir.Node], Sequence[ir.Value | None]]

# By domain ("" is ONNX's own) and operator.
RULES: dict[tuple[str, str], Rule] = {}
