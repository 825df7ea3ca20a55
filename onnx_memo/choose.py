"""Choose a plan on the fit part of the sample: what saves most within the tolerance.

Each fit request reuses its nearest entry of the store part. What every site damages and saves alone is
measured; candidates drop the sites that damage most for what they save. For each candidate the loosest
threshold at which the fit part keeps the tolerance gives the time to expect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from onnx_memo.capture import Capture
from onnx_memo.goal import Goal
from onnx_memo.graph.sites import Site
from onnx_memo.inputs import Samples
from onnx_memo.keys import KeyNetwork
from onnx_memo.learn import fit_learned
from onnx_memo.observe import Observer
from onnx_memo.plan import Plan
from onnx_memo.progress import Progress
from onnx_memo.promise import Promise, failure_p_value, loosest_threshold
from onnx_memo.trial import Outputs, Trial, site_costs

FIT_LIMIT = 150  # requests of the fit part that plans are tried with
DAMAGE_LIMIT = 24  # of these, how many judge single sites
COST_LIMIT = 8  # and how many are profiled
WORTH = 0.002  # a site's saving, of the model's time, below which it is not guarded

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Candidate:
    """A plan that was tried on the fit part.

    Attributes:
        ratio: the time to expect, relative to the original's.
        hit_rate: share of the fit requests that are reused at `most`.
        most: the loosest threshold at which the fit part keeps the tolerance.
        distances: of the fit requests to their nearest entries.
        network: the key network of the lookup.
    """

    plan: Plan
    ratio: float
    hit_rate: float
    most: float
    distances: Floats = field(repr=False)
    network: KeyNetwork = field(repr=False)


class Chooser:
    """Tries plans on the fit part.

    Attributes:
        costs: microseconds to compute and to reuse, by level and site, as far as they were measured.
    """

    def __init__(
        self,
        path: Path,
        sites: Sequence[Site],
        goal: Goal,
        stored: Samples,
        in_store: npt.NDArray[np.bool_],
        fit: npt.NDArray[np.int64],
        held_out: int,
        original_us: float,
    ) -> None:
        """`stored` are the captured samples, of which `in_store` may be reused and `fit` are requests.

        `held_out` is the number of requests that the choice will have to be proven with.
        """
        self.path, self.sites, self.goal = path, {site.name: site for site in sites}, goal
        self.stored, self.in_store, self.fit = stored, in_store, fit[:FIT_LIMIT]
        self.provable = provable(goal.promise, held_out)
        self.original_us = original_us
        self.wanted: list[Outputs] = []
        self.costs: dict[tuple[str, str], tuple[float, float]] = {}
        self.first = ""  # the level that was tried first
        self.order: list[str] = []  # the sites by rising damage for what they save

    def observe(self, observer: Observer, progress: Progress) -> None:
        """Take the original's outputs for the fit part."""
        advance = progress("running the fit part", len(self.fit))
        for at in self.fit:
            self.wanted.append(observer.run(self.stored.arrays[at])[0])
            advance()

    def candidates(self, captures: Mapping[str, Capture], progress: Progress) -> list[Candidate]:
        """The plans that the newest of `captures` allows, each with what it promises on the fit part.

        With one level: all its sites that pay, then fewer, those first that damage least for what they
        save. With a second level it takes the sites that the first one leaves out.
        """
        level = list(captures)[-1]
        names = [
            n for n, site in self.sites.items() if level in site.levels and n not in captures[level].unfit
        ]
        # One lookup counts the tokens of one mask.
        names = [n for n in names if self.sites[n].mask is self.sites[names[0]].mask]
        if not names or not self._measure(level, names, captures, progress):
            return []
        found = []
        steps = 8 if len(captures) == 1 else 4
        paying = [name for name in self.order if self.saving(self.first, name) > 0]
        sizes = {round(len(paying) * step / steps) for step in range(steps + 1)}
        for size in sorted(sizes, reverse=True):
            levels = dict.fromkeys(paying[:size], self.first)
            if level != self.first:
                levels |= {n: level for n in names if n not in levels and self.saving(level, n) > 0}
                if level not in levels.values():
                    continue
            if not levels:
                continue
            plan = Plan({name: levels[name] for name in self.sites if name in levels}, shared=True)
            found.append(self.judge(plan, captures, progress))
            if found[-1].hit_rate == 1.0:
                break  # reusing less would only save less
        return found

    def saving(self, level: str, name: str) -> float:
        """Microseconds that a hit saves at a site; 0 where that is not clearly more than nothing."""
        compute, reuse = self.costs.get((level, name), (0.0, 0.0))
        return compute - reuse if compute - reuse > WORTH * self.original_us else 0.0

    def _measure(
        self, level: str, names: list[str], captures: Mapping[str, Capture], progress: Progress
    ) -> bool:
        """Measure costs at a level, and damages at the first one; False if nothing is comparable."""
        whole = Plan(dict.fromkeys(names, level), shared=True)
        network = self.learn(whole, captures)
        entries, _ = self.nearest(network, captures[level], self.sites[names[0]])
        usable = np.flatnonzero(entries >= 0)
        if not len(usable):
            return False
        pairs = [(self.stored.arrays[self.fit[at]], int(entries[at])) for at in usable[:COST_LIMIT]]
        costs = site_costs(self.path, whole, captures, pairs)
        self.costs.update({(level, name): cost for name, cost in costs.items()})
        if not self.order:
            self.first = level
            trial = Trial(self.path, whole, captures)
            damage = self.damage(trial, entries, usable[:DAMAGE_LIMIT], progress)
            worth = [damage[at] / max(self.saving(level, name), 1e-9) for at, name in enumerate(names)]
            self.order = [names[at] for at in np.argsort(worth)]
        return True

    def judge(self, plan: Plan, captures: Mapping[str, Capture], progress: Progress) -> Candidate:
        """What a plan promises: the loosest threshold within the tolerance, its hits and its time."""
        network = self.learn(plan, captures)
        first = plan.lookups[0]
        entries, distances = self.nearest(network, captures[plan.levels[first]], self.sites[first])
        trial = Trial(self.path, plan, captures)
        enabled = np.ones(len(plan.levels), np.bool_)
        errors = np.zeros(len(entries))
        advance = progress(f"trying {plan}", len(entries))
        for at, entry in enumerate(entries):
            if entry >= 0:
                have = trial.run(self.stored.arrays[self.fit[at]], int(entry), enabled)
                errors[at] = self.goal.error(self.wanted[at], have)
            advance()
        most = loosest_threshold(self.provable, distances, errors)
        hits = float((np.isfinite(distances) & (distances <= most)).mean())
        saved = sum(self.saving(level, name) for name, level in plan.levels.items())
        return Candidate(plan, 1 - hits * saved / self.original_us, hits, most, distances, network)

    def learn(self, plan: Plan, captures: Mapping[str, Capture]) -> KeyNetwork:
        """The plan's key network, fitted on the store part: predicts the error over all its sites."""
        parts = []
        for name, level in plan.levels.items():
            sketches = captures[level].sketches(self.sites[name])[self.in_store].astype(np.float64)
            size = max(float(np.sqrt(np.square(sketches).sum(axis=1).mean())), 1e-30)
            parts.append(sketches / (size * np.sqrt(len(plan.levels))))
        first = plan.lookups[0]
        captured = captures[plan.levels[first]]
        means = captured.means(self.sites[first])[self.in_store]
        return fit_learned(
            means, np.concatenate(parts, axis=1).astype(np.float32), captured.lengths[self.in_store]
        )

    def nearest(
        self, network: KeyNetwork, captured: Capture, site: Site
    ) -> tuple[npt.NDArray[np.int64], Floats]:
        """For each request of the fit part its nearest entry of the store part, and the distance."""
        keys = network(captured.means(site))
        return nearest_entries(
            keys[self.fit], captured.lengths[self.fit], keys, captured.lengths, self.in_store
        )

    def damage(
        self,
        trial: Trial,
        entries: npt.NDArray[np.int64],
        requests: npt.NDArray[np.int64],
        progress: Progress,
    ) -> Floats:
        """The mean error that each site of a trial causes alone."""
        errors = np.zeros(len(trial.names))
        advance = progress("judging sites", len(errors))
        for site in range(len(errors)):
            alone = np.arange(len(errors)) == site
            for at in requests:
                have = trial.run(self.stored.arrays[self.fit[at]], int(entries[at]), alone)
                errors[site] += self.goal.error(self.wanted[at], have) / len(requests)
            advance()
        return errors


def provable(promise: Promise, requests: int) -> Promise:
    """What the fit part has to keep, so that as good a held-out part of `requests` proves the promise.

    That is stricter than the promise itself: a proof allows 3 of 180 to fail where 5 % may.
    """
    allowed = 0
    while failure_p_value(allowed + 1, requests, promise.share) <= promise.delta:
        allowed += 1
    return Promise(promise.tolerance, 1 - max(allowed, 0.5) / requests, promise.confidence)


def nearest_entries(
    queries: npt.NDArray[np.float32],
    lengths: npt.NDArray[np.int64],
    keys: npt.NDArray[np.float32],
    key_lengths: npt.NDArray[np.int64],
    allowed: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.int64], Floats]:
    """The nearest allowed entry of each query's own length, as `MemoLookup` finds it; -1 and inf if none."""
    entries = np.full(len(queries), -1, np.int64)
    distances = np.full(len(queries), np.inf)
    for at, query in enumerate(queries):
        comparable = np.flatnonzero(allowed & (key_lengths == lengths[at]))
        if len(comparable):
            squared = np.square(keys[comparable] - query).sum(axis=1)
            entries[at] = comparable[squared.argmin()]
            distances[at] = np.sqrt(squared.min())
    return entries, distances
