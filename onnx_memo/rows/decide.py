"""Decide whether and how strictly to guard a model at the level `rows`.

1. Store and fit part are run through the encoder and captured; key network and correction are fitted to the
   store part.
2. On the fit part, with the store part as the store, the loosest bound is sought at which the tolerance is
   kept.
3. That bound, stricter ones and a slightly looser one are tested on the held-out part, with all entries, from
   strict to loose, until the proof fails (`onnx_memo.promise`).
"""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_memo.goal import Goal
from onnx_memo.graph.rows_operators import MOST_CHANGE
from onnx_memo.inputs import Samples
from onnx_memo.keys import KeyNetwork
from onnx_memo.learn import fit_learned, sketch
from onnx_memo.parts import Parts
from onnx_memo.progress import Progress
from onnx_memo.promise import Calibration, Step, failure_p_value, provable
from onnx_memo.rows.capture import RowsCapture, capture_rows
from onnx_memo.rows.correction import fit_correction, neighbour_pairs
from onnx_memo.rows.coverage import rows_budget
from onnx_memo.rows.influence import write_influence
from onnx_memo.rows.store import EPSILON, LIMIT, RowsBlueprint, RowsSettings
from onnx_memo.rows.trial import Original, RowsTrial, Tried, run_original
from onnx_memo.verdict import PAYS, Alternative, NothingPays, Verdict

# Bounds to try, strict to loose: influence that may be left out, a row.
BOUNDS = tuple(float(b) for b in np.geomspace(2e-4, 0.4, 23))
# What is tested on the held-out part, relative to the bound that the fit part allows.
TESTED = (0.125, 0.25, 0.5, 0.71, 0.85, 1.0, 1.2)

Floats = npt.NDArray[np.float64]


def decide_rows(
    path: Path,
    parts: Parts,
    goal: Goal,
    original_us: float,
    scratch: Path,
    progress: Progress,
    *,
    max_bytes: int | None,
    notes: list[str],
) -> Verdict:
    """Find the bound that saves most time and keeps the promise.

    Args:
        path: the original model, which has an encoder.
        parts: the sample.
        goal: the promise.
        original_us: microseconds that the original takes for a request.
        scratch: a folder for captured tensors.
        progress: told of the steps.
        max_bytes: the most that the memo data may take; None: no bound.
        notes: what people should know is added to them.

    Raises:
        MemoError: `max_bytes` holds not a single input.
        NothingPays: with the reason.
    """
    if max_bytes is not None:
        parts = parts.within(rows_budget(path, parts.stored, max_bytes, progress), notes)
    fit = run_original(path, parts.fit, progress("running the fit part", len(parts.fit)))
    advance = progress("capturing rows", len(parts.stored))
    captured = capture_rows(path, parts.stored, scratch, advance)
    network = fit_rows_key(captured, parts.in_store)
    keys = network(captured.means)
    advance = progress("learning influence", len(keys))
    write_influence(captured, keys, parts.in_store, EPSILON, MOST_CHANGE, advance)
    entries = np.flatnonzero(parts.in_store)
    pairs = entries[neighbour_pairs(keys[entries], captured.lengths[entries])]
    advance = progress("fitting the correction", len(pairs))
    correction = fit_correction(captured, pairs, EPSILON, LIMIT, advance)
    loosest = RowsSettings(network, correction, BOUNDS[-1])
    search = Search(goal, parts, fit, RowsTrial(path, captured, loosest, parts.in_store), progress)
    bound = search.loosest()
    del search.trial  # a session holds the model's weights
    evidence: dict[str, Any] = {"alternatives": [astuple(tried) for tried in search.seen()]}
    if bound is None:
        raise NothingPays(search.why_not(), evidence)
    advance = progress("running the held-out part", len(parts.held_out))
    held_out = run_original(path, parts.held_out, advance)
    trial = RowsTrial(path, captured, RowsSettings(network, correction, bound * max(TESTED)), None)
    calibration, results = prove(goal, parts.held_out, held_out, trial, progress)
    if calibration.threshold is None or not calibration.hit_rate:
        raise NothingPays(
            f"the held-out part does not prove the promise at any bound up to {bound:.3g}", evidence
        )
    scale = calibration.threshold  # of the bound
    tried, fitted = results[scale], search.tried[bound]
    tolerance = goal.promise.tolerance
    points = [{"strictness": 0.0, **Tried.none(len(parts.held_out)).point(tolerance)}]
    points += [{"strictness": at / scale, **results[at].point(tolerance)} for at in TESTED if at <= scale]
    return Verdict(
        blueprint=RowsBlueprint(captured, RowsSettings(network, correction, bound * scale)),
        parts=parts,
        chosen=_name(bound),
        ratio=fitted.ratio,
        alternatives=search.seen(),
        calibration=calibration,
        hits=tried.hits,
        distances=np.where(tried.hits, tried.rows, np.inf),
        errors=tried.errors,
        token_errors=tried.token_errors,
        rows=tried.rows,
        threshold=None,
        strictness=points,
        sites=[_site_row(tried, original_us)],
    )


