"""Make the plain form of a model: operators taken apart by the rules, and all in floats."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx_ir as ir
import onnxruntime as ort
from onnx_ir.passes.common import (
    CommonSubexpressionEliminationPass,
    ShapeInferencePass,
)

from onnx_memo.errors import reason_of
from onnx_memo.graph.build import Builder
from onnx_memo.graph.plain.floats import compute_in_floats, computes_in_halves, half_values
from onnx_memo.graph.plain.rule import Kept, Rule
from onnx_memo.graph.plain.rules import is_plain, rule_of
from onnx_memo.graph.prune import prune

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
        if not self.apart and not self.halves:
            return f"where nothing is reused, it runs as ONNX Runtime {ort.__version__} optimizes it"
        what = [f"{', '.join(self.apart)} taken apart"] if self.apart else []
        what += ["half precision computed in floats"] if self.halves else []
        own = f", rounded where ONNX Runtime {ort.__version__} rounds" if self.halves else ""
        return (
            f"searched, and run for what is reused, with {' and '.join(what)}; where nothing is reused, the "
            f"model's own operators run{own}"
        )


def plain_form(original: ir.Model) -> Plain | None:
    """The plain form; None where the model has it already."""
    in_halves = computes_in_halves(original.graph)
    if not in_halves and is_plain(original.graph):
        return None
    model = original.clone()
    ShapeInferencePass()(model)  # of types, too
    halves = half_values(model.graph) if in_halves else {}
    prefix = unused_prefix(str(value.name) for value in values_of(original.graph))
    if halves:
        compute_in_floats(model, halves, prefix)
    apart, rounds = set[str](), 0
    while found := _apply_rules(model, f"{prefix}/{rounds}"):
        apart |= found
        rounds += 1
    prune(model)
    CommonSubexpressionEliminationPass()(model)
    ShapeInferencePass()(model)  # of weights that are computed
    return Plain(model, bool(halves), tuple(sorted(apart)))


def _apply_rules(model: ir.Model, prefix: str) -> set[str]:
    """Take apart what can be, in order; returns the kinds of operators that were.

    Rules ask for shapes, and ONNX's inference knows those of plain operators. So what is kept for the lack of
    them may be taken apart once what comes before it was.
    """
    ShapeInferencePass()(model)
    apart, todo = set(), list(model.graph)
    for number, node in enumerate(todo):  # what is written joins them
        rule = rule_of(node, model.opset_imports[""])
        if rule is None:
            continue
        try:
            written = _take_apart(model.graph, node, rule, f"{prefix}/{number}")
        except Kept as kept:
            node.meta[WHY_KEPT] = str(kept)
            continue
        except Exception as error:  # of attributes and types, which nobody checks of operators beside ONNX's
            node.meta[WHY_KEPT] = reason_of(error)
            continue
        if written is not None:
            apart.add(node.op_type)
            todo += written
    return apart


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


def _take_apart(graph: ir.Graph, node: ir.Node, rule: Rule, prefix: str) -> list[ir.Node] | None:
    """Put what `rule` writes in the place of a node; None where it leaves that as it is.

    Raises:
        Kept: and nothing is changed.
    """
    b = Builder(prefix, graph.opset_imports[""])
    made = rule(b, node)
    if made is None:
        return None
    places = list(zip(node.outputs, made, strict=False))
    for old, new in places:
        if new is None and (old.uses() or old.is_graph_output()):
            raise Kept(f"its result '{old.name}' is read")
    free = {value for inner in b.nodes for value in inner.outputs}  # to be given the old name
    for at, (old, new) in enumerate(places):
        if new is not None and new not in free and old.is_graph_output():  # which has a node of its own
            same = b.op("Identity", new)
            same.type, same.shape = new.type, new.shape
            places[at] = (old, same)
            free.add(same)
    for weight in b.initializers:
        graph.register_initializer(weight)
    graph.insert_before(node, b.nodes)
    for old, new in places:
        if new is None:
            continue
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        if new in free:
            free.remove(new)
            name, old.name = old.name, f"{prefix}/was/{old.name}"
            new.name = name
            new.type, new.shape = new.type or old.type, new.shape or old.shape
    graph.remove(node, safe=True)
    return b.nodes
