"""A goal puts its tolerance in scale: how far the sample's inputs are from each other."""

from __future__ import annotations

import math

import numpy as np
import pytest

from onnx_memo.proof.answer import Answer, pooled
from onnx_memo.proof.decisions import SAME, Label, Neighbours, vector_of
from onnx_memo.proof.goal import WARNING, Asked, Goal, goal_of
from onnx_memo.proof.measure import Distance


def answers(*degrees: float) -> list[Answer]:
    radians = np.radians(degrees)
    return [Answer({"pooled": np.array([[math.cos(at), math.sin(at)]])}) for at in radians]


def told(tolerance: float, sample, metric: str = "cosine") -> tuple[Goal, list[str]]:
    notes: list[str] = []
    goal = goal_of(Asked(tolerance=tolerance, metric=metric))
    assert goal is not None
    return goal.against(sample, notes), notes


def test_the_distance_to_the_nearest_other_is_told():
    goal, (note,) = told(1e-4, answers(0, 10, 20, 60, 70))
    tenth = 1 - math.cos(math.radians(10))
    assert goal.neighbours.nearest() == pytest.approx([tenth] * 5)
    assert note.startswith(f"of 5 inputs of the sample the nearest other is {tenth:.2g} away")


@pytest.mark.parametrize(("tolerance", "warned"), [(0.0030, False), (0.0031, True), (0.5, True)])
def test_a_tolerance_above_a_fifth_of_that_is_warned_of_first(tolerance, warned):
    """1 - cosine of 10 degrees is 0.0152."""
    _, notes = told(tolerance, answers(0, 10, 20))
    assert notes[0].startswith(WARNING) == warned
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


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_an_input_of_the_sample_is_itself_though_its_answer_was_pooled(dtype):
    """Or it would be its own nearest neighbour, and no answer to it ever wrong."""
    rng = np.random.default_rng(0)
    full = [
        Answer({"states": rng.standard_normal((1, 37, 64)).astype(dtype)}, np.ones(37, np.bool_))
        for _ in "abc"
    ]
    made = Neighbours().against([pooled(answer) for answer in full], [])
    for answer in full:
        assert (1 - made.vectors @ vector_of(answer.outputs["states"], answer.mask)).min() < SAME


@pytest.mark.parametrize(
    ("asked", "measure"),
    [
        (Asked(tolerance=0.1), Distance()),
        (Asked(tolerance=0.1, metric="order", outputs=("a",)), Distance("order", ("a",))),
        (Asked(keep=0.9, decision="label", outputs=("a",)), Label("a")),
        (Asked(keep=0.9, decision="neighbours", slack=1.0), Neighbours(slack=1.0)),
        (Asked(keep=0.9), None),
    ],
)
def test_what_is_asked_for_is_measured(asked, measure):
    goal = goal_of(asked)
    assert goal is not None
    assert repr(goal.measure) == repr(measure)
    assert (goal.promise.tolerance, goal.promise.within) == ((0.0, 0.9) if asked.keep else (0.1, 0.95))


def test_nothing_is_asked_for():
    assert goal_of(Asked()) is None
