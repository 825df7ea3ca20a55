"""Make the plain form of a model: operators taken apart by the rules, and all in floats."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx_ir as ir
import onnxruntime as ort
from onnx_ir.passes.common import CommonSubexpressionEliminationPass, RemoveUnusedNodesPass

from onnx_memo.graph.build import Builder
from onnx_memo.graph.plain.floats import compute_in_floats, half_values
from onnx_memo.graph.plain.rules import RULES, Kept, Rule

WHY_KEPT = "onnx_memo.why_kept"  # in a node's `meta`: why it is not taken apart


@dataclass(frozen=True)
class Plain:
    """The plain form of a model.

    Attributes:
        model: that form. A value that the original has as well has the same name.
        halves: whether the original computes in half precision.
        apart: the kinds of operators that were taken apart, sorted.
    """

    model: ir.Model
    halves: bool
    apart: tuple[str, ...]

    @property
    def note(self) -> str:
        """What people are told of it."""
        what = [f"{', '.join(self.apart)} taken apart"] if self.apart else []
        what += ["half precision computed in floats"] if self.halves else []
        own = f", rounded where ONNX Runtime {ort.__version__} rounds" if self.halves else ""
        return (
            f"searched, and run for what is reused, with {' and '.join(what)}; where nothing is reused, the "
            f"model's own operators run{own}"
        )


def plain_form(original: ir.Model) -> Plain | None:
    """The plain form; None where the model has it already."""
    halves = half_values(original.graph)
    ruled = {_kind(node) for node in original.graph if _kind(node) in RULES}
    if not halves and not ruled:
        return None
    model = original.clone()
    prefix = unused_prefix(str(value.name) for value in values_of(original.graph))
    if halves:
        compute_in_floats(model, halves, prefix)
    apart = set()
    for number, node in enumerate(list(model.graph)):
        rule = RULES.get(_kind(node))
        if rule is None:
            continue
        try:
            _take_apart(model.graph, node, rule, f"{prefix}/{number}")
            apart.add(node.op_type)
        except Kept as kept:
            node.meta[WHY_KEPT] = str(kept)
    RemoveUnusedNodesPass()(model)
    CommonSubexpressionEliminationPass()(model)
    return Plain(model, bool(halves), tuple(sorted(apart)))


def _kind(node: ir.Node) -> tuple[str, str]:
    return node.domain, node.op_type


def values_of(graph: ir.Graph) -> list[ir.Value]:
    """All values of a main graph: inputs, initializers, and what its nodes make."""
    made = (value for node in graph for value in node.outputs)
    return list(dict.fromkeys([*graph.inputs, *graph.initializers.values(), *made]))


def unused_prefix(names: Iterable[str]) -> str:
    """A prefix for the names of new values, that none of `names` has."""
    prefix, taken = "plain", set(names)
    while any(name.startswith(f"{prefix}/") for name in taken):
        prefix += "_"
    return prefix


def _take_apart(graph: ir.Graph, node: ir.Node, rule: Rule, prefix: str) -> None:
    """Put what `rule` writes in the place of a node. Raises Kept, and then nothing is changed."""
    b = Builder(prefix, graph.opset_imports[""])
    made = rule(b, node)
    read = {value for value in node.outputs if value.uses() or value.is_graph_output()}
    missing = [
        value for value, plain in zip(node.outputs, made, strict=True) if plain is None and value in read
    ]
    if missing:
        raise Kept(f"its result '{missing[0].name}' is read")
    own = {value for inner in b.nodes for value in inner.outputs}
    graph.insert_before(node, b.nodes)
    for old, new in zip(node.outputs, made, strict=True):
        if new is None:
            continue
        name = old.name
        if old.is_graph_output() and new not in own:  # an output of the graph has its own node
            same = Builder(f"{prefix}/{name}", graph.opset_imports[""])
            new = same.op("Identity", new)
            graph.insert_before(node, same.nodes)
            own.add(new)
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        if new in own:
            old.name, new.name = f"{prefix}/was/{name}", name
            new.type, new.shape = new.type or old.type, new.shape or old.shape
            own.discard(new)  # it has its name
    graph.remove(node, safe=True)
