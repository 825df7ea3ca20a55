"""What a plain session says when it loads a bundle: nothing, but for one line about the optional input.

ONNX Runtime warns of every input that has a default. No other form of an optional input serves in all of
its bindings, so the README explains the line.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from support import ATTENTION, LEVELS, changed, fixture, original, random_samples, write_samples
from support_rows import ENCODERS, made_rows

import onnx_memo
from onnx_memo.levels.inserter import STRICTNESS

LOAD = """
import sys, onnxruntime

library, *paths = sys.argv[1:]
for path in paths:
    options = onnxruntime.SessionOptions()
    if library:
        options.register_custom_ops_library(library)
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    print("loaded", file=sys.stderr, flush=True)
"""


def warnings_of(paths: list[Path], mode: str) -> list[Counter[str]]:
    """What sessions on these models say, at the default severity, without times and places."""
    library = str(onnx_memo.library_path()) if mode == "native" else ""
    ended = subprocess.run([sys.executable, "-c", LOAD, library, *paths], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    said = [part.strip().splitlines() for part in ended.stderr.split("loaded\n")[:-1]]
    assert len(said) == len(paths)
    return [Counter(re.sub(r"^.*\] |\x1b\[[0-9;]*m", "", line) for line in lines) for lines in said]


def about_the_knob(line: str) -> bool:
    return line.startswith(f"Initializer {STRICTNESS} appears in graph inputs")


@pytest.fixture(scope="module")
def bundles(made, rows_root) -> list[Path]:
    found = [made(name, level).bundle for name in ATTENTION for level in LEVELS]
    for name in ENCODERS:
        found += [
            made_rows(name, rows_root, **form).bundle for form in ({}, {"literal": True}, {"int8": 100})
        ]
    # Some products of the same rows are in int8, and others are not.
    found.append(made_rows("bert", rows_root, int8=3).bundle)
    return [bundle / "model.onnx" for bundle in found]


def test_a_bundle_loads_quietly(bundles, mode):
    for path, said in zip(bundles, warnings_of(bundles, mode), strict=True):
        assert len(said) == 1, f"{path}: {[*said]}"
        assert all(about_the_knob(line) for line in said)


def test_no_tensor_is_stored_that_the_model_does_not_read(bundles):
    for path in bundles:
        model = ir.load(path)
        assert all(value.uses() or value.is_graph_output() for value in model.graph.initializers.values())


def test_of_what_the_original_says_nothing_is_added(mode, tmp_path):
    """A model with a weight that nothing reads, and one that a caller may replace."""

    def spoil(model: ir.Model) -> None:
        unread = ir.Value(name="unread", const_value=ir.tensor(np.ones(3, np.float32), name="unread"))
        model.graph.register_initializer(unread)
        weight = next(v for name, v in model.graph.initializers.items() if name.endswith("LayerNorm.bias"))
        model.graph.inputs.append(weight)

    path = changed("bert", tmp_path / "spoilt.onnx", spoil)
    samples = random_samples(original(fixture("bert")), [5, 9], seed=1)
    data = write_samples(tmp_path / "data.npz", samples)
    bundle = onnx_memo.optimize(path, data, tmp_path / "bundle").path / "model.onnx"
    before, after = warnings_of([path, bundle], mode)
    assert len(before) == 2, [*before]
    assert all(about_the_knob(line) for line in after - before)
    assert len(after - before) == 1
    assert onnx.load(bundle, load_external_data=False).graph.input[-1].name == STRICTNESS
