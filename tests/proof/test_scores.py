"""Outputs of one number: measured against the scores of the sample, never by an angle."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnx_memo.errors import MemoError
from onnx_memo.proof.answer import Answer
from onnx_memo.proof.measure import Distance
from onnx_memo.proof.scores import SCORE_METRICS, is_score, order, scores_of, spread

SCORES = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
NUMBERS = st.floats(-10, 10, width=32)


def f32(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float32)


@pytest.mark.parametrize(
    ("shape", "score"),
    [((3,), True), ((3, 1), True), ((3, 5, 1), True), ((3, 2), False), ((3, 5, 384), False)],
)
def test_one_number_a_request_or_a_token_is_a_score(shape, score):
    assert is_score(np.zeros(shape)) == score


def test_the_spread_counts_standard_deviations():
    assert spread(f32(5), f32(6), None, SCORES) == pytest.approx(1 / math.sqrt(2))
    tokens = np.array([[1.0], [2.0], [3.0]]), np.array([[1.0], [4.0], [99.0]])
    assert spread(*tokens, np.array([True, True, False]), SCORES) == pytest.approx(1.0)


def test_scores_that_are_all_the_same_allow_no_difference():
    assert spread(f32(1), f32(1), None, np.ones(4)) == 0
    assert spread(f32(1), f32(1.01), None, np.ones(4)) == math.inf


@pytest.mark.parametrize(
    ("want", "have", "passed"),
    [
        (0.5, 1.5, 1),
        (1.5, 0.5, 1),
        (0.5, 0.9, 0),
        (-3, 3, 5),
        (0.5, 1, 1),
        (0, 0.5, 0),
        (0, -1, 1),
        (1, 1, 0),
    ],
)
def test_the_order_counts_scores_that_are_passed(want, have, passed):
    assert order(f32(want), f32(have), None, SCORES) == passed / len(SCORES)


@given(hnp.arrays(np.float32, st.integers(1, 9), elements=NUMBERS), NUMBERS, NUMBERS)
@settings(deadline=None)
def test_the_order_is_that_of_pairs(scores, want, have):
    """Those that had an order and have another now."""
    before, after = np.sign(want - scores), np.sign(have - scores)
    changed = np.mean((before != 0) & (before != after))
    assert order(f32(want), f32(have), None, scores_of([scores])) == pytest.approx(changed)


@given(hnp.arrays(np.float32, (4, 1), elements=st.floats(width=32)), st.sampled_from(list(SCORE_METRICS)))
@settings(deadline=None)
def test_equal_scores_have_an_error_of_exactly_0(row, metric):
    assert SCORE_METRICS[metric](row, row.copy(), None, SCORES) == 0.0


@pytest.mark.parametrize("metric", SCORE_METRICS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_score_that_broke_is_an_infinite_error(metric, bad):
    for pair in itertools.permutations((f32(bad), f32(1))):
        assert SCORE_METRICS[metric](*pair, None, SCORES) == math.inf


# ---- Among the outputs of a model

REFERENCE = [Answer({"logits": np.array([[score]])}) for score in SCORES]


def logits(score: float) -> dict[str, np.ndarray]:
    return {"logits": np.array([[score]])}


def test_a_cosine_of_one_number_is_its_spread():
    """A sign is all that an angle would see."""
    notes: list[str] = []
    measure = Distance().against(REFERENCE, notes)
    assert measure.name == "spread"
    assert measure.error(Answer(logits(0.5)), logits(0.6)) == pytest.approx(0.1 / math.sqrt(2))
    (note,) = notes
    assert note.startswith("output 'logits' is one number") and note.endswith("of standard deviation 1.41")


def test_beside_a_vector_each_output_has_its_own_measure():
    wide = {"states": np.array([[3.0, 4.0]])}
    measure = Distance().against([Answer(one.outputs | wide) for one in REFERENCE], [])
    assert measure.name == "cosine"
    want = logits(0.5) | wide
    assert measure.error(Answer(want), want | {"states": np.array([[4.0, -3.0]])}) == pytest.approx(1)
    assert measure.error(Answer(want), want | logits(-0.5)) == pytest.approx(1 / math.sqrt(2))


def test_the_order_is_asked_for():
    measure = Distance("order").against(REFERENCE, [])
    assert measure.error(Answer(logits(0.5)), logits(1.5)) == 0.2


@pytest.mark.parametrize("metric", SCORE_METRICS)
def test_a_vector_has_no_order(metric):
    states = {"states": np.zeros((1, 3))}
    with pytest.raises(MemoError, match=f"--metric {metric} compares outputs of one number.*: states; take"):
        Distance(metric).against([Answer(states)], [])
