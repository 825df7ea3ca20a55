"""A plan: which sites are guarded, at which level, and where entries are looked up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.graph.sites import Site, find_sites
from onnx_memo.keys.fixed import KeyNetwork
from onnx_memo.levels.sites.capture import Capture
from onnx_memo.levels.sites.guard import Guard, Lookup, insert_guards
from onnx_memo.store import data as store
from onnx_memo.store.bundle import GuardedSite

LOOKUP_PARTS = ("reduction", "projection", "bias", "keys", "index")


@dataclass(frozen=True)
class Plan:
    """`levels` maps the names of the guarded sites, in the model's order, to their levels.

    With `shared`, the first guarded site looks up and the others reuse its entry; else each looks up.
    """

    levels: Mapping[str, str]
    shared: bool

    @property
    def lookups(self) -> list[str]:
        """The names of the sites that look up."""
        names = list(self.levels)
        return names[:1] if self.shared else names

    def __str__(self) -> str:
        counts = {
            level: list(self.levels.values()).count(level) for level in dict.fromkeys(self.levels.values())
        }
        sites = " and ".join(f"{level} at {count} site(s)" for level, count in counts.items())
        return sites + (", one lookup" if self.shared else ", a lookup at each")


@dataclass(frozen=True)
class SitesBlueprint:
    """What guards at the levels `output` and `probs` are built from.

    Attributes:
        sites: by name, as they were found in the original model.
        captures: by level.
        networks: by the site that looks up.
        threshold: largest key distance that counts as a hit.
    """

    plan: Plan
    sites: Mapping[str, Site]
    captures: Mapping[str, Capture]
    networks: Mapping[str, KeyNetwork]
    threshold: float

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each entry, i64[N]."""
        return next(iter(self.captures.values())).lengths

    def tensors(self, scratch: Path, notes: list[str]) -> list[store.StoredTensor]:
        """The memo data."""
        return memo_tensors(self.plan, self.sites, self.captures, self.networks, scratch, notes)

    def insert(self, model: ir.Model, tensors: Mapping[str, ir.ExternalTensor]) -> None:
        """Guard `model`, which is changed."""
        insert_guards(model, guards_of(self.plan, find_sites(model).sites, tensors, self.threshold))

    def guarded(self) -> list[GuardedSite]:
        """The guards, as the manifest tells them."""
        return [
            GuardedSite(
                name=name,
                softmax=self.sites[name].softmax.name or "",
                level=level,
                threshold=self.threshold,
                lookup=name in self.plan.lookups,
                heads=self.sites[name].heads,
                width=self.sites[name].width,
                share=self.sites[name].share,
            )
            for name, level in self.plan.levels.items()
        ]


def payload_rows(lengths: npt.NDArray[np.int64], level: str) -> npt.NDArray[np.int64]:
    """How many payload rows each entry takes at a level."""
    return lengths if level == "output" else lengths**2


def payload_shape(site: Site, level: str, lengths: npt.NDArray[np.int64]) -> tuple[int, int]:
    """The payload's shape at a site and level."""
    width = site.output_width if level == "output" else site.heads
    return int(payload_rows(lengths, level).sum()), width


def memo_tensors(
    plan: Plan,
    sites: Mapping[str, Site],
    captures: Mapping[str, Capture],
    networks: Mapping[str, KeyNetwork],
    scratch: Path,
    notes: list[str],
) -> list[store.StoredTensor]:
    """The memo data of a plan: what each of its guards reads."""
    lengths = next(iter(captures.values())).lengths
    tensors = [store.from_array("memo/lengths", lengths)]
    for level in dict.fromkeys(plan.levels.values()):
        offsets = store.offsets_of(payload_rows(lengths, level))
        tensors.append(store.from_array(f"memo/offsets/{level}", offsets))
    for name, level in plan.levels.items():
        site, captured = sites[name], captures[level]
        if name in plan.lookups:
            keys = networks[name](captured.means(site))
            tensors += lookup_tensors(name, networks[name], keys, lengths, scratch, notes)
        payload = captured.payload(site)
        shape = payload_shape(site, level, lengths)
        tensors.append(store.from_file(f"memo/{name}/payload", np.float16, shape, payload))
    return tensors


def lookup_tensors(
    name: str,
    network: KeyNetwork,
    keys: npt.NDArray[np.float32],
    lengths: npt.NDArray[np.int64],
    scratch: Path,
    notes: list[str],
) -> list[store.StoredTensor]:
    """What the lookup at `name` reads: key network, the entries' keys [N, k], and where it pays an index."""
    index = np.zeros(0, np.uint8)
    if store.largest_group(lengths) > store.EXACT_SEARCH:
        if store.annoy_available():
            index = store.build_index(keys, lengths, scratch / "index")
        elif (note := "annoy is not installed: no index is built, exact search serves") not in notes:
            notes.append(note)
    parts: dict[str, npt.NDArray[Any]] = {
        "reduction": network.reduction,
        "projection": network.projection,
        "bias": network.bias,
        "keys": np.ascontiguousarray(keys.T),
        "index": index,
    }
    return [store.from_array(f"memo/{name}/{part}", parts[part]) for part in LOOKUP_PARTS]


def guards_of(
    plan: Plan,
    sites: Sequence[Site],
    tensors: Mapping[str, ir.TensorProtocol],
    threshold: float,
) -> list[Guard]:
    """The plan's guards for the `sites` of one model, reading `tensors` by their names in the memo data."""
    guards = []
    for site in sites:
        level = plan.levels.get(site.name)
        if level is None:
            continue
        lookup = None
        if site.name in plan.lookups:
            parts = {part: tensors[f"memo/{site.name}/{part}"] for part in LOOKUP_PARTS}
            own = ir.tensor(np.float32(threshold), name=f"memo/{site.name}/threshold")
            lookup = Lookup(**parts, threshold=own)
        payload, offsets = tensors[f"memo/{site.name}/payload"], tensors[f"memo/offsets/{level}"]
        guards.append(Guard(site, level, payload, offsets, tensors["memo/lengths"], lookup))
    return guards
