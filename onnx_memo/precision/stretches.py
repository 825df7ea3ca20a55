"""Stretches of an encoder: the nodes between two values, and what they do, tried on numbers of our own.

Exporters write one and the same activation, normalization or arrangement of heads in many ways. So what a
stretch does is not matched but tried: it is run, and the result compared with what it might be.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.graph import flow
from onnx_memo.graph.build import Builder
from onnx_memo.graph.copies import Copy
from onnx_memo.graph.encoder import Encoder
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.graph.packed import Copier
from onnx_memo.graph.prune import prune
from onnx_memo.runtime import session_options
from onnx_memo.sessions import open_session

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Stretch:
    """The nodes from the value `start` to the value `end`; nothing else that is made of rows is read."""

    start: ir.Value
    end: ir.Value
    nodes: tuple[ir.Node, ...]


class Stretches:
    """The stretches of one encoder."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.place = {node: at for at, node in enumerate(encoder.steps)}
        self.made = {value: node for node in encoder.steps for value in node.outputs}

    def readers(self, value: ir.Value) -> list[ir.Node]:
        """The nodes of the encoder that read a value's numbers, in order."""
        found = {reader for reader, _ in value.uses() if reader.op_type not in flow.SHAPE_READERS}
        return sorted((node for node in found if node in self.place), key=self.place.__getitem__)

    def leaks(self, value: ir.Value, among: Collection[ir.Node]) -> bool:
        """Whether anything but the nodes `among` reads a value's numbers."""
        readers = {reader for reader, _ in value.uses() if reader.op_type not in flow.SHAPE_READERS}
        return value is self.encoder.output or value.is_graph_output() or not readers <= set(among)

    def after(self, start: ir.Value, passes: Callable[[ir.Node], bool], alone: bool = True) -> list[Stretch]:
        """The stretches from `start` on through nodes that pass, the longest first.

        What is made within one is not read outside of it; nor is `start`, if it is to stand `alone`.
        """
        inside, nodes = {start}, []
        todo = self.readers(start)
        while todo:
            node = min(todo, key=self.place.__getitem__)
            todo = [other for other in todo if other is not node]
            rows = [value for value in node.inputs if value in self.encoder.forms]
            if not passes(node) or not all(value in inside for value in rows):
                continue
            nodes.append(node)
            for value in node.outputs:
                inside.add(value)
                todo += [reader for reader in self.readers(value) if reader not in nodes]
        found = [self.between(start, node.outputs[0]) for node in reversed(nodes)]
        return [stretch for stretch in found if stretch is not None and self._closed(stretch, alone)]

    def _closed(self, stretch: Stretch, alone: bool) -> bool:
        inner = {value for node in stretch.nodes for value in node.outputs} - {stretch.end}
        if alone:
            inner.add(stretch.start)
        return not any(self.leaks(value, stretch.nodes) for value in inner)

    def between(self, start: ir.Value, end: ir.Value) -> Stretch | None:
        """The nodes from `start` to `end`; None where other rows are read on the way."""
        nodes: set[ir.Node] = set()
        todo = [end]
        while todo:
            value = todo.pop()
            if value is start:
                continue
            node = self.made.get(value)
            if node is None or node.op_type in ("MatMul", "Gemm"):
                return None
            if node not in nodes:
                nodes.add(node)
                todo += [read for read in node.inputs if read is not None and read in self.encoder.forms]
        return Stretch(start, end, tuple(sorted(nodes, key=self.place.__getitem__)))


def run_stretches(
    opened: OpenedModel, stretches: Sequence[Stretch], inputs: Sequence[Floats]
) -> list[Floats | None]:
    """What stretches make of rows, of one input each: the numbers of `start`, packed.

    None for one that reads positions, so that it does not do the same with every row.
    """
    copy = opened.copy()
    encoder = copy.twin(opened.encoder)
    constant = flow.constant_nodes(copy.model.graph)
    results: list[ir.Value | None] = []
    nodes: list[ir.Node] = []
    feeds: dict[str, Floats] = {}
    for number, (stretch, rows) in enumerate(zip(copy.twin(list(stretches)), inputs, strict=True)):
        if any(value in encoder.tables for node in stretch.nodes for value in node.inputs):
            results.append(None)
            continue
        b = Builder(f"memo/stretch.{number}", copy.model.opset_imports[""])
        copier = Copier(b, encoder, constant)
        packed = rows.reshape(copier.packed(stretch.start))
        given = ir.val(f"{b.prefix}/input", ir.DataType.FLOAT, packed.shape)
        copier.made[stretch.start] = given
        for node in stretch.nodes:
            copier.copy(node)
        copy.model.graph.inputs.append(given)
        feeds[str(given.name)] = packed
        results.append(copier.made[stretch.end])
        nodes += b.nodes
    copy.model.graph.extend(nodes)
    came = iter(_run(copy, opened, [value for value in results if value is not None], feeds))
    return [None if value is None else next(came) for value in results]


def constants(opened: OpenedModel, values: Sequence[ir.Value]) -> dict[ir.Value, Floats]:
    """The numbers of constant values of the model; those that it makes of others are computed."""
    known = {value: value.const_value.numpy() for value in values if value.const_value is not None}
    computed = [value for value in dict.fromkeys(values) if value not in known]
    copy = opened.copy()
    known.update(zip(computed, _run(copy, opened, copy.twin(computed), {}), strict=True))
    return known


def _run(
    copy: Copy, opened: OpenedModel, results: Sequence[ir.Value], feeds: Mapping[str, Floats]
) -> list[Floats]:
    """What a model gives from which all is gone that these results do not need."""
    if not results:
        return []
    for value in results:
        if value.type is None:
            value.type = ir.TensorType(ir.DataType.FLOAT)
    graph = copy.model.graph
    graph.outputs[:] = results
    prune(copy.model)
    for value in [value for value in graph.inputs if value.name not in feeds]:
        graph.inputs.remove(value)
    session = open_session(copy.model, opened.folder, session_options(native=False, threads=1))
    came: list[Floats] = session.run(None, dict(feeds))
    return came
