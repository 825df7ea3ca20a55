"""What guards of attention blocks store, and how they are built from what was captured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.graph.copies import Copy
from onnx_memo.graph.site import Site
from onnx_memo.keys.fixed import FIXED_WIDTH
from onnx_memo.keys.learned import LEARNED_WIDTH, SKETCH_WIDTH
from onnx_memo.keys.network import KeyNetwork
from onnx_memo.levels.lookup import (
    LENGTHS,
    PARTS,
    Lookup,
    found_only,
    lengths_spec,
    lookup_contents,
    lookup_specs,
)
from onnx_memo.levels.sites.capture import Capture
from onnx_memo.levels.sites.guard import Guard, insert_guards
from onnx_memo.levels.sites.payload import PAYLOADS
from onnx_memo.levels.sites.plan import Plan
from onnx_memo.operators.spec import SEGMENTS
from onnx_memo.store.data import StoredTensor, offsets_of
from onnx_memo.store.layout import Footprint, Integers, Layout, TensorSpec, entries
from onnx_memo.store.manifest import GuardedSite


def payload_spec(site: Site, level: str) -> TensorSpec:
    """What is stored of a site."""
    payload = PAYLOADS[level]
    return TensorSpec(f"memo/{site.name}/payload", np.float16, (payload.rows, payload.width(site)))


def sites_layout(plan: Plan, sites: Mapping[str, Site], reduced: Mapping[str, int]) -> Layout:
    """The memo data of a plan.

    Args:
        plan: its sites are among `sites`.
        sites: by name.
        reduced: by the sites that look up, to how many numbers a segment's mean is reduced.
    """
    levels = dict.fromkeys(plan.levels.values())
    specs = [lengths_spec(), *(TensorSpec(offsets_name(level), np.int64, (entries,)) for level in levels)]
    for name, level in plan.levels.items():
        if name in plan.lookups:
            specs += lookup_specs(name, sites[name].width, reduced[name])
        specs.append(payload_spec(sites[name], level))
    return Layout(specs)


def capture_layout(sites: Sequence[Site], levels: Sequence[str]) -> Layout:
    """What is captured of `sites` beside the payloads, for a capture at each of `levels`."""
    means = [TensorSpec(f"{site.name}.means", np.float32, (entries, SEGMENTS * site.width)) for site in sites]
    sketches = [
        TensorSpec(f"{site.name}.{level}.sketches", np.float32, (entries, SKETCH_WIDTH))
        for level in levels
        for site in sites
    ]
    return Layout([*means, *sketches])


def footprint(sites: Sequence[Site], levels: Sequence[str], shared: bool) -> Footprint:
    """What plans take that guard some of `sites`, each at one of `levels`.

    `shared`: one learned lookup serves all sites; else each has one, with a key that is not learned.
    """
    by_name = {site.name: site for site in sites}
    reduced = dict.fromkeys(by_name, LEARNED_WIDTH if shared else FIXED_WIDTH)
    layout = sites_layout(Plan(dict.fromkeys(by_name, levels[0]), shared), by_name, reduced)
    more = [TensorSpec(offsets_name(level), np.int64, (entries,)) for level in levels[1:]]
    first = Layout([*layout.specs, *more]).footprint()

    def each(lengths: Integers) -> Integers:
        total = first.each(lengths)
        for site in sites:
            sizes = [payload_spec(site, level).each(lengths) for level in levels]
            total += np.max(sizes, axis=0) - sizes[0]
        return total

    return Footprint(first.fixed, each)


@dataclass(frozen=True)
class SitesBlueprint:
    """What guards at the levels `output` and `probs` are built from.

    Attributes:
        sites: by name, as they were found in the original model.
        captures: by level.
        networks: by the site that looks up.
        threshold: largest key distance that counts as a hit.
        allowed: which entries may be found, bool[N]; None: all. A trial stores the others all the same.
    """

    plan: Plan
    sites: Mapping[str, Site]
    captures: Mapping[str, Capture]
    networks: Mapping[str, KeyNetwork]
    threshold: float
    allowed: npt.NDArray[np.bool_] | None = None

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each entry, i64[N]."""
        return next(iter(self.captures.values())).lengths

    def tensors(self, scratch: Path, notes: list[str]) -> list[StoredTensor]:
        """The memo data."""
        lengths = self.lengths
        contents: dict[str, npt.NDArray[Any] | Path] = {LENGTHS: lengths}
        for name, level in self.plan.levels.items():
            contents[offsets_name(level)] = offsets_of(PAYLOADS[level].rows(lengths))
            site, captured = self.sites[name], self.captures[level]
            contents[f"memo/{name}/payload"] = captured.payload(site)
            if name in self.plan.lookups:
                network = self.networks[name]
                keys = found_only(network(captured.means(site)), self.allowed)
                contents |= lookup_contents(name, network, keys, lengths, scratch, notes)
        reduced = {name: network.reduction.shape[1] for name, network in self.networks.items()}
        return sites_layout(self.plan, self.sites, reduced).holding(contents, lengths)

    def insert(self, copy: Copy, tensors: Mapping[str, ir.TensorProtocol], apart: bool = True) -> None:
        """Guard a copy of the original model."""
        guards = [self._guard(copy, name, tensors) for name in self.plan.levels]
        insert_guards(copy.model, guards, copy.shapes if apart else None)

    def _guard(self, copy: Copy, name: str, tensors: Mapping[str, ir.TensorProtocol]) -> Guard:
        level, lookup = self.plan.levels[name], None
        if name in self.plan.lookups:
            parts = {part: tensors[f"memo/{name}/{part}"] for part in PARTS}
            own = ir.tensor(np.float32(self.threshold), name=f"memo/{name}/threshold")
            lookup = Lookup(**parts, threshold=own)
        return Guard(
            site=copy.twin(self.sites[name]),
            payload=PAYLOADS[level],
            stored=tensors[f"memo/{name}/payload"],
            offsets=tensors[offsets_name(level)],
            lengths=tensors[LENGTHS],
            lookup=lookup,
        )

    def guarded(self) -> list[GuardedSite]:
        """The guards, as the manifest lists them."""
        return [
            guarded_site(self.sites[name], level, self.threshold, name in self.plan.lookups)
            for name, level in self.plan.levels.items()
        ]


def guarded_site(site: Site, level: str, threshold: float, lookup: bool) -> GuardedSite:
    """A guard, as the manifest lists it."""
    return GuardedSite(
        name=site.name,
        softmax=site.softmax.name or "",
        level=level,
        threshold=threshold,
        lookup=lookup,
        heads=site.heads,
        width=site.width,
        share=site.share,
    )


def offsets_name(level: str) -> str:
    """The name of the first payload rows of the entries, i64[N], at a level."""
    return f"memo/offsets/{level}"
