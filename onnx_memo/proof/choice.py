"""Which decision answers are used for: as the user says, or as the outputs suggest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_memo.errors import MemoError
from onnx_memo.proof.answer import Answer
from onnx_memo.proof.decisions import SLACK, TEN, Label, Neighbours, Ranking
from onnx_memo.proof.measure import Measure
from onnx_memo.proof.scores import is_score
from onnx_memo.proof.values import (
    Decide,
    Value,
    decided_value,
    label_value,
    likelihood_value,
    score_value,
    unit,
    vector_value,
)

MOST_CLASSES = 1024  # of an output [1, C] that is taken for classes, by its name
CLASSES = ("logit", "prob", "class", "label", "score")  # in the names of such outputs


@dataclass(frozen=True)
class Wish:
    """What the user says of the decision.

    Attributes:
        decision: its name, of `DECISIONS`; None: what the outputs suggest.
        slack: of neighbours.
        decide: in place of an output, a function of outputs and inputs that gives a number, which is ranked,
            a vector, whose neighbours count, or a label.
        outputs: that may be used; none: all.
    """

    decision: str | None = None
    slack: float = SLACK
    decide: Decide | None = None
    outputs: tuple[str, ...] = ()

    @property
    def asked(self) -> bool:
        """Whether the user said which one."""
        return self.decision is not None or self.decide is not None


def decision_of(wish: Wish, first: Answer) -> Measure:
    """The decision, for a model that gives answers like `first`.

    Raises:
        MemoError: no output suits it.
    """
    if wish.decide is not None:
        return _by_function(wish, wish.decide, first)
    return DECISIONS[wish.decision or suggested(wish, first)](wish, first)


def suggested(wish: Wish, first: Answer) -> str:
    """The decision that an answer suggests.

    A likelihood where an output looks like token logits, a label where one looks like classes, a ranking
    where all are single numbers, else neighbours.
    """
    names = [name for name in wish.outputs or first.floats if name in first.floats]
    named = list(filter(_named, names))
    if any(_ids_of(name, first) for name in named):
        return "likelihood"
    if any(_has_classes(first.outputs[name]) for name in named):
        return "label"
    return "ranking" if names and all(is_score(first.outputs[name]) for name in names) else "neighbours"


def _neighbours(wish: Wish, first: Answer, count: int = 1) -> Measure:
    name = "neighbours" if count == 1 else "ten-neighbours"
    output = _first_with(wish, first, _is_vector, name, "holds vectors")
    return Neighbours(vector_value(output), wish.slack, count)


def _label(wish: Wish, first: Answer) -> Measure:
    """Of several outputs that may hold classes, the first whose name says so: states may be as narrow."""
    names = sorted(wish.outputs or first.floats, key=lambda name: not _named(name))
    wish = replace(wish, outputs=tuple(names))
    name = _first_with(wish, first, _has_classes, "label", "holds classes")
    output = first.outputs[name]
    return Label(label_value(name), output.shape[-1] if output.ndim == 2 else None)


def _ranking(wish: Wish, first: Answer) -> Measure:
    what = "holds one number"
    return Ranking(score_value(_first_with(wish, first, is_score, "ranking", what)))


def _likelihood(wish: Wish, first: Answer) -> Measure:
    names = [name for name in wish.outputs or first.floats if name in first.floats]
    for name in names:
        ids = _ids_of(name, first)
        if ids is not None:
            return Ranking(likelihood_value(name, ids, first), "likelihood")
    raise MemoError(
        "--decision likelihood needs token logits, an output [batch, length, vocabulary], and an input of "
        f"ids below that; among {', '.join(first.outputs)} and {', '.join(first.inputs)} there are none"
    )


# By name, from what the user says and an answer.
DECISIONS: dict[str, Callable[[Wish, Answer], Measure]] = {
    "neighbours": _neighbours,
    "ten-neighbours": lambda wish, first: _neighbours(wish, first, TEN),
    "label": _label,
    "ranking": _ranking,
    "likelihood": _likelihood,
}


def _by_function(wish: Wish, decide: Decide, first: Answer) -> Measure:
    """The decision about what a function gives: a number is ranked, a vector has neighbours, else a label."""
    value, given = decided_value(decide), np.asarray(decide(first.outputs, first.inputs))
    floats = np.issubdtype(given.dtype, np.floating)
    if floats and given.size == 1:
        return Ranking(value)
    if floats and given.ndim == 1:
        return Neighbours(Value(value.what, lambda answer: unit(value.of(answer))), wish.slack)
    return Label(value)


def _ids_of(name: str, first: Answer) -> str | None:
    """The input of ids that logits [1, L, V] are of: whole numbers [1, L], the most of any, below V."""
    output = first.outputs[name]
    if output.ndim != 3 or output.shape[-1] < 2:
        return None
    fits = {
        ids: int(array.max())
        for ids, array in first.inputs.items()
        if np.issubdtype(array.dtype, np.integer) and array.shape == output.shape[:2] and array.size
    }
    best = max(fits, key=fits.__getitem__, default=None)
    return best if best is not None and 1 < fits[best] < output.shape[-1] else None


def _is_vector(output: npt.NDArray[Any]) -> bool:
    return output.ndim in (2, 3) and not is_score(output)


def _named(name: str) -> bool:
    """Whether the name of an output says that it holds classes."""
    return any(part in name.lower() for part in CLASSES)


def _has_classes(output: npt.NDArray[Any]) -> bool:
    return output.ndim in (2, 3) and 1 < output.shape[-1] <= MOST_CLASSES


def _first_with(
    wish: Wish, first: Answer, fits: Callable[[npt.NDArray[Any]], bool], decision: str, what: str
) -> str:
    """The first output that fits. Raises MemoError if none does."""
    names: Sequence[str] = wish.outputs or first.floats
    for name in names:
        if name in first.floats and fits(first.outputs[name]):
            return name
    raise MemoError(
        f"--decision {decision} needs an output that {what}, and there is none among: "
        f"{', '.join(names or first.outputs)}"
    )
