"""A softmax written out, exp(x - max x) / sum exp(x - max x), as the body of ONNX's function is.

ONNX Runtime writes it so where it has no kernel, as in files of half precision that it saves.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.graph.plain.integers import constant
from onnx_memo.graph.plain.rule import Rules, optional, rank_of

FIRST = "Exp"  # only where it stands, there may be one


def _softmax(b: Builder, node: ir.Node) -> Sequence[ir.Value] | None:
    exponentials, total = (optional(node, at) for at in range(2))
    exponential, sum_ = _made_by(exponentials, FIRST), _made_by(total, "ReduceSum")
    if exponential is None or sum_ is None or sum_.inputs[0] is not exponentials:
        return None
    scores = exponential.inputs[0]
    if scores is None or not _over_the_last(sum_):
        return None
    shifted = _made_by(scores, "Sub")
    if shifted is not None:
        shifted_by = _made_by(shifted.inputs[1], "ReduceMax")
        if (
            shifted_by is not None
            and shifted_by.inputs[0] is shifted.inputs[0]
            and _over_the_last(shifted_by)
        ):
            scores = shifted.inputs[0]
    return (b.op("Softmax", scores, axis=-1),)


def _made_by(value: ir.Value | None, op_type: str) -> ir.Node | None:
    """The node that makes a value, if it is of this operator."""
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == op_type else None


def _over_the_last(node: ir.Node) -> bool:
    """Whether a reduction runs over the last axis alone, and keeps it."""
    given, tensor = optional(node, 1), constant(optional(node, 1))
    axes = node.attributes.get_ints("axes", ()) if given is None else () if tensor is None else tensor.numpy()
    rank = None if node.inputs[0] is None else rank_of(node.inputs[0])
    last = {-1} if rank is None else {-1, rank - 1}
    return len(axes) == 1 and int(axes[0]) in last and node.attributes.get_int("keepdims", 1) == 1


RULES: Rules = {("", "Div"): _softmax}
