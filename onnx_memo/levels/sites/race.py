"""Race plans against the original, as they would be built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from onnx_memo.data.parts import Parts
from onnx_memo.levels.base import Brief
from onnx_memo.levels.sites.capture import Capture
from onnx_memo.levels.sites.choose import Candidate
from onnx_memo.levels.sites.layout import SitesBlueprint
from onnx_memo.levels.trial import guarded_on_trial
from onnx_memo.runtime import session_options
from onnx_memo.sessions import Raced, open_file, open_session, race, runner

TIMED, ROUNDS = 16, 3  # requests that are timed, and how often


def race_plans(
    brief: Brief, parts: Parts, candidates: Sequence[Candidate], captures: Mapping[str, Capture]
) -> tuple[Candidate, list[Candidate]]:
    """The plan to take, and all of them; those that were raced have the ratio that was measured.

    What the profile says of sites leaves out their lookups, and adds up what may overlap. So the plan that it
    prefers is raced against the original; and if one with fewer sites is, by the profile, slower by no more
    than that measurement is uncertain, it is raced, too, and taken unless it is slower by more than that.
    """
    best = min(candidates, key=lambda c: c.ratio)
    measured = _race(brief, parts, best, captures)
    found = {id(best): replace(best, ratio=measured.ratio)}
    taken = best
    near = [c for c in candidates if len(c.plan.levels) < len(best.plan.levels)]
    near = [c for c in near if c.ratio <= best.ratio + measured.noise]
    if near:
        simpler = min(near, key=lambda c: len(c.plan.levels))
        again = _race(brief, parts, simpler, captures)
        found[id(simpler)] = replace(simpler, ratio=again.ratio)
        if again.ratio <= measured.ratio + measured.noise + again.noise:
            taken = simpler
            brief.job.notes.append(
                f"{simpler.plan} is taken: {best.plan} gained no more than the timing is uncertain "
                f"({measured.ratio:.3f} of the original's time, for {again.ratio:.3f})"
            )
    return found[id(taken)], [found.get(id(c), c) for c in candidates]


def _race(brief: Brief, parts: Parts, candidate: Candidate, captures: Mapping[str, Capture]) -> Raced:
    """A plan at its threshold against the original, on some of the fit part; the store part is found."""
    opened, sites = brief.job.opened, {site.name: site for site in brief.job.opened.findings.sites}
    networks = dict.fromkeys(candidate.plan.lookups, candidate.network)
    blueprint = SitesBlueprint(candidate.plan, sites, captures, networks, candidate.most, parts.in_store)
    folder = next(iter(captures.values())).folder
    options = [session_options(native=False, threads=1), session_options(threads=1)]
    model = guarded_on_trial(opened, blueprint, folder)
    runners = [
        runner(open_file(opened.path, options[0])),
        runner(open_session(model, folder, options[1], scratch=True)),
    ]
    some = parts.fit.arrays[:: max(1, len(parts.fit) // TIMED)]
    race(runners, some[:4], 1)  # the first runs of a session allocate
    return race(runners, some, ROUNDS)
