"""Bundles whose operators are of another version than those of the native library."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from support import copied

import onnx_memo
from onnx_memo import MemoError
from onnx_memo.operators.spec import DOMAIN, VERSION


def changed(path: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    """A bundle, whose model is changed."""
    model = onnx.load(path / "model.onnx", load_external_data=False)
    change(model)
    content = model.SerializeToString()
    (path / "model.onnx").write_bytes(content)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["model.onnx"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


def as_before(model: onnx.ModelProto) -> None:
    """Ask for the version before, in which an operator had an output less."""
    (node,) = (node for node in model.graph.node if node.op_type == "MemoRows")
    del node.output[-1]
    (opset,) = (opset for opset in model.opset_import if opset.domain == DOMAIN)
    opset.version = VERSION - 1


def unheard(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "Unheard"


@pytest.mark.skipif(onnx_memo.library_path() is None, reason="the native library is not built")
def test_that_is_said_and_what_to_do(made, tmp_path):
    """ONNX Runtime would say what is wrong with one node."""
    source = made("bert", "rows")
    old = changed(copied(source.bundle, tmp_path / "bundle"), as_before)
    told = re.escape(
        f"model.onnx' has our operators of version {VERSION - 1}, and the native library those of {VERSION}: "
        "build the bundle again"
    )
    with pytest.raises(MemoError, match=told):
        onnx_memo.explain(old, arrays=source.samples[0])
    with pytest.raises(MemoError, match=told):
        onnx_memo.bench(source.model, old, source.data)
    with pytest.raises(MemoError, match=told):
        onnx_memo.compare_bundles(source.model, [old, source.bundle], source.data)


def test_another_reason_is_left_as_it_is(made, tmp_path):
    source = made("bert", "rows")
    path = changed(copied(source.bundle, tmp_path / "bundle"), unheard)
    with pytest.raises(MemoError, match=r"cannot load .*Unheard"):
        onnx_memo.bench(source.model, path, source.data)
