"""Decide which attention sites to guard at the levels `output` and `probs`.

1. On the fit part plans are tried (`choose`). The level `probs` saves less and needs a second
   capture, so it is tried, at the sites that `output` leaves out, only where `output` alone saves little.
2. The plan that saves most is tested on the held-out part, with store and fit part as the store:
   thresholds from strict to loose, until the proof fails (`onnx_memo.proof.promise`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_memo.data.parts import Parts
from onnx_memo.graph.sites import LEVELS, Site
from onnx_memo.levels.base import PAYS, Alternative, NothingPays, Proposal, Verdict, high_error
from onnx_memo.levels.sites.capture import Capture, capture
from onnx_memo.levels.sites.choose import Candidate, Chooser
from onnx_memo.levels.sites.layout import SitesBlueprint
from onnx_memo.levels.sites.observe import Observer
from onnx_memo.levels.sites.prove import run_held_out
from onnx_memo.levels.sites.trial import Trial
from onnx_memo.progress import Progress
from onnx_memo.proof.goal import Goal
from onnx_memo.proof.promise import calibrate, candidate_thresholds, curve
from onnx_memo.store.budget import Budget, footprint

ENOUGH = 0.7  # a ratio that a second level could hardly better
STRICTNESS = np.linspace(0, 1, 21)


def propose_sites(
    path: Path,
    sites: Sequence[Site],
    parts: Parts,
    goal: Goal,
    level: str,
    original_us: float,
    scratch: Path,
    progress: Progress,
    *,
    max_bytes: int | None,
    notes: list[str],
) -> Proposal:
    """Find the plan that saves most time within the tolerance.

    Args:
        path: the original model, in which `sites` were found.
        sites: that may be guarded.
        parts: the sample.
        goal: the promise.
        level: `auto`, or the only level to use.
        original_us: microseconds that the original takes for a request.
        scratch: an empty folder for captured tensors.
        progress: told of the steps.
        max_bytes: the most that the memo data may take; None: no bound.
        notes: what people should know is added to them.

    Raises:
        MemoError: `max_bytes` holds not a single input.
        NothingPays: with the reason.
    """
    levels = list(reversed(LEVELS)) if level == "auto" else [level]
    if max_bytes is not None:
        size = footprint(sites, levels[:1], True)
        budget = Budget(path, sites[0], parts.stored, size, max_bytes, progress)
        parts = parts.within(budget, notes)
        lengths = np.asarray([parts.stored.size(at) for at in range(len(parts.stored))])
        if footprint(sites, levels, True).total(lengths) > max_bytes:
            levels = levels[:1]
    held_out, stored = parts.held_out, parts.stored
    observer = Observer(path, sites)
    chooser = Chooser(path, sites, goal, stored, parts.in_store, parts.fit, len(held_out), original_us)
    chooser.observe(observer, progress)
    captures: dict[str, Capture] = {}
    candidates: list[Candidate] = []
    for wanted in levels:
        if min((c.ratio for c in candidates), default=1.0) <= ENOUGH:
            break
        if candidates and not any(np.isfinite(c.distances).any() for c in candidates):
            break
        advance = progress(f"capturing {wanted}", len(stored))
        captures[wanted] = capture(path, sites, wanted, stored, scratch, advance)
        candidates += chooser.candidates(captures, progress)
    evidence = {"alternatives": [asdict(_alternative(candidate)) for candidate in candidates]}
    if not candidates:
        raise NothingPays(
            "no request of the fit part has as many tokens as a stored one, so none could be reused; "
            "more inputs, or inputs of equal length, would change that",
            evidence,
        )
    chosen = min(candidates, key=lambda c: c.ratio)
    if chosen.ratio > PAYS:
        raise NothingPays(_why_not(chosen, goal), evidence)
    alternatives = [_alternative(candidate) for candidate in candidates]

    def proven() -> Verdict:
        verdict = _prove(path, sites, parts, goal, chosen, captures, observer, progress)
        return replace(
            verdict, alternatives=alternatives, sites=_site_rows(chosen, chooser.costs, verdict.hits)
        )

    return Proposal("output and probs", chosen.ratio, alternatives, proven)


def _prove(
    path: Path,
    sites: Sequence[Site],
    parts: Parts,
    goal: Goal,
    chosen: Candidate,
    captures: dict[str, Capture],
    observer: Observer,
    progress: Progress,
) -> Verdict:
    """The loosest threshold of the chosen plan that the held-out part proves."""
    trial = Trial(path, chosen.plan, captures)
    by_name = {site.name: site for site in sites}
    outcome = run_held_out(chosen, captures, by_name, parts.held_out, observer, trial, goal, progress)
    grid = candidate_thresholds(chosen.distances, chosen.most)
    share = len(parts.held_out) / sum(map(len, (parts.split.store, parts.split.fit, parts.split.held_out)))
    calibration = calibrate(goal.promise, grid, outcome.distances, outcome.errors, held_share=share)
    threshold = calibration.threshold
    if threshold is None or not calibration.hit_rate:
        reason = f"the held-out part does not prove the promise at any threshold; {_why_not(chosen, goal)}"
        raise NothingPays(reason, {})
    hits = outcome.distances <= threshold
    scaled = [float(s) * threshold if s > 0 else -1.0 for s in STRICTNESS]
    points = curve(outcome.distances, outcome.errors, scaled, goal.promise.tolerance)
    networks = dict.fromkeys(chosen.plan.lookups, chosen.network)
    return Verdict(
        blueprint=SitesBlueprint(chosen.plan, by_name, captures, networks, threshold),
        parts=parts,
        chosen=str(chosen.plan),
        ratio=chosen.ratio,
        alternatives=[],
        calibration=calibration,
        hits=hits,
        distances=outcome.distances,
        errors=np.where(hits, outcome.errors, 0.0),
        token_errors=np.where(hits, outcome.token_errors, 0.0),
        rows=None,
        threshold=threshold,
        strictness=[
            {"strictness": float(s), **{k: v for k, v in point.items() if k != "threshold"}}
            for s, point in zip(STRICTNESS, points, strict=True)
        ],
        sites=[],
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
) -> list[dict[str, Any]]:
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
            {
                "name": name,
                "level": level,
                "hit_rate": hit_rate if guarded else 0.0,
                "saving_us": hit_rate * compute if guarded else 0.0,
                "overhead_us": hit_rate * reuse if guarded else 0.0,
                "reason": reason,
            }
        )
    return rows
