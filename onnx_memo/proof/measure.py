"""How an answer is judged: by its distance from the original's, or by what is decided with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_memo.errors import MemoError
from onnx_memo.proof.answer import Answer, Outputs
from onnx_memo.proof.metrics import DEFAULT_METRIC, request_error
from onnx_memo.proof.scores import SCORE_METRICS, is_score, scores_of


class Measure(ABC):
    """Judges answers, request by request."""

    @property
    @abstractmethod
    def name(self) -> str:
        """As options take it, and manifests hold it."""

    @abstractmethod
    def error(self, want: Answer, have: Outputs) -> float:
        """The error of an answer, 0 where it is the original's."""

    def against(self, answers: Sequence[Answer], notes: list[str]) -> Measure:
        """The same, judging against these answers to some of the sample; what people should know to `notes`.

        Raises:
            MemoError: the outputs are not what it judges.
        """
        del answers, notes
        return self


@dataclass(frozen=True)
class Distance(Measure):
    """By a metric, the worst over some outputs (all, if none are named).

    Attributes:
        metric: of `onnx_memo.proof.metrics` or `onnx_memo.proof.scores`. Where it is `cosine`, outputs of one
            number are measured by `spread`.
        scores: what the original gives for some of the sample, f64[n], rising, by the name of each output of
            one number.
    """

    metric: str = DEFAULT_METRIC
    outputs: tuple[str, ...] = ()
    scores: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """As `Measure` has it."""
        return self.metric

    def error(self, want: Answer, have: Outputs) -> float:
        """As `Measure` has it."""
        return max(self._error(name, want, have[name]) for name in self._compared(want))

    def against(self, answers: Sequence[Answer], notes: list[str]) -> Measure:
        """Where all that is compared are scores, an angle becomes the spread in name, too."""
        outputs = answers[0].outputs
        metrics = {name: self._metric_of(outputs[name]) for name in self._compared(answers[0])}
        measured = [name for name, metric in metrics.items() if metric in SCORE_METRICS]
        scores = {name: scores_of(answer.outputs[name] for answer in answers) for name in measured}
        for name, known in scores.items():
            size = float(known.std()) if len(known) else 0.0
            notes.append(
                f"output '{name}' is one number: its error is measured against the {len(known)} that the "
                f"original gives for some of the sample, of standard deviation {size:.3g}"
            )
        metric = metrics[measured[0]] if measured and len(measured) == len(metrics) else self.metric
        return replace(self, metric=metric, scores=scores)

    def _metric_of(self, output: npt.NDArray[Any]) -> str:
        return "spread" if self.metric == "cosine" and is_score(output) else self.metric

    def _error(self, name: str, want: Answer, have: npt.NDArray[Any]) -> float:
        row, mask = want.outputs[name], want.real(name)
        metric = self._metric_of(row)
        if metric in SCORE_METRICS:
            return SCORE_METRICS[metric](row[0], have[0], mask, self.scores[name])
        return request_error(metric, {name: row[0]}, {name: have[0]}, mask)

    def _compared(self, want: Answer) -> list[str]:
        """The outputs that the metric can compare, or all where it can none: `request_error` then says so.

        Raises:
            MemoError: a metric of scores, and no output is one.
        """
        names = self.outputs or tuple(want.outputs)
        floats = [name for name in names if name in want.floats]
        if self.metric not in SCORE_METRICS:
            return floats or list(names)
        scores = [name for name in floats if is_score(want.outputs[name])]
        if not scores:
            raise MemoError(
                f"--metric {self.metric} compares outputs of one number a request, and there is none among: "
                f"{', '.join(names)}; take --metric {DEFAULT_METRIC}, or choose another with --output"
            )
        return scores
