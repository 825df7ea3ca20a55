"""Models of which no attention is understood: equal inputs are reused all the same, and nothing else."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from support import assert_identical, join, memoized, original, random_samples, write_samples
from support_spans import columns_model, windows_model
from typer.testing import CliRunner

import onnx_memo
from onnx_memo.cli import app
from onnx_memo.errors import MemoError
from onnx_memo.graph.opened import OpenedModel

LENGTHS = (1, 2, 5, 9, 9, 16, 23)
MODELS = {"columns": columns_model, "windows": windows_model}

each = pytest.mark.parametrize("name", MODELS)


def requests(model, seed):
    session = original(model)
    if len(session.get_inputs()) > 1:
        return random_samples(session, LENGTHS, seed)
    rng = np.random.default_rng(seed)
    return [{"pixel_values": rng.standard_normal((1, 3, 16, 16)).astype(np.float32)} for _ in LENGTHS]


@pytest.fixture
def model(name, tmp_path):
    return MODELS[name](tmp_path / "model.onnx")


@pytest.fixture
def bundle(model, tmp_path):
    data = write_samples(tmp_path / "data.npz", requests(model, seed=1))
    return onnx_memo.optimize(model, data, tmp_path / "bundle")


@each
def test_all_attention_lies_in_the_span(model):
    opened = OpenedModel(model)
    assert not opened.findings.sites
    softmaxes = [node for node in opened.model.graph if node.op_type == "Softmax"]
    assert {*softmaxes} <= {*opened.span.region}
    assert opened.span.input.name == "hidden"
    assert opened.span.output.name == "last_hidden_state"


@each
def test_repeats_are_the_originals_alone_and_in_batches(model, bundle, tmp_path, mode):
    data = tmp_path / "data.npz"
    assert onnx_memo.bench(model, bundle.path, data, native=mode == "native", rounds=1).hit_rate == 1
    before, after, stored = original(model), memoized(bundle.path, mode), requests(model, seed=1)
    for request in (*stored, join(stored[3:5])):
        (want,), (have,) = before.run(None, request), after.run(None, request)
        assert np.linalg.norm(have - want) <= 1e-5 * np.linalg.norm(want)


@each
def test_others_are_the_originals_bit_for_bit(model, bundle, mode):
    before, after = original(model), memoized(bundle.path, mode)
    unseen = requests(model, seed=2)
    for request in (*unseen, join(unseen[1:5])):
        assert_identical(after.run(None, request), before.run(None, request))


@pytest.mark.parametrize("name", ["columns"])
def test_a_padded_repeat_is_reused_and_its_padding_is_zero(model, bundle, mode):
    request = requests(model, seed=1)[3]
    (alone,) = original(model).run(None, request)
    (have,) = memoized(bundle.path, mode).run(None, join([request], padded=20))
    assert np.abs(have[:, :9] - alone).max() <= 1e-5
    assert not have[:, 9:].any()


@each
def test_what_is_reused_and_why_no_more_is_said(name, bundle):
    manifest = bundle.manifest
    assert [(site.level, site.threshold, site.heads) for site in manifest.sites] == [("rows", 0.0, 0)]
    (why,) = (note for note in manifest.notes if note.startswith("only equal inputs are reused"))
    assert "attention is not understood" in why
    assert not any(note.startswith("not memoized") for note in manifest.notes)
    assert any("'attention_mask' is taken" in note for note in manifest.notes) == (name == "columns")


@each
def test_room_for_some_inputs_stores_some(model, bundle, tmp_path):
    with pytest.raises(MemoError, match="give at least") as refused:
        onnx_memo.optimize(model, tmp_path / "data.npz", tmp_path / "smaller", max_bytes=1)
    most = int(str(refused.value).split()[-1]) + 700
    smaller = onnx_memo.optimize(model, tmp_path / "data.npz", tmp_path / "smaller", max_bytes=most)
    assert 0 < smaller.manifest.entries < bundle.manifest.entries


@each
def test_a_tolerance_does_not_help_and_that_is_said(model, tmp_path):
    data = write_samples(tmp_path / "data.npz", requests(model, seed=1) * 3)
    with pytest.raises(MemoError, match=r"Looked for.*without a tolerance literal repeats can be reused"):
        onnx_memo.optimize(model, data, tmp_path / "b", tolerance=0.1)
    with pytest.raises(MemoError, match="does not allow the level 'output': it has no attention"):
        onnx_memo.optimize(model, data, tmp_path / "b", level="output")
    assert not (tmp_path / "b").exists()


@each
def test_inspect_tells_it(model):
    found = onnx_memo.inspect(model)
    assert (found.sites, found.encoder, found.repeats) == ([], None, True)
    shown = " ".join(CliRunner().invoke(app, ["inspect", str(model)]).output.split())
    assert "level rows: for literal repeats alone: '/p" in shown


def test_another_name_of_the_mask_is_given_by_the_user(tmp_path):
    model = onnx.load(columns_model(tmp_path / "model.onnx"))
    model.graph.input[1].name = "real"
    model.graph.node[3].input[0] = "real"
    assert model.graph.node[3].op_type == "Cast"
    onnx.save(model, tmp_path / "renamed.onnx")
    assert OpenedModel(tmp_path / "renamed.onnx").span is None
    named = OpenedModel(tmp_path / "renamed.onnx", mask="real")
    assert named.span is not None and named.span.mask is not None and named.span.mask.name == "real"
    assert not named.findings.notes
