"""Find the bound of the level `rows` on the fit part, and prove it on the held-out part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnx_memo.data.parts import Parts
from onnx_memo.data.samples import Samples
from onnx_memo.levels.base import PAYS
from onnx_memo.levels.rows.trial import RowsTrial, Sweep
from onnx_memo.levels.tried import Original, Tried
from onnx_memo.levels.ways import Alternative, Chance, high_error
from onnx_memo.progress import Progress
from onnx_memo.proof.goal import Goal
from onnx_memo.proof.sequence import Calibration, Outcome, fixed_sequence

# Bounds to try, strict to loose: predicted relative change up to which a row does not run.
BOUNDS = tuple(float(b) for b in np.geomspace(5e-4, 2.0, 41))
# What is tested on the held-out part, relative to the bound that the fit part allows.
TESTED = (0.125, 0.25, 0.35, 0.42, 0.5, 0.59, 0.71, 0.84, 1.0, 1.19)

# Before these, if misses run in 8 bits: with misses that run the original.
EXACT_MISSES = (0.25, 0.5)


class Search:
    """Tries bounds on the fit part.

    Attributes:
        tried: what came of each bound.
        ratios: the time of each, relative to the original's.
        noises: how far these are uncertain (`onnx_memo.sessions.Raced`).
    """

    def __init__(
        self,
        goal: Goal,
        parts: Parts,
        fit: Original,
        trial: RowsTrial,
        precision: str,
        progress: Progress,
    ) -> None:
        """`trial` has the loosest of `BOUNDS`; `precision` is that of its products, for people."""
        self.goal, self.samples, self.original = goal, parts.fit, fit
        self.trial, self.precision, self.progress = trial, precision, progress
        self.sweep = Sweep(trial, parts.fit, fit, goal)
        self.held_out = len(parts.held_out)
        self.tried: dict[float, Tried] = {}
        self.ratios: dict[float, float] = {}
        self.noises: dict[float, float] = {}

    def loosest(self, beyond: float | None, ratio: float) -> float | None:
        """The loosest bound within the tolerance, by bisection; None if there is none that saves time.

        Only bounds looser than `beyond` are tried, if it is given: one that faster products keep, in `ratio`
        of the original's time.
        """
        kept, broken = BOUNDS.index(beyond) if beyond else -1, len(BOUNDS)
        if self._kept(BOUNDS[-1]):
            kept = len(BOUNDS) - 1
        elif not self.tried[BOUNDS[-1]].hits.any():
            return None  # and stricter ones reuse no more
        while broken - kept > 1:
            middle = (kept + broken) // 2
            if self._kept(BOUNDS[middle]):
                kept = middle
            elif self.ratios[BOUNDS[middle]] > ratio:
                break  # and stricter ones are slower still
            else:
                broken = middle
        found = BOUNDS[kept] if kept >= 0 else None
        if found not in self.ratios:  # none is kept, or none that is looser than `beyond`
            return None
        return found if self.ratios[found] <= PAYS else None

    def end(self) -> None:
        """Let go of the trial, whose session holds the model's weights; what was seen stays."""
        del self.trial, self.sweep

    def seen(self) -> list[Alternative]:
        """All bounds that were tried, loose to strict."""
        chances = {bound: self._chance(tried) for bound, tried in self.tried.items()}
        return [
            Alternative(
                name=self.name(bound),
                level=f"rows in {self.precision}",
                ratio=self.ratios[bound],
                hit_rate=tried.hit_rate,
                error=high_error(tried.errors),
                reason=f"runs {tried.mean_rows:.0%} of the rows; {chances[bound]}",
                too_few=chances[bound].too_few,
            )
            for bound, tried in sorted(self.tried.items(), reverse=True)
        ]

    def name(self, bound: float) -> str:
        """A bound, for people."""
        return f"rows in {self.precision}, bound {bound:.2g}"

    def why_not(self) -> str:
        """Why no bound is good enough, in numbers."""
        reused = max(tried.hit_rate for tried in self.tried.values())
        kept = [bound for bound, tried in self.tried.items() if self._within(tried)]
        reason = "none of the bounds that were tried keeps the tolerance so well that it could be proven"
        if kept:
            fastest = min(kept, key=lambda bound: self.ratios[bound])
            best = self.tried[fastest]
            reason = (
                f"at the tolerance {self.goal.promise.tolerance:g} ({self.goal.metric}) the best takes "
                f"{self.ratios[fastest]:.3f} of the original's time, reuses {best.hit_rate:.0%} of the fit "
                f"part and runs {best.mean_rows:.0%} of the rows"
            )
        return (
            f"{reason}; {reused:.0%} of the requests are so near to an entry of their length that running "
            "the rows that changed is worth it. Inputs that are nearer to each other, or a larger tolerance, "
            "would change that"
        )

    def _kept(self, bound: float) -> bool:
        advance = self.progress(f"trying the bound {bound:.2g}", len(self.samples))
        strictness = bound / BOUNDS[-1]
        self.tried[bound] = self.sweep.at(strictness, advance)
        raced = self.trial.race(self.samples, self.original, strictness)
        self.ratios[bound], self.noises[bound] = raced.ratio, raced.noise
        return self._within(self.tried[bound])

    def _within(self, tried: Tried) -> bool:
        return self.goal.judge.likely(tried.seen, self.goal.promise, self.held_out)

    def _chance(self, tried: Tried) -> Chance:
        return Chance.of(self.goal, tried.seen, self.held_out)


@dataclass(frozen=True)
class Tested:
    """A setting for the held-out part: a part of the bound that the fit part allows, in a trial.

    `trial` has the loosest of `TESTED` times that bound.
    """

    trial: RowsTrial
    scale: float


def prove(
    goal: Goal, samples: Samples, original: Original, settings: Sequence[Tested], progress: Progress
) -> tuple[Calibration, list[Tried]]:
    """The last of the settings that the held-out part proves, and what was seen at each that was tested.

    They are run one by one, since a request has another error at each. In what is given back, settings and
    steps have the scales of these settings.

    Args:
        goal: what is to be kept.
        samples: the held-out part.
        original: what the original gave for it.
        settings: strict to loose, chosen without a look at the held-out part.
        progress: is called for each setting.
    """
    results: list[Tried] = []

    def outcome_at(number: float) -> Outcome:
        one = settings[int(number)]
        advance = progress(f"proving, {one.scale:g} of the bound", len(samples))
        results.append(one.trial.run(samples, original, one.scale / max(TESTED), goal, advance))
        return Outcome.of(results[-1].hits, results[-1].seen, goal.judge, goal.promise)

    found = fixed_sequence(goal.promise, [float(at) for at in range(len(settings))], outcome_at)
    proven = None if found.setting is None else settings[int(found.setting)].scale
    steps = tuple(replace(step, setting=settings[int(step.setting)].scale) for step in found.steps)
    return replace(found, setting=proven, steps=steps), results
