"""Models that ONNX Runtime fuses across every cut are written as it fuses them."""

from __future__ import annotations

import numpy as np
import pytest
from support import FIXTURES, assert_identical, join, memoized, original, random_samples, write_samples

import onnx_memo
from onnx_memo.build import AS_COMPUTED
from onnx_memo.graph.opened import OpenedModel

MODEL = FIXTURES / "forms" / "gpt-neox-optimum.onnx"  # in a branch its angles are transposed elsewhere
LENGTHS = 6 * (7, 11, 17, 31)  # at others the numbers are the same


def test_repeats_are_reused_and_others_are_the_originals(tmp_path):
    before = original(MODEL)
    samples, unseen = random_samples(before, LENGTHS, seed=1), random_samples(before, LENGTHS, seed=2)
    bundle = onnx_memo.optimize(MODEL, write_samples(tmp_path / "data.npz", samples), tmp_path / "bundle")
    assert bundle.manifest.sites[0].level == "rows"
    assert AS_COMPUTED in bundle.manifest.notes
    assert not any("is left out" in note for note in bundle.manifest.notes)
    for mode in ("stock", "native") if onnx_memo.library_path() is not None else ("stock",):
        after = memoized(bundle.path, mode)
        for request in (*unseen, join(unseen[1:5])):
            assert_identical(after.run(None, request), before.run(None, request))
        for sample in samples:
            (want, *_), (have, *_) = before.run(None, sample), after.run(None, sample)
            assert np.linalg.norm(have - want) <= 0.005 * np.linalg.norm(want)


@pytest.mark.usefixtures("everything_pays")
def test_with_a_tolerance_too(tmp_path):
    before = original(MODEL)
    samples = random_samples(before, 10 * LENGTHS, seed=1)
    data = write_samples(tmp_path / "data.npz", samples + samples[:30])
    bundle = onnx_memo.optimize(MODEL, data, tmp_path / "bundle", tolerance=0.3, level="rows")
    assert AS_COMPUTED in bundle.manifest.notes
    after = memoized(bundle.path, "stock")
    for request in random_samples(before, LENGTHS, seed=2):
        nothing_reused = request | {"memo_strictness": np.zeros((), np.float32)}
        assert_identical(after.run(None, nothing_reused), before.run(None, request))


def test_a_plain_model_is_searched_as_it_is_and_computed_as_it_is_fused():
    opened = OpenedModel(FIXTURES / "bert.onnx").again()
    assert opened.as_computed and len(opened.findings.sites) == 3
    assert {node.domain for node in opened.searched.graph} == {""}
    assert "com.microsoft" in {node.domain for node in opened.model.graph}
    assert opened.findings.notes[-1].startswith("where nothing is reused, it runs as ONNX Runtime")
