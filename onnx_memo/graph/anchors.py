"""Where attention may be: each softmax in the main graph; and what may be some but is not looked into."""

from __future__ import annotations

from collections import Counter

import onnx_ir as ir

from onnx_memo.graph import flow
from onnx_memo.graph.plain.form import WHY_KEPT
from onnx_memo.graph.shapes import STANDARD
from onnx_memo.graph.site import Refusal

ENDINGS = ("Softmax", "Attention")
OTHERS = ("LogSoftmax",)  # ends like that and is a classifier's
IN_A_BRANCH = "it stands in a branch (If, Loop or Scan), which is not looked into"


def anchors(graph: ir.Graph) -> tuple[dict[ir.Node, str], list[Refusal]]:
    """The softmaxes from which a search starts, with their names; all other softmax and attention operators.

    A name is that of the node, or where others share it, of its result.

    Attention operators are those whose name ends so, of any domain: ONNX's own and those that ONNX Runtime's
    optimizer puts in place of what it fused.
    """
    found: dict[ir.Node, str] = {}
    others: list[Refusal] = []
    names = Counter(node.name for node in graph.all_nodes())
    own = set(graph)
    for node in graph.all_nodes():
        if not _attends(node):
            continue
        name = str(node.name if node.name and names[node.name] == 1 else node.outputs[0].name)
        standard = node.op_type == "Softmax" and node.domain in STANDARD
        if standard and node in own:
            found[node] = name
        else:
            others.append(Refusal(name, IN_A_BRANCH if standard else _one_operator(node), node))
    return found, others


def attending(graph: ir.Graph) -> list[ir.Node]:
    """The nodes of a graph that are a softmax or an attention operator, or hold one in a branch, in order."""
    held = flow.holders(graph)
    found = {held.get(node, node) for node in graph.all_nodes() if _attends(node)}
    return [node for node in graph if node in found]


def _attends(node: ir.Node) -> bool:
    return node.op_type.endswith(ENDINGS) and node.op_type not in OTHERS


def _one_operator(node: ir.Node) -> str:
    why = node.meta.get(WHY_KEPT, "export the model anew, not optimized, with attention as single operators")
    return f"it is one operator, '{node.op_type}', which is not taken apart: {why}"
