"""Files of half precision: what reuses nothing is the original's, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from support import assert_identical, join, memoized, original, random_samples, write_samples
from support_halves import halved

import onnx_memo

LENGTHS = (3, 5, 9, 9, 16, 23)


# With scales that are cast in each request, RMS norms that are fused after casts, a convolution, attention
# that is no core, an opset in which a softmax is computed another way.
@pytest.mark.parametrize(
    "name", ["bert_dynamo", "bert_opset11", "deberta_v2", "llama", "mpnet", "vit", "xlm"]
)
def test_repeats_are_reused_and_others_are_the_originals(name, tmp_path):
    model = halved(name, tmp_path)
    before = original(model)
    samples, unseen = random_samples(before, LENGTHS, seed=1), random_samples(before, 4 * LENGTHS, seed=2)
    bundle = onnx_memo.optimize(model, write_samples(tmp_path / "data.npz", samples), tmp_path / "bundle")
    assert bundle.manifest.sites[0].level == "rows"
    for mode in ("stock", "native") if onnx_memo.library_path() is not None else ("stock",):
        after = memoized(bundle.path, mode)
        for request in (*unseen, join(unseen[1:5])):
            assert_identical(after.run(None, request), before.run(None, request))
        for sample in samples:
            (want, *_), (have, *_) = before.run(None, sample), after.run(None, sample)
            assert np.linalg.norm(have - want) <= 0.005 * np.linalg.norm(want)
