"""Model directories: exported on the way in, loadable with optimum on the way out."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from support import MODES, fixture, variants, write_samples

import onnx_memo
from onnx_memo.errors import MemoError

LINES = ["a b c", "the cat sat on the mat", "hello world", "one two three four five six seven"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT as `save_pretrained` leaves it."""
    pytest.importorskip("optimum.onnxruntime", reason="the extra `export` is not installed")
    pytest.importorskip("torch", reason="the extra `export` is not installed")
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tools.export_fixtures import write_tiny_hf_directory

    path = tmp_path_factory.mktemp("model") / "tiny"
    write_tiny_hf_directory(path)
    return path


@pytest.mark.parametrize("mode", MODES)
def test_a_directory_becomes_a_bundle_that_optimum_loads(directory, tmp_path, mode):
    from optimum.onnxruntime import ORTModelForFeatureExtraction
    from transformers import AutoModel, AutoTokenizer

    (tmp_path / "lines.txt").write_text("\n".join(LINES))
    result = onnx_memo.optimize(directory, tmp_path / "lines.txt", tmp_path / "bundle")
    options = onnx_memo.session_options(native=mode == "native")
    model = ORTModelForFeatureExtraction.from_pretrained(result.path, session_options=options)
    original = AutoModel.from_pretrained(directory).eval()
    tokenizer = AutoTokenizer.from_pretrained(result.path)
    for line in [*LINES, "never seen before"]:
        tokens = tokenizer(line, return_tensors="pt")
        want = original(**tokens).last_hidden_state.detach().numpy()
        have = model(**tokens).last_hidden_state
        have = have.detach().numpy() if hasattr(have, "detach") else have
        np.testing.assert_allclose(have, want, atol=5e-3)


def test_bench_takes_the_directory_as_the_original(directory, tmp_path):
    (tmp_path / "lines.txt").write_text("\n".join(LINES))
    onnx_memo.optimize(directory, tmp_path / "lines.txt", tmp_path / "bundle")
    report = onnx_memo.bench(directory, tmp_path / "bundle", tmp_path / "lines.txt", rounds=1)
    assert report.hit_rate == 1.0


def test_a_directory_without_a_model_is_refused(tmp_path):
    with pytest.raises(MemoError, match=r"without config\.json"):
        onnx_memo.inspect(tmp_path)


def test_without_the_extra_the_message_says_how_to_get_it(tmp_path, monkeypatch, fake_optimum):
    (tmp_path / "config.json").write_text("{}")
    fake_optimum("raise ImportError('no optimum here')")
    with pytest.raises(MemoError, match=r"onnx-memo\[export\]"):
        onnx_memo.inspect(tmp_path)


def test_a_plain_session_is_enough(directory, tmp_path):
    (tmp_path / "lines.txt").write_text("\n".join(LINES))
    result = onnx_memo.optimize(directory, tmp_path / "lines.txt", tmp_path / "bundle")
    assert ort.InferenceSession(str(result.path / "model.onnx")).get_outputs()[0].name == "last_hidden_state"


# ---- The tokenizer of an ONNX file


@pytest.mark.parametrize("place", ["model.onnx", "onnx/model.onnx"])
def test_a_tokenizer_beside_an_onnx_file_comes_with_it_and_that_is_said(tmp_path, tokenizer, place):
    """Beside the file, or beside its folder `onnx/`, as model hubs lay them out."""
    model = tmp_path / place
    model.parent.mkdir(exist_ok=True)
    model.write_bytes(Path(fixture("bert")).read_bytes())
    (tmp_path / "lines.txt").write_text("a b c\nd e\n", encoding="utf-8")
    result = onnx_memo.optimize(model, tmp_path / "lines.txt", tmp_path / "bundle")
    assert (result.path / "tokenizer.json").read_bytes() == tokenizer.read_bytes()
    assert "the text is read with tokenizer.json, which came with the model" in result.manifest.notes


def test_a_tokenizer_that_is_named_goes_before_the_one_beside_the_model(tmp_path, tokenizer):
    named = tokenizer.rename(tmp_path / "named.json")
    tokenizer.write_text("not a tokenizer", encoding="utf-8")
    model = tmp_path / "model.onnx"
    model.write_bytes(Path(fixture("bert")).read_bytes())
    (tmp_path / "lines.txt").write_text("a b c\nd e\n", encoding="utf-8")
    result = onnx_memo.optimize(model, tmp_path / "lines.txt", tmp_path / "bundle", tokenizer=named)
    assert (result.path / "tokenizer.json").read_bytes() == named.read_bytes()
    assert not any("came with the model" in note for note in result.manifest.notes)


def test_of_arrays_no_tokenizer_is_told(tmp_path, tokenizer):
    model = tmp_path / "model.onnx"
    model.write_bytes(Path(fixture("bert")).read_bytes())
    data = write_samples(tmp_path / "data.npz", variants(20, seed=1))
    assert not any(
        "tokenizer" in note for note in onnx_memo.optimize(model, data, tmp_path / "b").manifest.notes
    )
