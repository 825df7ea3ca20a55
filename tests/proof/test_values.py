"""What an answer comes down to: a label, a number, a likelihood."""

from __future__ import annotations

import math

import numpy as np
import pytest

from onnx_memo.proof.answer import Answer
from onnx_memo.proof.choice import Wish, decision_of, suggested
from onnx_memo.proof.decisions import Label, Neighbours, Ranking
from onnx_memo.proof.values import label_of, log_probabilities, score_of

IDS = np.array([[3, 1, 2, 0]])


def logits(ids, strength: float = 4.0, classes: int = 5) -> np.ndarray:
    """Logits that speak for these ids."""
    return np.eye(classes, dtype=np.float32)[np.asarray(ids)] * strength


def answer(output, mask=None, ids=IDS) -> Answer:
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    return Answer({"logits": output}, mask, inputs)


def test_a_likelihood_is_the_sum_of_the_log_probabilities_of_what_stands_there():
    each = 4 - math.log(math.exp(4) + 4)
    assert log_probabilities(answer(logits(IDS)), "logits", "input_ids", 0).sum() == pytest.approx(4 * each)


def test_padding_is_not_likely_nor_unlikely():
    mask = np.array([True, True, True, False])
    each = 4 - math.log(math.exp(4) + 4)
    assert log_probabilities(answer(logits(IDS), mask), "logits", "input_ids", 0).sum() == pytest.approx(
        3 * each
    )


def test_large_logits_do_not_overflow():
    assert log_probabilities(answer(logits(IDS, 1e4)), "logits", "input_ids", 0).sum() == pytest.approx(0)


@pytest.mark.parametrize(("own", "how"), [(True, "pseudo-log-likelihood"), (False, "by the logits before")])
def test_who_reads_from_left_to_right_is_judged_by_the_logits_before(own, how):
    output = logits(IDS if own else np.roll(IDS, -1, axis=1))
    first = answer(output)
    assert suggested(Wish(), first) == "likelihood"
    decision = decision_of(Wish(), first)
    assert isinstance(decision, Ranking)
    assert how in decision.value.what
    each = 4 - math.log(math.exp(4) + 4)
    assert decision.remembered(first) == pytest.approx((4 if own else 3) * each)


def test_a_short_input_does_not_look_as_if_read_from_left_to_right():
    """Each token counts alike: before the first there are no logits, so a sum would have one term less."""
    decision = decision_of(Wish("likelihood"), answer(logits(IDS, 0)))
    assert isinstance(decision, Ranking)
    assert decision.value.what.startswith("pseudo")


def test_classes_of_tokens_are_no_likelihood():
    """Ids beyond the classes: tagging."""
    assert suggested(Wish(), answer(logits(IDS), ids=IDS + 100)) == "label"


def test_labels_and_scores_are_of_real_tokens():
    mask = np.array([True, True, False, False])
    assert label_of(logits(IDS), mask).tolist() == [3, 1]
    assert label_of(np.array([[1.0, math.nan]]), None).tolist() == [-1]
    assert score_of(np.array([[[1.0], [3.0], [8.0], [8.0]]]), mask) == 2
    assert score_of(np.array([[7.0]]), None) == 7


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (0.5, Ranking),
        (np.float32(0.5), Ranking),
        (np.ones(8), Neighbours),
        ("spam", Label),
        (3, Label),
        (True, Label),
        (np.array([1, 2]), Label),
    ],
)
def test_a_function_of_the_users_own_says_by_what_it_gives_which_decision_it_is(given, kind):
    decision = decision_of(Wish(decide=lambda outputs, inputs: given), answer(logits(IDS)))
    assert isinstance(decision, kind)
    assert "the given function" in decision.value.what


def test_a_label_of_a_function_is_compared_as_it_is():
    decision = decision_of(
        Wish(decide=lambda outputs, inputs: "spam" if outputs["logits"].sum() > 0 else "ham"),
        answer(logits(IDS)),
    )
    assert decision.error(answer(logits(IDS)), {"logits": logits(IDS) + 1}) == 0
    assert decision.error(answer(logits(IDS)), {"logits": -logits(IDS)}) == 1
