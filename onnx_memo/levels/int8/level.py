"""The level `int8`, as `onnx_memo.levels.base` asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.errors import MemoError
from onnx_memo.graph.encoder import Encoder, NoEncoder
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.job import Job
from onnx_memo.levels.attention import attention_of
from onnx_memo.levels.base import (
    Blueprint,
    Brief,
    Level,
    NotAllowed,
    Proposal,
    Reuse,
    Use,
    Wanted,
    compact_tables,
)
from onnx_memo.levels.int8.guard import NAME
from onnx_memo.levels.int8.propose import propose_int8
from onnx_memo.levels.ways import NothingPays
from onnx_memo.precision.whole import bytes_at_most
from onnx_memo.store.manifest import GuardedSite


class Int8Level(Level):
    """Every request, with the encoder's products in 8 bits; nothing is reused."""

    names = ("int8",)
    title = "int8"
    rounds = True
    compact = True

    def use(self, opened: OpenedModel, wanted: Wanted, notes: list[str]) -> Use:
        """The encoder as a whole."""
        attention_of(opened)
        try:
            return Int8Use(opened.encoder)
        except NoEncoder as none:
            raise NotAllowed(str(none)) from none

    def describe(self, guards: Sequence[GuardedSite]) -> list[str]:
        """There is one way."""
        return [
            "nothing is reused: every request runs the guarded layers with products in 8 bits",
        ]

    def watch(self, model: ir.Model, guards: Sequence[GuardedSite]) -> Int8Watch:
        """There is nothing to see."""
        return Int8Watch()


class Int8Watch:
    """Sees that nothing is reused."""

    def read(self, results: Sequence[npt.NDArray[Any]]) -> Reuse:
        """As `onnx_memo.levels.base.Watch` has it."""
        return Reuse({NAME: np.zeros(len(results[0]), np.bool_)})


@dataclass(frozen=True)
class Int8Use(Use):
    """The encoder of the job's model."""

    encoder: Encoder

    def bytes_needed(self, job: Job) -> int:
        """The weights in 8 bits; on trial they are held in memory."""
        tables = compact_tables(job)
        return bytes_at_most(job.opened) + (0 if tables is None else tables.nbytes)

    def repeats(self, job: Job) -> Blueprint:
        """Without a tolerance nothing may be rounded."""
        raise MemoError(
            "the level 'int8' rounds: say with --tolerance or --keep how wrong an answer may be, or try "
            "another --level"
        )

    def propose(self, brief: Brief) -> Proposal:
        """The encoder in 8 bits, if the fit part keeps the promise."""
        needed, most = self.bytes_needed(brief.job), brief.job.max_bytes
        if most is not None and needed > most:
            raise NothingPays(
                f"--max-bytes {most} does not hold the weights in 8 bits: give at least {needed}"
            )
        return propose_int8(brief)
