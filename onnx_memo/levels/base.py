"""The contract of a level: what a hit reuses, and how that is captured, stored, guarded and proven.

A level is asked in this order:

1. `Level.use`: does this model allow it, with these options? The answer, a `Use`, or `NotAllowed`.
2. `Use.bytes_needed`: what its tensors take on the disk.
3. With a tolerance `Use.propose`: try it on the fit part. Of all levels' proposals the one that saves most is
   then proven on the held-out part. Without a tolerance `Use.repeats`: store what is to be reused.
4. Either gives a `Blueprint`, which the bundle is built from.
5. Of a bundle `Level.describe` says what is reused, and `Level.watch` sees it happen.

All levels are listed in `registry`; a new one is a module and a line there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.data.parts import Parts
from onnx_memo.graph.copies import Copy
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.job import Job
from onnx_memo.levels.explored import Explored
from onnx_memo.levels.ways import Alternative, NothingPays
from onnx_memo.precision.tables import Tables, find_tables
from onnx_memo.precision.whole import Rounding
from onnx_memo.proof.goal import Goal
from onnx_memo.proof.measure import Seen
from onnx_memo.proof.sequence import Calibration
from onnx_memo.proof.thresholds import CurvePoint
from onnx_memo.store.data import StoredTensor
from onnx_memo.store.manifest import GuardedSite

PAYS = 0.97  # the ratio from which on a bundle is not worth its disk

Floats = npt.NDArray[np.float64]


class NotAllowed(Exception):
    """The model, or an option, does not allow a level; carries the reason."""


def compact_tables(job: Job) -> Tables | None:
    """The original's tables, which a compact bundle reads in 8 bits; None: the bundle is to be none."""
    return find_tables(job.opened) if job.compact else None


@dataclass(frozen=True)
class Wanted:
    """What the user restricts the choice of a level to.

    Attributes:
        level: a level's name, or `auto`.
        sites: numbers and ranges of attention blocks, as in "0,2-4"; None: all.
        threshold: key distance below which an entry counts; None: the level's own.
        exact_misses: whether what reuses nothing has to run the original, bit for bit.
        compact: whether the original's weights are to be left out, so that all that runs is rounded.
        repeats: whether no answer may err, so that literal repeats are all that is reused.
    """

    level: str = "auto"
    sites: str | None = None
    threshold: float | None = None
    exact_misses: bool = False
    compact: bool = False
    repeats: bool = False

    @property
    def selective(self) -> str | None:
        """The option that only levels of single attention blocks know, if one was given."""
        if self.sites is not None:
            return "--sites"
        return "--threshold" if self.threshold is not None else None


