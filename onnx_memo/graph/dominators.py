"""Which values all others pass: the dominators of a graph's values.

A value dominates another if every way on which data of the inputs reaches the other leads through it. Words
and facts are those of flow graphs (Lengauer and Tarjan, 1979); in a graph without cycles one pass finds them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import onnx_ir as ir

from onnx_memo.graph import flow


class Dominators:
    """The dominators of all values that inputs reach by their data, not by their shape alone."""

    def __init__(self, graph: ir.Graph, without: Collection[ir.Value] = ()) -> None:
        """Inputs `without` count as constants, random numbers as inputs.

        The nodes of `graph` are in topological order.
        """
        self._next: dict[ir.Value, ir.Value | None] = {}  # the nearest dominator
        self._depth: dict[ir.Value, int] = {}
        for value in graph.inputs:
            if value not in without:
                self._add(value, None)
        for node in graph:
            if node.op_type in flow.SHAPE_READERS:
                continue
            reached = [value for value in flow.inputs_of(node) if value in self._next]
            if not reached and not draws(node):
                continue
            nearest = None if draws(node) else reached[0]
            for value in reached[1:]:
                nearest = self._common(nearest, value)
            for value in node.outputs:
                self._add(value, nearest)

    def of(self, value: ir.Value) -> Iterator[ir.Value]:
        """Those of `value`, the nearest first; none where no single value is passed by all ways to it."""
        nearest = self._next.get(value)
        while nearest is not None:
            yield nearest
            nearest = self._next[nearest]

    def _add(self, value: ir.Value, nearest: ir.Value | None) -> None:
        self._next[value] = nearest
        self._depth[value] = 0 if nearest is None else self._depth[nearest] + 1

    def _common(self, one: ir.Value | None, other: ir.Value | None) -> ir.Value | None:
        """The nearest value that is, or dominates, each of the two."""
        while one is not other and one is not None and other is not None:
            if self._depth[one] < self._depth[other]:
                other = self._next[other]
            else:
                one = self._next[one]
        return one if one is other else None


def draws(node: ir.Node) -> bool:
    """Whether a node, or one in its branches, draws random numbers."""
    inner = (n for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH for n in a.as_graph())
    return node.op_type in flow.RANDOM or any(draws(n) for n in inner)
