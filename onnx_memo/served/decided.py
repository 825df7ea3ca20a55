"""What people do with one answer: what is decided by the original's, and by the bundle's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnx_memo.errors import MemoError
from onnx_memo.proof.answer import Answer, Outputs
from onnx_memo.proof.choice import DECISIONS, Wish, decision_of
from onnx_memo.proof.decisions import SAME, Label, Neighbours, Ranking
from onnx_memo.proof.measure import Measure
from onnx_memo.served.explanation import Decided
from onnx_memo.store.manifest import Promised
from onnx_memo.words import counted


@dataclass(frozen=True)
class Known:
    """Other inputs, with what a measure remembered of the original's answers to them.

    Attributes:
        measure: judging against these.
        remembered: of each input.
        names: of the inputs, as people know them.
    """

    measure: Measure
    remembered: Sequence[Any]
    names: Sequence[str]


def decision_about(promised: Promised | None, want: Answer) -> Measure | None:
    """The decision that a bundle promises to keep, or that its answers suggest; None: no output suits one."""
    wish = Wish()
    if promised is not None:
        own = promised.metric if promised.tolerance is None and promised.metric in DECISIONS else None
        wish = Wish(own, promised.slack, outputs=tuple(promised.outputs))
    try:
        return decision_of(wish, want)
    except MemoError:
        return None


def about_others(measure: Measure | None) -> bool:
    """Whether other inputs tell more of the decision than one answer does."""
    return isinstance(measure, Neighbours | Ranking)


def known_by(measure: Measure | None, others: Callable[[], Iterable[tuple[str, Answer]]]) -> Known | None:
    """What tells more of the decision than one answer does: the original's to `others`, by their names.

    None where one answer tells all, or the others are all the same.
    """
    if measure is None or not about_others(measure):
        return None
    found = [(name, measure.remembered(answer)) for name, answer in others()]
    remembered = [each for _, each in found]
    try:
        return Known(measure.against(remembered, []), remembered, [name for name, _ in found])
    except MemoError:
        return None


def decided(measure: Measure, want: Answer, have: Outputs, known: Known | None) -> Decided | None:
    """What is decided by an answer, where `want` is the original's; None: without other inputs nothing is."""
    if isinstance(measure, Label):
        return _label(measure, want, have)
    if isinstance(measure, Ranking):
        return _rank(measure, want, have, known)
    if isinstance(measure, Neighbours) and known is not None:
        return _nearest(measure, want, have, known)
    return None


def _label(measure: Label, want: Answer, have: Outputs) -> Decided:
    before, after = (np.asarray(measure.value.of(one)) for one in (want, want.giving(have)))
    if before.size == 1:
        told = f"class {before.item()}", f"class {after.item()}"
    else:
        told = f"the classes of {before.size} tokens", counted(int((before != after).sum()), "other")
    return Decided(measure.name, measure.value.what, told[0], told[1], not measure.judge(want, have).error)


def _rank(measure: Ranking, want: Answer, have: Outputs, known: Known | None) -> Decided:
    before, after = (_score(float(measure.value.of(one)), known) for one in (want, want.giving(have)))
    stays = None if known is None else not known.measure.judge(want, have).error
    return Decided(measure.name, measure.value.what, before, after, stays)


def _score(score: float, known: Known | None) -> str:
    if known is None:
        return f"{score:.6g}"
    others = np.asarray(known.remembered)
    return f"{score:.6g}, above {int((others < score).sum())} of {len(others)} inputs of the sample"


def _nearest(measure: Neighbours, want: Answer, have: Outputs, known: Known) -> Decided | None:
    vectors = np.stack(known.remembered)
    before, after = (1 - vectors @ measure.value.of(one) for one in (want, want.giving(have)))
    others = np.flatnonzero(before > SAME)  # as `Neighbours.judge` has it: an input is no neighbour of itself
    if not len(others):
        return None
    old, new = (int(others[distances[others].argmin()]) for distances in (before, after))
    told = [f"{far[at]:.2g} away: {known.names[at]}" for far, at in ((before, old), (after, new))]
    stays = not known.measure.judge(want, have).error
    return Decided(measure.name, measure.value.what, told[0], told[1], stays)
