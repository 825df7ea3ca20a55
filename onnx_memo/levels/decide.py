"""Decide how to guard a model, so that the promise is kept and time is saved.

Levels make their proposals in order. One that could hardly save more than what was proposed is not asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnxruntime as ort

from onnx_memo.data.parts import Parts, make_parts
from onnx_memo.job import Job
from onnx_memo.levels.base import Alternative, Brief, Level, NothingPays, Proposal, Use, Verdict
from onnx_memo.proof.goal import Goal, Outputs
from onnx_memo.runtime import session_options
from onnx_memo.sessions import open_file, race, run_model, runner

ROUNDS = 3  # how often the original is timed
TIMED = 16  # on so many requests
SCORES = 512  # inputs of which the original's scores are taken, where an output is one number


def decide(job: Job, uses: Sequence[tuple[Level, Use]]) -> Verdict:
    """Find what saves most time and keeps the promise.

    Args:
        job: with a goal.
        uses: the levels that the model allows.

    Raises:
        MemoError: the sample is too small for the promise, or `max_bytes` for a single input.
        NothingPays: with the reason.
    """
    assert job.goal is not None, "a decision is made for a goal"
    parts = make_parts(job.samples, job.goal.promise)
    session = open_file(job.path, session_options(native=False, threads=1))
    original_us = _original_time(session, parts)
    goal = _with_scores(job, session, parts)
    found: list[tuple[Proposal, Job]] = []
    reasons: list[str] = []
    tried: list[Alternative] = []
    for level, use in uses:
        if any(proposal.ratio <= level.reach for proposal, _ in found):
            continue
        own = replace(job.on_trial(), goal=goal)
        try:
            proposal = use.propose(Brief(own, parts, original_us))
        except NothingPays as nothing:
            reasons.append(f"{level.title}: {nothing}")
            tried += nothing.alternatives
        else:
            found.append((proposal, own))
    tried += [way for proposal, _ in found for way in proposal.alternatives]
    if not found:
        raise NothingPays("; ".join(reasons), tried)
    # The held-out part proves one proposal: a second test of another would halve the confidence.
    proposal, own = min(found, key=lambda pair: pair[0].ratio)
    try:
        verdict = proposal.prove(tried)
    except NothingPays as nothing:
        raise NothingPays("; ".join([*reasons, f"{proposal.name}: {nothing}"]), tried) from nothing
    job.notes.extend(own.notes)
    return verdict


def _original_time(session: ort.InferenceSession, parts: Parts) -> float:
    """Microseconds that the original takes for a request, the mean over some of the fit part."""
    some = parts.fit.arrays[:: max(1, len(parts.fit) // TIMED)]
    for number, feeds in enumerate(some):  # the first run of a session allocates; and a misfit is named
        run_model(session, feeds, number)
    return 1e6 * float(race([runner(session)], some, ROUNDS).medians.mean())


def _with_scores(job: Job, session: ort.InferenceSession, parts: Parts) -> Goal:
    """The job's goal, with the scores that the original gives for store and fit part, if any are measured."""
    assert job.goal is not None, "a decision is made for a goal"
    names = job.opened.outputs

    def run(at: int) -> Outputs:
        return dict(zip(names, run_model(session, parts.stored.arrays[at], at), strict=True))

    if not job.goal.with_scores([run(0)]).scores:
        return job.goal
    some = np.random.default_rng(0).permutation(len(parts.stored))[:SCORES]
    goal = job.goal.with_scores([run(int(at)) for at in some])
    for name, scores in goal.scores.items():
        size = float(scores.std()) if len(scores) else 0.0
        job.notes.append(
            f"output '{name}' is one number: its error is measured against the {len(scores)} that the "
            f"original gives for some of the sample, of standard deviation {size:.3g}"
        )
    return goal
