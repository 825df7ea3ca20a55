"""What README shows for other libraries runs as it stands there, and gives what the directory gives."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize
from support import ROOT
from support_hub import LINES, UNSEEN

import onnx_memo

TEXTS = [*LINES, *UNSEEN]
NEAR = 1e-5  # between PyTorch and ONNX Runtime


def shown(about: str) -> str:
    """The only block of README that imports from a library, and what those before it import."""
    blocks = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S
    )
    (block,) = [block for block in blocks if f"from {about}" in block]
    lines = [line for line in block.splitlines() if line and not line.startswith(("import ", "from "))]
    assert len(lines) <= 3
    return f"import onnx_memo\nimport onnxruntime as ort\n{block}"


@pytest.fixture
def model_of(lines, tmp_path, monkeypatch) -> Callable[[Path, str], Any]:
    """`model_of(directory, library)`: the model that README's lines open on the directory's bundle."""

    def run(directory: Path, library: str) -> Any:
        onnx_memo.optimize(directory, lines, tmp_path / "bundle")
        monkeypatch.chdir(tmp_path)
        names: dict[str, Any] = {}
        exec(shown(library), names)
        return names["model"]

    return run


def test_sentence_transformers(sentence_directory, model_of):
    directory = sentence_directory("mean", Normalize())
    model = model_of(directory, "sentence_transformers")
    want = SentenceTransformer(str(directory), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(model.encode(TEXTS), want, atol=NEAR, rtol=NEAR)


def test_optimum(directory_of, model_of):
    directory = directory_of("BertForSequenceClassification", num_labels=3)
    model = model_of(directory, "optimum.onnxruntime")
    original = transformers.AutoModelForSequenceClassification.from_pretrained(directory).eval()
    tokens = transformers.AutoTokenizer.from_pretrained(directory)(TEXTS, return_tensors="pt", padding=True)
    with torch.no_grad():
        want = original(**tokens).logits.numpy()
    np.testing.assert_allclose(model(**tokens).logits.numpy(), want, atol=NEAR * np.abs(want).max())


def test_fastembed(sentence_directory, model_of):
    directory = sentence_directory("mean", Normalize())
    model = model_of(directory, "fastembed")
    want = SentenceTransformer(str(directory), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(np.array(list(model.embed(TEXTS))), want, atol=NEAR, rtol=NEAR)
    assert any(one.name == "memo_strictness" for one in model.model.model.get_overridable_initializers())