class Blueprint(Protocol):
    """What is to be built: the memo data, and the guards that read it."""

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each entry, i64[N]."""

    def tensors(self, scratch: Path, notes: list[str]) -> list[StoredTensor]:
        """The memo data."""

    def insert(self, copy: Copy, tensors: Mapping[str, ir.TensorProtocol], apart: bool = True) -> None:
        """Guard a copy of the original model; the guards read `tensors` by their names.

        `apart`: sequences of a batch that reuse nothing run without those that do, where that can be.
        """

    def guarded(self) -> list[GuardedSite]:
        """The guards, as the manifest lists them."""


@dataclass(frozen=True)
class Brief:
    """What a level is given to make a proposal.

    Attributes:
        job: the run; it has a goal.
        parts: the sample, split.
        original_us: microseconds that the original takes for a request, the mean over some.
        rounding: makes the encoder in 8 bits, for the store part; all levels share it.
    """

    job: Job
    parts: Parts
    original_us: float
    rounding: Rounding

    @property
    def goal(self) -> Goal:
        """What is to be kept."""
        assert self.job.goal is not None, "proposals are made for a goal"
        return self.job.goal


@dataclass(frozen=True)
class SiteFigures:
    """What guarding a site gives.

    Attributes:
        level: at which it is guarded; None: it is not.
        hit_rate: share of the held-out requests that are reused there.
        saving_us: microseconds that a mean request is spared, before the overhead is taken off.
        overhead_us: microseconds that keys, lookup and reuse take of a mean request.
        reason: why it is guarded or not.
    """

    name: str
    level: str | None
    hit_rate: float
    saving_us: float
    overhead_us: float
    reason: str


@dataclass(frozen=True)
class StrictnessPoint:
    """What a value of `memo_strictness`, from 0 to 1, gives on the held-out part."""

    strictness: float
    seen: CurvePoint


@dataclass(frozen=True)
class Verdict:
    """A decision that was proven on the held-out part.

    Attributes:
        goal: what was proven.
        ratio: the time to expect by the fit part, relative to the original's.
        alternatives: all that was tried; the one of the name `chosen` was taken.
        hits: which held-out requests are reused, bool[n].
        distances: how far what is reused was, f64[n]; infinite where nothing is comparable.
        errors: of the held-out requests, f64[n]; of those that reuse nothing, the original's own.
        token_errors: cosine token by token, f64[n].
        decided: what is said of the decision, of these n requests.
        rows: the share of rows that each held-out request runs, f64[n], 1 where it is not reused; None at
            levels that reuse no single rows.
        threshold: the calibrated distance, or None where there is none.
        strictness: what some values of `memo_strictness` give, from 0 to 1.
        sites: what each site gives; at levels that run single rows the encoder is the only one.
    """

    blueprint: Blueprint
    goal: Goal
    parts: Parts
    chosen: str
    ratio: float
    alternatives: Sequence[Alternative]
    calibration: Calibration
    hits: npt.NDArray[np.bool_] = field(repr=False)
    distances: Floats = field(repr=False)
    errors: Floats = field(repr=False)
    token_errors: Floats = field(repr=False)
    decided: Seen = field(repr=False)
    rows: Floats | None = field(repr=False)
    threshold: float | None
    strictness: Sequence[StrictnessPoint] = field(repr=False)
    sites: Sequence[SiteFigures] = field(repr=False)


@dataclass(frozen=True)
class Proposal:
    """What the fit part speaks for; not proven yet.

    Attributes:
        name: of the levels.
        ratio: the time to expect, relative to the original's.
        alternatives: all that was tried.
        prove: tests it on the held-out part, which may be done for one proposal only. Takes what was tried at
            all levels, for the verdict. Raises NothingPays.
    """

    name: str
    ratio: float
    alternatives: Sequence[Alternative]
    prove: Callable[[Sequence[Alternative]], Verdict] = field(repr=False)


class Use(ABC):
    """A level, as one model and the user's options allow it."""

    @abstractmethod
    def bytes_needed(self, job: Job) -> int:
        """An upper bound of what captured tensors and memo data take together, in bytes."""

    @abstractmethod
    def repeats(self, job: Job) -> Blueprint:
        """Without a tolerance: what is stored of the job's inputs for requests that repeat one.

        Raises:
            MemoError: `max_bytes` holds not a single input, or the model cannot run one.
        """

    def explore(self, brief: Brief) -> Sequence[Explored]:
        """What it does on the fit part at settings from strict to loose, for advice.

        Raises:
            MemoError: the model cannot run an input.
            NothingPays: nothing can be reused, with the reason.
        """
        raise NothingPays("it reuses repeats alone")

    def propose(self, brief: Brief) -> Proposal:
        """Find what saves most time within the tolerance, on the fit part.

        Raises:
            MemoError: `max_bytes` holds not a single input.
            NothingPays: with the reason; a level for repeats alone leaves it at that.
        """
        raise NothingPays("it reuses repeats alone")


@dataclass(frozen=True)
class Reuse:
    """What one run of a watched model reused.

    Attributes:
        hits: for each guarded site, by name, which rows of the batch were reused, bool[B].
        ran: the share of their real rows that the requests ran; None at levels that run no single rows.
    """

    hits: Mapping[str, npt.NDArray[np.bool_]]
    ran: float | None = None


class Watch(Protocol):
    """Sees what a guarded model reuses."""

    def read(self, results: Sequence[npt.NDArray[Any]]) -> Reuse:
        """What a run reused, from the results of all outputs of the watched model."""


class Level(ABC):
    """One way to reuse.

    Attributes:
        names: as `--level` takes them and manifests hold them.
        title: as people read it.
        rounds: whether answers differ from the original's even where nothing is reused: it needs a goal.
        selective: whether it guards single attention blocks: `--sites` and `--threshold` apply.
        compact: whether it can do without the original's weights.
        reach: a ratio that it hardly gets below: where another level does, it is not tried.
        setting: what calibration sets, as a column's head.
    """

    names: tuple[str, ...]
    title: str
    rounds: bool = False
    selective: bool = False
    compact: bool = False
    reach: float = 0.0
    setting: str = "threshold"

    @abstractmethod
    def use(self, opened: OpenedModel, wanted: Wanted, notes: list[str]) -> Use:
        """The level for this model; `notes` is for what people should know.

        Raises:
            NotAllowed: with the reason.
        """

    def describe(self, guards: Sequence[GuardedSite]) -> list[str]:
        """What a hit of these guards reuses, in sentences for people."""
        del guards
        return []

    @abstractmethod
    def watch(self, model: ir.Model, guards: Sequence[GuardedSite]) -> Watch:
        """Add outputs after those of a guarded model, which is changed, and return what reads them."""
