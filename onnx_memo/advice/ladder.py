"""The ladder: promises from exact to loose, and for each what keeps it in the least time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from onnx_memo.data.samples import Arrays
from onnx_memo.levels.explored import Explored, Setting
from onnx_memo.proof.goal import Goal
from onnx_memo.proof.measure import Kept
from onnx_memo.proof.percentile import percentile
from onnx_memo.proof.promise import Promise, requests_needed
from onnx_memo.sessions import Raced, Runner, race
from onnx_memo.timing import Measured, Times, ratio_of, times_of

TOLERANCES = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
SHARES = (0.99, 0.95, 0.9)  # of decisions kept
EXACT = 1e-6  # error up to which an answer is that of a literal repeat
FIRST = 16  # requests by which the fastest of several ways is chosen
ROUNDS = 2  # how often requests are timed

Keeps = Callable[[Setting], bool]


@dataclass(frozen=True)
class Rung:
    """A promise, and what would keep it.

    Attributes:
        options: that ask `optimize` for it; none: for literal repeats alone.
        level: what would be reused, as in `rows in int8`.
        ratio: total time over the original's.
        times: that requests take, in milliseconds.
        hit_rate: share of requests that are reused.
        error: the distance that 95 % of the answers stay within.
        kept: decisions that stay, on the fit part.
        bytes: of the memo data.
    """

    options: tuple[str, ...]
    level: str
    ratio: Measured
    times: Times
    hit_rate: float
    error: float
    kept: list[Kept]
    bytes: int

    @property
    def name(self) -> str:
        """For people: `exact`, `--tolerance 0.01`."""
        return " ".join(self.options) or "exact"


@dataclass(frozen=True)
class _Way:
    """A setting of an explored model."""

    explored: Explored
    setting: Setting

    @property
    def key(self) -> tuple[str, float]:
        """Tells it from others."""
        return self.explored.level, self.setting.strictness

    def runner(self) -> Runner:
        return self.explored.runner(self.setting)


def ladder(
    goal: Goal, found: Sequence[Explored], original: Runner, requests: Sequence[Arrays], held_out: int
) -> tuple[Times, list[Rung]]:
    """The original's times, and the promises that something keeps, strict to loose, distances first.

    Args:
        goal: settled; its own promise does not matter.
        found: what was tried on the fit part.
        original: runs a request.
        requests: of the fit part.
        held_out: how many requests `optimize` would prove a promise with.
    """
    ways = {options: _ways(found, keeps) for options, keeps in _promises(goal, held_out).items()}
    ways = {options: found for options, found in ways.items() if found}
    ratios = _quick_ratios([way for own in ways.values() for way in own], original, requests)
    best = {options: min(own, key=lambda way: ratios[way.key]) for options, own in ways.items()}
    raceable = list({way.key: way for way in best.values()}.values())
    race([original], requests[:4], 1)  # the first runs of a session allocate
    raced = race([original, *(way.runner() for way in raceable)], requests, ROUNDS)
    places = {way.key: at for at, way in enumerate(raceable, start=1)}
    rungs = [_rung(goal, options, way, raced, places[way.key]) for options, way in best.items()]
    return times_of(raced, 0), rungs


def _promises(goal: Goal, held_out: int) -> dict[tuple[str, ...], Keeps]:
    """Whether a setting would keep what the options promise, by the options."""

    def within(tolerance: float) -> Keeps:
        return lambda one: goal.judge.likely(one.seen, Promise(tolerance), held_out)

    promises: dict[tuple[str, ...], Keeps] = {(): lambda one: bool((one.seen.errors <= EXACT).all())}
    promises |= {("--tolerance", f"{tolerance:g}"): within(tolerance) for tolerance in TOLERANCES}
    decision = goal.decision
    if decision is None:
        return promises
    asked = [Promise(decision.allowed, share) for share in SHARES]

    def keeping(promise: Promise) -> Keeps:
        return lambda one: decision.likely(one.decided, promise, held_out)

    return promises | {
        ("--keep", f"{promise.within:g}"): keeping(promise)
        for promise in asked
        if requests_needed(promise) <= held_out
    }


def _ways(found: Sequence[Explored], keeps: Keeps) -> list[_Way]:
    """The loosest setting of each that keeps a promise."""
    loosest = [(each, [one for one in each.settings if keeps(one)]) for each in found]
    return [_Way(each, kept[-1]) for each, kept in loosest if kept]


def _quick_ratios(
    ways: Sequence[_Way], original: Runner, requests: Sequence[Arrays]
) -> dict[tuple[str, float], float]:
    """The time of each way over the original's, by few requests: enough to choose between two precisions."""
    distinct = list({way.key: way for way in ways}.values())
    raced = race(
        [original, *(way.runner() for way in distinct)], requests[:: max(1, len(requests) // FIRST)], ROUNDS
    )
    totals = raced.medians.sum(axis=0)
    return {way.key: float(total / totals[0]) for way, total in zip(distinct, totals[1:], strict=True)}


def _rung(goal: Goal, options: tuple[str, ...], way: _Way, raced: Raced, at: int) -> Rung:
    setting = way.setting
    return Rung(
        options=options,
        level=way.explored.level,
        ratio=ratio_of(raced, at),
        times=times_of(raced, at),
        hit_rate=float(setting.hits.mean()),
        error=percentile(setting.seen.errors.tolist(), 95),
        kept=goal.kept(setting.decided),
        bytes=way.explored.bytes,
    )
