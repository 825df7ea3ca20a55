"""What the probes give is what the model computes, streamed to disk in the store's form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from support import (
    ATTENTION,
    LEVELS,
    changed,
    fixture,
    node_named,
    original,
    random_samples,
    write_samples,
)

import onnx_memo
from onnx_memo import MemoError
from onnx_memo.data.samples import Samples
from onnx_memo.graph.load import load_model
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.graph.probe import add_outputs
from onnx_memo.graph.site import Site
from onnx_memo.keys.network import segment_means
from onnx_memo.levels.sites.capture import Capture, capture
from onnx_memo.sessions import open_session

LENGTHS = (1, 4, 4, 11)


def captured(path: Path, level: str, folder: Path) -> tuple[Capture, list[Site], Samples]:
    opened = OpenedModel(path)
    sites = opened.findings.sites
    samples = Samples(random_samples(original(path), LENGTHS, seed=3), list(LENGTHS), None)
    return capture(opened, sites, level, samples, folder, lambda: None), sites, samples


def computed(path: Path, name: str, samples: Samples) -> list[np.ndarray]:
    """A value inside the model for every sample."""
    model = load_model(path)
    values = {value.name: value for node in model.graph for value in node.outputs}
    add_outputs(model, [values[name]])
    session = open_session(model, path.parent, onnx_memo.session_options(native=False))
    return [session.run([name], request)[0] for request in samples.arrays]


@pytest.mark.parametrize("name", ATTENTION)
def test_means_are_those_of_the_hidden_states(tmp_path, name):
    result, sites, samples = captured(fixture(name), "output", tmp_path)
    for site in sites:
        hidden = computed(fixture(name), site.hidden.name, samples)
        assert result.lengths.tolist() == [states.shape[1] for states in hidden]
        expected = np.stack([segment_means(states[0]) for states in hidden])
        np.testing.assert_allclose(result.means(site), expected, atol=1e-5)
    assert result.unfit == {}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ATTENTION)
def test_payloads_lie_one_after_the_other_in_half_precision(tmp_path, name, level):
    result, sites, samples = captured(fixture(name), level, tmp_path)
    for site in sites:
        value = site.output if level == "output" else site.probabilities
        expected = [v.astype(np.float16).ravel() for v in computed(fixture(name), value.name, samples)]
        stored = np.fromfile(result.payload(site), np.float16)
        np.testing.assert_allclose(stored, np.concatenate(expected), atol=2e-3)


def test_each_sample_is_reported(tmp_path):
    told = []
    opened = OpenedModel(fixture("bert"))
    samples = Samples(random_samples(original(fixture("bert")), LENGTHS, seed=3), list(LENGTHS), None)
    capture(opened, opened.findings.sites, "output", samples, tmp_path, lambda: told.append(1))
    assert len(told) == len(LENGTHS)


def test_a_sample_longer_than_the_model_allows(tmp_path):
    opened = OpenedModel(fixture("bert"))
    samples = Samples(random_samples(original(fixture("bert")), [4, 65], seed=3), [4, 65], None)
    with pytest.raises(
        MemoError, match=r"cannot run input 2 .*longer than the model allows: 65 tokens, .* at most 64"
    ):
        capture(opened, opened.findings.sites, "output", samples, tmp_path, lambda: None)


def large_outputs(model: ir.Model) -> None:
    """The first site's projected output grows past what half precision holds."""
    product = node_named(model, "/encoder/layer.0/attention/output/dense/MatMul")
    weight = product.inputs[1]
    weight.const_value = ir.tensor(weight.const_value.numpy() * np.float32(1e6), name=weight.name)


def test_numbers_too_large_for_half_precision_leave_their_site_unguarded(tmp_path):
    model = changed("bert", tmp_path / "model.onnx", large_outputs)
    data = write_samples(tmp_path / "data.npz", random_samples(original(model), LENGTHS, seed=3))
    told = onnx_memo.optimize(model, data, tmp_path / "bundle", level="output").manifest
    assert [site.name for site in told.sites] == ["attention.1", "attention.2"]
    assert "attention.0 is not guarded: it makes numbers that half precision cannot hold" in told.notes
    with pytest.raises(MemoError, match="no site can be stored"):
        onnx_memo.optimize(model, data, tmp_path / "none", sites="0")
