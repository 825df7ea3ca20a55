"""Decide whether to run an encoder in 8 bits: there is one setting, which keeps the promise or does not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime as ort

from onnx_memo.data.samples import Samples
from onnx_memo.levels.base import (
    PAYS,
    Alternative,
    Brief,
    NothingPays,
    Proposal,
    SiteFigures,
    StrictnessPoint,
    Verdict,
    high_error,
)
from onnx_memo.levels.int8.blueprint import Int8Blueprint
from onnx_memo.levels.int8.guard import NAME
from onnx_memo.levels.trial import guarded_on_trial
from onnx_memo.levels.tried import Original, Tried, run_original, timed
from onnx_memo.proof.sequence import Outcome, fixed_sequence
from onnx_memo.proof.thresholds import CurvePoint
from onnx_memo.runtime import session_options
from onnx_memo.sessions import open_session, race, runner
from onnx_memo.threads import side_by_side

WAY = "int8"
TIMED, ROUNDS = 16, 3  # requests that are timed, and how often


def propose_int8(brief: Brief) -> Proposal:
    """Round the encoder's products, and see what the fit part says.

    Raises:
        MemoError: the model cannot run an input.
        NothingPays: the tolerance is not kept, or no time is saved.
    """
    job, parts, goal = brief.job, brief.parts, brief.goal
    fit = run_original(job.opened, parts.fit, job.progress("running the fit part", len(parts.fit)))
    blueprint = int8_blueprint(brief)
    folder = job.scratch / WAY
    folder.mkdir()
    session = open_session(
        guarded_on_trial(job.opened, blueprint, folder), folder, session_options(threads=1)
    )
    tried = _run(brief, session, parts.fit, fit)
    some = parts.fit.arrays[:: max(1, len(parts.fit) // TIMED)]
    raced = race([runner(fit.session), runner(session)], some, ROUNDS)
    kept = goal.judge.likely(tried.seen, goal.promise, len(parts.held_out))
    verdict = "keeps" if kept else "does not keep"
    alternative = Alternative(
        name=WAY,
        level=WAY,
        ratio=raced.ratio,
        hit_rate=0.0,
        error=high_error(tried.errors),
        reason=f"nothing is reused; the fit part {verdict} the tolerance",
    )
    if not kept or raced.ratio > PAYS:
        raise NothingPays(
            f"with products in 8 bits the fit part {verdict} the tolerance, in {raced.ratio:.3f} of the time",
            [alternative],
        )

    def prove(alternatives: Sequence[Alternative]) -> Verdict:
        return _prove(brief, blueprint, session, alternative, alternatives)

    return Proposal(WAY, raced.ratio, [alternative], prove)


def int8_blueprint(brief: Brief) -> Int8Blueprint:
    """The encoder's products, rounded for the store part."""
    whole = brief.rounding.whole
    if whole is None:
        raise NothingPays("the encoder has no products of floats with constant weights")
    return Int8Blueprint(brief.job.opened.encoder, whole)


def _run(brief: Brief, session: ort.InferenceSession, samples: Samples, original: Original) -> Tried:
    """What comes of samples."""
    advance = brief.job.progress("trying products in 8 bits", len(samples))
    goal, names = brief.goal, brief.job.opened.outputs
    opinions, seconds = [], []
    run = timed(lambda at: session.run(None, samples.arrays[at]))
    for at, (came, took) in enumerate(side_by_side(run, range(len(samples)))):
        opinions.append(goal.opinion(original.answers[at], dict(zip(names, came, strict=True))))
        seconds.append(took)
        advance()
    count = len(samples)
    return Tried.of(np.zeros(count, np.bool_), np.ones(count), opinions, np.asarray(seconds))


def _prove(
    brief: Brief,
    blueprint: Int8Blueprint,
    session: ort.InferenceSession,
    way: Alternative,
    alternatives: Sequence[Alternative],
) -> Verdict:
    job, parts, goal = brief.job, brief.parts, brief.goal
    advance = job.progress("running the held-out part", len(parts.held_out))
    held_out = run_original(job.opened, parts.held_out, advance)
    tried = _run(brief, session, parts.held_out, held_out)
    outcome = Outcome.of(tried.hits, tried.seen, goal.judge, goal.promise)
    calibration = fixed_sequence(goal.promise, [1.0], lambda _: outcome)
    if calibration.setting is None:
        raise NothingPays(
            f"with products in 8 bits {outcome.failures} of {outcome.requests} held-out requests are outside "
            "the tolerance: more inputs in the sample, or a larger tolerance, would change that"
        )
    job.notes.append("only at memo_strictness 0 is an answer the original's, bit for bit")
    tolerance = goal.promise.tolerance
    return Verdict(
        blueprint=blueprint,
        goal=goal,
        parts=parts,
        chosen=way.name,
        ratio=way.ratio,
        alternatives=alternatives,
        calibration=calibration,
        hits=tried.hits,
        distances=np.full(len(parts.held_out), np.inf),
        errors=tried.errors,
        token_errors=tried.token_errors,
        decided=tried.decided,
        rows=None,
        threshold=None,
        strictness=[
            StrictnessPoint(0.0, CurvePoint(0.0, 0.0, 0.0, 0.0, 0.0)),
            StrictnessPoint(1.0, tried.point(tolerance)),
        ],
        sites=[_figures(way, brief.original_us)],
    )


def _figures(way: Alternative, original_us: float) -> SiteFigures:
    """The encoder as the report's only site."""
    return SiteFigures(
        name=NAME,
        level=WAY,
        hit_rate=0.0,
        saving_us=(1 - way.ratio) * original_us,
        overhead_us=0.0,
        reason="every request runs it with products in 8 bits",
    )
