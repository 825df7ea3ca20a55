"""What the fit part says of a way, and what is said where so few requests are held out."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_memo.levels.decide import more_inputs
from onnx_memo.levels.ways import Alternative, Chance
from onnx_memo.proof.decisions import Ranking
from onnx_memo.proof.goal import Goal
from onnx_memo.proof.measure import Distance, Judged, Seen
from onnx_memo.proof.promise import Promise
from onnx_memo.proof.values import Value

PROMISE = Promise(0.01, within=0.95, confidence=0.95)


def failing(failures: int, requests: int = 100) -> Seen:
    return Seen.of([Judged(1.0 if at < failures else 0.0) for at in range(requests)])


@pytest.mark.parametrize(
    ("failures", "said"),
    [
        (2, "the fit part keeps the tolerance"),  # a proof allows 16 of 500, not 5 %
        (5, "the fit part keeps the tolerance, but 500 held-out requests are too few to prove it"),
        (6, "the fit part does not keep the tolerance"),
    ],
)
def test_what_keeps_the_promise_may_not_prove_it(failures, said):
    chance = Chance.of(Goal(PROMISE, Distance()), failing(failures), held_out=500)
    assert str(chance) == said
    assert (chance.kept, chance.too_few) == (failures == 2, failures == 5)


def ranked(lost: int) -> Seen:
    """300 scores, the highest of which fall below all others."""
    before = np.arange(300.0)
    after = before.copy()
    after[300 - lost :] = -1.0
    return Seen(np.zeros(300), np.stack([before, after], axis=1))


@pytest.mark.parametrize(("lost", "kept", "too_few"), [(0, True, False), (1, False, True), (2, False, False)])
def test_of_a_ranking_the_top_tenth_has_to_stay(lost, kept, too_few):
    """30 of 300 are the top: one lost leaves 96.7 %, two 93.3 %."""
    goal = Goal(PROMISE, None, decision=Ranking(Value("a score", lambda answer: answer)))
    chance = Chance.of(goal, ranked(lost), held_out=300)
    assert (chance.kept, chance.too_few) == (kept, too_few)


def way(name: str, ratio: float, too_few: bool) -> Alternative:
    chance = Chance(kept=not too_few, too_few=too_few, held_out=300)
    return Alternative(name, name, ratio, 0.0, 0.1, str(chance), too_few)


def test_a_faster_way_that_so_few_cannot_prove_is_named():
    tried = [
        way("slow", 0.9, True),
        way("int8", 0.31, True),
        way("other", 0.4, True),
        way("fast", 0.1, False),
    ]
    (note,) = more_inputs(0.75, tried)
    assert note == (
        "more inputs may gain time: 'int8' takes 0.310 of the original's, and the fit part keeps the "
        "tolerance, but 300 held-out requests are too few to prove it"
    )


def test_a_slower_one_is_not():
    assert more_inputs(0.3, [way("int8", 0.31, True)]) == []
