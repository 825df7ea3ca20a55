"""Reuse at all sites that can be guarded, up to distances from strict to loose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnx_memo.graph.site import Site
from onnx_memo.levels.base import Brief
from onnx_memo.levels.explored import Explored, Setting, nothing_reused
from onnx_memo.levels.sites.capture import capture
from onnx_memo.levels.sites.choose import Chooser
from onnx_memo.levels.sites.layout import SitesBlueprint, footprint
from onnx_memo.levels.sites.observe import Observer
from onnx_memo.levels.sites.plan import Plan
from onnx_memo.levels.sites.prove import Said
from onnx_memo.levels.sites.trial import Trial
from onnx_memo.levels.trial import guarded_on_trial
from onnx_memo.levels.ways import NothingPays
from onnx_memo.runtime import session_options
from onnx_memo.sessions import open_session

STEPS = 41  # thresholds that can be looked at


def explore_sites(brief: Brief, sites: Sequence[Site], level: str) -> Sequence[Explored]:
    """What a level does at each of some thresholds.

    Raises:
        NothingPays: no request has as many tokens as a stored one.
    """
    job, parts, goal = brief.job, brief.parts, brief.goal
    observer = Observer(job.opened, sites)
    chooser = Chooser(job.opened, sites, goal, parts, brief.original_us)
    chooser.observe(observer, job)
    advance = job.progress(f"capturing {level}", len(parts.stored))
    captures = {level: capture(job.opened, sites, level, parts.stored, job.scratch, advance)}
    mask = sites[0].mask  # one lookup counts the tokens of one mask
    kept = [site for site in sites if site.name not in captures[level].unfit and site.mask is mask]
    plan = Plan({site.name: level for site in kept}, shared=True)
    network = chooser.learn(plan, captures)
    entries, distances = chooser.nearest(network, captures[level], kept[0])
    near = distances[np.isfinite(distances)]
    if not len(near):
        raise NothingPays("no request has as many tokens as a stored input, so none could be reused")
    trial, everywhere = Trial(job.opened, plan, captures), np.ones(len(kept), np.bool_)
    missed, forced = [], []
    advance = job.progress(f"trying {level}", len(parts.fit))
    for want, feeds, entry in zip(chooser.wanted, parts.fit.arrays, entries, strict=True):
        missed.append(goal.own(want))
        found = entry >= 0
        forced.append(goal.opinion(want, trial.run(feeds, int(entry), everywhere)) if found else missed[-1])
        advance()
    loosest = max(float(near.max()), 1e-6)
    said, other = Said.of(forced), Said.of(missed)

    def setting(strictness: float) -> Setting:
        hits = distances <= strictness * loosest
        seen, decided = said.seen.where(hits, other.seen), said.decided.where(hits, other.decided)
        return Setting(strictness, hits, seen, decided, 1 - float(hits.mean()))

    # Literal repeats are nearest: up to halfway to what others are away, they alone are reused.
    others = distances[~parts.fit_known].min(initial=loosest)
    literal = nothing_reused(goal, chooser.wanted, 1.0)
    if (distances[parts.fit_known] < others).any():
        literal = setting(float(others) / loosest / 2)
    grid = np.unique(np.quantile(near, np.linspace(0, 1, STEPS)) / loosest).tolist()
    by_name = {site.name: site for site in kept}
    networks = dict.fromkeys(plan.lookups, network)
    blueprint = SitesBlueprint(plan, by_name, captures, networks, loosest, parts.in_store)
    model = guarded_on_trial(job.opened, blueprint, captures[level].folder)
    session = open_session(model, captures[level].folder, session_options(threads=1), scratch=True)
    size = int(footprint(kept, [level], True).total(captures[level].lengths))
    return [Explored(level, grid, setting, literal, session, size)]
