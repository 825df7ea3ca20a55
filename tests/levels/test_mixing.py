"""Attention that is no core, run in the middle of packed rows in 8 bits."""

from __future__ import annotations

import numpy as np
import pytest
from support import assert_identical, join, memoized, original, random_samples, relative_errors
from support_encoder import SCORES, mixing_model
from support_precision import build_int8, exact_products

from onnx_memo.graph.cores import Mixing
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.levels.inserter import STRICTNESS

ROUNDED = 0.05  # relative L2 error of what runs in 8 bits


@pytest.fixture(params=SCORES)
def model(request, tmp_path):
    return mixing_model(tmp_path / "model.onnx", request.param)


def test_it_is_found(model):
    encoder = OpenedModel(model).encoder
    assert [type(meeting) for meeting in encoder.meetings] == [Mixing] * 2
    assert encoder.why_no_rows is None and all(meeting.asking for meeting in encoder.meetings)


def test_rows_in_8_bits_meet_as_in_the_model(tmp_path, model, mode):
    """Alone, padded, in an uneven batch, and of a sequence that is all padding."""
    if not exact_products(mode):
        pytest.skip("the original runs")
    build_int8(model, tmp_path / "bundle")
    before, after = original(model), memoized(tmp_path / "bundle", mode)
    samples = random_samples(before, [3, 9, 1, 20], seed=5)
    batch, empty = join(samples), join(samples)
    empty["attention_mask"][1] = 0
    for request in (*samples, join(samples[:1], padded=12), batch):
        (have,), (want,) = after.run(None, request), before.run(None, request)
        assert 0 < max(relative_errors(request, have, want)) <= ROUNDED
    (have,), (want,) = after.run(None, empty), before.run(None, empty)
    assert np.linalg.norm(have[1] - want[1]) <= ROUNDED * np.linalg.norm(want[1])
    extra = {STRICTNESS: np.asarray(0, np.float32)}
    assert_identical(after.run(None, batch | extra), before.run(None, batch))
