"""Where a model only counts the ones of its mask, masks that are not ones and then zeros run the original."""

from __future__ import annotations

import numpy as np
import pytest
from support import (
    Arrays,
    assert_identical,
    changed,
    count_mask,
    fixture,
    join,
    memoized,
    nothing_left_in,
    original,
    variants,
    write_samples,
)

import onnx_memo
from onnx_memo.errors import MemoError

IN_BYTES = {"tolerance": 0.2}
LEVELS = ("int8", "rows", "output", "probs")
pytestmark = pytest.mark.usefixtures("everything_pays")


@pytest.fixture
def model(tmp_path):
    return changed("bert", tmp_path / "model.onnx", count_mask)


@pytest.fixture
def data(tmp_path):
    return write_samples(tmp_path / "data.npz", variants(240, seed=1, changes=8))


def masked(request: Arrays, mask: np.ndarray) -> Arrays:
    return request | {"attention_mask": mask}


def irregular() -> list[np.ndarray]:
    """A hole, left padding, another number."""
    ones = np.ones((1, 16), np.int64)
    made = [ones.copy() for _ in range(3)]
    made[0][:, 5], made[1][:, :3], made[2][:, 2] = 0, 0, 2
    return made


@pytest.mark.parametrize("level", LEVELS)
def test_irregular_masks_run_the_original(tmp_path, model, data, level, mode):
    options = IN_BYTES if level in ("int8", "rows") else {}
    made = onnx_memo.optimize(model, data, tmp_path / "b", level=level, **options)
    assert any("counts the ones of its mask 'attention_mask'" in note for note in made.manifest.notes)
    before, after = original(model), memoized(made.path, mode)
    (request, other) = variants(2, seed=7, changes=8)
    for mask in irregular():
        one = masked(request, mask)
        assert_identical(after.run(None, one), before.run(None, one))
        both = masked(join([request, other]), np.concatenate([np.ones_like(mask), mask]))
        assert_identical(after.run(None, both), before.run(None, both))


def test_regular_ones_run_in_8_bits_within_the_tolerance(tmp_path, model, data, mode):
    made = onnx_memo.optimize(model, data, tmp_path / "b", level="int8", **IN_BYTES)
    before, after = original(model), memoized(made.path, mode)
    for length in (16, 9):
        request = masked(variants(1, seed=7)[0], (np.arange(16) < length).astype(np.int64)[None])
        want, have = (session.run(None, request)[0][0, :length] for session in (before, after))
        assert 0 < np.linalg.norm(want - have) <= 0.2 * np.linalg.norm(want)


def test_a_bundle_without_the_original_is_refused(tmp_path, model, data):
    with nothing_left_in(tmp_path), pytest.raises(MemoError, match=r"counts the ones .* leave --compact out"):
        onnx_memo.optimize(model, data, tmp_path / "b", level="int8", compact=True, **IN_BYTES)


def test_bundles_of_other_models_take_any_mask_in_8_bits(tmp_path, data, mode):
    made = onnx_memo.optimize(fixture("bert"), data, tmp_path / "b", level="int8", **IN_BYTES)
    assert not any("counts the ones" in note for note in made.manifest.notes)
    request = masked(variants(1, seed=7)[0], irregular()[0])
    want, have = (
        session.run(None, request)[0] for session in (original(fixture("bert")), memoized(made.path, mode))
    )
    assert np.abs(want - have).max() > 0
