"""Bundles in the libraries that people load models with: `make test-hub`.

The models are tiny, of random weights, and made here: nothing is downloaded.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import ROOT

os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(ROOT))

NEEDED = ("torch", "optimum", "sentence_transformers", "fastembed")
if any(importlib.util.find_spec(name) is None for name in NEEDED):  # the extra `hub` is not installed
    collect_ignore_glob = ["test_*.py"]

LINES = ["a b c", "the cat sat on the mat", "hello world", "one two three four five six seven"]
UNSEEN = ["never seen before", "x y", "the cat sat on the hat"]


@pytest.fixture(scope="session")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts that bundles store."""
    path = tmp_path_factory.mktemp("data") / "lines.txt"
    path.write_text("\n".join(LINES), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def directory_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`directory_of(name, **settings)`: a directory with a tiny model of that class, and a tokenizer."""

    def make(name: str, **settings: Any) -> Path:
        import transformers

        from tools.export_fixtures import SIZES, TEXT, write_tiny_hf_directory

        kind = getattr(transformers, name)
        path = tmp_path_factory.mktemp(name) / "model"
        write_tiny_hf_directory(path, lambda: kind(kind.config_class(**(SIZES | TEXT | settings))))
        return path

    return make


@pytest.fixture(scope="session")
def bert(directory_of: Callable[..., Path], lines: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a tiny BERT, and its export in `onnx/`."""
    from onnx_memo.data.export import as_onnx

    path = directory_of("BertModel")
    with as_onnx(path) as source:
        (path / "onnx").mkdir()
        shutil.copyfile(source.onnx, path / "onnx" / "model.onnx")
    return path


@pytest.fixture(scope="session")
def sentence_directory(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`sentence_directory(pooling, *more)`: the BERT in sentence-transformers, with further modules."""

    def make(pooling: str, *more: Any, transformer: Path = bert, onnx: bool = True) -> Path:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

        path = tmp_path_factory.mktemp(pooling) / "model"
        modules = [Transformer(str(transformer)), Pooling(32, pooling_mode=pooling), *more]
        SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(path))
        if onnx:
            shutil.copytree(transformer / "onnx", path / "onnx")
        return path

    return make
