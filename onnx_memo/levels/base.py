"""What was decided, at whatever level, and what it was proven with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.data.parts import Parts
from onnx_memo.errors import MemoError
from onnx_memo.proof.promise import Calibration
from onnx_memo.store.bundle import GuardedSite
from onnx_memo.store.data import StoredTensor

PAYS = 0.97  # the ratio from which on a bundle is not worth its disk

Floats = npt.NDArray[np.float64]


class NothingPays(MemoError):
    """Nothing saves time within the tolerance. `evidence` holds the figures, as far as they were taken."""

    def __init__(self, reason: str, evidence: dict[str, Any]) -> None:
        super().__init__(reason)
        self.evidence = evidence


class Blueprint(Protocol):
    """What is to be built: the memo data, and the guards that read it."""

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each entry, i64[N]."""

    def tensors(self, scratch: Path, notes: list[str]) -> list[StoredTensor]:
        """The memo data."""

    def insert(self, model: ir.Model, tensors: dict[str, ir.ExternalTensor]) -> None:
        """Guard the original model, which is changed; the guards read `tensors` by their names."""

    def guarded(self) -> list[GuardedSite]:
        """The guards, as the manifest tells them."""


@dataclass(frozen=True)
class Alternative:
    """A way to guard that was tried on the fit part.

    Attributes:
        level: what is reused, as in `rows in int8` or `output and probs`.
        ratio: the time to expect, relative to the original's.
        hit_rate: share of the requests that are reused.
        error: what 95 % of the requests stay within.
    """

    name: str
    level: str
    ratio: float
    hit_rate: float
    error: float
    reason: str


def high_error(errors: Floats) -> float:
    """The error that 95 % of the requests stay within."""
    return float(np.percentile(errors, 95, method="higher"))


@dataclass(frozen=True)
class Proposal:
    """What the fit part speaks for; not proven yet.

    Attributes:
        name: of the levels.
        ratio: the time to expect, relative to the original's.
        alternatives: all that was tried.
        prove: tests it on the held-out part, which may be done for one proposal only. Raises NothingPays.
    """

    name: str
    ratio: float
    alternatives: list[Alternative]
    prove: Callable[[], Verdict] = field(repr=False)


@dataclass(frozen=True)
class Verdict:
    """A decision that was proven on the held-out part.

    Attributes:
        ratio: the time to expect by the fit part, relative to the original's.
        alternatives: all that was tried; the one of the name `chosen` was taken.
        hits: which held-out requests are reused, bool[n].
        distances: how far what is reused was, f64[n]; infinite where nothing is comparable.
        errors: of the held-out requests, f64[n]; 0 where nothing is reused.
        token_errors: cosine token by token, f64[n].
        rows: the share of rows that each held-out request runs, f64[n], 1 where it is not reused; None below
            the level `rows`.
        threshold: the calibrated distance, or None where there is none.
        strictness: what each strictness gives on the held-out part (`onnx_memo.proof.promise.curve`).
        sites: what each site gives (`onnx_memo.report`).
    """

    blueprint: Blueprint
    parts: Parts
    chosen: str
    ratio: float
    alternatives: list[Alternative]
    calibration: Calibration
    hits: npt.NDArray[np.bool_] = field(repr=False)
    distances: Floats = field(repr=False)
    errors: Floats = field(repr=False)
    token_errors: Floats = field(repr=False)
    rows: Floats | None = field(repr=False)
    threshold: float | None
    strictness: list[dict[str, float]] = field(repr=False)
    sites: list[dict[str, Any]] = field(repr=False)
