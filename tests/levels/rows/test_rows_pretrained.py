"""A real sentence encoder on lines of a few templates, in which names and numbers change."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from support import ROOT, memoized, original

import onnx_memo
from onnx_memo.data.readers import read_samples
from onnx_memo.data.samples import model_inputs
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.proof.metrics import cosine
from tools.workloads import templated

MODEL = Path(os.environ.get("ONNX_MEMO_MODELS", ROOT / "models" / "cache")) / "minilm-demo"


@pytest.mark.skipif(
    not (MODEL / "model.onnx").is_file(),
    reason="no pretrained model: bring it with `python -m models.bring demo`",
)
@pytest.mark.usefixtures("everything_pays")
def test_a_pretrained_model_on_templated_lines(tmp_path):
    """The promise on requests that nothing has seen; misses and strictness 0 to the last bit."""
    model, work = MODEL / "model.onnx", templated()
    data = tmp_path / "sample.txt"
    data.write_text("\n".join(work.sample[:320]), encoding="utf-8")
    vocabulary = MODEL / "tokenizer.json"
    bundle = onnx_memo.optimize(model, data, tmp_path / "bundle", tokenizer=vocabulary, tolerance=0.05).path
    unseen = tmp_path / "unseen.txt"
    unseen.write_text("\n".join(work.requests[:80]), encoding="utf-8")
    samples = read_samples(unseen, model_inputs(OpenedModel(model)), vocabulary)
    before, modes = original(model), ["stock", "native"] if onnx_memo.library_path() else ["stock"]
    never = {"memo_strictness": np.asarray(0, np.float32)}
    for mode in modes:
        after = memoized(bundle, mode)
        errors = []
        for feeds in samples.arrays:
            (want,), (have,) = before.run(None, feeds), after.run(None, feeds)
            errors.append(cosine(want[0], have[0], np.ones(want.shape[1], bool)))
            assert after.run(None, feeds | never)[0].tobytes() == want.tobytes()
        assert np.mean(np.asarray(errors) > 0) > 0.9, "nearly all are reused"
        assert np.mean(np.asarray(errors) <= 0.05) >= 0.9
