"""Decisions: what people do with an answer. An answer is as good as the original's if the decision stays.

A decision about one request has the error 0 where it stays and 1 where it does not, so a promise about such
decisions is one of tolerance 0: at least the share `within` of requests leads to the same decision. A ranking
is about all requests at once, and proven by weighting them (`onnx_memo.proof.ranking`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_memo.errors import MemoError
from onnx_memo.proof.answer import Answer, Outputs
from onnx_memo.proof.measure import Judged, Kept, Measure, Seen
from onnx_memo.proof.promise import Promise
from onnx_memo.proof.ranking import pairs_in_order, ranking_p_value, top_kept
from onnx_memo.proof.scores import order, scores_of
from onnx_memo.proof.values import Value

SLACK = 1.1  # of the distance of the nearest: what is no farther is as near, for a neighbour
TEN = 10  # neighbours, where not the nearest alone counts
SAME = 1e-12  # distance up to which two vectors are one input's

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Neighbours(Measure):
    """Whether the nearest of other inputs stay: what a search with the answer finds.

    What it finds is right if its distance (1 - cosine) from the original's answer is at most `slack` times
    that of the nearest; of ten that are found each, if at most `slack` times that of the tenth: what is as
    near may take another's place.

    Attributes:
        value: the vector of an answer, f64[d], of length 1.
        count: how many that are found have to be right, 1 or `TEN`.
        vectors: the original's answers to inputs of the sample, f64[n, d], each of length 1.
    """

    value: Value
    slack: float = SLACK
    count: int = 1
    vectors: Floats = field(default_factory=lambda: np.zeros((0, 0)), repr=False)

    @property
    def name(self) -> str:
        """As `Measure` has it."""
        return "neighbours" if self.count == 1 else "ten-neighbours"

    def remembered(self, answer: Answer) -> Floats:
        """The vector."""
        return np.asarray(self.value.of(answer))

    def against(self, remembered: Sequence[Floats], notes: list[str]) -> Neighbours:
        """As `Measure` has it."""
        vectors = np.unique(remembered, axis=0)
        if len(vectors) <= self.count:
            raise MemoError(
                f"--decision {self.name} looks for the nearest of other inputs, and by {self.value.what} the "
                f"sample has no more than {len(vectors)} answers that differ: choose another with --output"
            )
        which = "which" if self.count == 1 else f"which {self.count}"
        notes.append(
            f"the decision is {which} of {len(vectors)} inputs of the sample is nearest, by "
            f"{self.value.what}; what is within {self.slack:g} times the distance of the nearest is as near"
        )
        return replace(self, vectors=vectors)

    def nearest(self) -> Floats:
        """How far each of the sample's inputs is from the nearest other, 1 - cosine, f64[n]."""
        distances = 1 - self.vectors @ self.vectors.T
        np.fill_diagonal(distances, np.inf)
        return np.asarray(distances.min(axis=1))

    def judge(self, want: Answer, have: Outputs) -> Judged:
        """As `Measure` has it; its numbers: whether the nearest stays, and the share of the ten nearest."""
        before = 1 - self.vectors @ self.value.of(want)
        after = 1 - self.vectors @ self.value.of(want.giving(have))
        others = before > SAME  # an input is no neighbour of itself
        before, after = before[others], after[others]
        if not len(before):
            return Judged(0.0, (1.0, 1.0))
        right = [self._right(before, after, count) for count in (1, min(TEN, len(before)))]
        return Judged(float(right[self.count > 1] < 1), (right[0], right[1]))

    def kept(self, seen: Seen) -> list[Kept]:
        """As `Measure` has it."""
        one, ten = (round(float(share.sum()) * n) for share, n in zip(seen.numbers.T, (1, TEN), strict=True))
        return [
            Kept("the nearest neighbour stays", one, len(seen)),
            Kept("of the ten nearest stay", ten, TEN * len(seen)),
        ]

    def _right(self, before: Floats, after: Floats, count: int) -> float:
        """The share of the `count` nearest by `after` that are as near by `before` as those ought to be."""
        found = np.argpartition(after, count - 1)[:count]
        return float((before[found] <= self.slack * np.partition(before, count - 1)[count - 1]).mean())


