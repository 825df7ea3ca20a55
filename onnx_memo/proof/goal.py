"""What the user asks for: a promise about a metric, over some outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_memo.errors import MemoError
from onnx_memo.proof.metrics import DEFAULT_METRIC, METRICS, Mask, cosine_by_token, request_error
from onnx_memo.proof.promise import Promise
from onnx_memo.proof.scores import SCORE_METRICS, is_score, scores_of

Outputs = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Goal:
    """What the user asked for: a promise about a metric, over some outputs (all, if none are named).

    Attributes:
        metric: of `onnx_memo.proof.metrics` or `onnx_memo.proof.scores`. Where it is `cosine`, outputs of one
            number are measured by `spread`.
        scores: what the original gives for some of the sample, f64[n], rising, by the name of each output of
            one number; a goal that measures such an output has it (`with_scores`).
    """

    promise: Promise
    metric: str
    outputs: tuple[str, ...] = ()
    scores: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict, repr=False)

    def error(self, want: Outputs, have: Outputs, mask: Mask | None) -> float:
        """The error of one request, a batch of one: worst over the outputs.

        `mask`: bool[L], true for its real tokens; None: all rows of outputs [1, L, ...] are real.
        """
        return max(
            self._error(name, want[name], have[name], real_rows(want[name], mask))
            for name in self._compared(want)
        )

    def with_scores(self, outputs: Sequence[Outputs]) -> Goal:
        """The same, with the scores among what the original gave for some requests, batches of one.

        Where all that is compared are scores, an angle becomes the spread in name, too.
        """
        metrics = {name: self.metric_of(outputs[0][name]) for name in self._compared(outputs[0])}
        measured = [name for name, metric in metrics.items() if metric in SCORE_METRICS]
        metric = metrics[measured[0]] if len(measured) == len(metrics) else self.metric
        scores = {name: scores_of(given[name] for given in outputs) for name in measured}
        return replace(self, metric=metric, scores=scores)

    def metric_of(self, output: npt.NDArray[Any]) -> str:
        """The metric by which an output [1, ...] is measured."""
        return "spread" if self.metric == "cosine" and is_score(output) else self.metric

    def check_outputs(self, names: Sequence[str]) -> None:
        """Raises MemoError if one that was asked for is not among those of the model."""
        for name in self.outputs:
            if name not in names:
                raise MemoError(f"the model has no output '{name}': it has {', '.join(names)}")

    def _error(self, name: str, want: npt.NDArray[Any], have: npt.NDArray[Any], mask: Mask | None) -> float:
        metric = self.metric_of(want)
        if metric in SCORE_METRICS:
            return SCORE_METRICS[metric](want[0], have[0], mask, self.scores[name])
        return request_error(metric, {name: want[0]}, {name: have[0]}, mask)

    def _compared(self, want: Outputs) -> list[str]:
        """The outputs that the metric can compare, or all where it can none: `request_error` then says so.

        Raises:
            MemoError: a metric of scores, and no output is one.
        """
        names = self.outputs or tuple(want)
        floats = [name for name in names if np.issubdtype(want[name].dtype, np.floating) and want[name].size]
        if self.metric not in SCORE_METRICS:
            return floats or list(names)
        scores = [name for name in floats if is_score(want[name])]
        if not scores:
            raise MemoError(
                f"--metric {self.metric} compares outputs of one number a request, and there is none among: "
                f"{', '.join(names)}; take --metric {DEFAULT_METRIC}, or choose another with --output"
            )
        return scores


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
    known = [*METRICS, *SCORE_METRICS]
    if metric is not None and metric not in known:
        raise MemoError(f"there is no metric '{metric}': choose {', '.join(known)}")
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
