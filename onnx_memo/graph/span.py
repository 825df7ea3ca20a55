"""The layers as a whole: from the first hidden states to the last ones, whatever lies between.

What repeats an input literally needs no more than that what comes out depends on nothing but what goes in,
the mask and constants. Which rows meet where, and how attention is computed, does not matter, nor whether it
is understood at all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnx_memo.graph import flow
from onnx_memo.graph.anchors import attending
from onnx_memo.graph.cost import Work
from onnx_memo.graph.dominators import Dominators
from onnx_memo.graph.shapes import LENGTHS, Shape, ShapeTable, batch_of
from onnx_memo.graph.site import Findings, Site


@dataclass(frozen=True)
class Span:
    """A span of the graph whose output follows from its input and the mask."""

    input: ir.Value  # [B, L, d]
    output: ir.Value  # [B, L', d'], of an encoder [B, L, d]
    result: ir.Value  # the output, as the rest of the model reads it
    region: tuple[ir.Node, ...]  # what a hit saves
    boundary: tuple[ir.Value, ...]  # what stays outside, the input first
    mask: ir.Value | None
    positions: ir.Value | None
    turns: bool  # whether padding may as well stand in front of tokens, if positions count only these
    width: int  # d
    output_width: int  # d'
    per_row: int  # numbers of the output for each row of the input: L' d' / L
    length: int | None  # L where the model fixes it
    heads: int  # of the first layer; 0 where attention is not understood
    operators: int  # softmaxes and attention operators in it
    share: float | None  # of the model's multiply-adds, 0 to 1; None: not known


def may_end(value: ir.Value, ends: Collection[str] | None) -> bool:
    """Whether a span may begin or end with a value: `ends` names those at which it may, None: any."""
    return (ends is None or value.name in ends) and value.dtype in (None, ir.DataType.FLOAT)


def first_states(
    sites: Sequence[Site], shapes: Mapping[str, Shape], ends: Collection[str] | None
) -> ir.Value | None:
    """The first hidden states after which the last site depends on masks, positions and constants alone."""
    given = {given for site in sites for given in (site.mask, site.positions)}
    for value in states_before(sites[0], shapes, ends):
        if not flow.sources(sites[-1].output, (value,)) - given:
            return value
    return None


def states_before(
    site: Site, shapes: Mapping[str, Shape], ends: Collection[str] | None
) -> Iterator[ir.Value]:
    """The hidden states of a site, and going back from them what has their shape and may begin a span."""
    value: ir.Value | None = site.hidden
    while value is not None:
        shape = shapes.get(value.name or "", ())
        if len(shape) == 3 and shape[2] == site.width and may_end(value, ends):
            yield value
        producer = value.producer()
        dynamic = [v for v in flow.inputs_of(producer) if v.producer()] if producer else []
        value = dynamic[0] if dynamic else None


def reads_mask(
    nodes: Iterable[ir.Node], last: ir.Value, start: ir.Value, masks: Collection[ir.Value]
) -> ir.Node | None:
    """A node behind the last attention, whose result is `last`, that reads what is made of masks; None: none.

    There a head begins: what it puts in place of padding, a hit would not have, which has zeros there.
    """
    behind, rows = flow.downstream(last) - {last}, flow.downstream(start)
    for node in nodes:
        if behind.isdisjoint(node.outputs):
            continue
        beside = [value for value in flow.inputs_of(node) if value not in rows]
        if any(flow.sources(value, ()) & set(masks) for value in beside):
            return node
    return None


def find_span(
    model: ir.Model, findings: Findings, table: ShapeTable, ends: Collection[str] | None = None
) -> Span | None:
    """The span around all sites of a model, and as many other softmaxes and attention operators as can be.

    None: there is none, or no such operator at all.

    Args:
        model: the model.
        findings: what was found in it.
        table: shapes of the model's values.
        ends: names of values at which it may begin and end; None: all.
    """
    attention, best = attending(model.graph), None
    least = len(findings.sites) or 1
    for length in LENGTHS if attention else ():
        found = _Finder(model, findings, attention, table, length, ends).run(least)
        if found is not None:
            best, least = found, found.operators + 1
        if least > len(attention):
            break
    return best


@dataclass(frozen=True)
class _Way:
    """Where a span might begin and end.

    Attributes:
        per_row: as in `Span`.
        between: how many operators lie between, at most.
    """

    start: ir.Value
    end: ir.Value
    per_row: int
    between: int


class _Finder:
    """Looks for values that all later ones depend on alone, but for masks: dominators of those."""

    def __init__(
        self,
        model: ir.Model,
        findings: Findings,
        attention: Sequence[ir.Node],
        table: ShapeTable,
        length: int,
        ends: Collection[str] | None,
    ) -> None:
        self.graph, self.findings, self.table, self.ends = model.graph, findings, table, ends
        self.length, self.batch = length, batch_of(model)
        self.shapes = table.at(length, follow=True)
        self.others = [table.at(other, follow=True) for other in LENGTHS if other != length]
        self.constant = flow.constant_nodes(self.graph)
        self.dominators = Dominators(self.graph, findings.masks)
        self.attention, self.sites = {*attention}, {site.softmax for site in findings.sites}
        self.above = _above(self.graph, attention)
        self.masked = {mask: flow.downstream(mask) for mask in findings.masks}

    def run(self, least: int) -> Span | None:
        """The span that holds most operators, at least so many, and all sites; of several the last one."""
        values = [value for node in reversed(list(self.graph)) for value in node.outputs]
        ways = [way for value in values if value in self.above and (way := self._way(value)) is not None]
        found = None
        for way in sorted(ways, key=lambda way: -way.between):
            if way.between < least:
                break
            region = flow.region(self.graph, way.end, (way.start,), self.constant)
            held = [node for node in region if node in self.attention]
            masks = self._masks(way.end)
            if len(held) < least or not self.sites <= set(held):
                continue
            if reads_mask(region, held[-1].outputs[0], way.start, masks) is None:
                found, least = self._span(way, region, held), len(held) + 1
        return found

    def _way(self, end: ir.Value) -> _Way | None:
        """To `end` from the last states, before any attention, that it depends on alone, but for masks."""
        if not self._is_states(end):
            return None
        for start in self.dominators.of(end):
            if start not in self.above and self._is_states(start):
                per_row = self._per_row(start, end)
                if per_row is not None:
                    return _Way(start, end, per_row, self.above[end].bit_count())
        return None

    def _is_states(self, value: ir.Value) -> bool:
        """Whether a value has the form [B, L, d], with a fixed d, and a span may begin or end with it."""
        shape = self.shapes.get(value.name or "", ())
        if len(shape) != 3 or shape[0] != self.batch or None in shape or shape[2] == self.length:
            return False
        widths = {other.get(value.name or "", ())[2:] for other in self.others}
        return widths <= {shape[2:], (None,), ()} and may_end(value, self.ends)

    def _masks(self, end: ir.Value) -> list[ir.Value]:
        return [mask for mask, reached in self.masked.items() if end in reached]

    def _sizes(self, value: ir.Value) -> tuple[int, int]:
        """Rows and width of states."""
        _, *sizes = (dim or 0 for dim in self.shapes[str(value.name)])
        return sizes[0], sizes[1]

    def _per_row(self, start: ir.Value, end: ir.Value) -> int | None:
        """How many numbers of `end` there are for each row of `start`; None: they are not divided so.

        Where there is a mask, both have the rows that it is about.
        """
        (rows, _), (made, width), masks = self._sizes(start), self._sizes(end), self._masks(end)
        if masks:
            fits = made == rows and self.shapes.get(str(masks[0].name)) == (self.batch, rows)
            return width if fits and len(masks) == 1 else None
        return None if made * width % rows else made * width // rows

    def _span(self, way: _Way, region: Sequence[ir.Node], held: Sequence[ir.Node]) -> Span:
        rows, width = self._sizes(way.start)
        return Span(
            input=way.start,
            output=way.end,
            result=way.end,
            region=tuple(region),
            boundary=(way.start,),
            mask=next(iter(self._masks(way.end)), None),
            positions=None,
            turns=False,
            width=width,
            output_width=self._sizes(way.end)[1],
            per_row=way.per_row,
            length=rows if rows != self.length else None,
            heads=next((site.heads for site in self.findings.sites), 0),
            operators=len(held),
            share=Work(self.graph, self.table).share(region),
        )


def _above(graph: ir.Graph, nodes: Sequence[ir.Node]) -> dict[ir.Value, int]:
    """Of every value that the data of some `nodes` reaches, which: the bits of their numbers."""
    found: dict[ir.Value, int] = {}
    bits = {node: 1 << number for number, node in enumerate(nodes)}
    for node in graph:
        read = () if node.op_type in flow.SHAPE_READERS else flow.inputs_of(node)
        reached = bits.get(node, 0)
        for value in read:
            reached |= found.get(value, 0)
        if reached:
            found |= dict.fromkeys(node.outputs, reached)
    return found