class Search:
    """Tries bounds on the fit part.

    Attributes:
        tried: what came of each bound.
    """

    def __init__(self, goal: Goal, parts: Parts, fit: Original, trial: RowsTrial, progress: Progress) -> None:
        """`trial` has the loosest of `BOUNDS`."""
        self.goal, self.samples, self.original = goal, parts.fit, fit
        self.trial, self.progress = trial, progress
        self.promise = provable(goal.promise, len(parts.held_out))
        self.tried: dict[float, Tried] = {}

    def loosest(self) -> float | None:
        """The loosest bound within the tolerance, by bisection; None if there is none that saves time."""
        kept, broken = -1, len(BOUNDS)
        if self._kept(BOUNDS[-1]):
            kept = len(BOUNDS) - 1
        elif not self.tried[BOUNDS[-1]].hits.any():
            return None  # and stricter ones reuse no more
        while broken - kept > 1:
            middle = (kept + broken) // 2
            if self._kept(BOUNDS[middle]):
                kept = middle
            else:
                broken = middle
        return BOUNDS[kept] if kept >= 0 and self.tried[BOUNDS[kept]].ratio <= PAYS else None

    def seen(self) -> list[Alternative]:
        """All bounds that were tried, loose to strict."""
        told = {True: "the fit part keeps the tolerance", False: "the fit part does not keep the tolerance"}
        return [
            Alternative(_name(bound), tried.ratio, tried.hit_rate, told[self._within(tried)])
            for bound, tried in sorted(self.tried.items(), reverse=True)
        ]

    def why_not(self) -> str:
        """Why no bound is good enough, in numbers."""
        reused = max(tried.hit_rate for tried in self.tried.values())
        kept = [tried for tried in self.tried.values() if self._within(tried)]
        best = min(kept, key=lambda tried: tried.ratio, default=None)
        told = "none of the bounds that were tried keeps the tolerance"
        if best is not None:
            told = (
                f"at the tolerance {self.goal.promise.tolerance:g} ({self.goal.metric}) the best takes "
                f"{best.ratio:.3f} of the original's time, reuses {best.hit_rate:.0%} of the fit part and runs "
                f"{best.mean_rows:.0%} of the rows"
            )
        return (
            f"{told}; {reused:.0%} of the requests are so near to an entry of their length that at most "
            f"{LIMIT:.0%} of their rows would run. Inputs that are nearer to each other, or a larger tolerance, "
            "would change that"
        )

    def _kept(self, bound: float) -> bool:
        advance = self.progress(f"trying the bound {bound:.2g}", len(self.samples))
        strictness = bound / BOUNDS[-1]
        self.tried[bound] = self.trial.run(self.samples, self.original, strictness, self.goal, advance)
        return self._within(self.tried[bound])

    def _within(self, tried: Tried) -> bool:
        outside = ~(tried.errors <= self.promise.tolerance)
        return float(outside.mean()) <= self.promise.share


def _name(bound: float) -> str:
    return f"rows, bound {bound:.2g}"


def prove(
    goal: Goal, samples: Samples, original: Original, trial: RowsTrial, progress: Progress
) -> tuple[Calibration, dict[float, Tried]]:
    """The loosest of `TESTED` that the held-out part proves, and what was seen at each that was tested.

    Fixed-sequence testing as in `onnx_memo.promise.calibrate`; the settings are run one by one, since a request
    has another error at each.
    """
    promise, count = goal.promise, len(samples)
    steps: list[Step] = []
    results: dict[float, Tried] = {}
    passed: Step | None = None
    for scale in TESTED:
        advance = progress(f"proving, {scale:g} of the bound", count)
        tried = trial.run(samples, original, scale / max(TESTED), goal, advance)
        failures = int((~(tried.errors <= promise.tolerance)).sum())
        p_value = failure_p_value(failures, count, promise.share)
        step = Step(scale, int(tried.hits.sum()), failures, p_value)
        steps.append(step)
        results[scale] = tried
        if p_value > promise.delta:
            break
        passed = step
    if passed is None:
        never = failure_p_value(0, count, promise.share)
        return Calibration(None, 0, count, never, 0.0, tuple(steps)), results
    hit_rate = passed.hits / count
    calibration = Calibration(
        passed.threshold, passed.failures, count, passed.p_value, hit_rate, tuple(steps)
    )
    return calibration, results


def fit_rows_key(captured: RowsCapture, in_store: npt.NDArray[np.bool_]) -> KeyNetwork:
    """The key network: distances of keys estimate how far the states at the encoder's input are apart."""
    entries = np.flatnonzero(in_store)
    sketches = np.stack(
        [sketch(captured.stored[captured.tokens(int(at))].astype(np.float32)) for at in entries]
    )
    size = max(float(np.sqrt(np.square(sketches, dtype=np.float64).sum(axis=1).mean())), 1e-30)
    return fit_learned(captured.means[entries], sketches / np.float32(size), captured.lengths[entries])


def _site_row(tried: Tried, original_us: float) -> dict[str, Any]:
    """The encoder as the report's only site, by rows: they take most of its time."""
    hit_rate, ran = tried.hit_rate, tried.mean_rows_of_hits
    return {
        "name": "encoder",
        "level": "rows",
        "hit_rate": hit_rate,
        "saving_us": hit_rate * original_us,
        "overhead_us": max(tried.ratio - 1 + hit_rate, 0.0) * original_us,
        "reason": f"a request that is reused runs {ran:.1%} of its rows",
    }
