"""Guards of attention blocks for requests that repeat a stored input literally: what they store and read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.graph.copies import Copy
from onnx_memo.graph.groups import Group
from onnx_memo.graph.site import Site
from onnx_memo.keys.fixed import FIXED_WIDTH, fit_keys
from onnx_memo.levels import literal
from onnx_memo.levels.lookup import LENGTHS, PARTS, Lookup, lengths_spec, lookup_contents, lookup_specs
from onnx_memo.levels.sites.capture import Capture
from onnx_memo.levels.sites.guard import Guard, Repeated, insert_guards
from onnx_memo.levels.sites.layout import guarded_site, offsets_name, payload_spec
from onnx_memo.levels.sites.payload import PAYLOADS
from onnx_memo.operators.spec import SEGMENTS
from onnx_memo.store.data import StoredTensor, offsets_of
from onnx_memo.store.layout import Footprint, Layout, TensorSpec, entries, tokens
from onnx_memo.store.manifest import GuardedSite

OFFSETS = "memo/offsets/states"  # i64[N], the first row of each entry


def states_spec(name: str, width: int) -> TensorSpec:
    """What must be repeated for the sites that share the lookup `name`."""
    return TensorSpec(f"memo/{name}/states", np.float16, (tokens, width))


def repeats_layout(sites: Sequence[Site], level: str, lookups: Mapping[str, int]) -> Layout:
    """The memo data.

    Args:
        sites: in the model's order.
        level: of all of them.
        lookups: the names of the sites that look up, with the width of the states there.
    """
    specs = [
        lengths_spec(),
        *(TensorSpec(name, np.int64, (entries,)) for name in (offsets_name(level), OFFSETS)),
    ]
    for name, width in lookups.items():
        specs += [*lookup_specs(name, width, FIXED_WIDTH), states_spec(name, width)]
    return Layout([*specs, *(payload_spec(site, level) for site in sites)])


def repeats_footprint(groups: Sequence[Group], level: str) -> Footprint:
    """What guards of all sites of `groups` take at most."""
    sites = [site for group in groups for site in group.sites]
    lookups = {group.sites[0].name: group.sites[0].width for group in groups}
    return repeats_layout(sites, level, lookups).footprint()


def repeats_scratch(groups: Sequence[Group]) -> Layout:
    """What is captured beside that."""
    return Layout(
        [
            TensorSpec(f"states.{number}.means", np.float32, (entries, SEGMENTS * group.sites[0].width))
            for number, group in enumerate(groups)
        ]
    )


@dataclass(frozen=True)
class RepeatsBlueprint:
    """What the guards are built from.

    Attributes:
        groups: as they were captured.
        captured: what was.
    """

    groups: Sequence[Group]
    captured: Capture

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each entry, i64[N]."""
        return self.captured.lengths

    def kept(self) -> list[tuple[int, list[Site]]]:
        """The groups of which sites can be stored: their numbers, and these sites; the first one looks up."""
        fit = [
            (number, [site for site in group.sites if site.name not in self.captured.unfit])
            for number, group in enumerate(self.groups)
        ]
        return [(number, sites) for number, sites in fit if sites]

    def tensors(self, scratch: Path, notes: list[str]) -> list[StoredTensor]:
        """The memo data."""
        captured, lengths = self.captured, self.captured.lengths
        level, widths, sites = captured.level, {}, []
        contents: dict[str, npt.NDArray[Any] | Path] = {
            LENGTHS: lengths,
            offsets_name(level): offsets_of(PAYLOADS[level].rows(lengths)),
            OFFSETS: offsets_of(lengths),
        }
        for number, own in self.kept():
            means, name = captured.states_means(number), own[0].name
            network = fit_keys(means)
            contents |= lookup_contents(name, network, network(means), lengths, scratch, notes)
            contents[f"memo/{name}/states"] = captured.states(number)
            contents |= {f"memo/{site.name}/payload": captured.payload(site) for site in own}
            widths[name] = own[0].width
            sites += own
        return repeats_layout(sites, level, widths).holding(contents, lengths)

    def insert(self, copy: Copy, tensors: Mapping[str, ir.TensorProtocol], apart: bool = True) -> None:
        """Guard a copy of the original model."""
        guards = []
        for number, sites in self.kept():
            first, *others = map(copy.twin, sites)
            guards.append(self._guard(first, tensors, copy.twin(self.groups[number].states)))
            guards += [self._guard(site, tensors, None) for site in others]
        insert_guards(copy.model, guards, copy.shapes if apart else None)

    def _guard(self, site: Site, tensors: Mapping[str, ir.TensorProtocol], states: ir.Value | None) -> Guard:
        """The guard of a site; it looks up if `states` are given."""
        level, lookup, repeated = self.captured.level, None, None

        def own(part: str, value: float) -> ir.TensorProtocol:
            return ir.tensor(np.float32(value), name=f"memo/{site.name}/{part}")

        if states is not None:
            parts = {part: tensors[f"memo/{site.name}/{part}"] for part in PARTS}
            lookup = Lookup(**parts, threshold=own("radius", literal.RADIUS))
            repeated = Repeated(
                states=states,
                stored=tensors[f"memo/{site.name}/states"],
                offsets=tensors[OFFSETS],
                epsilon=own("epsilon", literal.EPSILON),
            )
        return Guard(
            site=site,
            payload=PAYLOADS[level],
            stored=tensors[f"memo/{site.name}/payload"],
            offsets=tensors[offsets_name(level)],
            lengths=tensors[LENGTHS],
            lookup=lookup,
            repeated=repeated,
        )

    def guarded(self) -> list[GuardedSite]:
        """The guards, as the manifest lists them."""
        level = self.captured.level
        return [
            guarded_site(site, level, 0.0, site is sites[0]) for _, sites in self.kept() for site in sites
        ]
