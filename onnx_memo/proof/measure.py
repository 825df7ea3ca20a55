"""How an answer is judged: by its distance from the original's, or by what is decided with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_memo.errors import MemoError
from onnx_memo.proof.answer import Answer, Outputs, pooled
from onnx_memo.proof.binomial import failure_p_value
from onnx_memo.proof.metrics import DEFAULT_METRIC, request_error
from onnx_memo.proof.promise import Promise, outside, provable, requests_needed
from onnx_memo.proof.scores import SCORE_METRICS, is_score, scores_of

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """What a measure says of an answer to a request.

    Attributes:
        error: 0 where it is the original's.
        numbers: what else it takes to judge many requests at once; how many depends on the measure.
    """

    error: float
    numbers: tuple[float, ...] = ()


@dataclass(frozen=True)
class Seen:
    """What a measure says of the answers to n requests: errors f64[n], and their numbers, f64[n, k]."""

    errors: Floats = field(repr=False)
    numbers: Floats = field(repr=False)

    @staticmethod
    def of(judged: Sequence[Judged]) -> Seen:
        """Of requests one by one."""
        return Seen(np.asarray([one.error for one in judged]), np.asarray([one.numbers for one in judged]))

    def where(self, reused: npt.NDArray[np.bool_], other: Seen) -> Seen:
        """These requests where they are reused, bool[n], and the `other`'s where they are not."""
        errors = np.where(reused, self.errors, other.errors)
        return Seen(errors, np.where(reused[:, None], self.numbers, other.numbers))

    def __len__(self) -> int:
        return len(self.errors)


@dataclass(frozen=True)
class Kept:
    """How often something stays as it is with the original: `kept` of `of`, as in "the best class stays"."""

    what: str
    kept: int
    of: int

    @property
    def share(self) -> float:
        """Between 0 and 1."""
        return self.kept / self.of if self.of else 1.0

    def __str__(self) -> str:
        return f"{self.what}: {self.share:.1%} ({self.kept:,} of {self.of:,})"


class Measure(ABC):
    """Judges answers, request by request, and what many of them prove.

    Attributes:
        allowed: the error up to which a decision stays; of a distance the user's tolerance says that.
        about_many: whether many requests at once are judged, rather than one by one.
    """

    allowed: float = 0.0
    about_many: bool = False

    @property
    @abstractmethod
    def name(self) -> str:
        """As options take it, and manifests hold it."""

    @abstractmethod
    def judge(self, want: Answer, have: Outputs) -> Judged:
        """What it says of an answer, where `want` is right."""

    def own(self, want: Answer) -> Judged:
        """What it says of the original's own answer, which a request gets that reuses nothing.

        No error, whatever numbers it holds, unless a reference's answers count.
        """
        if want.own is not None:
            return self.judge(want, want.own)
        return replace(self.judge(want, want.outputs), error=0.0)

    def error(self, want: Answer, have: Outputs) -> float:
        """The error of an answer, 0 where it is the original's."""
        return self.judge(want, have).error

    def remembered(self, answer: Answer) -> Any:
        """What it needs of an answer of the original's to judge others against it."""
        return pooled(answer)

    def against(self, remembered: Sequence[Any], notes: list[str]) -> Measure:
        """The same, judging against what it remembered of the original's answers to some of the sample.

        What people should know goes to `notes`.

        Raises:
            MemoError: the outputs are not what it judges.
        """
        del remembered, notes
        return self

    def kept(self, seen: Seen) -> list[Kept]:
        """What stays as it is with the original, for people; a distance keeps nothing."""
        del seen
        return []

    def p_value(self, seen: Seen, promise: Promise) -> float:
        """Of "the promise is broken": at most 1 - confidence where held-out requests prove it."""
        failures = int(outside(seen.errors, promise.tolerance).sum())
        return failure_p_value(failures, len(seen), promise.share)

    def keeps(self, seen: Seen, promise: Promise) -> bool:
        """Whether these requests keep the promise, whatever so few prove."""
        return float(outside(seen.errors, promise.tolerance).mean()) <= promise.share

    def likely(self, seen: Seen, promise: Promise, held_out: int) -> bool:
        """Whether a held-out part of so many requests, as good as these, would prove the promise."""
        if held_out < requests_needed(promise):
            return False
        share = float(outside(seen.errors, promise.tolerance).mean())
        return share <= provable(promise, held_out).share


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
    scores: Mapping[str, Floats] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """As `Measure` has it."""
        return self.metric

    def judge(self, want: Answer, have: Outputs) -> Judged:
        """As `Measure` has it."""
        return Judged(max(self._error(name, want, have[name]) for name in self._compared(want)))

    def against(self, remembered: Sequence[Answer], notes: list[str]) -> Measure:
        """Where all that is compared are scores, an angle becomes the spread in name, too."""
        outputs = remembered[0].outputs
        metrics = {name: self._metric_of(outputs[name]) for name in self._compared(remembered[0])}
        measured = [name for name, metric in metrics.items() if metric in SCORE_METRICS]
        scores = {name: scores_of(answer.outputs[name] for answer in remembered) for name in measured}
        for name, known in scores.items():
            size = float(known.std()) if len(known) else 0.0
            notes.append(
                f"output '{name}' is one number: its error is measured against the {len(known)} in answers "
                f"to some of the sample, of standard deviation {size:.3g}"
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
