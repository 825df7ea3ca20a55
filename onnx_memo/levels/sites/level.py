"""The levels `output` and `probs`, as `onnx_memo.levels.base` asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.errors import MemoError
from onnx_memo.graph.build import Builder
from onnx_memo.graph.groups import groups_of
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.graph.probe import add_outputs
from onnx_memo.graph.site import Site
from onnx_memo.job import Job
from onnx_memo.keys.fixed import fit_keys
from onnx_memo.levels.apart import run_apart
from onnx_memo.levels.attention import attention_of
from onnx_memo.levels.base import Brief, Level, NotAllowed, Proposal, Reuse, Use, Wanted
from onnx_memo.levels.explored import Explored
from onnx_memo.levels.inserter import entry_name
from onnx_memo.levels.repeats import inputs_to_store
from onnx_memo.levels.sites.capture import Capture, capture
from onnx_memo.levels.sites.explore import explore_sites
from onnx_memo.levels.sites.guard import repeats_name
from onnx_memo.levels.sites.layout import SitesBlueprint, capture_layout, footprint
from onnx_memo.levels.sites.payload import OUTPUT, PROBABILITIES
from onnx_memo.levels.sites.plan import Plan
from onnx_memo.levels.sites.propose import propose_sites
from onnx_memo.levels.sites.repeats import RepeatsBlueprint, repeats_footprint, repeats_scratch
from onnx_memo.store.budget import most_tokens
from onnx_memo.store.manifest import GuardedSite


class SitesLevel(Level):
    """Single attention blocks, each with its projected output or its probabilities."""

    names = (OUTPUT.level, PROBABILITIES.level)
    title = "output and probs"
    selective = True
    reach = 0.5

    def use(self, opened: OpenedModel, wanted: Wanted, notes: list[str]) -> Use:
        """The wanted sites."""
        sites = attention_of(opened)
        if sites[0].why_no_level is not None:
            raise NotAllowed(sites[0].why_no_level)
        levels = self.names if wanted.level == "auto" else (wanted.level,)
        chosen = [sites[number] for number in site_numbers(wanted.sites, len(sites))]
        kept = [site for site in chosen if set(levels) & set(site.levels)]
        refused = [
            f"{site.name} is not guarded at '{wanted.level}': {site.why_no_probs}"
            for site in chosen
            if site not in kept
        ]
        if not kept:
            raise MemoError(
                f"no chosen site of '{opened.path}' allows the level '{wanted.level}': {refused[0]}; "
                "try --level output"
            )
        notes += refused
        return SitesUse(kept, levels, wanted.threshold)

    def describe(self, guards: Sequence[GuardedSite]) -> list[str]:
        """Depends on whether anything but literal repeats is reused."""
        if guards[0].threshold:
            return []
        return ["reused: what attention gave, for requests that repeat a stored input literally"]

    def watch(self, model: ir.Model, guards: Sequence[GuardedSite]) -> SitesWatch:
        """Reads which sequences are reused."""
        return SitesWatch(model, guards)


@dataclass(frozen=True)
class SitesUse(Use):
    """Sites that may be guarded, each at one of `levels`; `threshold` as in `Wanted`."""

    sites: Sequence[Site]
    levels: Sequence[str]
    threshold: float | None

    def bytes_needed(self, job: Job) -> int:
        """Of each level that may be tried."""
        levels = self.levels if job.goal is not None else self.levels[:1]
        lengths = most_tokens(job.samples, max((site.length or 0 for site in self.sites), default=0))
        scratch = capture_layout(self.sites, levels)
        stored = [footprint(self.sites, [level], False) for level in levels]
        if job.goal is None and self.threshold is None:
            groups = groups_of(self.sites, job.opened.shapes)
            scratch, stored = repeats_scratch(groups), [repeats_footprint(groups, levels[0])]
        sizes = [size.total(lengths) for size in stored]
        most = sizes if job.max_bytes is None else [min(size, job.max_bytes) for size in sizes]
        return scratch.footprint().total(lengths) + 2 * sum(most)

    def repeats(self, job: Job) -> SitesBlueprint | RepeatsBlueprint:
        """Guard all sites at one level, for literal repeats, or for what lies within the threshold.

        Raises:
            MemoError: also where no site can be stored.
        """
        if self.threshold is not None:
            return self._within(job, self.threshold)
        groups, level = groups_of(self.sites, job.opened.shapes), self.levels[0]
        stored = inputs_to_store(job, repeats_footprint(groups, level))
        advance = job.progress("running the inputs", len(stored))
        captured = capture(job.opened, self.sites, level, stored, job.scratch, advance, groups)
        self._storable(captured, job.notes)
        return RepeatsBlueprint(groups, captured)

    def _within(self, job: Job, threshold: float) -> SitesBlueprint:
        """Each site with a lookup of its own."""
        level = self.levels[0]
        stored = inputs_to_store(job, footprint(self.sites, [level], False))
        advance = job.progress("running the inputs", len(stored))
        captured = capture(job.opened, self.sites, level, stored, job.scratch, advance)
        kept = self._storable(captured, job.notes)
        advance = job.progress("fitting keys", len(kept))
        networks = {}
        for site in kept:
            networks[site.name] = fit_keys(captured.means(site))
            advance()
        plan = Plan({site.name: level for site in kept}, shared=False)
        by_name = {site.name: site for site in kept}
        return SitesBlueprint(plan, by_name, {level: captured}, networks, threshold)

    def _storable(self, captured: Capture, notes: list[str]) -> list[Site]:
        notes.extend(f"{name} is not guarded: {reason}" for name, reason in captured.unfit.items())
        kept = [site for site in self.sites if site.name not in captured.unfit]
        if not kept:
            raise MemoError("no site can be stored: " + "; ".join(captured.unfit.values()))
        return kept

    def explore(self, brief: Brief) -> Sequence[Explored]:
        """At the level that saves most, at thresholds from strict to loose."""
        return explore_sites(brief, self.sites, self.levels[0])

    def propose(self, brief: Brief) -> Proposal:
        """The plan that saves most."""
        return propose_sites(brief, self.sites, self.levels)


class SitesWatch:
    """Reads which sequences the guards reuse."""

    def __init__(self, model: ir.Model, guards: Sequence[GuardedSite]) -> None:
        values = {value.name: value for node in model.graph for value in node.outputs}
        lookups = [guard.name for guard in guards if guard.lookup]
        b, reuse = Builder("memo/watch", model.opset_imports[""]), []
        for name in lookups:
            repeats, entry = values.get(repeats_name(name)), values[entry_name(name)]
            if repeats is None:  # near enough is enough
                repeats = b.op("Not", b.op("Less", entry, b.const(0, np.int64)))
            reuse.append(repeats)
        model.graph.extend(b.nodes)
        add_outputs(model, reuse, ir.DataType.BOOL)
        self.lookups = len(lookups)
        # A site without a lookup reuses what the one before it does.
        which = np.cumsum([guard.lookup for guard in guards]) - 1
        self.which = {guard.name: int(at) for guard, at in zip(guards, which, strict=True)}
        apart = run_apart(model)
        self.apart = {name for name in self.which if f"memo/{name}" in apart}

    def read(self, results: Sequence[npt.NDArray[Any]]) -> Reuse:
        """Where what reuses nothing does not run apart, a batch is reused if all its sequences hit."""
        hits = np.asarray(results[len(results) - self.lookups :])  # bool[lookups, B]
        whole = np.broadcast_to(np.all(hits, axis=1, keepdims=True), hits.shape)
        return Reuse({name: (hits if name in self.apart else whole)[at] for name, at in self.which.items()})


def site_numbers(wanted: str | None, count: int) -> list[int]:
    """The numbers that `--sites` names, of a model with `count` sites.

    Raises:
        MemoError: it names none, or one that is not there, or is no list of numbers and ranges.
    """
    if wanted is None:
        return list(range(count))
    numbers: set[int] = set()
    for part in wanted.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise MemoError(f"'{part}' in --sites is no number or range: write for example 0,2-4")
        if int(last or first) >= count:
            raise MemoError(
                f"--sites {wanted} names a site that is not there: the model has 0 to {count - 1}"
            )
        numbers.update(range(int(first), int(last or first) + 1))
    if not numbers:
        raise MemoError(f"--sites {wanted} names no site: write for example 0,2-4")
    return sorted(numbers)
