"""Scores of answers: what inputs are ranked by."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_memo.data.samples import ModelInput, Samples
from onnx_memo.errors import MemoError
from onnx_memo.scoring import likelihood, score_of

TOKENS = {"input_ids": np.array([[1, 0, 2]]), "attention_mask": np.array([[1, 1, 0]])}
SAMPLES = Samples([TOKENS], [2], "attention_mask")
INPUTS = [ModelInput("input_ids", np.dtype(np.int64), (None, None), rows=3)]
LOGITS = np.log(np.array([[[0.1, 0.7, 0.2], [0.5, 0.25, 0.25], [0.3, 0.3, 0.4]]]))


def made(asked, outputs, samples=SAMPLES, inputs=INPUTS):
    return score_of(asked, outputs, samples, inputs)(outputs, samples.arrays[0])


# ---- Likelihood


def test_it_adds_the_log_probabilities_of_the_tokens_that_stand_there():
    assert likelihood(LOGITS[0], TOKENS["input_ids"][0]) == pytest.approx(np.log(0.7 * 0.5 * 0.4))


def test_logits_need_not_be_probabilities_and_may_be_large():
    large = (LOGITS[0] + np.array([[1e4], [-1e4], [3]])).astype(np.float32)
    assert likelihood(large, TOKENS["input_ids"][0]) == pytest.approx(np.log(0.7 * 0.5 * 0.4), abs=1e-2)


def test_padding_does_not_count():
    states = np.ones((1, 3, 8))
    assert made("likelihood", {"states": states, "logits": LOGITS}) == pytest.approx(np.log(0.7 * 0.5))


def test_without_a_mask_all_tokens_count():
    samples = Samples([{"input_ids": TOKENS["input_ids"]}], [0], None)
    assert made("likelihood", {"logits": LOGITS}, samples) == pytest.approx(np.log(0.7 * 0.5 * 0.4))


@pytest.mark.parametrize("outputs", [{"states": np.ones((1, 3, 8))}, {"pooled": np.ones((1, 3))}])
def test_hidden_states_are_no_logits(outputs):
    with pytest.raises(MemoError, match=r"reads logits \[1, tokens, 3\].* none among: (states|pooled)"):
        made("likelihood", outputs)


def test_a_model_of_pictures_has_no_tokens():
    samples = Samples([{"pixel_values": np.ones((1, 3, 8, 8))}], [0], None)
    with pytest.raises(MemoError, match="reads tokens from the input 'input_ids', and the model has none"):
        made("likelihood", {"logits": LOGITS}, samples, [])


# ---- Others


@pytest.mark.parametrize("shape", [(1,), (1, 1)])
def test_the_output_of_one_number_is_the_score(shape):
    assert made(None, {"states": np.ones((1, 3, 8)), "score": np.full(shape, 0.25)}) == 0.25


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ({"states": np.ones((1, 3))}, "no output of one number, among: states; give score='likelihood', or"),
        ({"a": np.ones((1, 1)), "b": np.ones(1)}, "several outputs of one number, among: a, b"),
        ({"label": np.ones((1, 1), np.int64)}, "no output of one number"),
    ],
)
def test_what_is_no_score_is_said(outputs, said):
    with pytest.raises(MemoError, match=said):
        made(None, outputs)


def test_a_function_sees_outputs_and_inputs():
    def first(outputs, inputs):
        return float(outputs["logits"][0, 0, inputs["input_ids"][0, 0]])

    assert made(first, {"logits": LOGITS}) == pytest.approx(np.log(0.7))


def test_other_names_are_refused():
    with pytest.raises(MemoError, match="no score 'perplexity': take 'likelihood', or give a function"):
        made("perplexity", {})
