"""Decide whether to run an encoder in 8 bits: in the fastest way that keeps the promise."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from onnx_memo.data.samples import Samples
from onnx_memo.levels.base import PAYS, Brief, Proposal, SiteFigures, StrictnessPoint, Verdict, compact_tables
from onnx_memo.levels.int8.blueprint import Int8Blueprint
from onnx_memo.levels.int8.guard import NAME
from onnx_memo.levels.trial import guarded_on_trial
from onnx_memo.levels.tried import Original, Tried, run_original, timed
from onnx_memo.levels.ways import Alternative, Chance, NothingPays, high_error
from onnx_memo.precision.whole import NO_PRODUCTS, Whole
from onnx_memo.proof.promise import outside
from onnx_memo.proof.sequence import Outcome, fixed_sequence
from onnx_memo.runtime import session_options
from onnx_memo.sessions import open_session, race, runner
from onnx_memo.threads import side_by_side

WAY = "int8"
_EXACT = "only at memo_strictness 0 is an answer the original's, bit for bit"
_COMPACT = (
    "compact: the original's weights are left out, so that no request gets its answers bit for bit; at "
    "memo_strictness 0 requests run in 8 bits as well, by standard nodes"
)
TIMED, ROUNDS = 16, 3  # requests that are timed, and how often


def propose_int8(brief: Brief) -> Proposal:
    """Round the encoder's products, and see what the fit part says.

    Raises:
        MemoError: the model cannot run an input.
        NothingPays: the tolerance is not kept, or no time is saved.
    """
    job, parts = brief.job, brief.parts
    fit = run_original(job, parts.fit, job.progress("running the fit part", len(parts.fit)))
    tried: list[_Way] = []
    for whole in brief.rounding.wholes():
        tried.append(_try(brief, whole, fit))
        # Whether a coarse one is faster at all is known only when the next one was timed.
        if tried[-1].surely and not whole.coarse:
            break
    if not tried:
        raise NothingPays(NO_PRODUCTS)
    seen, ways = [way.alternative for way in tried], _worth_proving(tried)
    if not ways:
        best = tried[-1]  # the most exact one
        raise NothingPays(f"with products in 8 bits {best.chance}, in {best.ratio:.3f} of the time", seen)

    def prove(alternatives: Sequence[Alternative]) -> Verdict:
        return _prove(brief, ways, fit, alternatives)

    return Proposal(WAY, ways[-1].ratio, seen, prove)


@dataclass(frozen=True)
class _Way:
    """A way to run products in 8 bits.

    Attributes:
        chance: what the fit part says of it.
        surely: it keeps the promise, and not one request of it is outside the tolerance.
    """

    blueprint: Int8Blueprint
    session: ort.InferenceSession
    alternative: Alternative
    chance: Chance
    surely: bool

    @property
    def ratio(self) -> float:
        """Its time, relative to the original's."""
        return self.alternative.ratio


def _worth_proving(ways: Sequence[_Way]) -> list[_Way]:
    """Of ways from fast to exact those that the fit part allows, from exact to fast, each the fastest yet."""
    found: list[_Way] = []
    for way in reversed(ways):
        if way.chance.kept and way.ratio <= (found[-1].ratio if found else PAYS):
            found.append(way)
    return found


def _try(brief: Brief, whole: Whole, fit: Original) -> _Way:
    """Run the fit part."""
    job, parts, goal = brief.job, brief.parts, brief.goal
    blueprint = Int8Blueprint(job.opened.encoder, whole, compact_tables(job))
    folder = Path(tempfile.mkdtemp(dir=job.scratch))
    model = guarded_on_trial(job.opened, blueprint, folder)
    session = open_session(model, folder, session_options(threads=1), scratch=True)
    tried = _run(brief, session, parts.fit, fit)
    some = parts.fit.arrays[:: max(1, len(parts.fit) // TIMED)]
    raced = race([runner(fit.session), runner(session)], some, ROUNDS)
    chance = Chance.of(goal, tried.seen, len(parts.held_out))
    alternative = Alternative(
        name=whole.name,
        level=WAY,
        ratio=raced.ratio,
        hit_rate=0.0,
        error=high_error(tried.errors),
        reason=f"nothing is reused; {chance}",
        too_few=chance.too_few,
    )
    surely = chance.kept and not outside(tried.errors, goal.promise.tolerance).any()
    return _Way(blueprint, session, alternative, chance, surely)


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


def _prove(brief: Brief, ways: Sequence[_Way], fit: Original, alternatives: Sequence[Alternative]) -> Verdict:
    """The fastest of `ways`, which come from exact to fast, that the held-out part proves."""
    job, parts, goal = brief.job, brief.parts, brief.goal
    advance = job.progress("running the held-out part", len(parts.held_out))
    held_out = run_original(job, parts.held_out, advance, fit.session)
    results: list[Tried] = []

    def outcome_at(number: float) -> Outcome:
        results.append(_run(brief, ways[int(number)].session, parts.held_out, held_out))
        return Outcome.of(results[-1].hits, results[-1].seen, goal.judge, goal.promise)

    calibration = fixed_sequence(goal.promise, [float(number) for number in range(len(ways))], outcome_at)
    if calibration.setting is None:
        seen = goal.unproven(calibration.steps[0].failures, results[0].decided)
        raise NothingPays(
            f"with products in 8 bits {seen}: more inputs in the sample, or a larger tolerance, would change "
            "that"
        )
    way, tried = ways[int(calibration.setting)], results[int(calibration.setting)]
    job.notes.append(_COMPACT if job.compact else _EXACT)
    tolerance = goal.promise.tolerance
    off = [StrictnessPoint(0.0, Tried.nothing_reused(held_out, goal).point(tolerance))]
    if job.compact:  # what runs there was not measured
        off = []
    return Verdict(
        blueprint=way.blueprint,
        goal=goal,
        parts=parts,
        chosen=way.alternative.name,
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
        strictness=[*off, StrictnessPoint(1.0, tried.point(tolerance))],
        sites=[_figures(way.ratio, brief.original_us)],
    )


def _figures(ratio: float, original_us: float) -> SiteFigures:
    """The encoder as the report's only site."""
    return SiteFigures(
        name=NAME,
        level=WAY,
        hit_rate=0.0,
        saving_us=(1 - ratio) * original_us,
        overhead_us=0.0,
        reason="every request runs it with products in 8 bits",
    )
