"""Copies of a model that may be changed, in which what was found in it is found without a search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import onnx_ir as ir
from onnx_ir.passes.common import CommonSubexpressionEliminationPass

from onnx_memo.graph.encoder import Encoder
from onnx_memo.graph.plain.floats import HALVES
from onnx_memo.graph.plain.form import Plain, unused_prefix, values_of
from onnx_memo.graph.plain.halves import CAST
from onnx_memo.graph.probe import add_outputs
from onnx_memo.graph.prune import prune
from onnx_memo.graph.shapes import Shape
from onnx_memo.graph.span import Span

Found = TypeVar("Found")


class Copy:
    """A copy of a model, in which what was found in the original is found without a search.

    Attributes:
        model: the copy.
        shapes: of the original's values by their names, as far as they are known (`onnx_memo.graph.shapes`).
    """

    def __init__(self, original: ir.Model, shapes: Mapping[str, Shape] | None = None) -> None:
        self.model, self.shapes = original.clone(), shapes or {}
        self._twins: dict[Any, Any] = {}
        ours, theirs = self.model.graph, original.graph
        self._twins.update(zip(theirs.inputs, ours.inputs, strict=True))
        self._twins.update((value, ours.initializers[name]) for name, value in theirs.initializers.items())
        for their_node, our_node in zip(theirs, ours, strict=True):
            self._twins[their_node] = our_node
            self._twins.update(zip(their_node.outputs, our_node.outputs, strict=True))

    def twin(self, found: Found) -> Found:
        """Values or nodes of the original, or what is made of them (a site, an encoder), as in the copy."""
        twin: Found = self._translated(found)
        return twin

    def _translated(self, thing: Any) -> Any:
        if isinstance(thing, (ir.Value, ir.Node)):
            return self._twins[thing]
        if isinstance(thing, tuple | list):
            return type(thing)(self._translated(part) for part in thing)
        if isinstance(thing, Mapping):
            return {self._translated(key): self._translated(part) for key, part in thing.items()}
        if is_dataclass(thing) and not isinstance(thing, type):
            parts = {field.name: self._translated(getattr(thing, field.name)) for field in fields(thing)}
            return replace(thing, **parts)
        return thing


def own_values(graph: ir.Graph) -> dict[str, ir.Value]:
    """The values of a model by the names that its plain form has for them.

    What is of half precision in the model may be there in floats, too, or in them alone. Of two, it is the
    one that the other is made of: all that follows depends on it.
    """
    found = {str(value.name): value for value in values_of(graph)}
    for name, value in list(found.items()):
        if not name.startswith(CAST):
            continue
        half = found.setdefault(name.removeprefix(CAST), value)
        producer = half.producer()
        if producer is not None and value in producer.inputs:
            found[name.removeprefix(CAST)] = value
    return found


class GraftedCopy(Copy):
    """A copy of a model, into which its plain form is grafted: the model's inputs lead to both.

    What was found in the plain form has its twins there. But the `result` of a span is the model's own, and
    so is its input, unless the model computes in half precision. Its output is an output of the graph as
    well: else nothing would read the graft, and passes would remove it. Whoever guards the span removes it
    (`remove_graft`).
    """

    def __init__(
        self, original: ir.Model, plain: Plain, span: Span | None, shapes: Mapping[str, Shape] | None = None
    ) -> None:
        super().__init__(original, shapes)
        graft, graph = Copy(plain.model), self.model.graph
        self._own = own_values(graph)
        self._twins |= graft._twins
        prefix = unused_prefix(str(value.name) for value in values_of(graph))
        self._share_inputs(plain.model.graph, graft.model.graph, prefix)
        own = None if span is None else self._in_floats(str(span.input.name))
        if span is not None and own is not None:
            self._twins[span.input].replace_all_uses_with(own)
            self._twins[span.input] = own
        nodes = list(graft.model.graph)
        graft.model.graph.outputs.clear()
        graft.model.graph.remove(nodes, safe=False)
        for node in nodes:
            for value in node.outputs:
                value.name = f"{prefix}/{value.name}"
            node.name = str(node.outputs[0].name)
        graph.extend(nodes)
        if span is not None:
            add_outputs(self.model, [self._twins[span.output]])

    def _in_floats(self, name: str) -> ir.Value | None:
        """The model's own value of this name, in floats; None where it is of half precision alone."""
        values = (self._own[name], self._own.get(f"{CAST}{name}"))
        return next((value for value in values if value is not None and value.dtype not in HALVES), None)

    def _share_inputs(self, theirs: ir.Graph, graft: ir.Graph, prefix: str) -> None:
        """Let the graft read the model's inputs, and its weights where they are the same."""
        for value, twin in zip(theirs.inputs, graft.inputs, strict=True):
            own = self._own[str(value.name)]
            twin.replace_all_uses_with(own)
            self._twins[value] = own
        for name, value in theirs.initializers.items():
            twin, known = graft.initializers[name], self._own.get(name)
            if twin.is_graph_input():
                continue
            if known is not None and known.const_value is twin.const_value:
                twin.replace_all_uses_with(known)
                self._twins[value] = known
            else:
                del graft.initializers[name]
                twin.name = f"{prefix}/{name}"
                self.model.graph.register_initializer(twin)

    def _translated(self, thing: Any) -> Any:
        found = super()._translated(thing)
        if isinstance(thing, Span):
            found = replace(found, result=self._own[str(thing.output.name)])
        if not isinstance(thing, Encoder):
            return found
        # The model may read sizes of its own values, too.
        own = {
            self._own[str(value.name)]: value
            for value in thing.forms
            if value is not thing.input and str(value.name) in self._own
        }
        return replace(
            found,
            forms=found.forms | {twin: thing.forms[value] for twin, value in own.items()},
            shapes=found.shapes | {twin: thing.shapes[value] for twin, value in own.items()},
        )


def remove_graft(model: ir.Model, span: Span) -> None:
    """Remove what nobody reads of a graft, if there is one; `model` is changed."""
    if span.output is span.result:
        return
    model.graph.outputs.remove(span.output)
    prune(model)
    model.graph.sort()
    CommonSubexpressionEliminationPass()(model)  # a graft has masks and positions of its own for every layer
