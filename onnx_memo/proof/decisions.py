"""Decisions: what people do with an answer. An answer is as good as the original's if the decision stays.

A decision's error is 0 where it stays and 1 where it does not, so a promise about decisions is one of
tolerance 0: at least the share `within` of requests leads to the same decision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from onnx_memo.errors import MemoError
from onnx_memo.proof.answer import Answer, Outputs
from onnx_memo.proof.measure import Measure
from onnx_memo.proof.scores import is_score

SLACK = 1.1  # of the distance of the nearest: what is no farther is as near, for a neighbour
MOST_CLASSES = 1024  # of an output [1, C] that is taken for classes, by its name
CLASSES = ("logit", "prob", "class", "label", "score")  # in the names of such outputs
SAME = 1e-12  # distance up to which two vectors are one input's

Vectors = npt.NDArray[np.float64]


def vector_of(output: npt.NDArray[np.floating], real: npt.NDArray[np.bool_] | None) -> Vectors:
    """A request's vector, of length 1, f64[d]: an output [1, d], or [1, L, d] averaged over the real tokens.

    Zero for a vector of zeros, or one that is not finite.
    """
    row = output[0].astype(np.float64)
    if row.ndim > 1:
        rows = row.reshape(-1, row.shape[-1])
        row = (rows[real] if real is not None and len(real) == len(rows) else rows).mean(axis=0)
    size = float(np.sqrt(row @ row))
    return row / size if np.isfinite(size) and size else np.zeros_like(row)


@dataclass(frozen=True)
class Neighbours(Measure):
    """Whether the nearest of other inputs stays: what a search with the answer finds.

    What it finds is right if its distance (1 - cosine) from the original's answer is at most `slack` times
    that of the nearest: what is as near may take its place.

    Attributes:
        output: that holds vectors; "": the first that does.
        vectors: the original's answers to inputs of the sample, f64[n, d], each of length 1.
    """

    output: str = ""
    slack: float = SLACK
    vectors: Vectors = field(default_factory=lambda: np.zeros((0, 0)), repr=False)

    @property
    def name(self) -> str:
        """As `Measure` has it."""
        return "neighbours"

    def against(self, answers: Sequence[Answer], notes: list[str]) -> Measure:
        """As `Measure` has it."""
        name = self.output or _first_with(answers[0], _is_vector, "neighbours", "holds vectors")
        vectors = np.unique([vector_of(a.outputs[name], a.real(name)) for a in answers], axis=0)
        if len(vectors) < 2:
            raise MemoError(
                f"--decision neighbours looks for the nearest of other inputs, and output '{name}' is the "
                "same for all of the sample: choose another with --output"
            )
        notes.append(
            f"the decision is which of {len(vectors)} inputs of the sample is nearest, by output '{name}'; "
            f"what is within {self.slack:g} times the distance of the nearest is as near"
        )
        return replace(self, output=name, vectors=vectors)

    def nearest(self) -> Vectors:
        """How far each of the sample's inputs is from the nearest other, 1 - cosine, f64[n]."""
        distances = 1 - self.vectors @ self.vectors.T
        np.fill_diagonal(distances, np.inf)
        return np.asarray(distances.min(axis=1))

    def error(self, want: Answer, have: Outputs) -> float:
        """As `Measure` has it."""
        real = want.real(self.output)
        before = 1 - self.vectors @ vector_of(want.outputs[self.output], real)
        after = 1 - self.vectors @ vector_of(have[self.output], real)
        others = before > SAME  # an input is no neighbour of itself
        if not others.any():
            return 0.0
        found = int(np.where(others, after, np.inf).argmin())
        return float(before[found] > self.slack * before[others].min())


@dataclass(frozen=True)
class Label(Measure):
    """Whether the best class stays; of several positions, all of them.

    Attributes:
        output: that holds classes on its last axis; "": the first that does.
    """

    output: str = ""

    @property
    def name(self) -> str:
        """As `Measure` has it."""
        return "label"

    def against(self, answers: Sequence[Answer], notes: list[str]) -> Measure:
        """As `Measure` has it."""
        name = self.output or _first_with(answers[0], _has_classes, "label", "holds classes")
        notes.append(f"the decision is the best class of output '{name}'")
        return replace(self, output=name)

    def error(self, want: Answer, have: Outputs) -> float:
        """As `Measure` has it."""
        before, after = (one[self.output][0] for one in (want.outputs, have))
        real = want.real(self.output)
        if before.ndim > 1 and real is not None and len(real) == len(before):
            before, after = before[real], after[real]
        if not np.isfinite(after[np.isfinite(before)]).all():
            return 1.0
        return float((before.argmax(axis=-1) != after.argmax(axis=-1)).any())


# From an output ("": the first that suits) and the slack.
DECISIONS: dict[str, Callable[[str, float], Measure]] = {
    "neighbours": Neighbours,
    "label": lambda output, _: Label(output),
}


def neighbours_of(answers: Sequence[Answer], outputs: Sequence[str]) -> Neighbours | None:
    """The neighbours among answers, by the first of `outputs` (none: of all) that holds vectors, if any."""
    names = [name for name in answers[0].floats if name in (outputs or answers[0].floats)]
    found = next((name for name in names if _is_vector(answers[0].outputs[name])), None)
    if found is None:
        return None
    try:
        made = Neighbours(found).against(answers, [])
    except MemoError:  # all the same
        return None
    assert isinstance(made, Neighbours)
    return made


def guessed(first: Answer, outputs: Sequence[str]) -> str:
    """The decision that an answer suggests: a label where an output looks like classes, else neighbours."""
    names = outputs or first.floats
    named = [name for name in names if any(part in name.lower() for part in CLASSES)]
    return "label" if any(_has_classes(first.outputs[name]) for name in named) else "neighbours"


def _is_vector(output: npt.NDArray[np.generic]) -> bool:
    return output.ndim in (2, 3) and not is_score(output)


def _has_classes(output: npt.NDArray[np.generic]) -> bool:
    return output.ndim in (2, 3) and 1 < output.shape[-1] <= MOST_CLASSES


def _first_with(
    answer: Answer, fits: Callable[[npt.NDArray[np.generic]], bool], decision: str, what: str
) -> str:
    """The first output that fits. Raises MemoError if none does."""
    for name in answer.floats:
        if fits(answer.outputs[name]):
            return name
    raise MemoError(
        f"--decision {decision} needs an output that {what}, and there is none among: "
        f"{', '.join(answer.outputs)}"
    )
