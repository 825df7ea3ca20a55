"""The ladder: promises from exact to loose, and for each what keeps it in the least time."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from onnx_memo.data.parts import HELD_OUT
from onnx_memo.data.samples import Arrays
from onnx_memo.levels.explored import Explored, Setting
from onnx_memo.proof.goal import Goal
from onnx_memo.proof.measure import Kept
from onnx_memo.proof.percentile import percentile
from onnx_memo.proof.promise import Promise
from onnx_memo.sessions import Raced, Runner, race
from onnx_memo.timing import Measured, Times, ratio_of, times_of

TOLERANCES = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
SHARES = (0.99, 0.95, 0.9)  # of decisions kept
EVERY = 5  # of the settings one is tried, before those around where a decision is kept
FIRST = 8  # requests that tell how long a race takes; and the first runs of a session allocate
ROUNDS = 2  # how often requests are timed
SECONDS, LEAST = 12.0, 40  # about what that may take, and on how many requests it is done at least
ORIGINAL = "the original"  # in place of a level, where nothing is reused
MOST_HELD_OUT = 10**6  # beyond which nobody is asked for inputs

Options = tuple[str, ...]
Key = tuple[str, float]  # level and strictness
Keeps = Callable[[Setting], bool]


@dataclass(frozen=True)
class Rung:
    """A promise, and what would keep it.

    Attributes:
        options: that ask `optimize` for it; none: for literal repeats alone.
        level: what would be reused, as in `rows in int8`; `the original`, where that alone keeps it.
        ratio: total time over the original's.
        times: that requests take, in milliseconds.
        hit_rate: share of requests that are reused.
        error: the distance that 95 % of the answers stay within.
        kept: decisions that stay, on the fit part.
        bytes: of the memo data.
    """

    options: Options
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
    def key(self) -> Key:
        """Tells it from others."""
        return self.explored.level, self.setting.strictness

    @property
    def differs(self) -> bool:
        """Whether any request runs anything but the original."""
        return self.setting.rounds or bool(self.setting.hits.any())

    def runner(self) -> Runner:
        return self.explored.runner(self.setting)


def ladder(
    goal: Goal,
    found: Sequence[Explored],
    original: Runner,
    requests: Sequence[Arrays],
    held_out: int,
    notes: list[str],
) -> tuple[Times, list[Rung]]:
    """The original's times, and the promises that can be proven, strict to loose, distances first.

    Args:
        goal: settled; its own promise does not matter.
        found: what can be tried on the fit part, the fastest products first, with one grid.
        original: runs a request.
        requests: of the fit part.
        held_out: how many requests `optimize` would prove a promise with.
        notes: for promises that so few cannot prove, and how many requests are timed.
    """
    promises = _promises(goal, held_out)
    for options, keeps in list(promises.items()) if found else []:
        if not keeps(found[-1].literal):
            notes.append(_too_few(goal, options, found[-1].literal, held_out))
            del promises[options]
    _try(found, promises)
    ways = _ways(found, promises)
    best = {options: min(own, key=lambda way: way.setting.cost) for options, own in ways.items()}
    raceable = list({way.key: way for way in best.values() if way.differs}.values())
    runners = [original, *(way.runner() for way in raceable)]
    turn = float(race(runners, _spread(requests, FIRST), 1).seconds.sum(axis=2).mean())
    timed = _spread(requests, max(LEAST, int(SECONDS / ROUNDS / turn)))
    if len(timed) < len(requests):
        notes.append(f"the times are those of {len(timed)} of the {len(requests)} requests, evenly spread")
    raced = race(runners, timed, ROUNDS)
    places = {way.key: at for at, way in enumerate(raceable, start=1)}
    rungs = [_rung(goal, options, way, raced, places.get(way.key, 0)) for options, way in best.items()]
    return times_of(raced, 0), rungs


def _promises(goal: Goal, held_out: int) -> dict[Options, Keeps]:
    """Whether a setting would keep what the options promise, by the options; each is judged once."""

    def within(tolerance: float) -> Keeps:
        return functools.cache(lambda one: goal.judge.likely(one.seen, Promise(tolerance), held_out))

    decision = goal.decision

    def keeping(share: float) -> Keeps:
        assert decision is not None, "it is promised"
        promise = Promise(decision.allowed, share)
        return functools.cache(lambda one: decision.likely(one.decided, promise, held_out))

    tolerances: dict[Options, Keeps] = {
        ("--tolerance", f"{tolerance:g}"): within(tolerance) for tolerance in TOLERANCES
    }
    shares = () if decision is None else SHARES
    return {**tolerances, **{("--keep", f"{share:g}"): keeping(share) for share in shares}}


def _too_few(goal: Goal, options: Options, unused: Setting, held_out: int) -> str:
    """Why a promise is not on the ladder that even the original could not prove."""
    name = " ".join(options)
    if not _promises(goal, MOST_HELD_OUT)[options](unused):
        return f"{name} is not kept by the model itself, with nothing reused, against the reference"
    needed = held_out
    while needed < MOST_HELD_OUT and not _promises(goal, needed)[options](unused):
        needed = math.ceil(1.1 * needed)
    return (
        f"{name} cannot be proven with the {held_out} inputs that are held out of this sample, "
        f"even if all decisions stay; it takes about {math.ceil(needed / HELD_OUT):,} inputs"
    )


def _try(found: Sequence[Explored], promises: Mapping[Options, Keeps]) -> None:
    """Try settings, from loose to strict, until all promises are kept or nothing is reused.

    Slower products are tried only at looser settings than those at which faster ones keep a promise. Around
    where decisions are kept, what was left out is tried by bisection.
    """
    floors = dict.fromkeys(promises, -1)  # the loosest place in the grid that faster products keep
    for each in found:
        left, places = set(promises), range(len(each.grid) - 1, -1, -EVERY)
        for place in places:
            left = {options for options in left if place > floors[options]}
            if not left:
                break
            setting = each.at(each.grid[place])
            left = {options for options in left if not promises[options](setting)}
            if not setting.hits.any():
                break
        for options, keeps in promises.items():
            if options[0] == "--keep":
                _bisect(each, keeps, floors[options])
        floors = {options: max(floor, _kept_at(each, promises[options])) for options, floor in floors.items()}


def _kept_at(each: Explored, keeps: Keeps) -> int:
    """The loosest place in the grid that was tried and keeps a promise; -1: none."""
    tried = {one.strictness: one for one in each.tried}
    kept = [place for place, one in enumerate(each.grid) if one in tried and keeps(tried[one])]
    return max(kept, default=-1)


def _bisect(each: Explored, keeps: Keeps, floor: int) -> None:
    """Try what lies between the loosest setting that keeps a promise and the next one that was tried."""
    tried = {one.strictness for one in each.tried}
    kept = max(_kept_at(each, keeps), floor)
    broken = min((at for at, one in enumerate(each.grid) if one in tried and at > kept), default=kept)
    while broken - kept > 1:
        middle = (kept + broken) // 2
        if keeps(each.at(each.grid[middle])):
            kept = middle
        else:
            broken = middle


def _ways(found: Sequence[Explored], promises: Mapping[Options, Keeps]) -> dict[Options, list[_Way]]:
    """For each promise what keeps it: literal repeats alone, and of each model the loosest setting tried."""
    if not found:
        return {}
    exact = _Way(found[-1], found[-1].literal)
    ways: dict[Options, list[_Way]] = {(): [exact]}
    for options, keeps in promises.items():
        kept = [(each, [one for one in each.tried if keeps(one)]) for each in found]
        ways[options] = [exact, *(_Way(each, own[-1]) for each, own in kept if own)]
    return ways


def _spread(requests: Sequence[Arrays], count: int) -> list[Arrays]:
    """So many of the requests at most, evenly spread."""
    count = min(count, len(requests))
    return [requests[at * len(requests) // count] for at in range(count)]


def _rung(goal: Goal, options: Options, way: _Way, raced: Raced, at: int) -> Rung:
    """`at` is the way's place in the race: that of the original, if it reuses nothing."""
    setting = way.setting
    return Rung(
        options=options,
        level=way.explored.level if at else ORIGINAL,
        ratio=ratio_of(raced, at),
        times=times_of(raced, at),
        hit_rate=float(setting.hits.mean()),
        error=percentile(setting.seen.errors.tolist(), 95),
        kept=goal.kept(setting.decided),
        bytes=way.explored.bytes if at else 0,
    )
