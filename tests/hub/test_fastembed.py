"""fastembed takes a bundle as a custom model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from conftest import LINES, UNSEEN
from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize

import onnx_memo

TEXTS = [*LINES, *UNSEEN]
POOLINGS = {"cls": PoolingType.CLS, "mean": PoolingType.MEAN, "lasttoken": PoolingType.LAST_TOKEN}


def embedding(path: Path, pooling: str, file: str) -> TextEmbedding:
    """A custom model at a path."""
    TextEmbedding.add_custom_model(
        str(path), POOLINGS[pooling], True, ModelSource(hf="none/none"), dim=32, model_file=file
    )
    return TextEmbedding(str(path), specific_model_path=str(path), threads=1)


@pytest.mark.parametrize(("layout", "file"), [("flat", "model.onnx"), ("onnx", "onnx/model.onnx")])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_vectors_are_those_of_the_directory(sentence_directory, lines, tmp_path, pooling, layout, file):
    directory = sentence_directory(pooling, Normalize())
    made = onnx_memo.optimize(directory, lines, tmp_path / "bundle", layout=layout)
    model, original = embedding(made.path, pooling, file), embedding(directory, pooling, "onnx/model.onnx")
    have, want = (np.array(list(one.embed(TEXTS, batch_size=1))) for one in (model, original))
    np.testing.assert_array_equal(have, want)
    in_sentence_transformers = SentenceTransformer(str(directory), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(np.array(list(model.embed(TEXTS))), in_sentence_transformers, atol=1e-5)


def test_its_session_can_be_one_with_the_native_library(sentence_directory, lines, tmp_path):
    """fastembed opens sessions with options of its own; the line of README puts another in its place."""
    directory = sentence_directory("mean", Normalize())
    made = onnx_memo.optimize(directory, lines, tmp_path / "bundle")
    model, original = (
        embedding(made.path, "mean", "model.onnx"),
        embedding(directory, "mean", "onnx/model.onnx"),
    )
    session = ort.InferenceSession(made.path / "model.onnx", onnx_memo.session_options(threads=1))
    model.model.model = session
    have, want = (np.array(list(one.embed(TEXTS, batch_size=1))) for one in (model, original))
    np.testing.assert_array_equal(have, want)
    assert model.model.model is session
