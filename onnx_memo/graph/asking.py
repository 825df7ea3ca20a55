"""What some rows of an attention need that ask: of everything that it computes, their own part alone.

In attention each row asks all rows of its sequence. Where scores have terms of single rows (queries or keys
times what is learned of distances) it is no core, but still no row that asks needs what another one asks.
So from the context back to what is made of rows it is followed, node by node, which axis of a value holds the
rows that ask. Where none does, the value is needed as a whole: keys, values, and what is made of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import onnx_ir as ir

from onnx_memo.graph import flow
from onnx_memo.graph.asked_axes import axes_of_inputs
from onnx_memo.graph.rowwise import Refused, RowRules, Rows

_MOVES = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity"})
# What is stored of rows stands before these, in as few values as possible: they do the same to each row.
_FORMED = _MOVES | {"Mul", "Div"}
# What is read beside rows stands before these: they make it as large as scores, or as many as the batch.
_REPEATS = frozenset({"Expand", "Tile"})
_SPREAD = _MOVES | _REPEATS


@dataclass(frozen=True)
class Part:
    """What is needed of a value: that of the rows that ask, which stand on `axis`; None: all of it."""

    value: ir.Value
    axis: int | None


@dataclass(frozen=True)
class AskingStep:
    """A node that makes of its results what is needed for the rows that ask.

    Attributes:
        node: reads and makes whole values in the model.
        axis: which axis of the results holds the rows that ask; None: all of them are made.
        inputs: the same of its inputs.
        passes: for a batch of one it changes nothing: the result is the first input.
        product: of a node that picks columns, the product with a table that makes them, for it alone: only
            those are needed that are picked.
        sizes: of a node that reads them; None is the length.
    """

    node: ir.Node
    axis: int | None
    inputs: tuple[int | None, ...]
    passes: bool = False
    product: AskingStep | None = None
    sizes: tuple[int | None, ...] = ()

    @property
    def needs(self) -> list[Part]:
        """What it reads the data of."""
        if self.sizes:
            return []
        pairs = list(zip(self.node.inputs, self.inputs, strict=True))[: 1 if self.passes else None]
        return [Part(value, axis) for value, axis in pairs if value is not None]


@dataclass(frozen=True)
class Asking:
    """How the rows that ask are served.

    Attributes:
        steps: what is run, in order.
        asking: what is read of the rows that ask,
        kept: and of all rows of their sequences.
        context: what comes of it, of the rows that ask.
    """

    steps: tuple[AskingStep, ...]
    asking: tuple[ir.Value, ...]
    kept: tuple[ir.Value, ...]
    context: Part

    @property
    def nodes(self) -> set[ir.Node]:
        """Those of all steps."""
        products = (step.product for step in self.steps)
        return {step.node for step in (*self.steps, *products) if step is not None}


def find_asking(
    context: ir.Value,
    rules: RowRules,
    forms: Mapping[ir.Value, Rows],
    touched: Callable[[ir.Value], bool],
    place: Mapping[ir.Node, int],
    constant: Collection[ir.Node],
) -> Asking:
    """How rows ask for `context` [..., L, dv].

    Args:
        context: of an attention.
        rules: those of the graph.
        forms: of the values made of rows, of which this attention is not one.
        touched: whether a value depends on those of `forms`.
        place: of each node in the graph.
        constant: nodes.

    Raises:
        Refused: a row that asks would need what others ask, or what a node does is not known.
    """
    return _Finder(rules, forms, touched, place, constant).run(Part(context, len(rules.shape(context)) - 2))


class _Finder:
    def __init__(
        self,
        rules: RowRules,
        forms: Mapping[ir.Value, Rows],
        touched: Callable[[ir.Value], bool],
        place: Mapping[ir.Node, int],
        constant: Collection[ir.Node],
    ) -> None:
        self.rules, self.forms, self.touched, self.place = rules, forms, touched, place
        self.constant = constant
        self.steps: dict[tuple[ir.Node, int | None], AskingStep] = {}
        self.asking: dict[ir.Value, None] = {}
        self.kept: dict[ir.Value, None] = {}

    def run(self, context: Part) -> Asking:
        todo, seen = [context], {context}
        while todo:
            fresh = [part for part in self._needs(todo.pop()) if part not in seen]
            seen.update(fresh)
            todo += fresh
        if not self.asking:
            raise Refused("no row of its own is asked for")

        picked = {key: product for key in self.steps if (product := self._product_of(key)) is not None}
        for key, product in picked.items():
            self.steps[key] = replace(self.steps[key], product=self.steps[product])
        for product in set(picked.values()):
            del self.steps[product]

        def order(key: tuple[ir.Node, int | None]) -> tuple[int, int]:
            node, axis = key
            return self.place[node], -1 if axis is None else axis

        return Asking(
            steps=tuple(self.steps[key] for key in sorted(self.steps, key=order)),
            asking=tuple(self.asking),
            kept=tuple(self.kept),
            context=context,
        )

    def _needs(self, part: Part) -> Iterable[Part]:
        """What a part is made of."""
        value, axis = part.value, part.axis
        node, form = value.producer(), self.forms.get(value)
        if form is not None and axis is not None:
            if form != Rows(axis):
                raise Refused(f"'{value.name}' has its rows on another axis than those that ask")
            self.asking[value] = None
            return ()
        if form is not None and not self._is_formed(node):
            if form.axis is None or form.merged:
                raise Refused(f"'{value.name}' does not hold the rows of each sequence")
            self.kept[value] = None
            return ()
        if node is None or flow.is_constant(value, self.constant):
            return ()
        if form is not None or self._is_made_of_rows(value):
            return self._made(node, axis)
        if node.op_type not in _SPREAD and not (self.touched(value) or self._keeps_repeated(value)):
            return ()  # it stays where it is
        try:
            return self._made(node, axis)
        except Refused:
            if axis is not None:
                return [Part(value, None)]  # of which those that ask take their own
            if self.touched(value):
                raise
            return ()

    def _is_made_of_rows(self, value: ir.Value) -> bool:
        """Whether the data of rows reaches a value, not just their number."""
        todo, seen = [value], {value}
        while todo:
            node = todo.pop().producer()
            if node is None or node.op_type in flow.SHAPE_READERS:
                continue
            fresh = set(flow.inputs_of(node)) - seen
            if not fresh.isdisjoint(self.forms):
                return True
            seen |= fresh
            todo += fresh
        return False

    def _keeps_repeated(self, value: ir.Value) -> bool:
        """Whether sizes are read from what is repeated for the batch, which would be made for them alone."""
        todo, seen = [value], {value}
        while todo:
            node = todo.pop().producer()
            if node is None or node in self.constant:
                continue
            if node.op_type not in flow.SHAPE_READERS:
                fresh = set(flow.inputs_of(node)) - seen
                seen |= fresh
                todo += fresh
            elif node.op_type == "Shape" and node.inputs[0] is not None:
                source = node.inputs[0].producer()
                if source is not None and source.op_type in _REPEATS and self._repeats_the_batch(source):
                    return True
        return False

    def _made(self, node: ir.Node, axis: int | None) -> list[Part]:
        if (node, axis) not in self.steps:
            self.steps[node, axis] = self._step(node, axis)
        return self.steps[node, axis].needs

    def _is_formed(self, node: ir.Node | None) -> bool:
        """Whether a node only gives rows another form, or scales them: no need to keep both."""
        if node is None or node.op_type not in _FORMED:
            return False
        rows = [value for value in node.inputs if value is not None and value in self.forms]
        return len(rows) == 1 and self.forms[rows[0]].axis is not None and not self.forms[rows[0]].merged

    def _step(self, node: ir.Node, axis: int | None) -> AskingStep:
        if any(attribute.type == ir.AttributeType.GRAPH for attribute in node.attributes.values()):
            raise Refused(f"'{node.name}' ({node.op_type}) holds branches")
        nothing = (None,) * len(node.inputs)
        if node.op_type == "Shape":
            return AskingStep(node, None, nothing, sizes=self._sizes(node))
        if node.op_type in _REPEATS and self._repeats_the_batch(node):
            return AskingStep(node, axis, (axis, *nothing[1:]), passes=True)
        if axis is None:
            return AskingStep(node, None, nothing)
        return AskingStep(node, axis, tuple(axes_of_inputs(self.rules, node, axis)))

    def _repeats_the_batch(self, node: ir.Node) -> bool:
        """Whether a node that repeats does it for each sequence, and for nothing else."""
        source = node.inputs[0]
        assert source is not None, "something is repeated"
        given, made = self.rules.shape(source), self.rules.shape(node.outputs[0])
        return made[1:] == given[1:] and made[:1] in (given[:1], (given[0] * self.rules.batch,))

    def _product_of(self, key: tuple[ir.Node, int | None]) -> tuple[ir.Node, int | None] | None:
        """Of a step that picks columns the product with a table that gives them alone."""
        node, source = key[0], key[0].inputs[0]
        product = source.producer() if source is not None and node.op_type == "GatherElements" else None
        if source is None or product is None or product.op_type != "MatMul":
            return None
        last, own = len(self.rules.shape(source)) - 1, node.attributes.get_int("axis", 0)
        readers = {reader for reader, _ in source.uses() if reader.op_type not in flow.SHAPE_READERS}
        table, made = product.inputs[1], (product, self.steps[key].inputs[0])
        of_rows = table is None or table in self.forms or self._is_made_of_rows(table)
        return (
            made if own in (-1, last) and readers == {node} and not of_rows and made in self.steps else None
        )

    def _sizes(self, node: ir.Node) -> tuple[int | None, ...]:
        """The sizes that a node reads, of a batch of one."""
        source = node.inputs[0]
        assert source is not None, "the shape of something is read"
        first, *others = self.rules.shape(source)
        given = next(value for value in self.forms if self.forms[value] == Rows(1))
        length = self.rules.shape(given)[1]
        if first % self.rules.batch:
            raise Refused(f"'{source.name}' does not begin with the batch")
        return tuple(None if size == length else size for size in (first // self.rules.batch, *others))
