"""A goal: a promise, how answers are judged, and the decision that people make with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from onnx_memo.errors import MemoError
from onnx_memo.proof.answer import Answer, Outputs
from onnx_memo.proof.choice import Wish, decision_of
from onnx_memo.proof.decisions import Neighbours
from onnx_memo.proof.measure import Judged, Kept, Measure, Seen
from onnx_memo.proof.metrics import cosine_by_token
from onnx_memo.proof.promise import Promise

SIGNAL = 5  # how many times smaller than the distance of neighbours a tolerance should be
WARNING = "warning"  # what a note begins with that should not be overlooked


@dataclass(frozen=True)
class Opinion:
    """What is said of an answer to one request.

    Attributes:
        judged: by what the promise is about.
        decided: by the decision; of no error where there is none.
        token_error: the cosine error of the worst token.
    """

    judged: Judged
    decided: Judged
    token_error: float


@dataclass(frozen=True)
class Goal:
    """A promise, and how answers are judged.

    Attributes:
        measure: what the promise is about; None: the decision.
        wish: what the user says of the decision.
        decision: that people make with answers, promised or told beside a tolerance; None: not settled yet,
            or no output suits one.
        neighbours: the sample's own, which put distances in scale; None: not settled yet, or there are none.
    """

    promise: Promise
    measure: Measure | None
    wish: Wish = field(default_factory=Wish)
    decision: Measure | None = None
    neighbours: Neighbours | None = None

    @property
    def metric(self) -> str:
        """What the errors are, as options take it and manifests hold it."""
        return self.judge.name

    @property
    def judge(self) -> Measure:
        """What the promise is about."""
        judge = self.measure or self.decision
        assert judge is not None, "a goal is settled before it judges"
        return judge

    def opinion(self, want: Answer, have: Outputs) -> Opinion:
        """What is to be said of an answer to one request."""
        judged = self.judge.judge(want, have)
        decided = judged if self.decision is self.judge else Judged(0.0)
        if self.decision is not None and self.decision is not self.judge:
            decided = self.decision.judge(want, have)
        return Opinion(judged, decided, token_error(want, have))

    def own(self, want: Answer) -> Opinion:
        """What is to be said of the original's own answer: a request gets it that reuses nothing."""
        judged = self.judge.own(want)
        decided = Judged(0.0) if self.decision is None else self.decision.own(want)
        return Opinion(judged, decided, 0.0 if want.own is None else token_error(want, want.own))

    def kept(self, decided: Seen) -> list[Kept]:
        """What stays as it is with the original, by what was said of the decision."""
        return [] if self.decision is None else self.decision.kept(decided)

    def unproven(self, failures: int, decided: Seen) -> str:
        """What held-out requests came to that do not prove the promise; `failures` are outside the tolerance.

        No single request of a ranking fails: there it is what was kept.
        """
        if self.judge.about_many:
            kept = ", ".join(map(str, self.kept(decided)))
            return f"{len(decided)} held-out requests do not prove the promise ({kept})"
        return f"{failures} of {len(decided)} held-out requests are outside the tolerance"

    def settled(self, answers: Iterable[Answer], notes: list[str]) -> Goal:
        """The same, judging as the outputs suggest, against some of the original's answers to the sample.

        Args:
            answers: at least one; each is looked at once.
            notes: for what people should know.

        Raises:
            MemoError: the outputs are not what is to be judged.
        """
        decision, neighbours = self.decision, None
        remembered: list[tuple[Any, ...]] = []
        for answer in answers:
            if not remembered:
                decision = self._decision_about(answer)
                neighbours = _neighbours_by(answer, self.wish)
            told = [each for each in (self.measure, decision, neighbours) if each is not None]
            remembered.append(tuple(each.remembered(answer) for each in told))
        columns = iter(zip(*remembered, strict=True))
        measure = self.measure and self.measure.against(next(columns), notes)
        if decision is not None:
            decision = self._against(decision, next(columns), notes)
        if neighbours is not None:
            neighbours = _known(neighbours, next(columns))
        promise = self.promise
        if measure is None and decision is not None:
            promise = replace(promise, tolerance=decision.allowed)
        goal = replace(self, promise=promise, measure=measure, decision=decision, neighbours=neighbours)
        notes.extend(goal._scale())
        return goal

    def _scale(self) -> list[str]:
        """How far the sample's inputs are from each other; a warning where a tolerance blurs that."""
        if self.neighbours is None:
            return []
        nearest, tolerance = self.neighbours.nearest(), self.promise.tolerance
        middle, low = float(np.median(nearest)), float(np.quantile(nearest, 0.05))
        notes = [
            f"of {len(nearest)} inputs of the sample the nearest other is {middle:.2g} away (1 - cosine of "
            f"{self.neighbours.value.what}, the median; for one in 20 no more than {low:.2g})"
        ]
        if self.metric == "cosine" and tolerance > middle / SIGNAL:
            warning = (
                f"{WARNING}: the tolerance {tolerance:g} is more than a fifth of {middle:.2g}, the "
                "distance to the nearest other input: what is nearest, or ranked by such differences, may "
                "change; --keep 0.95 keeps the decision"
            )
            notes.insert(0, warning)
        return notes

    def _decision_about(self, first: Answer) -> Measure | None:
        """The decision; beside a tolerance one that nobody asked for may be missing."""
        try:
            return decision_of(self.wish, first)
        except MemoError:
            if self.measure is None or self.wish.asked:
                raise
            return None

    def _against(self, decision: Measure, remembered: Sequence[Any], notes: list[str]) -> Measure | None:
        own: list[str] = []
        try:
            made = decision.against(remembered, own)
        except MemoError:
            if self.measure is None or self.wish.asked:
                raise
            return None
        notes.extend(own)
        return made

    def check_outputs(self, names: Sequence[str]) -> None:
        """Raises MemoError if one that was asked for is not among those of the model."""
        for name in self.wish.outputs:
            if name not in names:
                raise MemoError(f"the model has no output '{name}': it has {', '.join(names)}")


def token_error(want: Answer, have: Outputs) -> float:
    """The largest cosine error of a single token, over the outputs that have tokens."""
    errors = [
        cosine_by_token(want.outputs[name][0], have[name][0], want.real(name))
        for name in want.floats
        if want.outputs[name].ndim == 3
    ]
    return max(errors, default=0.0)


def _neighbours_by(first: Answer, wish: Wish) -> Neighbours | None:
    """The neighbours among answers like `first`, which put distances in scale, if there are vectors."""
    try:
        made = decision_of(Wish("neighbours", outputs=wish.outputs), first)
    except MemoError:
        return None
    assert isinstance(made, Neighbours)
    return made


def _known(neighbours: Neighbours, remembered: Sequence[Any]) -> Neighbours | None:
    """The neighbours among these answers; None if they are all the same."""
    try:
        return neighbours.against(remembered, [])
    except MemoError:
        return None
