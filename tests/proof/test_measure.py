"""How an answer is judged by its distance from the original's: which outputs count, and which tokens."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_memo.proof.answer import Answer
from onnx_memo.proof.measure import Distance


def error(want, have, mask, measure=None) -> float:
    return (measure or Distance()).error(Answer(want, mask), have)


def outputs(*tokens: list[float]) -> dict[str, np.ndarray]:
    return {"states": np.asarray([tokens], np.float32)}


def test_cosine_pools_outputs_of_tokens():
    """Errors that cancel in the mean are none; token by token they would be large."""
    want = outputs([1, 1], [1, 1])
    have = outputs([2, 0], [0, 2])
    assert error(want, have, np.ones(2, np.bool_)) == pytest.approx(0, abs=1e-12)


def test_cosine_pools_real_tokens_alone():
    want, have = outputs([1, 0], [0, 1]), outputs([1, 0], [5, 0])
    assert error(want, have, np.asarray([True, False])) == 0
    assert error(want, have, np.asarray([True, True])) == pytest.approx(1 - np.sqrt(0.5))


def test_without_a_mask_all_rows_are_real():
    """A model of pictures: pooled as well, not one long vector."""
    want, have = outputs([1, 1], [1, 1]), outputs([2, 0], [0, 2])
    assert error(want, have, None) == pytest.approx(0, abs=1e-12)


def test_outputs_without_tokens_are_not_pooled():
    want = {"pooled": np.asarray([[1.0, 0.0]], np.float32)}
    have = {"pooled": np.asarray([[0.0, 1.0]], np.float32)}
    for mask in (None, np.ones(2, np.bool_)):
        assert error(want, have, mask) == pytest.approx(1)


def test_the_worst_output_counts_and_only_those_named():
    want = outputs([1, 1], [1, 1]) | {"pooled": np.asarray([[1.0, 0.0]], np.float32)}
    have = outputs([2, 0], [0, 2]) | {"pooled": np.asarray([[0.0, 1.0]], np.float32)}
    mask = np.ones(2, np.bool_)
    assert error(want, have, mask) == pytest.approx(1)
    assert error(want, have, mask, Distance(outputs=("states",))) == pytest.approx(0, abs=1e-12)


def test_relative_counts_every_real_token():
    """It is not pooled."""
    relative = Distance("relative")
    want, have = outputs([1, 1], [1, 1]), outputs([2, 0], [0, 2])
    assert error(want, have, np.ones(2, np.bool_), relative) == pytest.approx(1)
    assert error(want, have, np.asarray([True, False]), relative) == pytest.approx(1)
    assert error(want, outputs([1, 1], [9, 9]), np.asarray([True, False]), relative) == 0


def test_integer_outputs_beside_floats_are_passed_over():
    want = outputs([1, 1]) | {"labels": np.asarray([[3]])}
    assert error(want, outputs([1, 1]) | {"labels": np.asarray([[4]])}, None) == 0
