"""A plan: which sites are guarded, at which level, and where entries are looked up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo import store
from onnx_memo.capture import Capture
from onnx_memo.graph.guard import Guard, Lookup
from onnx_memo.graph.sites import Site
from onnx_memo.keys import KeyNetwork

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
    indexed = store.largest_group(lengths) > store.EXACT_SEARCH
    if indexed and not store.annoy_available():
        indexed = False
        notes.append("annoy is not installed: no index is built, exact search serves")
    tensors = [store.from_array("memo/lengths", lengths)]
    for level in dict.fromkeys(plan.levels.values()):
        offsets = store.offsets_of(payload_rows(lengths, level))
        tensors.append(store.from_array(f"memo/offsets/{level}", offsets))
    for name, level in plan.levels.items():
        site, captured = sites[name], captures[level]
        if name in plan.lookups:
            network = networks[name]
            keys = network(captured.means(site))
            index = np.zeros(0, np.uint8)
            if indexed:
                index = store.build_index(keys, lengths, scratch / "index")
            parts: dict[str, npt.NDArray[Any]] = {
                "reduction": network.reduction,
                "projection": network.projection,
                "bias": network.bias,
                "keys": np.ascontiguousarray(keys.T),
                "index": index,
            }
            tensors += [store.from_array(f"memo/{name}/{part}", parts[part]) for part in LOOKUP_PARTS]
        payload = captured.payload(site)
        shape = payload_shape(site, level, lengths)
        tensors.append(store.from_file(f"memo/{name}/payload", np.float16, shape, payload))
    return tensors


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
