"""Decisions: the nearest of other inputs, and the best class."""

from __future__ import annotations

import math

import numpy as np
import pytest

from onnx_memo.errors import MemoError
from onnx_memo.proof.answer import Answer
from onnx_memo.proof.choice import DECISIONS, Wish, decision_of, suggested
from onnx_memo.proof.decisions import SLACK, Neighbours
from onnx_memo.proof.values import vector_of, vector_value

ANGLES = (0, 10, 20, 40, 80)  # of the sample's vectors


def at(angle: float, size: float = 1.0) -> dict[str, np.ndarray]:
    """A vector of two numbers."""
    radians = math.radians(angle)
    return {"pooled": np.array([[size * math.cos(radians), size * math.sin(radians)]], np.float32)}


def neighbours(slack: float = SLACK, angles=ANGLES, count: int = 1) -> Neighbours:
    made = Neighbours(vector_value("pooled"), slack, count)
    return made.against([made.remembered(Answer(at(angle))) for angle in angles], [])


# ---- Vectors


def test_a_vector_is_pooled_over_real_tokens_and_has_length_1():
    tokens = np.array([[[3, 0], [0, 4], [9, 9]]], np.float32)
    assert vector_of(tokens, np.array([True, True, False])) == pytest.approx([0.6, 0.8])
    assert vector_of(np.array([[0, 7]], np.float32), None) == pytest.approx([0, 1])


@pytest.mark.parametrize("number", [0.0, math.nan, math.inf])
def test_what_has_no_direction_is_zero(number):
    assert not vector_of(np.array([[number, number]], np.float32), None).any()


# ---- Neighbours


@pytest.mark.parametrize(
    ("want", "have", "changed"), [(3, 2, 0), (3, 4.5, 0), (3, 6, 1), (33, 29, 1), (33, 31, 0)]
)
def test_the_nearest_of_the_sample_has_to_stay(want, have, changed):
    assert neighbours(slack=1).error(Answer(at(want)), at(have)) == changed


def test_the_size_of_a_vector_does_not_matter():
    assert neighbours().error(Answer(at(3)), at(3, size=100)) == 0


def test_what_is_nearly_as_near_may_take_its_place():
    """At 4.9 degrees the two nearest are as far by 1 - cosine as 1 to 1.08."""
    assert neighbours(slack=1).error(Answer(at(4.9)), at(5.1)) == 1
    assert neighbours(slack=1.1).error(Answer(at(4.9)), at(5.1)) == 0
    assert neighbours(slack=1.1).error(Answer(at(4.0)), at(5.1)) == 1


def test_an_input_is_no_neighbour_of_itself():
    """A stored input finds the next one, or its answer would never be wrong."""
    assert neighbours(slack=1).error(Answer(at(10)), at(9)) == 0  # both at 0 and 20 are 10 away
    assert neighbours(slack=1).error(Answer(at(40)), at(70)) == 1
    assert neighbours(slack=1).error(Answer(at(20)), at(27)) == 1  # at 40 the next, no longer at 10


def test_repeats_of_the_sample_count_once():
    assert len(neighbours(angles=(0, 0, 10, 10, 10)).vectors) == 2


def test_a_sample_of_one_answer_has_no_neighbours():
    with pytest.raises(MemoError, match="no more than 1 answers that differ: choose another with --output"):
        neighbours(angles=(7, 7, 7))


# ---- Labels


def label(want, have, mask=None) -> float:
    first = Answer({"logits": np.asarray([want], np.float32)}, mask)
    return decision_of(Wish("label"), first).error(first, {"logits": np.asarray([have], np.float32)})


@pytest.mark.parametrize(("have", "changed"), [([1, 5, 2], 0), ([6, 5, 2], 1), ([1, math.nan, 2], 1)])
def test_the_best_class_has_to_stay(have, changed):
    assert label([1, 3, 2], have) == changed


def test_of_several_tokens_every_real_one():
    mask = np.array([True, True, False])
    assert label([[1, 0], [0, 1], [1, 0]], [[2, 0], [0, 2], [0, 9]], mask) == 0
    assert label([[1, 0], [0, 1], [1, 0]], [[2, 0], [3, 2], [1, 0]], mask) == 1


def test_the_best_class_before_and_after_is_known_of_one_position():
    first = Answer({"logits": np.array([[1, 3, 2]], np.float32)})
    decision = decision_of(Wish("label"), first)
    judged = decision.judge(first, {"logits": np.array([[1, 3, 9]], np.float32)})
    assert (decision.classes, judged.numbers) == (3, (1, 2))
    assert decision.judge(first, {"logits": np.array([[1, math.nan, 9]], np.float32)}).numbers == (1, -1)
    tokens = Answer({"logits": np.ones((1, 4, 3), np.float32)})
    decision = decision_of(Wish("label"), tokens)
    assert (decision.classes, decision.judge(tokens, tokens.outputs).numbers) == (None, ())


def test_of_several_outputs_the_one_that_is_named_so_holds_the_classes():
    states, logits = np.ones((1, 4, 32), np.float32), np.ones((1, 3), np.float32)
    assert decision_of(Wish("label"), Answer({"states": states, "logits": logits})).classes == 3
    assert decision_of(Wish("label"), Answer({"x": logits, "y": states})).classes == 3
    both = Answer({"logits": logits, "states": states})
    assert decision_of(Wish("label", outputs=("states",)), both).classes is None


# ---- Which one is meant


@pytest.mark.parametrize(
    ("name", "shape", "decision"),
    [
        ("logits", (1, 4), "label"),
        ("probabilities", (1, 2), "label"),
        ("last_hidden_state", (1, 5, 384), "neighbours"),
        ("sentence_embedding", (1, 384), "neighbours"),
        ("logits", (1, 5, 30522), "neighbours"),  # without ids they are no likelihood
        ("score", (1, 1), "ranking"),
    ],
)
def test_outputs_suggest_a_decision(name, shape, decision):
    first = Answer({name: np.ones(shape, np.float32)})
    assert suggested(Wish(), first) == decision
    assert decision in DECISIONS


@pytest.mark.parametrize(
    ("decision", "needed"),
    [
        ("neighbours", "an output that holds vectors"),
        ("label", "an output that holds classes"),
        ("likelihood", r"token logits, an output \[batch, length, vocabulary\]"),
    ],
)
def test_an_output_that_does_not_suit_is_named(decision, needed):
    with pytest.raises(MemoError, match=f"--decision {decision} needs {needed}.*score"):
        decision_of(Wish(decision), Answer({"score": np.ones((1, 1), np.float32)}))
