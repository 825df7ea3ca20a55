"""Decide which attention sites to guard at the levels `output` and `probs`.

1. On the fit part plans are tried (`choose`). The level `probs` saves less and needs a second
   capture, so it is tried, at the sites that `output` leaves out, only where `output` alone saves little.
   The one that seems to save most is raced against the original (`race`).
2. That plan is tested on the held-out part, with store and fit part as the store:
   thresholds from strict to loose, until the proof fails (`onnx_memo.proof.sequence`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from onnx_memo.data.parts import Parts
from onnx_memo.graph.site import Site
from onnx_memo.levels.base import PAYS, Brief, Proposal, SiteFigures, StrictnessPoint, Verdict
from onnx_memo.levels.sites.capture import Capture, capture
from onnx_memo.levels.sites.choose import Candidate, Chooser
from onnx_memo.levels.sites.layout import SitesBlueprint, footprint
from onnx_memo.levels.sites.observe import Observer
from onnx_memo.levels.sites.prove import Outcome, run_held_out
from onnx_memo.levels.sites.race import race_plans
from onnx_memo.levels.ways import Alternative, NothingPays, high_error
from onnx_memo.proof.goal import Goal
from onnx_memo.proof.sequence import Calibration
from onnx_memo.proof.thresholds import calibrate, candidate_thresholds, curve
from onnx_memo.store.budget import Budget, within

SECOND_LEVEL_FROM = 0.7  # a ratio that a second level could hardly better
STRICTNESS_STEPS = np.linspace(0, 1, 21)  # that the report shows


def propose_sites(brief: Brief, sites: Sequence[Site], levels: Sequence[str]) -> Proposal:
    """Find the plan that saves most time within the tolerance.

    Args:
        brief: what to decide for.
        sites: that may be guarded.
        levels: at which, the one that saves most first.

    Raises:
        MemoError: `max_bytes` holds not a single input.
        NothingPays: with the reason.
    """
    job, goal = brief.job, brief.goal
    parts, levels = _affordable(brief, sites, levels)
    observer = Observer(job.opened, sites)
    chooser = Chooser(job.opened, sites, goal, parts, brief.original_us)
    chooser.observe(observer, job)
    captures: dict[str, Capture] = {}
    candidates: list[Candidate] = []
    for wanted in levels:
        if min((c.ratio for c in candidates), default=1.0) <= SECOND_LEVEL_FROM:
            break
        if candidates and not any(np.isfinite(c.distances).any() for c in candidates):
            break
        advance = job.progress(f"capturing {wanted}", len(parts.stored))
        captures[wanted] = capture(job.opened, sites, wanted, parts.stored, job.scratch, advance)
        candidates += chooser.candidates(captures, job.progress)
    if candidates:
        chosen, candidates = race_plans(brief, parts, candidates, captures)
    alternatives = [_alternative(candidate) for candidate in candidates]
    if not candidates:
        raise NothingPays(
            "no request of the fit part has as many tokens as a stored one, so none could be reused; "
            "more inputs, or inputs of equal length, would change that",
            alternatives,
        )
    if chosen.ratio > PAYS:
        raise NothingPays(_why_not(chosen, goal), alternatives)

    def prove(tried: Sequence[Alternative]) -> Verdict:
        outcome = run_held_out(chosen, captures, chooser.sites, parts.held_out, observer, job, goal)
        calibration = _calibrate(chosen, outcome, goal)
        return _verdict(chosen, outcome, calibration, chooser, parts, captures, tried)

    return Proposal("output and probs", chosen.ratio, alternatives, prove)


def _affordable(brief: Brief, sites: Sequence[Site], levels: Sequence[str]) -> tuple[Parts, Sequence[str]]:
    """As much of the sample as the memo data may hold, and the levels that then may be tried."""
    job, parts = brief.job, brief.parts
    if job.max_bytes is None:
        return parts, levels
    size = footprint(sites, levels[:1], True)
    parts = within(parts, Budget(job.opened, parts.stored, size, job.max_bytes, job.progress), job.notes)
    lengths = np.asarray([parts.stored.extent(at) for at in range(len(parts.stored))])
    fits = footprint(sites, levels, True).total(lengths) <= job.max_bytes
    return parts, levels if fits else levels[:1]


def _calibrate(chosen: Candidate, outcome: Outcome, goal: Goal) -> Calibration:
    """The loosest threshold of the chosen plan that the held-out part proves.

    Raises:
        NothingPays: there is none, or nothing is reused at it.
    """
    grid = candidate_thresholds(chosen.distances, chosen.most)
    forced, missed = outcome.forced.seen, outcome.missed.seen
    calibration = calibrate(goal.promise, goal.judge, grid, outcome.distances, forced, missed)
    if calibration.setting is None or not calibration.hit_rate:
        raise NothingPays(
            f"the held-out part does not prove the promise at any threshold; {_why_not(chosen, goal)}"
        )
    return calibration


def _verdict(
    chosen: Candidate,
    outcome: Outcome,
    calibration: Calibration,
    chooser: Chooser,
    parts: Parts,
    captures: Mapping[str, Capture],
    alternatives: Sequence[Alternative],
) -> Verdict:
    threshold = calibration.setting
    assert threshold is not None, "it was proven"
    hits = outcome.distances <= threshold
    scaled = [float(s) * threshold if s > 0 else -1.0 for s in STRICTNESS_STEPS]
    forced, missed = outcome.forced, outcome.missed
    seen, tolerance = forced.seen.where(hits, missed.seen), chooser.goal.promise.tolerance
    points = curve(outcome.distances, forced.seen.errors, scaled, tolerance, missed.seen.errors)
    networks = dict.fromkeys(chosen.plan.lookups, chosen.network)
    return Verdict(
        goal=chooser.goal,
        blueprint=SitesBlueprint(chosen.plan, chooser.sites, captures, networks, threshold),
        parts=parts,
        chosen=str(chosen.plan),
        ratio=chosen.ratio,
        alternatives=alternatives,
        calibration=calibration,
        hits=hits,
        distances=outcome.distances,
        errors=seen.errors,
        decided=forced.decided.where(hits, missed.decided),
        token_errors=np.where(hits, forced.token_errors, missed.token_errors),
        rows=None,
        threshold=threshold,
        strictness=[StrictnessPoint(float(s), p) for s, p in zip(STRICTNESS_STEPS, points, strict=True)],
        sites=_site_rows(chosen, chooser.costs, hits),
    )


def _alternative(candidate: Candidate) -> Alternative:
    return Alternative(
        name=str(candidate.plan),
        level=" and ".join(sorted(set(candidate.plan.levels.values()))),
        ratio=candidate.ratio,
        hit_rate=candidate.hit_rate,
        error=high_error(candidate.errors),
        reason=f"{candidate.hit_rate:.0%} of the fit part within the tolerance",
    )


def _why_not(best: Candidate, goal: Goal) -> str:
    comparable = best.distances[np.isfinite(best.distances)]
    return (
        f"best plan: {best.plan}, {1 - best.ratio:.1%} less time; {best.hit_rate:.0%} of the fit part "
        f"could be reused at the tolerance {goal.promise.tolerance:g} ({goal.metric}). {len(comparable)} of "
        f"{len(best.distances)} requests found an entry of their length, at a median distance of "
        f"{np.median(comparable):.3g} where {best.most:.3g} would be near enough. More of the same "
        "traffic in the sample, or a larger tolerance, would change that"
    )


def _site_rows(
    chosen: Candidate, costs: dict[tuple[str, str], tuple[float, float]], hits: npt.NDArray[np.bool_]
) -> list[SiteFigures]:
    """Each site of the costs that were measured: microseconds saved and spent by a mean request."""
    rows = []
    hit_rate = float(hits.mean())
    for name in dict.fromkeys(name for _, name in costs):
        level = chosen.plan.levels.get(name)
        measured = level or next(level for level, site in costs if site == name)
        compute, reuse = costs[measured, name]
        guarded = level is not None
        reason = f"a hit takes {reuse:.0f} us in place of {compute:.0f} us at '{measured}'"
        if not guarded:
            reason = f"not guarded: {reason}, which is not worth its error"
        rows.append(
            SiteFigures(
                name=name,
                level=level,
                hit_rate=hit_rate if guarded else 0.0,
                saving_us=hit_rate * compute if guarded else 0.0,
                overhead_us=hit_rate * reuse if guarded else 0.0,
                reason=reason,
            )
        )
    return rows
