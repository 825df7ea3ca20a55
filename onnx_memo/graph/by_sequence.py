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
from onnx_memo.graph.quantizers import DYNAMIC
from onnx_memo.graph.shapes import MOST_FOLDED

# What is not made twice: it draws, or holds graphs of its own.
NEVER_AGAIN = flow.RANDOM | {"If", "Loop", "Scan"}


@dataclass(frozen=True)
class Reads:
    """What a region reads from outside, apart from constants.

    Attributes:
        batch: the value [B, ...] that says how many sequences there are.
        begin: values of which the sequences are taken: [B, ...]. Of another size, they stand for all.
        again: the nodes between these and what the region reads, in order: they run for the taken sequences.
    """

    batch: ir.Value
    begin: tuple[ir.Value, ...]
    again: tuple[ir.Node, ...]

    def of(self, b: Builder, chosen: ir.Value) -> dict[ir.Value, ir.Value]:
        """All of it for the sequences of the numbers `chosen`, i64[C], by what it is for all."""
        own = {value: self.taken(b, value, chosen) for value in self.begin}
        for node in self.again:
            inputs = [None if value is None else own.get(value, value) for value in node.inputs]
            own.update(zip(node.outputs, b.again(node, *inputs), strict=True))
        return own

    def taken(self, b: Builder, value: ir.Value, chosen: ir.Value) -> ir.Value:
        """One of `begin` for the sequences of the numbers `chosen`, i64[C]."""
        if value is self.batch:
            return b.op("Gather", value, chosen, axis=0)
        then, other = (
            Builder(f"{b.prefix}/{value.name}/taken", b.opset),
            Builder(f"{b.prefix}/{value.name}/as is", b.opset),
        )
        taken, same = then.op("Gather", value, chosen, axis=0), other.op("Identity", value)
        return b.op(
            "If",
            b.op("Equal", b.dim(value, 0), b.dim(self.batch, 0)),
            then_branch=ir.Graph([], [taken], nodes=then.nodes, name=then.prefix),
            else_branch=ir.Graph([], [same], nodes=other.nodes, name=other.prefix),
        )


def reads_by_sequence(
    graph: ir.Graph,
    region: Sequence[ir.Node],
    begin: Sequence[ir.Value],
    constant: Collection[ir.Node],
) -> Reads | None:
    """What a region reads; None: it cannot be taken sequence by sequence.

    Not where the model fixes the batch, or rounds sequences with one scale; nor where what is read comes from
    tables or is drawn, which is not done twice.

    Args:
        graph: the main graph.
        region: nodes of it.
        begin: values that are known to begin with the batch; it is that of the first one.
        constant: the nodes of the graph that are constant.
    """
    given = [value for value in graph.inputs if not value.is_initializer()]
    if not any(map(_has_free_batch, given)) or any(n.op_type in DYNAMIC for n in _with_branches(region)):
        return None
    members, first, again = set(region), dict[ir.Value, None](), set[ir.Node]()
    todo = [value for node in region for value in flow.inputs_of(node) if value.producer() not in members]
    while todo:
        value = todo.pop()
        producer = value.producer()
        if flow.is_constant(value, constant) or value.is_initializer() or value in first:
            continue
        if value in begin or producer is None:
            if not _has_free_batch(value):
                return None
            first[value] = None
        elif producer not in again:
            if not _may_run_again(producer):
                return None
            again.add(producer)
            todo += flow.inputs_of(producer)
    return Reads(begin[0], tuple(first), tuple(node for node in graph if node in again))


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
    if not value.is_graph_input():
        return True
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
