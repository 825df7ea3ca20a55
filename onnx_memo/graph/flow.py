"""Where values come from: constants, sources, and the nodes that only serve one value.

Every question about a region is answered here from def-use chains alone; no operator
templates. Words: a node is *constant* if no graph input reaches it by data or by shape;
a *source* of a value is a graph input whose data (not merely its shape) reaches it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import onnx_ir as ir

# These read the shape of their input, never its data.
SHAPE_READERS = frozenset({"Shape", "Size"})
# A graph that draws random numbers is never constant.
RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}
)


def inputs_of(node: ir.Node) -> Iterator[ir.Value]:
    """All values that `node` reads: its inputs, and what its subgraphs take from outside them."""
    for value in node.inputs:
        if value is not None:
            yield value
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield from _captured(attribute.as_graph())


def _captured(graph: ir.Graph) -> Iterator[ir.Value]:
    own = set(graph.inputs) | set(graph.initializers.values())
    for node in graph:
        own.update(node.outputs)
    for node in graph:
        yield from (value for value in inputs_of(node) if value not in own)
    yield from (value for value in graph.outputs if value not in own)


def holders(graph: ir.Graph) -> dict[ir.Node, ir.Node]:
    """The nodes of a graph's branches, each with the node of the graph itself that holds it."""
    found: dict[ir.Node, ir.Node] = {}
    for node in graph:
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                found.update(dict.fromkeys(attribute.as_graph().all_nodes(), node))
    return found


def constant_nodes(graph: ir.Graph) -> set[ir.Node]:
    """The nodes whose results are the same in every run."""
    constant: set[ir.Node] = set()
    for node in graph:  # in topological order
        if node.op_type in RANDOM:
            continue
        if all(is_constant(value, constant) for value in inputs_of(node)):
            constant.add(node)
    return constant


def is_constant(value: ir.Value, constant: Collection[ir.Node]) -> bool:
    """Whether `value` is an initializer (and no overridable input) or made by a node of `constant`."""
    producer = value.producer()
    if producer is None:
        return value.is_initializer() and not value.is_graph_input()
    return producer in constant


def sources(value: ir.Value, boundary: Collection[ir.Value]) -> set[ir.Value]:
    """The graph inputs whose data reaches `value` on a way that passes no value of `boundary`."""
    found: set[ir.Value] = set()
    seen: set[ir.Value] = set(boundary)
    todo = [value] if value not in seen else []
    while todo:
        current = todo.pop()
        if current in seen:
            continue
        seen.add(current)
        producer = current.producer()
        if producer is None:
            if current.is_graph_input():
                found.add(current)
        elif producer.op_type not in SHAPE_READERS:
            todo.extend(inputs_of(producer))
    return found


def region(
    graph: ir.Graph,
    output: ir.Value,
    boundary: Collection[ir.Value],
    constant: Collection[ir.Node],
    gone: Collection[ir.Node] = (),
) -> list[ir.Node]:
    """The nodes that serve `output` alone, between it and `boundary`, in topological order.

    Nodes of `gone` count as removed.

    1. The node that makes `output` belongs to it.
    2. A node belongs to it if it has readers, all of them belong to it, and no result of it is
       an output of the graph.
    3. Constant nodes do not: their results must stay in the main graph, where ONNX Runtime folds
       them once (a weight inside a branch costs copies).
    4. What makes a value of `boundary` does not.
    """
    root = output.producer()
    assert root is not None, "a region's output is computed"
    stop = {value.producer() for value in boundary}
    members, held = {root}, holders(graph)
    nodes = list(graph)
    for node in reversed(nodes[: nodes.index(root)]):
        if node in constant or node in stop or node in gone:
            continue
        readers = {held.get(reader, reader) for value in node.outputs for reader, _ in value.uses()}
        readers -= {*gone}
        exported = any(value.is_graph_output() for value in node.outputs)
        if readers and not exported and all(reader in members for reader in readers):
            members.add(node)
    return [node for node in nodes if node in members]


def unread(graph: ir.Graph, removed: Collection[ir.Node]) -> set[ir.Node]:
    """`removed`, and the nodes whose results nobody reads once these are removed."""
    gone, held = set(removed), holders(graph)
    for node in reversed(list(graph)):
        exported = any(value.is_graph_output() for value in node.outputs)
        readers = {held.get(reader, reader) for value in node.outputs for reader, _ in value.uses()}
        if not exported and readers <= gone:
            gone.add(node)
    return gone


def leading_to(
    value: ir.Value, among: Collection[ir.Value], until: Collection[str] = ()
) -> Iterator[ir.Node]:
    """The nodes that lead to `value` through values of `among`, without those of the kinds `until`."""
    todo, seen = [value], {value}
    while todo:
        node = todo.pop().producer()
        if node is None or node.op_type in until:
            continue
        yield node
        fresh = {v for v in inputs_of(node) if v in among} - seen
        seen |= fresh
        todo += fresh


def downstream(start: ir.Value) -> set[ir.Value]:
    """All values of the main graph that the data of its value `start` reaches."""
    below = {start}
    todo = [start]
    held = {} if start.graph is None else holders(start.graph)
    while todo:
        for reader, _ in todo.pop().uses():
            if reader.op_type in SHAPE_READERS:
                continue
            reader = held.get(reader, reader)
            fresh = [value for value in reader.outputs if value not in below]
            below.update(fresh)
            todo += fresh
    return below
