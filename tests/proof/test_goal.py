"""A goal puts its tolerance in scale: how far the sample's inputs are from each other."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from onnx_memo.errors import MemoError
from onnx_memo.proof.answer import Answer, pooled
from onnx_memo.proof.asked import Asked, goal_of
from onnx_memo.proof.choice import Wish
from onnx_memo.proof.decisions import Label, Neighbours, Ranking
from onnx_memo.proof.goal import WARNING, Goal
from onnx_memo.proof.measure import Distance, Seen
from onnx_memo.proof.promise import Promise
from onnx_memo.proof.values import decided_value


def answers(*degrees: float) -> list[Answer]:
    radians = np.radians(degrees)
    return [Answer({"pooled": np.array([[math.cos(at), math.sin(at)]])}) for at in radians]


def told(tolerance: float, sample, metric: str = "cosine") -> tuple[Goal, list[str]]:
    notes: list[str] = []
    goal = goal_of(Asked(tolerance=tolerance, metric=metric))
    assert goal is not None
    return goal.settled(sample, notes), notes


def test_the_distance_to_the_nearest_other_is_told():
    goal, notes = told(1e-4, answers(0, 10, 20, 60, 70))
    (note,) = (note for note in notes if "the nearest other" in note)
    tenth = 1 - math.cos(math.radians(10))
    assert goal.neighbours.nearest() == pytest.approx([tenth] * 5)
    assert note.startswith(f"of 5 inputs of the sample the nearest other is {tenth:.2g} away")


@pytest.mark.parametrize(("tolerance", "warned"), [(0.0030, False), (0.0031, True), (0.5, True)])
def test_a_tolerance_above_a_fifth_of_that_is_warned_of(tolerance, warned):
    """1 - cosine of 10 degrees is 0.0152."""
    _, notes = told(tolerance, answers(0, 10, 20))
    assert sum(note.startswith(WARNING) for note in notes) == warned


def test_other_metrics_are_not_angles():
    _, notes = told(0.5, answers(0, 10, 20), metric="relative")
    assert not any(note.startswith(WARNING) for note in notes)


def test_outputs_without_vectors_have_no_such_scale():
    goal, notes = told(0.5, [Answer({"score": np.array([[at]])}) for at in (1.0, 2.0)])
    assert goal.neighbours is None
    assert not any("nearest other" in note for note in notes)


def test_a_sample_of_equal_answers_has_no_such_scale():
    assert told(0.5, answers(7, 7, 7))[0].neighbours is None


def test_what_is_kept_many_times_is_pooled():
    tokens = np.arange(12, dtype=np.float32).reshape(1, 4, 3)
    answer = Answer(
        {"states": tokens, "scores": tokens[..., :1], "ids": np.zeros((1, 4), np.int64)}, np.arange(4) < 2
    )
    small = pooled(answer)
    assert small.outputs["states"].tolist() == [[1.5, 2.5, 3.5]]
    assert small.outputs["scores"].shape == (1, 4, 1)
    assert "ids" not in small.outputs


def test_where_a_references_answers_count_the_originals_own_has_an_error():
    """It is what a request gets that reuses nothing."""
    right, other = answers(0, 18)
    goal, _ = told(0.5, answers(0, 10, 20))
    assert goal.own(right).judged.error == 0
    one = goal.own(replace(right, own=other.outputs))
    assert one == goal.opinion(right, other.outputs)
    assert one.judged.error == pytest.approx(1 - math.cos(math.radians(18)))
    assert one.decided.error == 1, "another neighbour is nearest"


def test_its_single_tokens_have_errors_too():
    states = np.arange(1, 7, dtype=np.float32).reshape(1, 2, 3)
    right = Answer({"states": states}, np.ones(2, np.bool_))
    goal, _ = told(0.5, [right, right.giving({"states": -states}), right.giving({"states": states[:, ::-1]})])
    assert goal.own(right).token_error == 0
    assert goal.own(replace(right, own={"states": states[..., ::-1]})).token_error > 0.1


def test_what_is_remembered_of_an_answer_is_the_right_one_alone():
    right, other = answers(0, 10)
    both = replace(right, own=other.outputs)
    assert pooled(both).own is None
    assert pooled(both).outputs["pooled"].tolist() == right.outputs["pooled"].tolist()
    assert both.original.outputs is other.outputs and right.original is right


ONE = answers(0)[0]


@pytest.mark.parametrize(
    ("asked", "measure", "wish"),
    [
        (Asked(tolerance=0.1), Distance(), Wish()),
        (Asked(tolerance=0.1, decision="label"), Distance(), Wish("label")),
        (
            Asked(tolerance=0.1, metric="order", outputs=("a",)),
            Distance("order", ("a",)),
            Wish(outputs=("a",)),
        ),
        (Asked(keep=0.9, decision="label", outputs=("a",)), None, Wish("label", outputs=("a",))),
        (Asked(keep=0.9, decision="neighbours", slack=1.0), None, Wish("neighbours", 1.0)),
        (Asked(keep=0.9), None, Wish()),
    ],
)
def test_what_is_asked_for_is_measured(asked, measure, wish):
    goal = goal_of(asked)
    assert goal is not None
    assert (repr(goal.measure), goal.wish) == (repr(measure), wish)
    assert (goal.promise.tolerance, goal.promise.within) == ((0.0, 0.9) if asked.keep else (0.1, 0.95))


def test_a_promise_about_decisions_is_about_the_one_that_outputs_suggest():
    goal = goal_of(Asked(keep=0.9)).settled(answers(0, 10, 20), [])
    assert isinstance(goal.judge, Neighbours)
    logits = [Answer({"logits": np.asarray([[a, 1 - a]])}) for a in (0.1, 0.9)]
    goal = goal_of(Asked(keep=0.9)).settled(logits, [])
    assert isinstance(goal.judge, Label)


def test_of_a_ranking_no_share_of_pairs_is_outside_by_itself():
    scores = [Answer({"score": np.array([[at]])}) for at in (1.0, 2.0)]
    assert goal_of(Asked(keep=0.9)).settled(scores, []).promise.tolerance == 1


def test_beside_a_tolerance_the_decision_is_told():
    goal, notes = told(0.1, answers(0, 10, 40))
    assert "the decision is which of 3 inputs of the sample is nearest" in " ".join(notes)
    opinion = goal.opinion(answers(1)[0], answers(30)[0].outputs)
    assert opinion.judged.error == pytest.approx(1 - math.cos(math.radians(29)))
    assert opinion.decided.error == 1


def test_a_decision_that_nobody_asked_for_may_be_missing_beside_a_tolerance():
    """Answers that are all the same have no neighbours; who asks for them is told."""
    goal, _ = told(0.1, answers(7, 7, 7))
    assert goal.decision is None
    assert goal.opinion(ONE, ONE.outputs).decided.error == 0
    with pytest.raises(MemoError, match="--decision neighbours looks for the nearest"):
        goal_of(Asked(tolerance=0.1, decision="neighbours")).settled(answers(7, 7, 7), [])


def test_nothing_is_asked_for():
    assert goal_of(Asked()) is None


def test_a_request_that_reuses_nothing_has_no_error_even_by_a_label_that_equals_nothing():
    goal = Goal(Promise(0.0), Label(decided_value(lambda outputs, inputs: math.nan)))
    assert goal.own(ONE).judged.error == 0
    assert goal.opinion(ONE, ONE.outputs).judged.error == 1


def test_what_does_not_prove_a_promise_is_counted_and_of_a_ranking_what_was_kept():
    decided = Seen(np.zeros(20), np.stack([np.arange(20.0), np.arange(20.0)], axis=1))
    distance = Goal(Promise(0.01), Distance())
    assert distance.unproven(2, decided) == "2 of 20 held-out requests are outside the tolerance"
    ranked = Goal(Promise(0.01), None, decision=Ranking(decided_value(lambda outputs, inputs: 0.0)))
    assert ranked.unproven(0, decided) == (
        "20 held-out requests do not prove the promise (pairs of requests stay in order: 100.0% (190 of "
        "190), of the top tenth stay in it: 100.0% (2 of 2))"
    )
