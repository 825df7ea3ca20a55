"""Several spans in one model: towers beside each other, an encoder and the decoder that reads its result.

Where no span goes around all attention, the sites are put into groups: those that the same first sites lead
to, past attention that takes keys and values from another sequence (`Findings.contexts`). How they are put
together proves nothing. Each group has a span of its own only if what comes out follows from what goes in,
masks, constants, and the results of the spans before it. So a request may take a span's result from the store
where its input is that of an entry, and all results that it reads are those with which it was stored.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

import onnx_ir as ir

from onnx_memo.graph import flow
from onnx_memo.graph.anchors import attending
from onnx_memo.graph.cost import Work
from onnx_memo.graph.shapes import LENGTHS, Shape, ShapeTable
from onnx_memo.graph.site import Findings, Site
from onnx_memo.graph.span import Span, may_end, reads_mask, states_before


@dataclass(frozen=True)
class LinkedSpan(Span):
    """One of several spans of a model."""

    reads: tuple[int, ...]  # the spans before it whose results it reads, by their numbers
    given: frozenset[str]  # the inputs of the model that its input and its mask are made of
    sites: tuple[str, ...]  # names of those inside


@dataclass(frozen=True)
class Linked:
    """The spans of a model, each after those that it reads; and the sites that are in none, by name."""

    spans: tuple[LinkedSpan, ...] = ()
    left: tuple[str, ...] = ()

    @property
    def operators(self) -> int:
        """How many softmaxes and attention operators are in them."""
        return sum(span.operators for span in self.spans)

    def notes(self) -> list[str]:
        """What people should know of them, if there are any."""
        if not self.spans or not self.left:
            return []
        return [f"in no span of which the level 'rows' could reuse repeats: {', '.join(self.left)}"]

    def inputs_beside(self, mask: str | None) -> dict[str, str | None]:
        """The inputs of other sequences than that whose padding `mask` tells, each with its own mask."""
        masks = {span: None if span.mask is None else str(span.mask.name) for span in self.spans}
        own = {name for span in self.spans if masks[span] == mask for name in span.given}
        return {name: masks[span] for span in self.spans for name in span.given if name not in own}

    def mask_behind(self, value: ir.Value) -> ir.Value | None:
        """The mask of the sequence that a value follows from: that of the last span that leads to it."""
        reached = _reached(value, {span.output for span in self.spans})
        return next((span.mask for span in reversed(self.spans) if span.output in reached), None)

    def masks(self, number: int) -> set[ir.Value]:
        """The masks that the result of a span may follow from: its own, and those of spans that it reads."""
        span = self.spans[number]
        return _mask(span).union(*(self.masks(read) for read in span.reads))

    def in_model(self, graph: ir.Graph, own: Mapping[str, ir.Value]) -> Linked:
        """The spans of a model's other form as spans of its `graph`, whose values have the names `own`.

        That they follow from what they read was proven of the other form, and the values are the same. A span
        of which a node makes more than its result that is read outside is none there: nor is what reads it.
        """
        spans = []
        for span in self.spans:
            boundary = tuple(own[str(value.name)] for value in span.boundary)
            output = own[str(span.output.name)]
            region = flow.region(graph, output, boundary, flow.constant_nodes(graph))
            if not _gives_only(region, output):
                return Linked(left=tuple(name for each in self.spans for name in each.sites) + self.left)
            mask = None if span.mask is None else own[str(span.mask.name)]
            there = replace(span, output=output, result=output, region=tuple(region), boundary=boundary)
            spans.append(replace(there, input=boundary[0], mask=mask))
        return replace(self, spans=tuple(spans))


def find_linked(
    model: ir.Model, findings: Findings, table: ShapeTable, ends: Collection[str] | None = None
) -> Linked:
    """The spans around as many of the sites as can be, or none.

    Args:
        model: the model.
        findings: what was found in it.
        table: shapes of its values.
        ends: names of values at which a span may begin and end; None: all.
    """
    groups = _groups(model.graph, findings)
    best = Linked(left=tuple(site.name for site in findings.sites))
    for length in LENGTHS if findings.sites else ():
        found = _Finder(model, findings, table, length, ends).run(groups)
        if len(found.left) < len(best.left):
            best = found
    return best


class _Finder:
    def __init__(
        self,
        model: ir.Model,
        findings: Findings,
        table: ShapeTable,
        length: int,
        ends: Collection[str] | None,
    ) -> None:
        self.graph, self.findings, self.ends = model.graph, findings, ends
        self.shapes: Mapping[str, Shape] = table.at(length, follow=True)
        self.work, self.attention = Work(model.graph, table), {*attending(model.graph)}
        self.found = Linked()

    def run(self, groups: Sequence[Sequence[Site]]) -> Linked:
        left: list[str] = []
        for sites in groups:
            span = self._span(sites)
            if span is None:
                left += [site.name for site in sites]
            else:
                self.found = replace(self.found, spans=(*self.found.spans, span))
        return replace(self.found, left=tuple(left))

    def _span(self, sites: Sequence[Site]) -> LinkedSpan | None:
        """The span around some sites; None: there is none."""
        if len(_masks_of(sites)) > 1:
            return None
        results = {span.output: number for number, span in enumerate(self.found.spans)}
        contexts = {value for each in self.findings.contexts for value in _reached(each, results.keys())}
        for start in states_before(sites[0], self.shapes, self.ends):
            read = _reached(sites[-1].output, {start, *results}) & results.keys()
            if flow.sources(sites[-1].output, {start, *read}) - self._masks(sites, read, results):
                continue
            # Behind its last site, cross-attention may read more: with it the span ends later.
            for more in dict.fromkeys([frozenset(read | contexts), frozenset(read)]):
                span = self._span_from(start, sites, more, results)
                if span is not None:
                    return span
            return None
        return None

    def _span_from(
        self, start: ir.Value, sites: Sequence[Site], read: Set[ir.Value], results: Mapping[ir.Value, int]
    ) -> LinkedSpan | None:
        """The span that begins with `start`, and of `results` reads none but those of `read`."""
        masks = self._masks(sites, read, results)
        ends = _last_states((start, *read), self.graph, sites, masks, self.shapes, self.ends)
        if ends is None:
            return None
        output, region = ends
        read = _reached(output, {start, *read}) - {start}
        own = {site.softmax for site in sites}
        taken = {node for span in self.found.spans for node in span.region}
        taken |= {site.softmax for site in self.findings.sites if site.softmax not in own}
        others = flow.sources(output, {start, *read}) - self._masks(sites, read, results)
        if others or not taken.isdisjoint(region) or not _gives_only(region, output):
            return None
        numbers = sorted(results[value] for value in read)
        mask = next(iter(_masks_of(sites)), None)
        return LinkedSpan(
            input=start,
            output=output,
            result=output,
            region=tuple(region),
            boundary=(start, *(self.found.spans[number].output for number in numbers)),
            mask=mask,
            positions=None,
            turns=False,
            width=sites[0].width,
            output_width=sites[0].width,
            per_row=sites[0].width,
            length=sites[0].length,
            heads=sites[0].heads,
            operators=len(self.attention.intersection(region)),
            share=self.work.share(region),
            reads=tuple(numbers),
            given=frozenset(str(value.name) for value in flow.sources(start, ()) | _masks_of(sites)),
            sites=tuple(site.name for site in sites),
        )

    def _masks(
        self, sites: Sequence[Site], read: Set[ir.Value], results: Mapping[ir.Value, int]
    ) -> set[ir.Value]:
        """What may decide beside the first states and the results that are read: masks."""
        return _masks_of(sites).union(*(self.found.masks(results[value]) for value in read))


def _last_states(
    boundary: Sequence[ir.Value],
    graph: ir.Graph,
    sites: Sequence[Site],
    allowed: Set[ir.Value],
    shapes: Mapping[str, Shape],
    ends: Collection[str] | None,
) -> tuple[ir.Value, list[ir.Node]] | None:
    """The last states that follow from `boundary`, with the nodes that make them; no layer may lie outside.

    Args:
        boundary: the first states, and what else the nodes may read of what is computed.
        graph: of the model.
        sites: the layers.
        allowed: masks that may be read beside that.
        shapes: of the model's values.
        ends: names of values at which a span may end; None: all.
    """
    start, last = boundary[0], sites[-1].output
    softmaxes, constant = {site.softmax for site in sites}, flow.constant_nodes(graph)
    wanted, behind = shapes.get(start.name or ""), flow.downstream(last)
    for node in reversed(list(graph)):
        for value in node.outputs:
            if value not in behind or shapes.get(value.name or "") != wanted or not may_end(value, ends):
                continue
            if flow.sources(value, boundary) - allowed:
                continue
            region = flow.region(graph, value, boundary, constant)
            if reads_mask(region, last, start, _masks_of(sites)) is not None:
                continue
            if softmaxes <= set(region) and not any(inner.op_type in flow.RANDOM for inner in region):
                return value, region
    return None


def _groups(graph: ir.Graph, findings: Findings) -> list[list[Site]]:
    """The sites that the same first ones lead to, past contexts; each group after those that lead to it."""
    by_output = {site.output: site for site in findings.sites}
    before = {
        site.name: {
            by_output[value].name for value in _upstream(site.output, findings.contexts) & by_output.keys()
        }
        for site in findings.sites
    }
    groups: dict[frozenset[str], list[Site]] = {}
    for site in findings.sites:
        firsts = frozenset(name for name in before[site.name] if before[name] == {name})
        groups.setdefault(firsts, []).append(site)
    place = {node: at for at, node in enumerate(graph)}
    ordered = [sorted(group, key=lambda site: place[site.softmax]) for group in groups.values()]
    return sorted(ordered, key=lambda group: place[group[-1].softmax])


def _upstream(value: ir.Value, cut: Collection[ir.Value]) -> set[ir.Value]:
    """`value`, and all values whose data reaches it on a way that passes none of `cut`."""
    seen, todo = {value}, [value]
    while todo:
        producer = todo.pop().producer()
        if producer is None or producer.op_type in flow.SHAPE_READERS:
            continue
        fresh = {before for before in flow.inputs_of(producer) if before not in cut} - seen
        seen |= fresh
        todo += fresh
    return seen


def _reached(value: ir.Value, cut: Set[ir.Value]) -> set[ir.Value]:
    """Those of `cut` whose data reaches `value` past no other of them; `value` itself, if it is one."""
    if value in cut:
        return {value}
    inner = _upstream(value, cut)
    producers = {each.producer() for each in inner} - {None}
    read = {
        before
        for node in producers
        if node is not None and node.op_type not in flow.SHAPE_READERS
        for before in flow.inputs_of(node)
    }
    return read & cut


def _gives_only(region: Collection[ir.Node], output: ir.Value) -> bool:
    """Whether nothing of a region is read outside but its output."""
    inner = set(region)
    others = [value for node in region for value in node.outputs if value is not output]
    return not any(
        value.is_graph_output() or any(reader not in inner for reader, _ in value.uses()) for value in others
    )


def _masks_of(sites: Iterable[Site]) -> set[ir.Value]:
    return {site.mask for site in sites if site.mask is not None}


def _mask(span: Span) -> set[ir.Value]:
    return set() if span.mask is None else {span.mask}
