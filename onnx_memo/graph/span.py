"""The layers as a whole: from the first hidden states to the last ones, whatever lies between.

What repeats an input literally needs no more than that what comes out depends on nothing but what goes in,
the mask and constants. Which rows meet where, and how attention is computed, does not matter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

import onnx_ir as ir

from onnx_memo.graph import flow
from onnx_memo.graph.cost import Work
from onnx_memo.graph.shapes import LENGTHS, Shape, ShapeTable
from onnx_memo.graph.site import Site


@dataclass(frozen=True)
class Span:
    """A span of the graph whose output follows from its input and the mask."""

    input: ir.Value  # [B, L, d]
    output: ir.Value  # [B, L, d]
    result: ir.Value  # the output, as the rest of the model reads it
    region: tuple[ir.Node, ...]  # what a hit saves
    boundary: tuple[ir.Value, ...]  # what stays outside, the input first
    mask: ir.Value | None
    positions: ir.Value | None
    turns: bool  # whether padding may as well stand in front of tokens, if positions count only these
    width: int  # d
    heads: int  # of the first layer
    share: float | None  # of the model's multiply-adds, 0 to 1; None: not known


def may_end(value: ir.Value, ends: Collection[str] | None) -> bool:
    """Whether a span may begin or end with a value: `ends` names those at which it may, None: any."""
    return (ends is None or value.name in ends) and value.dtype in (None, ir.DataType.FLOAT)


def first_states(
    sites: Sequence[Site], shapes: Mapping[str, Shape], ends: Collection[str] | None
) -> ir.Value | None:
    """The first hidden states after which the last site depends on masks, positions and constants alone."""
    given = masks_of(sites) | {site.positions for site in sites}
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
    model: ir.Model, sites: Sequence[Site], table: ShapeTable, ends: Collection[str] | None = None
) -> Span | None:
    """The span around all `sites` of a model; None: there is none, as where positions are given.

    What positions of padding do between the sites, only an encoder knows.

    Args:
        model: the model.
        sites: all that were found.
        table: shapes of the model's values.
        ends: names of values at which it may begin and end; None: all.
    """
    for length in LENGTHS if sites else ():
        shapes = table.at(length, follow=True)
        start = first_states(sites, shapes, ends)
        found = None
        if start is not None:
            found = last_states((start,), model.graph, sites, masks_of(sites), shapes, ends)
        if start is not None and found is not None:
            output, region = found
            return Span(
                input=start,
                output=output,
                result=output,
                region=tuple(region),
                boundary=(start,),
                mask=sites[0].mask,
                positions=None,
                turns=False,
                width=sites[0].width,
                heads=sites[0].heads,
                share=Work(model.graph, table).share(region),
            )
    return None


def last_states(
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
            if reads_mask(region, last, start, masks_of(sites)) is not None:
                continue
            if softmaxes <= set(region) and not any(inner.op_type in flow.RANDOM for inner in region):
                return value, region
    return None


def masks_of(sites: Iterable[Site]) -> set[ir.Value]:
    """The masks of some sites."""
    return {site.mask for site in sites if site.mask is not None}
