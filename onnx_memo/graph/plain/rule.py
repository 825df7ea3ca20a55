"""What a rule is: it writes what an operator computes in plain operators, in floats.

A rule is given a builder and a node, whose inputs are plain already: floats where the model has any floating
type. It writes nodes of ONNX's own that any opset from 14 on has, in the form in which
`onnx_memo.graph.sites` and `onnx_memo.graph.encoder` find attention, and returns what takes the place of the
node's outputs, in order; None where an output is not made, which then nobody may read. A rule that returns
nothing at all leaves the node as it is, plain. What it writes may have rules of its own: they are applied.

A result in integers is written as `QuantizeLinear` of the floats that it stands for, and whoever takes
integers for floats looks through the quantizer (`onnx_memo.graph.plain.integers`). So every value keeps its
type and its meaning, whoever reads it, and quantizers that nobody reads any more are removed in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from onnx_memo.graph.build import Builder

MICROSOFT = "com.microsoft"


class Kept(Exception):
    """A node is not taken apart; carries the reason, as it is said to people."""


Rule = Callable[[Builder, ir.Node], Sequence[ir.Value | None] | None]
Rules = dict[tuple[str, str], Rule]  # by domain ("" is ONNX's own) and operator
