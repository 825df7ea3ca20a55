"""What a region reads, sequence by sequence: so that it can run for some sequences of a batch alone.

A batch stands along the first axis of what a caller gives and of hidden states. What else a region reads
(sizes, a mask of another form) is made of these; for fewer sequences it has to be made anew.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnx_memo.graph import flow
from onnx_memo.graph.build import Builder
from onnx_memo.graph.quantizers import DYNAMIC, dequantizing
from onnx_memo.graph.shapes import BATCH, MOST_FOLDED, Shape

# What is not made twice: it draws, or holds graphs of its own.
NEVER_AGAIN = flow.RANDOM | {"If", "Loop", "Scan"}

MOST_AXES = 99


@dataclass(frozen=True)
class Reads:
    """What a region reads from outside, apart from constants.

    Attributes:
        batch: the value [B, ...] that says how many sequences there are.
        begin: values of which the sequences are taken: [B, ...]. Of another size, they stand for all.
        sizes: nodes that read how many such values there are, and perhaps their other sizes.
        again: the nodes between these and what the region reads, in order: they run for the taken sequences.
    """

    batch: ir.Value
    begin: tuple[ir.Value, ...]
    sizes: tuple[ir.Node, ...]
    again: tuple[ir.Node, ...]

    def of(self, b: Builder, chosen: ir.Value) -> dict[ir.Value, ir.Value]:
        """All of it for the sequences of the numbers `chosen`, i64[C], by what it is for all."""
        own = {value: self.taken(b, value, chosen) for value in self.begin}
        own |= {node.outputs[0]: self._sizes(b, node, chosen) for node in self.sizes}
        for node in self.again:
            inputs = [None if value is None else own.get(value, value) for value in node.inputs]
            own.update(zip(node.outputs, b.again(node, *inputs), strict=True))
        return own

    def taken(self, b: Builder, value: ir.Value, chosen: ir.Value) -> ir.Value:
        """One of `begin` for the sequences of the numbers `chosen`, i64[C].

        It is said to have the shape that the model says it has for all: what ONNX Runtime fuses depends on
        whether sizes have the same names, and in the region they keep those that they have.
        """
        taken = self._taken(b, value, chosen)
        taken.type, taken.shape = value.type, value.shape
        return taken

    def _taken(self, b: Builder, value: ir.Value, chosen: ir.Value) -> ir.Value:
        if value is self.batch:
            return b.op("Gather", value, chosen, axis=0)
        then = Builder(f"{b.prefix}/{value.name}/taken", b.opset)
        other = Builder(f"{b.prefix}/{value.name}/as is", b.opset)
        taken, same = then.op("Gather", value, chosen, axis=0), other.op("Identity", value)
        return b.op(
            "If",
            b.op("Equal", b.dim(value, 0), b.dim(self.batch, 0)),
            then_branch=ir.Graph([], [taken], nodes=then.nodes, name=then.prefix),
            else_branch=ir.Graph([], [same], nodes=other.nodes, name=other.prefix),
        )

    def _sizes(self, b: Builder, node: ir.Node, chosen: ir.Value) -> ir.Value:
        """What a node reads of the shape of a value [B, ...], if that were [C, ...]."""
        (sizes,), value = node.outputs, node.inputs[0]
        if node.attributes.get_int("start", 0) > 0:  # the batch is none of them
            (others,) = b.again(node, value)  # anew: from outside, ONNX Runtime up to 1.18 gave 1 for it
            return others
        alone = node.attributes.get_int("end", MOST_AXES) == 1
        first = sizes if alone else b.op("Slice", sizes, b.i64(0), b.i64(1))
        own = b.op("Where", b.op("Equal", first, b.dim(self.batch, 0)), b.op("Shape", chosen), first)
        if alone:
            return own
        return b.op("Concat", own, b.op("Slice", sizes, b.i64(1), b.i64(MOST_AXES)), axis=0)


def reads_by_sequence(
    graph: ir.Graph,
    region: Sequence[ir.Node],
    begin: Sequence[ir.Value],
    constant: Collection[ir.Node],
    shapes: Mapping[str, Shape],
) -> Reads | None:
    """What a region reads; None: it cannot be taken sequence by sequence.

    Not where the model fixes the batch, or rounds sequences with one scale; nor where what is read comes from
    tables or is drawn, which is not done twice.

    Args:
        graph: the main graph.
        region: nodes of it.
        begin: values that are known to begin with the batch; it is that of the first one.
        constant: the nodes of the graph that are constant.
        shapes: of the graph's values by their names, for a batch of `BATCH`, as far as they are known.
    """
    return _Finder(graph, region, begin, constant, shapes).run()


class _Finder:
    """Goes from what a region reads back to values that begin with the batch."""

    def __init__(
        self,
        graph: ir.Graph,
        region: Sequence[ir.Node],
        begin: Sequence[ir.Value],
        constant: Collection[ir.Node],
        shapes: Mapping[str, Shape],
    ) -> None:
        self.graph, self.region, self.begin = graph, region, begin
        self.constant, self.shapes = constant, shapes

    def run(self) -> Reads | None:
        """As of `reads_by_sequence`."""
        given = [value for value in self.graph.inputs if not value.is_initializer()]
        rounded = any(node.op_type in DYNAMIC for node in _with_branches(self.region))
        if rounded or not any(map(_has_free_batch, given)):
            return None
        members = set(self.region)
        todo = [value for node in self.region for value in flow.inputs_of(node)]
        todo = [value for value in todo if value.producer() not in members]
        first, sizes, again = dict[ir.Value, None](), set[ir.Node](), set[ir.Node]()
        while todo:
            value = todo.pop()
            producer = value.producer()
            if flow.is_constant(value, self.constant) or value.is_initializer() or value in first:
                continue
            if dequantizing(value):  # such a value must be read in no inner branch (`take_in_dequantized`)
                return None
            if self._begins(value):
                first[value] = None
            elif producer is None or not _may_run_again(producer):
                return None
            elif producer.op_type == "Shape" and self._begins(producer.inputs[0]):
                if producer.attributes.get_int("start", 0) < 0:  # it may reach back to the batch
                    return None
                sizes.add(producer)
            elif producer not in again:
                again.add(producer)
                todo += flow.inputs_of(producer)
        in_order = [node for node in self.graph if node in again or node in sizes]
        return Reads(
            self.begin[0],
            tuple(first),
            tuple(node for node in in_order if node in sizes),
            tuple(node for node in in_order if node in again),
        )

    def _begins(self, value: ir.Value | None) -> bool:
        """Whether a value is known to begin with the batch: made of what the caller gives, and as long.

        Vectors of sizes may be as long by chance.
        """
        if value is None or value in self.begin:
            return value is not None
        if value.is_graph_input():
            return _has_free_batch(value)
        shape = self.shapes.get(value.name or "", ())
        return len(shape) > 1 and shape[0] == BATCH and bool(flow.sources(value, ()))


def read_instead(region: Sequence[ir.Node], own: Mapping[ir.Value, ir.Value]) -> None:
    """Let a region, and the branches in it, read other values; its nodes are changed."""
    nodes = set(_with_branches(region))
    for value, other in own.items():
        for node, place in [*value.uses()]:
            if node in nodes:
                node.replace_input_with(place, other)


def _with_branches(region: Sequence[ir.Node]) -> list[ir.Node]:
    nodes = list(region)
    for node in region:
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                nodes += attribute.as_graph().all_nodes()
    return nodes


def _has_free_batch(value: ir.Value) -> bool:
    """Whether a value begins with an axis that the model leaves free."""
    return value.shape is not None and len(value.shape) > 0 and not isinstance(value.shape[0], int)


def _may_run_again(node: ir.Node) -> bool:
    """Whether a node is one of sizes and masks, which cost nothing."""
    small = all(_numbers(value) <= MOST_FOLDED for value in node.inputs if value is not None)
    return small and node.op_type not in NEVER_AGAIN


def _numbers(value: ir.Value) -> int:
    """How many numbers a constant holds; 0 of other values."""
    producer, tensor = value.producer(), value.const_value
    if tensor is None and producer is not None and producer.op_type == "Constant":
        given = producer.attributes.get("value")
        tensor = None if given is None else given.as_tensor()
    return 0 if tensor is None else tensor.size
