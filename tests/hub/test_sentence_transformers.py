"""`SentenceTransformer(bundle, backend="onnx")` gives the vectors that the original directory gives."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.sentence_transformer.modules import Dense, Normalize
from support import MODES
from support_hub import LINES, UNSEEN

import onnx_memo

TEXTS = [*LINES, *UNSEEN]
NEAR = 1e-5  # between PyTorch and ONNX Runtime


def opened(path: Path, mode: str = "stock", kind: type = SentenceTransformer, **options: Any) -> Any:
    """A model on a directory or a bundle in ONNX Runtime, on one thread, as README shows it."""
    options = {"session_options": onnx_memo.session_options(native=mode == "native", threads=1), **options}
    return kind(str(path), backend="onnx", device="cpu", model_kwargs=options)


def assert_the_same(directory: Path, bundle: Path, mode: str) -> None:
    """The vectors of PyTorch, and to the bit those of the directory's own ONNX file."""
    have, want = opened(bundle, mode), SentenceTransformer(str(directory), device="cpu")
    np.testing.assert_allclose(have.encode(TEXTS), want.encode(TEXTS), atol=NEAR, rtol=NEAR)
    assert have.similarity_fn_name == want.similarity_fn_name
    if (directory / "onnx").is_dir():
        one_by_one = opened(directory).encode(TEXTS, batch_size=1)
        np.testing.assert_array_equal(have.encode(TEXTS, batch_size=1), one_by_one)


@pytest.mark.parametrize("normalized", [False, True], ids=["", "normalized"])
@pytest.mark.parametrize("pooling", ["cls", "mean", "max", "lasttoken", "weightedmean"])
def test_vectors_are_those_of_the_directory(sentence_directory, lines, tmp_path, pooling, normalized):
    directory = sentence_directory(pooling, *([Normalize()] if normalized else []))
    made = onnx_memo.optimize(directory, lines, tmp_path / "bundle")
    assert made.manifest.source_file == "onnx/model.onnx"
    for mode in ("stock", "native"):
        assert_the_same(directory, made.path, mode)
    lengths = np.linalg.norm(opened(made.path).encode(TEXTS), axis=1)
    assert np.allclose(lengths, 1) == normalized


def test_a_directory_without_an_onnx_file_is_exported_without_a_word(
    cli, sentence_directory, lines, tmp_path
):
    directory = sentence_directory("mean", Normalize(), onnx=False)
    outcome = cli("optimize", directory, "--data", lines, "-o", tmp_path / "bundle", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    made = json.loads(outcome.out)
    assert made["task"] == "feature-extraction"
    assert "exported by optimum for 'feature-extraction', as modules.json says" in made["notes"][0]
    assert_the_same(directory, tmp_path / "bundle", "native")


def test_weights_of_modules_count(sentence_directory, lines, tmp_path):
    torch.manual_seed(0)
    directory = sentence_directory("mean", Dense(32, 8))
    made = onnx_memo.optimize(directory, lines, tmp_path / "bundle")
    assert opened(made.path).encode("a b c").shape == (8,)
    assert_the_same(directory, made.path, "stock")


def test_prompts_and_limits_count(sentence_directory, lines, tmp_path):
    directory = sentence_directory("mean")
    settings = directory / "config_sentence_transformers.json"
    prompts = {"prompts": {"query": "what is "}, "default_prompt_name": "query", "similarity_fn_name": "dot"}
    settings.write_text(json.dumps(json.loads(settings.read_text()) | prompts))
    limits = directory / "sentence_bert_config.json"
    limits.write_text(json.dumps(json.loads(limits.read_text()) | {"max_seq_length": 8}))
    made = onnx_memo.optimize(directory, lines, tmp_path / "bundle")
    model = opened(made.path)
    assert (model.max_seq_length, model.default_prompt_name) == (8, "query")
    told = "cut to the 8 tokens that sentence_bert_config.json allows"
    assert any(told in note for note in made.manifest.notes)
    assert_the_same(directory, made.path, "stock")


def test_a_transformer_in_a_folder_of_its_own(sentence_directory, lines, tmp_path):
    """As sentence-transformers saved it before version 2."""
    directory = sentence_directory("cls", Normalize())
    own = directory / "0_Transformer"
    own.mkdir()
    for file in [path for path in directory.iterdir() if path.is_file() or path.name == "onnx"]:
        if file.name not in ("modules.json", "config_sentence_transformers.json"):
            shutil.move(file, own / file.name)
    modules = json.loads((directory / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (directory / "modules.json").write_text(json.dumps(modules))
    made = onnx_memo.optimize(directory, lines, tmp_path / "bundle")
    assert_the_same(directory, made.path, "native")


def test_the_last_of_the_tokens_with_padding_in_front(sentence_directory, lines, tmp_path):
    directory = sentence_directory("lasttoken", Normalize())
    settings = directory / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"padding_side": "left"}))
    made = onnx_memo.optimize(directory, lines, tmp_path / "bundle")
    assert opened(made.path).tokenizer.padding_side == "left"
    for mode in ("stock", "native"):
        assert_the_same(directory, made.path, mode)


@pytest.mark.parametrize("layout", ["flat", "onnx"])
def test_every_layout_loads_by_itself(sentence_directory, lines, tmp_path, layout):
    """Without options, as people write it."""
    directory = sentence_directory("cls")
    made = onnx_memo.optimize(directory, lines, tmp_path / "bundle", layout=layout)
    model = SentenceTransformer(str(made.path), backend="onnx")
    want = SentenceTransformer(str(directory), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(model.encode(TEXTS), want, atol=NEAR, rtol=NEAR)


@pytest.mark.parametrize("mode", MODES)
def test_the_session_options_turn_the_native_library_on(sentence_directory, lines, tmp_path, mode):
    made = onnx_memo.optimize(sentence_directory("cls"), lines, tmp_path / "bundle")
    options = onnx_memo.session_options(native=mode == "native", threads=1)
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    model = opened(made.path, session_options=options)
    model.encode(LINES[0])
    events = json.loads(Path(model[0].model.session.end_profiling()).read_text())
    ran = {str(event.get("args", {}).get("op_name")) for event in events}
    assert any(name.startswith("Memo") for name in ran) == (mode == "native")


def test_a_cross_encoder(directory_of, lines, tmp_path):
    directory = directory_of("BertForSequenceClassification", num_labels=1)
    made = onnx_memo.optimize(directory, lines, tmp_path / "bundle")
    pairs = [(first, second) for first in LINES for second in UNSEEN]
    want = CrossEncoder(str(directory), device="cpu").predict(pairs)
    for mode in ("stock", "native"):
        have = opened(made.path, mode, CrossEncoder).predict(pairs)
        np.testing.assert_allclose(have, want, atol=NEAR, rtol=NEAR)


def test_a_sparse_encoder(directory_of, lines, tmp_path):
    """SPLADE: the logits of a masked language model, pooled over the tokens."""
    directory = tmp_path / "splade"
    SparseEncoder(str(directory_of("BertForMaskedLM")), device="cpu").save_pretrained(str(directory))
    made = onnx_memo.optimize(directory, lines, tmp_path / "bundle")
    assert made.manifest.task == "fill-mask"
    want = SparseEncoder(str(directory), device="cpu").encode(TEXTS).to_dense()
    have = opened(made.path, "native", SparseEncoder).encode(TEXTS).to_dense()
    np.testing.assert_allclose(have, want, atol=NEAR, rtol=NEAR)