@dataclass(frozen=True)
class Label(Measure):
    """Whether a label stays: the best class; of several positions, that of all of them.

    Attributes:
        value: the label of an answer: anything that can be compared, or an array of it.
        classes: how many there are, where the label is the best of them, of one position; None: where it is
            not, or there are several.
    """

    value: Value
    classes: int | None = None

    @property
    def name(self) -> str:
        """As `Measure` has it."""
        return "label"

    def against(self, remembered: Sequence[Any], notes: list[str]) -> Label:
        """As `Measure` has it."""
        notes.append(f"the decision is the label by {self.value.what}")
        return self

    def judge(self, want: Answer, have: Outputs) -> Judged:
        """As `Measure` has it; its numbers, where there are `classes`: the best one before and after."""
        before, after = self.value.of(want), self.value.of(want.giving(have))
        numbers = () if self.classes is None else (float(before[0]), float(after[0]))
        return Judged(float(not np.array_equal(before, after)), numbers)

    def kept(self, seen: Seen) -> list[Kept]:
        """As `Measure` has it."""
        return [Kept("the label stays", int((seen.errors == 0).sum()), len(seen))]


@dataclass(frozen=True)
class Ranking(Measure):
    """Whether the order of requests stays: of pairs, and the tenth with the highest scores.

    Attributes:
        value: the score of an answer.
        title: `ranking`, or `likelihood` where that is the score.
        scores: what the original gives for some of the sample, f64[n], rising.
    """

    value: Value
    title: str = "ranking"
    scores: Floats = field(default_factory=lambda: np.zeros(0), repr=False)

    allowed = 1.0  # the error is a share of pairs; only numbers that broke are outside
    about_many = True

    @property
    def name(self) -> str:
        """As `Measure` has it."""
        return self.title

    def remembered(self, answer: Answer) -> float:
        """The score."""
        return float(self.value.of(answer))

    def against(self, remembered: Sequence[float], notes: list[str]) -> Ranking:
        """As `Measure` has it."""
        scores = scores_of([np.asarray(remembered)])
        if len(np.unique(scores)) < 2:
            raise MemoError(
                f"--decision {self.name} ranks by {self.value.what}, which is the same for all of the "
                "sample: choose another with --output"
            )
        notes.append(
            f"the decision is the order of requests by {self.value.what}, of standard deviation "
            f"{scores.std():.3g} in the sample: which of two is higher, and the tenth with the highest"
        )
        return replace(self, scores=scores)

    def judge(self, want: Answer, have: Outputs) -> Judged:
        """As `Measure` has it: the share of the sample's scores that it passes; its numbers, both scores."""
        before, after = (float(self.value.of(one)) for one in (want, want.giving(have)))
        return Judged(order(np.asarray(before), np.asarray(after), None, self.scores), (before, after))

    def kept(self, seen: Seen) -> list[Kept]:
        """As `Measure` has it."""
        before, after = seen.numbers.T
        return [
            Kept("pairs of requests stay in order", *pairs_in_order(before, after)),
            Kept("of the top tenth stay in it", *top_kept(before, after)),
        ]

    def p_value(self, seen: Seen, promise: Promise) -> float:
        """As `Measure` has it."""
        before, after = seen.numbers.T
        return ranking_p_value(before, after, promise.within)

    def keeps(self, seen: Seen, promise: Promise) -> bool:
        """As `Measure` has it."""
        return all(kept.share >= promise.within for kept in self.kept(seen))

    def likely(self, seen: Seen, promise: Promise, held_out: int) -> bool:
        """As `Measure` has it."""
        before, after = seen.numbers.T
        return ranking_p_value(before, after, promise.within, held_out) <= promise.delta
