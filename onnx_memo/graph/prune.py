"""Remove what nobody reads."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from onnx_memo.graph import flow


def prune(model: ir.Model) -> None:
    """Remove nodes and initializers that no output of the model needs; `model` is changed.

    As onnx-ir's pass does, but what only branches of removed nodes read is removed as well.
    """
    gone = flow.unread(model.graph, ())
    for inner, node in flow.holders(model.graph).items():
        if node in gone:
            for at in range(len(inner.inputs)):
                inner.replace_input_with(at, None)
    RemoveUnusedNodesPass()(model)
