"""Models of opsets before 13, as many published ones are: converted, and to the last bit what they were."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from support import assert_identical, fixture, join, memoized, original, random_samples, write_samples
from support_precision import exact_products

import onnx_memo

MODEL = "bert_opset11"
LENGTHS = (3, 5, 9, 9, 16, 23)


@pytest.fixture
def samples():
    assert onnx.load(fixture(MODEL)).opset_import[0].version == 11
    return random_samples(original(fixture(MODEL)), LENGTHS, seed=1)


@pytest.mark.parametrize("level", ["rows", "output", "probs"])
def test_repeats_are_reused_and_others_are_the_originals(tmp_path, samples, level, mode):
    data = write_samples(tmp_path / "data.npz", samples)
    bundle = onnx_memo.optimize(fixture(MODEL), data, tmp_path / "bundle", level=level)
    assert any("of opset 11: what is written is converted to 14" in note for note in bundle.manifest.notes)
    report = onnx_memo.bench(fixture(MODEL), bundle.path, data, native=mode == "native", rounds=1)
    assert report.hit_rate == 1
    after, before = memoized(bundle.path, mode), original(fixture(MODEL))
    np.testing.assert_allclose(after.run(None, samples[3])[0], before.run(None, samples[3])[0], atol=2e-3)
    unseen = random_samples(before, LENGTHS, seed=2)
    for request in (*unseen, join(unseen[1:4])):
        assert_identical(after.run(None, request), before.run(None, request))


@pytest.mark.usefixtures("everything_pays")
def test_they_run_in_8_bits(tmp_path, mode):
    if not exact_products(mode):
        pytest.skip("products of bytes are not exact on this processor: the original runs")
    before = original(fixture(MODEL))
    data = write_samples(tmp_path / "data.npz", random_samples(before, [9] * 240, seed=3))
    options = {"tolerance": 0.2, "metric": "relative", "level": "int8"}
    bundle = onnx_memo.optimize(fixture(MODEL), data, tmp_path / "bundle", **options)
    (request,) = random_samples(before, [9], seed=4)
    (have,), (want,) = memoized(bundle.path, mode).run(None, request), before.run(None, request)
    assert 0 < np.linalg.norm(have - want) <= 0.2 * np.linalg.norm(want)
