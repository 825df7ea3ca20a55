"""What the user asks for: a promise about a metric, over some outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_memo.errors import MemoError
from onnx_memo.proof.metrics import DEFAULT_METRIC, METRICS, Mask, cosine_by_token, request_error
from onnx_memo.proof.promise import Promise

Outputs = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Goal:
    """What the user asked for: a promise about a metric, over some outputs (all, if none are named)."""

    promise: Promise
    metric: str
    outputs: tuple[str, ...] = ()

    def error(self, want: Outputs, have: Outputs, mask: Mask | None) -> float:
        """The error of one request, a batch of one: worst over the outputs.

        `mask`: bool[L], true for its real tokens; None: all rows of outputs [1, L, ...] are real.
        """
        names = self.outputs or tuple(want)
        return max(
            request_error(self.metric, {n: want[n][0]}, {n: have[n][0]}, real_rows(want[n], mask))
            for n in self._compared(names, want)
        )

    def check_outputs(self, names: Sequence[str]) -> None:
        """Raises MemoError if one that was asked for is not among those of the model."""
        for name in self.outputs:
            if name not in names:
                raise MemoError(f"the model has no output '{name}': it has {', '.join(names)}")

    def _compared(self, names: tuple[str, ...], want: Outputs) -> list[str]:
        """The outputs that hold floats, or all where none does: `request_error` then says so."""
        floats = [name for name in names if np.issubdtype(want[name].dtype, np.floating) and want[name].size]
        return floats or list(names)


def goal_of(
    tolerance: float | None,
    metric: str | None,
    within: float | None,
    confidence: float | None,
    outputs: tuple[str, ...],
) -> Goal | None:
    """What is asked for; None: nothing. None of the others counts without a tolerance.

    Raises:
        MemoError: for what does not go together, or has no sense.
    """
    if tolerance is None:
        given = {"metric": metric, "within": within, "confidence": confidence, "output": outputs or None}
        for name in (name for name, value in given.items() if value is not None):
            raise MemoError(f"--{name} says what a tolerance means: give --tolerance too, or leave it out")
        return None
    if metric is not None and metric not in METRICS:
        raise MemoError(f"there is no metric '{metric}': choose {', '.join(METRICS)}")
    promise = Promise(
        tolerance,
        Promise.within if within is None else within,
        Promise.confidence if confidence is None else confidence,
    )
    return Goal(promise, metric or DEFAULT_METRIC, outputs)


def token_error(want: Outputs, have: Outputs, mask: Mask | None) -> float:
    """The largest cosine error of a single token, over the outputs that have tokens."""
    errors = [
        cosine_by_token(want[n][0], have[n][0], real_rows(want[n], mask))
        for n in want
        if want[n].ndim == 3 and np.issubdtype(want[n].dtype, np.floating)
    ]
    return max(errors, default=0.0)


def real_rows(output: npt.NDArray[Any], mask: Mask | None) -> Mask | None:
    """The mask, bool[L], for one row of the batch of an output.

    Where the model has none, all tokens of an output [B, L, d] are real.
    """
    if mask is None and output.ndim == 3:
        return np.ones(output.shape[1], np.bool_)
    return mask
