"""Which attention blocks repeat what is stored, once the states before the first of them do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnx_memo.graph import flow
from onnx_memo.graph.shapes import Shape
from onnx_memo.graph.site import Site
from onnx_memo.graph.span import states_before


@dataclass(frozen=True)
class Group:
    """Sites in a row whose results depend on the same states, [B, L, d], mask and positions alone."""

    states: ir.Value
    sites: tuple[Site, ...]


def groups_of(sites: Sequence[Site], shapes: Mapping[str, Shape]) -> list[Group]:
    """The sites, in the model's order, in as few groups as there can be.

    A site begins one where it reads another mask, or something else besides, as behind a cross-attention.

    Args:
        sites: in the model's order.
        shapes: of the model's values by their names.
    """
    groups: list[Group] = []
    begun = 0
    while begun < len(sites):
        groups.append(_group(sites[begun:], shapes))
        begun += len(groups[-1].sites)
    return groups


def _group(sites: Sequence[Site], shapes: Mapping[str, Shape]) -> Group:
    """The largest group that begins with the first site, with the states nearest to it."""
    first = sites[0]
    best = Group(first.hidden, (first,))
    for states in (first.hidden, *states_before(first, shapes, None)):
        following = []
        for site in sites:
            if not _follows(site, first, states):
                break
            following.append(site)
        if len(following) > len(best.sites):
            best = Group(states, tuple(following))
        elif not following or len(best.sites) > 1:
            break
    return best


def _follows(site: Site, first: Site, states: ir.Value) -> bool:
    """Whether a site depends on the states, and what the first site is given besides, alone."""
    if site.mask is not first.mask or site.positions is not first.positions:
        return False
    return not flow.sources(site.output, (states,)) - {first.mask, first.positions}
