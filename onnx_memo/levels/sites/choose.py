"""Choose a plan on the fit part of the sample: what saves most within the tolerance.

Each fit request reuses its nearest entry of the store part. What every site damages and saves alone is
measured; candidates drop the sites that damage most for what they save. For each candidate the loosest
threshold at which the fit part keeps the tolerance gives the time to expect.

What a plan takes to try is kept low. Fewer sites save less a hit and hit no less often, so most numbers of
sites need no trial once a few were tried. Key networks and trial models are shared between plans. Requests
are run from the nearest to the farthest, and no farther than the tolerance is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median_low

import numpy as np
import numpy.typing as npt

from onnx_memo.data.parts import Parts
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.graph.site import Site
from onnx_memo.job import Job
from onnx_memo.keys.learned import fit_learned, squared_distances
from onnx_memo.keys.network import KeyNetwork
from onnx_memo.levels.sites.capture import Capture
from onnx_memo.levels.sites.observe import Observer
from onnx_memo.levels.sites.plan import Plan
from onnx_memo.levels.sites.trial import Trial, site_costs
from onnx_memo.progress import Progress
from onnx_memo.proof.answer import Answer
from onnx_memo.proof.goal import Goal
from onnx_memo.proof.measure import Seen
from onnx_memo.proof.promise import provable
from onnx_memo.proof.thresholds import loosest_likely, loosest_threshold, tolerable

DAMAGE_LIMIT = 16  # requests of the fit part that judge single sites
COST_LIMIT = 8  # and how many are profiled
WORTH = 0.002  # a site's saving, of the model's time, below which it is not guarded
STEPS = 12  # numbers of sites that may be tried
BETTER = 0.002  # what a plan must promise to save more than the best, of the model's time, to be tried

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Candidate:
    """A plan that was tried on the fit part.

    Attributes:
        ratio: the time to expect, relative to the original's, by what ONNX Runtime's profile says of sites.
        hit_rate: share of the fit requests that are reused at `most`.
        most: the loosest threshold at which the fit part keeps the tolerance.
        distances: of the fit requests to their nearest entries.
        network: the key network of the lookup.
        errors: of the fit requests at `most`; 0 where nothing is reused.
    """

    plan: Plan
    ratio: float
    hit_rate: float
    most: float
    distances: Floats = field(repr=False)
    network: KeyNetwork = field(repr=False)
    errors: Floats = field(repr=False, default_factory=lambda: np.zeros(1))


class Chooser:
    """Tries plans on the fit part.

    Attributes:
        costs: microseconds to compute and to reuse, by level and site, as far as they were measured.
    """

    def __init__(
        self,
        opened: OpenedModel,
        sites: Sequence[Site],
        goal: Goal,
        parts: Parts,
        original_us: float,
    ) -> None:
        """The requests of the fit part of `parts` reuse what is stored of its store part.

        `original_us`: microseconds that the original takes for a request.
        """
        self.opened, self.sites, self.goal = opened, {site.name: site for site in sites}, goal
        self.in_store, self.requests = parts.in_store, parts.fit
        self.held_out = len(parts.held_out)
        self.provable = provable(goal.promise, self.held_out)
        self.original_us = original_us
        self.wanted: list[Answer] = []
        self.means: dict[str, npt.NDArray[np.float32]] = {}  # of the requests, by site
        self.lengths = np.zeros(0, np.int64)
        self.costs: dict[tuple[str, str], tuple[float, float]] = {}
        self.first = ""  # the level that was tried first
        self.order: list[str] = []  # the sites by rising damage for what they save
        self.best = 0.0  # the largest share of the time that a plan promised to save
        self.networks: dict[tuple[str, str], KeyNetwork] = {}  # by the level and site of the lookup
        self.trials: dict[tuple[tuple[str, str], ...], Trial] = {}  # by the sites and levels they allow

    def observe(self, observer: Observer, job: Job) -> None:
        """Take the answers that count and the segment means for the fit part."""
        advance = job.progress("running the fit part", len(self.requests))
        means, lengths = [], []
        for at, feeds in enumerate(self.requests.arrays):
            outputs, by_site, length = observer.run_all(feeds)
            self.wanted.append(job.answer(outputs, self.requests, at))
            means.append(by_site)
            lengths.append(length)
            advance()
        self.means = {name: np.stack([by_site[name] for by_site in means]) for name in self.sites}
        self.lengths = np.asarray(lengths, np.int64)

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
        paying = [name for name in self.order if self.saving(self.first, name) > 0]
        steps = min(STEPS, len(paying))
        plans = []
        for size in sorted({round(len(paying) * step / max(steps, 1)) for step in range(steps + 1)}):
            levels = dict.fromkeys(paying[:size], self.first)
            if level != self.first:
                levels |= {n: level for n in names if n not in levels and self.saving(level, n) > 0}
                if level not in levels.values():
                    continue
            if levels:
                plans.append(Plan({name: levels[name] for name in self.sites if name in levels}, shared=True))
        return self._search(plans, captures, progress)

    def _search(
        self, plans: Sequence[Plan], captures: Mapping[str, Capture], progress: Progress
    ) -> list[Candidate]:
        """Tries those of `plans`, from few sites to many, that may still save more than the best so far.

        The more sites are reused, the fewer requests can be. So a plan hits no more often than one with
        fewer sites, and no tried plan with more sites hits more often than it.
        """
        tried: dict[int, Candidate] = {}
        usable = float((self.lengths[:, None] == self._stored_lengths(captures)).any(axis=1).mean())
        saved = [sum(self.saving(level, name) for name, level in plan.levels.items()) for plan in plans]

        def most(at: int) -> float:
            """The largest share of the time that a plan may save."""
            hits = min((tried[n].hit_rate for n in tried if n < at), default=usable)
            return hits * saved[at] / self.original_us

        open_ = [len(plans) - 1] if plans else []
        while open_:
            at = median_low(open_)
            tried[at] = self.judge(plans[at], captures, progress)
            self.best = max(self.best, 1 - tried[at].ratio)
            open_ = [n for n in range(len(plans)) if n not in tried and most(n) > self.best + BETTER]
        return [tried[n] for n in sorted(tried, reverse=True)]

    def _stored_lengths(self, captures: Mapping[str, Capture]) -> npt.NDArray[np.int64]:
        """The lengths of which there are entries."""
        return np.unique(next(iter(captures.values())).lengths[self.in_store])

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
        pairs = [(self.requests.arrays[at], int(entries[at])) for at in usable[:COST_LIMIT]]
        costs = site_costs(self.opened, whole, captures, pairs)
        self.costs.update({(level, name): cost for name, cost in costs.items()})
        if not self.order:
            self.first = level
            damage = self.damage(self._trial(whole, captures)[0], entries, usable[:DAMAGE_LIMIT], progress)
            worth = [damage[at] / max(self.saving(level, name), 1e-9) for at, name in enumerate(names)]
            self.order = [names[at] for at in np.argsort(worth)]
        return True

    def judge(self, plan: Plan, captures: Mapping[str, Capture], progress: Progress) -> Candidate:
        """What a plan promises: the loosest threshold within the tolerance, its hits and its time."""
        network = self.learn(plan, captures)
        first = plan.lookups[0]
        entries, distances = self.nearest(network, captures[plan.levels[first]], self.sites[first])
        trial, enabled = self._trial(plan, captures)
        measure = self.goal.judge
        missed = [measure.own(want) for want in self.wanted]
        forced = [replace(judged, error=np.inf) for judged in missed]
        failures = 0
        advance = progress(f"trying {plan}", len(entries))
        for at in np.argsort(distances, kind="stable"):
            advance()
            # Farther requests than the last that fails cannot be reused anyhow.
            if entries[at] >= 0 and failures <= tolerable(self.provable, len(entries)):
                have = trial.run(self.requests.arrays[at], int(entries[at]), enabled)
                forced[at] = measure.judge(self.wanted[at], have)
                failures += not forced[at].error <= self.provable.tolerance
        answers = Seen.of(forced), Seen.of(missed)
        errors = answers[0].errors
        if measure.about_many or answers[1].errors.any():  # or misses err: by a reference's answers
            most = loosest_likely(measure, self.goal.promise, self.held_out, distances, *answers)
        else:
            most = loosest_threshold(self.provable, distances, errors)
        reused = np.isfinite(distances) & (distances <= most)
        hits = float(reused.mean())
        saved = sum(self.saving(level, name) for name, level in plan.levels.items())
        ratio = max(1 - hits * saved / self.original_us, 0.0)  # a profile may see more than there is
        return Candidate(
            plan, ratio, hits, most, distances, network, np.where(reused, errors, answers[1].errors)
        )

    def learn(self, plan: Plan, captures: Mapping[str, Capture]) -> KeyNetwork:
        """The key network of a plan's lookup, fitted on the store part.

        It predicts the error over all sites of the first plan that looks up there, at that level. Plans with
        fewer sites share it.
        """
        first = plan.lookups[0]
        captured = captures[plan.levels[first]]
        if (captured.level, first) not in self.networks:
            parts = []
            for name, level in plan.levels.items():
                sketches = captures[level].sketches(self.sites[name])[self.in_store].astype(np.float64)
                size = max(float(np.sqrt(np.square(sketches).sum(axis=1).mean())), 1e-30)
                parts.append((sketches / (size * np.sqrt(len(plan.levels)))).astype(np.float32))
            means, lengths = captured.means(self.sites[first])[self.in_store], captured.lengths[self.in_store]
            network = fit_learned(means, np.concatenate(parts, axis=1), lengths)
            self.networks[captured.level, first] = network
        return self.networks[captured.level, first]

    def _trial(self, plan: Plan, captures: Mapping[str, Capture]) -> tuple[Trial, npt.NDArray[np.bool_]]:
        """A trial model that allows the plan, and which of its sites are the plan's."""
        wanted = plan.levels.items()
        for allowed, trial in self.trials.items():
            if set(wanted) <= set(allowed):
                return trial, np.asarray([name in plan.levels for name in trial.names])
        trial = Trial(self.opened, plan, captures)
        self.trials[tuple(wanted)] = trial
        return trial, np.ones(len(trial.names), np.bool_)

    def nearest(
        self, network: KeyNetwork, captured: Capture, site: Site
    ) -> tuple[npt.NDArray[np.int64], Floats]:
        """For each request of the fit part its nearest entry of the store part, and the distance."""
        keys, queries = network(captured.means(site)), network(self.means[site.name])
        return nearest_entries(queries, self.lengths, keys, captured.lengths, self.in_store)

    def damage(
        self,
        trial: Trial,
        entries: npt.NDArray[np.int64],
        requests: npt.NDArray[np.int64],
        progress: Progress,
    ) -> Floats:
        """The mean error that each site of a trial causes alone, against the original."""
        errors = np.zeros(len(trial.names))
        advance = progress("judging sites", len(errors))
        for site in range(len(errors)):
            alone = np.arange(len(errors)) == site
            for at in requests:
                have = trial.run(self.requests.arrays[at], int(entries[at]), alone)
                errors[site] += self.goal.judge.error(self.wanted[at].original, have) / len(requests)
            advance()
        return errors


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
    for length in np.unique(lengths):
        asking, comparable = lengths == length, np.flatnonzero(allowed & (key_lengths == length))
        if len(comparable):
            squared = squared_distances(queries[asking], keys[comparable])
            entries[asking] = comparable[squared.argmin(axis=1)]
            distances[asking] = np.sqrt(squared.min(axis=1))
    return entries, distances
