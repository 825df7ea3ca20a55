"""What the user asks for: a promise about how answers are judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnx_memo.errors import MemoError
from onnx_memo.proof.answer import Answer, Outputs
from onnx_memo.proof.decisions import DECISIONS, SLACK, Neighbours, guessed, neighbours_of
from onnx_memo.proof.measure import Distance, Measure
from onnx_memo.proof.metrics import DEFAULT_METRIC, METRICS, cosine_by_token
from onnx_memo.proof.promise import Promise
from onnx_memo.proof.scores import SCORE_METRICS

SIGNAL = 5  # how many times smaller than the distance of neighbours a tolerance should be
WARNING = "warning"  # what a note begins with that should not be overlooked


@dataclass(frozen=True)
class Asked:
    """What the user says of a goal; None: nothing.

    Attributes:
        tolerance: the largest distance from the original's answer, by `metric`.
        keep: instead of that, the share of requests that must lead to the same `decision`.
        slack: of the decision `neighbours`, as a factor.
        outputs: that count; none: all.
    """

    tolerance: float | None = None
    metric: str | None = None
    within: float | None = None
    confidence: float | None = None
    keep: float | None = None
    decision: str | None = None
    slack: float | None = None
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Goal:
    """A promise, and how answers are judged.

    Attributes:
        measure: None: by the decision that the outputs suggest.
        neighbours: the sample's own, which put a distance in scale; None: not known, or there are none.
    """

    promise: Promise
    measure: Measure | None
    outputs: tuple[str, ...] = ()
    slack: float = SLACK
    neighbours: Neighbours | None = None

    @property
    def metric(self) -> str:
        """What the errors are, as options take it and manifests hold it."""
        return self.judge.name

    @property
    def judge(self) -> Measure:
        """How answers are judged."""
        assert self.measure is not None, "a goal is settled before it judges"
        return self.measure

    def error(self, want: Answer, have: Outputs) -> float:
        """The error of an answer."""
        return self.judge.error(want, have)

    def moves(self, want: Answer, have: Outputs) -> bool:
        """Whether an answer has another nearest neighbour than the original's; False where none are known."""
        return self.neighbours is not None and bool(self.neighbours.error(want, have))

    def with_measure(self, first: Answer) -> Goal:
        """The same; where no measure is given, with the one that the outputs of an answer suggest."""
        if self.measure is not None:
            return self
        return replace(self, measure=decision_of(guessed(first, self.outputs), self.outputs, self.slack))

    def against(self, answers: Sequence[Answer], notes: list[str]) -> Goal:
        """The same, judging against what the original gives for some of the sample (`Measure.against`)."""
        neighbours = neighbours_of(answers, self.outputs)
        if neighbours is not None:
            notes.extend(_scale(neighbours, self.promise.tolerance if self.metric == "cosine" else None))
        return replace(self, measure=self.judge.against(answers, notes), neighbours=neighbours)

    def check_outputs(self, names: Sequence[str]) -> None:
        """Raises MemoError if one that was asked for is not among those of the model."""
        for name in self.outputs:
            if name not in names:
                raise MemoError(f"the model has no output '{name}': it has {', '.join(names)}")


def goal_of(asked: Asked) -> Goal | None:
    """The goal; None: nothing is asked for, and nothing else counts then.

    Raises:
        MemoError: for what does not go together, or has no sense.
    """
    if asked.tolerance is not None and asked.keep is not None:
        raise MemoError("give --tolerance, a distance, or --keep, a share of decisions, but not both")
    if asked.keep is not None:
        return _of_decisions(asked, asked.keep)
    _refuse(asked, ("decision", "slack"), "says what --keep keeps: give --keep too, or leave it out")
    if asked.tolerance is None:
        what = "says what a tolerance means: give --tolerance too, or leave it out"
        _refuse(asked, ("metric", "within"), what)
        what = "says what --tolerance or --keep means: give one of these, or leave it out"
        _refuse(asked, ("confidence", "outputs"), what)
        return None
    known = [*METRICS, *SCORE_METRICS]
    if asked.metric is not None and asked.metric not in known:
        raise MemoError(f"there is no metric '{asked.metric}': choose {', '.join(known)}")
    promise = Promise(
        asked.tolerance,
        Promise.within if asked.within is None else asked.within,
        Promise.confidence if asked.confidence is None else asked.confidence,
    )
    return Goal(promise, Distance(asked.metric or DEFAULT_METRIC, asked.outputs), asked.outputs)


def decision_of(name: str, outputs: Sequence[str], slack: float) -> Measure:
    """The decision of this name, about the first of some outputs, or the first that suits it."""
    return DECISIONS[name](outputs[0] if outputs else "", slack)


def token_error(want: Answer, have: Outputs) -> float:
    """The largest cosine error of a single token, over the outputs that have tokens."""
    errors = [
        cosine_by_token(want.outputs[name][0], have[name][0], want.real(name))
        for name in want.floats
        if want.outputs[name].ndim == 3
    ]
    return max(errors, default=0.0)


def _scale(neighbours: Neighbours, tolerance: float | None) -> list[str]:
    """How far the sample's inputs are from each other; a warning where a tolerance blurs that."""
    nearest = neighbours.nearest()
    middle, low = float(np.median(nearest)), float(np.quantile(nearest, 0.05))
    notes = [
        f"of {len(nearest)} inputs of the sample the nearest other is {middle:.2g} away (1 - cosine of "
        f"'{neighbours.output}', the median; for one in 20 no more than {low:.2g})"
    ]
    if tolerance is not None and tolerance > middle / SIGNAL:
        warning = (
            f"{WARNING}: the tolerance {tolerance:g} is more than a fifth of {middle:.2g}, the distance to "
            "the nearest other input: what is nearest, or ranked by such differences, may change; --keep "
            "0.95 keeps what is nearest"
        )
        notes.insert(0, warning)
    return notes


def _of_decisions(asked: Asked, keep: float) -> Goal:
    what = "goes with --tolerance; with --keep the share is --keep's, and --decision says what is kept"
    _refuse(asked, ("metric", "within"), what)
    if asked.decision is not None and asked.decision not in DECISIONS:
        raise MemoError(f"there is no decision '{asked.decision}': choose {', '.join(DECISIONS)}")
    if not 0 < keep < 1:
        raise MemoError(f"--keep takes a share above 0 and below 1, such as 0.95, not {keep}")
    slack = SLACK if asked.slack is None else asked.slack
    if not 1 <= slack < float("inf"):
        raise MemoError(f"--slack takes a factor of at least 1, such as {SLACK}, not {slack}")
    if len(asked.outputs) > 1:
        raise MemoError("a decision is about one output: give --output once")
    promise = Promise(0.0, keep, Promise.confidence if asked.confidence is None else asked.confidence)
    measure = decision_of(asked.decision, asked.outputs, slack) if asked.decision else None
    return Goal(promise, measure, asked.outputs, slack)


def _refuse(asked: Asked, names: Sequence[str], what: str) -> None:
    for name in names:
        if getattr(asked, name) not in (None, ()):
            raise MemoError(f"--{name.removesuffix('s') if name == 'outputs' else name} {what}")
