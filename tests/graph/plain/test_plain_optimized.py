"""Models as ONNX Runtime's own optimizers leave them, taken apart, have all sites that the original has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from support import fixture, join, original, random_samples
from support_fused import take_apart
from support_plain import run

from onnx_memo.graph.encoder import NoEncoder, find_encoder
from onnx_memo.graph.load import load_model
from onnx_memo.graph.plain.rule import MICROSOFT
from onnx_memo.graph.site import Findings
from onnx_memo.graph.sites import find_sites

MODELS = ("bert", "bert_dynamo", "distilbert", "gpt2", "vit", "deberta_v2", "llama")
# Of ONNX Runtime's Python optimizer, and the attention operator that it is told to use.
FUSED = [("bert", "bert", "Attention"), ("distilbert", "bert", "Attention")]
FUSED += [(name, kind, "MultiHeadAttention") for name, kind, _ in FUSED]


def optimized_at_loading(name: str, folder: Path) -> ir.Model:
    """What a session saves that optimizes as far as other processors allow."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(fixture(name), options, providers=["CPUExecutionProvider"])
    return ir.load(folder / "optimized.onnx")


def optimized_in_python(name: str, kind: str, operator: str, folder: Path) -> ir.Model:
    optimizer = pytest.importorskip("onnxruntime.transformers.optimizer")
    options = pytest.importorskip("onnxruntime.transformers.fusion_options").FusionOptions(kind)
    options.use_multi_head_attention = operator == "MultiHeadAttention"
    made = optimizer.optimize_model(
        str(fixture(name)), kind, num_heads=4, hidden_size=32, optimization_options=options, opt_level=0
    )
    made.save_model_to_file(str(folder / "optimized.onnx"))
    return ir.load(folder / "optimized.onnx")


def cores(model: ir.Model, findings: Findings) -> int:
    """How many layers the encoder has; 0: there is none."""
    try:
        return len(find_encoder(model, findings).cores)
    except NoEncoder:
        return 0


def check(name: str, model: ir.Model) -> None:
    """The same sites and the same encoder in plain operators, that compute the same for a padded batch."""
    before = load_model(fixture(name))
    known = find_sites(before)
    types = {value.name: value.dtype.numpy() for value in model.graph.inputs}
    plain = take_apart(model)
    assert {node.domain for node in plain.graph} == {""}
    found = find_sites(plain)
    have, want = (
        [(site.heads, site.levels, site.width, site.mask and site.mask.name) for site in findings.sites]
        for findings in (found, known)
    )
    assert have == want
    assert cores(plain, found) == cores(before, known)
    samples = random_samples(original(fixture(name)), [9, 5], seed=0)
    request = samples[0] if name == "vit" else join(samples)
    wanted = original(fixture(name)).run(None, request)[0]
    came = run(ir.to_proto(plain), {key: array.astype(types[key]) for key, array in request.items()})[0]
    real = request.get("attention_mask", np.ones(wanted.shape[:2])) == 1
    assert np.abs(wanted - came)[real].max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("name", MODELS)
def test_what_a_session_saves(name, tmp_path):
    model = optimized_at_loading(name, tmp_path)
    assert MICROSOFT in {node.domain for node in model.graph}
    check(name, model)


@pytest.mark.parametrize(("name", "kind", "operator"), FUSED)
def test_what_the_optimizer_for_transformers_saves(name, kind, operator, tmp_path):
    model = optimized_in_python(name, kind, operator, tmp_path)
    assert "EmbedLayerNormalization" in {node.op_type for node in model.graph}
    assert operator in {node.op_type for node in model.graph}
    check(name, model)
