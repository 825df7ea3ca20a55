"""Decide what to guard, so that the promise is kept and time is saved.

1. The sample is split at random (`onnx_memo.goal`): store and fit part are captured; nothing but the
   final test sees the held-out part.
2. On the fit part plans are tried (`onnx_memo.choose`). The level `probs` saves less and needs a second
   capture, so it is tried, at the sites that `output` leaves out, only where `output` alone saves little.
3. The plan that saves most is tested on the held-out part, with store and fit part as the store:
   thresholds from strict to loose, until the proof fails (`onnx_memo.promise`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from onnx_memo.capture import Capture, capture, run_model
from onnx_memo.choose import Candidate, Chooser
from onnx_memo.errors import MemoError
from onnx_memo.goal import Goal, Split, split_samples
from onnx_memo.graph.sites import LEVELS, Site
from onnx_memo.inputs import Samples
from onnx_memo.observe import Observer
from onnx_memo.progress import Progress
from onnx_memo.promise import Calibration, calibrate, candidate_thresholds
from onnx_memo.prove import Outcome, run_held_out
from onnx_memo.timing import race
from onnx_memo.trial import Trial

ENOUGH = 0.7  # a ratio that a second level could hardly better
PAYS = 0.97  # the ratio from which on a bundle is not worth its disk


class NothingPays(MemoError):
    """No plan saves time within the tolerance. `evidence` holds the figures, as far as they were taken."""

    def __init__(self, reason: str, evidence: dict[str, Any]) -> None:
        super().__init__(reason)
        self.evidence = evidence


@dataclass(frozen=True)
class Decision:
    """The plan that was proven, and what it was proven with."""

    chosen: Candidate
    candidates: list[Candidate]
    costs: dict[tuple[str, str], tuple[float, float]]  # (level, site) -> microseconds to compute, to reuse
    calibration: Calibration
    outcome: Outcome = field(repr=False)
    captures: dict[str, Capture] = field(repr=False)
    stored: Samples = field(repr=False)
    held_out: Samples = field(repr=False)
    split: Split = field(repr=False)
    repeats: float  # share of the held-out requests that are stored literally

    @property
    def threshold(self) -> float:
        """The calibrated key distance."""
        assert self.calibration.threshold is not None, "a decision was proven"
        return self.calibration.threshold


def decide(
    path: Path,
    sites: Sequence[Site],
    samples: Samples,
    goal: Goal,
    level: str,
    scratch: Path,
    progress: Progress,
) -> Decision:
    """Find the plan that saves most time and keeps the promise.

    Args:
        path: the original model, in which `sites` were found.
        sites: that may be guarded.
        samples: the user's sample, repeats included.
        goal: the promise.
        level: `auto`, or the only level to use.
        scratch: an empty folder for captured tensors.
        progress: told of the steps.

    Raises:
        MemoError: the sample is too small for the promise.
        NothingPays: with the reason.
    """
    split = split_samples(len(samples), goal.promise)
    stored, in_store, fit = _captured_part(samples, split)
    held_out = samples.take(split.held_out)
    observer = Observer(path, sites)
    original_us = _original_time(path, held_out)
    chooser = Chooser(path, sites, goal, stored, in_store, fit, len(held_out), original_us)
    chooser.observe(observer, progress)
    captures: dict[str, Capture] = {}
    candidates: list[Candidate] = []
    for wanted in reversed(LEVELS) if level == "auto" else (level,):
        if min((c.ratio for c in candidates), default=1.0) <= ENOUGH:
            break
        if candidates and not any(np.isfinite(c.distances).any() for c in candidates):
            break
        advance = progress(f"capturing {wanted}", len(stored))
        captures[wanted] = capture(path, sites, wanted, stored, scratch, advance)
        candidates += chooser.candidates(captures, progress)
    evidence = {"candidates": [(str(c.plan), c.ratio, c.hit_rate) for c in candidates]}
    if not candidates:
        raise NothingPays(
            "no request of the fit part has as many tokens as a stored one, so none could be reused; "
            "more inputs, or inputs of equal length, would change that",
            evidence,
        )
    chosen = min(candidates, key=lambda c: c.ratio)
    if chosen.ratio > PAYS:
        raise NothingPays(_why_not(chosen, goal), evidence)
    trial = Trial(path, chosen.plan, captures)
    by_name = {site.name: site for site in sites}
    outcome = run_held_out(chosen, captures, by_name, held_out, observer, trial, goal, progress)
    grid = candidate_thresholds(chosen.distances, chosen.most)
    share = len(held_out) / len(samples)
    calibration = calibrate(goal.promise, grid, outcome.distances, outcome.errors, held_share=share)
    if calibration.threshold is None or not calibration.hit_rate:
        reason = f"the held-out part does not prove the promise at any threshold; {_why_not(chosen, goal)}"
        raise NothingPays(reason, evidence)
    known = {_content(arrays) for arrays in stored.arrays}
    repeats = float(np.mean([_content(arrays) in known for arrays in held_out.arrays]))
    return Decision(
        chosen, candidates, chooser.costs, calibration, outcome, captures, stored, held_out, split, repeats
    )


def _captured_part(
    samples: Samples, split: Split
) -> tuple[Samples, npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """The distinct samples of store and fit part by length; which are stored; the fit requests' numbers."""
    first: dict[tuple[bytes, ...], int] = {}
    for at in [*split.store, *split.fit]:
        first.setdefault(_content(samples.arrays[at]), int(at))
    order = sorted(first.values(), key=samples.size)
    place = {_content(samples.arrays[at]): number for number, at in enumerate(order)}
    in_store = np.zeros(len(order), np.bool_)
    in_store[[place[_content(samples.arrays[at])] for at in split.store]] = True
    fit = np.asarray([place[_content(samples.arrays[at])] for at in split.fit], np.int64)
    return samples.take(order), in_store, fit


def _content(arrays: dict[str, npt.NDArray[Any]]) -> tuple[bytes, ...]:
    return tuple(array.tobytes() for array in arrays.values())


def _why_not(best: Candidate, goal: Goal) -> str:
    comparable = best.distances[np.isfinite(best.distances)]
    return (
        f"best plan: {best.plan}, {1 - best.ratio:.1%} less time; {best.hit_rate:.0%} of the fit part "
        f"could be reused at the tolerance {goal.promise.tolerance:g} ({goal.metric}). {len(comparable)} of "
        f"{len(best.distances)} requests found an entry of their length, at a median distance of "
        f"{np.median(comparable):.3g} where {best.most:.3g} would be near enough. More of the same "
        "traffic in the sample, or a larger tolerance, would change that"
    )


def _original_time(path: Path, samples: Samples, rounds: int = 3) -> float:
    """Microseconds that the original takes for a request, the mean over some of the samples."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    some = samples.arrays[:: max(1, len(samples) // 16)]
    for number, feeds in enumerate(some):  # the first run of a session allocates; and a misfit is named
        run_model(session, feeds, number)
    return 1e6 * float(race([session], some, rounds).mean())
