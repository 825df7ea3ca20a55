"""Decide how to guard a model, so that the promise is kept and time is saved.

Levels make their proposals in order. One that could hardly save more than what was proposed is not asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import onnxruntime as ort

from onnx_memo.data.labels import check_labels
from onnx_memo.data.parts import Parts, make_parts
from onnx_memo.graph.quantizers import rounds_by_request
from onnx_memo.job import Job
from onnx_memo.levels.base import Brief, Level, Proposal, Use, Verdict
from onnx_memo.levels.tried import Tried, run_original
from onnx_memo.levels.ways import Alternative, NothingPays
from onnx_memo.precision.whole import Rounding
from onnx_memo.proof.answer import Answer
from onnx_memo.proof.goal import Goal
from onnx_memo.proof.measure import Seen
from onnx_memo.proof.promise import outside
from onnx_memo.reference import Reference
from onnx_memo.runtime import session_options
from onnx_memo.sessions import open_file, race, run_model, runner
from onnx_memo.threads import side_by_side

ROUNDS = 3  # how often the original is timed
TIMED = 16  # on so many requests
ANSWERS = 256  # of the original, at most, that answers are judged against


def decide(job: Job, uses: Sequence[tuple[Level, Use]]) -> Verdict:
    """Find what saves most time and keeps the promise.

    Args:
        job: with a goal.
        uses: the levels that the model allows.

    Raises:
        MemoError: the sample is too small for the promise, or `max_bytes` for a single input, or the labels
            do not suit the decision.
        NothingPays: with the reason.
    """
    assert job.goal is not None, "a decision is made for a goal"
    parts = make_parts(job.samples, job.goal.promise)
    goal, original_us = ask_the_original(job, parts)
    if goal.judge.about_many:
        parts = parts.to_rank(job.samples)
    check_labels(job.samples, goal.decision)
    reasons: list[str] = []
    too_far = None if job.reference is None else _too_far(job, job.reference, goal, parts)
    if too_far is not None:  # what is reused comes from the original's own runs, and is no nearer
        reasons.append(too_far)
        uses = [(level, use) for level, use in uses if level.rounds]
    rounding = Rounding(job.opened, parts.stored, job.progress)
    found: list[tuple[Proposal, Job]] = []
    tried: list[Alternative] = []
    for level, use in uses:
        if any(proposal.ratio <= level.reach for proposal, _ in found):
            continue
        own = replace(job.on_trial(), goal=goal)
        try:
            proposal = use.propose(Brief(own, parts, original_us, rounding))
        except NothingPays as nothing:
            reasons.append(f"{level.title}: {nothing}{_instead(job, level)}")
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
    job.notes.extend(more_inputs(verdict.ratio, tried))
    job.notes.extend(f"held out, {kept}" for kept in verdict.goal.kept(verdict.decided))
    return verdict


def ask_the_original(job: Job, parts: Parts) -> tuple[Goal, float]:
    """The goal as it is judged, and the microseconds of a request; its session ends here."""
    session = open_file(job.path, session_options(native=False, threads=1))
    original_us = _original_time(session, parts)
    return _settled(job, session, parts), original_us


def more_inputs(ratio: float, tried: Sequence[Alternative]) -> list[str]:
    """A note where ways that take less than `ratio` keep the promise on the fit part, too few to prove it."""
    faster = [way for way in tried if way.too_few and way.ratio < ratio]
    if not faster:
        return []
    best = min(faster, key=lambda way: way.ratio)
    takes = f"'{best.name}' takes {best.ratio:.3f} of the original's"
    return [f"more inputs may gain time: {takes}, and {best.reason}"]


def _instead(job: Job, level: Level) -> str:
    """What to do where a level that rounds fails for the original's own rounding; empty: there is nothing."""
    if not level.rounds or job.reference is not None or not rounds_by_request(job.opened.model):
        return ""
    return (
        f", and '{job.path.name}' is rounded itself: name with --reference the model in floats that it was "
        "made from, and errors count from that"
    )


def _too_far(job: Job, reference: Reference, goal: Goal, parts: Parts) -> str | None:
    """What is said where the original itself is too far from the reference; None: it is not."""
    advance = job.progress("running the original and the reference", len(parts.fit))
    original, held_out = run_original(job, parts.fit, advance), len(parts.held_out)
    own = Tried.nothing_reused(original, goal)
    best = Seen.of([goal.judge.own(replace(answer, own=None)) for answer in original.answers])
    # So few requests may prove nothing even of a perfect model: then the levels say so.
    if goal.judge.likely(own.seen, goal.promise, held_out) or not goal.judge.likely(
        best, goal.promise, held_out
    ):
        return None
    kept = 1 - float(outside(own.errors, goal.promise.tolerance).mean())
    said = (
        f"keeps {kept:.1%} of the answers to the fit part within {goal.promise.tolerance:g} of "
        f"'{reference.path}' ({goal.metric}), too few to prove the promise"
    )
    if goal.measure is None:
        said = (
            f"decides as '{reference.path}' does too seldom to prove the promise ({goal.metric}; of the fit "
            f"part, {'; '.join(map(str, goal.kept(own.decided)))})"
        )
    return f"'{job.path}' itself, with nothing reused, {said}: ask for less, or optimize the reference itself"


def _original_time(session: ort.InferenceSession, parts: Parts) -> float:
    """Microseconds that the original takes for a request, the mean over some of the fit part."""
    some = parts.fit.arrays[:: max(1, len(parts.fit) // TIMED)]
    for number, feeds in enumerate(some):  # the first run of a session allocates; and a misfit is named
        run_model(session, feeds, number)
    return 1e6 * float(race([runner(session)], some, ROUNDS).medians.mean())


def _settled(job: Job, session: ort.InferenceSession, parts: Parts) -> Goal:
    """The job's goal, judging as the outputs suggest, against what is right for what is stored."""
    assert job.goal is not None, "a decision is made for a goal"
    names, stored = job.opened.outputs, parts.stored
    some = np.random.default_rng(0).permutation(len(stored))[:ANSWERS].tolist()
    advance = job.progress("running the original", len(some))

    def answer(at: int) -> Answer:
        results = run_model(session, stored.arrays[at], at)
        return job.answer(dict(zip(names, results, strict=True)), stored, at)

    def answers() -> Iterator[Answer]:
        for each in side_by_side(answer, some):
            yield each
            advance()

    return job.goal.settled(answers(), job.notes)
