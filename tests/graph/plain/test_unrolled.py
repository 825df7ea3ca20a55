"""A softmax that is written out is found, whoever wrote it, and nothing else is taken for one."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from support import assert_identical, join, memoized, original, random_samples, write_samples
from support_halves import halved
from support_plain import close, noise, run

import onnx_memo
from onnx_memo.graph.build import Builder
from onnx_memo.graph.plain.form import plain_form

SHAPE = (2, 3, 5, 5)


def model(opset=17, axis=-1, keepdims=1, shift="max", total="own"):
    """exp(x - max x) / sum exp(x - max x); or with another shift, or another total."""
    x = ir.Value(name="x", shape=ir.Shape(SHAPE), type=ir.TensorType(ir.DataType.FLOAT))
    b = Builder("written", opset)
    scores = x
    if shift == "max":
        scores = b.op("Sub", x, b.reduce("ReduceMax", x, axis, keepdims=True))
    elif shift == "other":
        scores = b.op("Sub", x, b.reduce("ReduceMax", b.op("Neg", x), axis, keepdims=True))
    exponentials = b.op("Exp", scores)
    summed = exponentials if total == "own" else b.op("Mul", exponentials, exponentials)
    divisor = b.reduce("ReduceSum", summed, axis, keepdims=bool(keepdims))
    y = b.op("Div", exponentials, divisor, name="y")
    graph = ir.Graph([x], [y], nodes=b.nodes, opset_imports={"": opset}, name="graph")
    y.type, y.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(SHAPE)
    return ir.Model(graph, ir_version=8)


def kinds(found):
    return [node.op_type for node in found.graph if node.op_type != "Constant"]


@pytest.mark.parametrize("opset", [17, 18])
@pytest.mark.parametrize("axis", [-1, 3])
@pytest.mark.parametrize("shift", ["max", None])
def test_it_is_found(opset, axis, shift):
    written = model(opset, axis, shift=shift)
    plain = plain_form(written)
    assert plain is not None and plain.apart == ("Div",)
    assert kinds(plain.model) == ["Softmax"]
    feeds = {"x": noise(*SHAPE, scale=3.0)}
    (want,), (have,) = (run(ir.to_proto(either), feeds) for either in (written, plain.model))
    close(have, want)


def test_what_is_subtracted_beside_the_maximum_stays():
    """A softmax does not change with it, but what it is of does."""
    plain = plain_form(model(shift="other"))
    assert plain is not None
    assert kinds(plain.model) == ["Neg", "ReduceMax", "Sub", "Softmax"]


@pytest.mark.parametrize(
    "other", [{"axis": 1}, {"axis": -2}, {"keepdims": 0, "shift": None}, {"total": "squares"}]
)
def test_what_is_another_is_left_alone(other):
    written = model(**other)
    plain = plain_form(written)
    assert plain is not None and plain.apart == ()
    assert kinds(plain.model) == kinds(written)


def test_what_onnx_runtime_saved_of_half_precision_becomes_a_bundle(tmp_path):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "saved.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(halved("bert", tmp_path), options, providers=["CPUExecutionProvider"])
    saved = tmp_path / "saved.onnx"
    assert "Softmax" not in {node.op_type for node in ir.load(saved).graph}
    before = original(saved)
    samples, unseen = (random_samples(before, (3, 5, 9, 9, 16, 23), seed) for seed in (1, 2))
    bundle = onnx_memo.optimize(saved, write_samples(tmp_path / "data.npz", samples), tmp_path / "bundle")
    assert bundle.manifest.sites[0].level == "rows"
    after = memoized(bundle.path, "stock")
    for request in (*unseen, join(unseen[1:5])):
        assert_identical(after.run(None, request), before.run(None, request))
    for sample in samples:
        (want, *_), (have, *_) = before.run(None, sample), after.run(None, sample)
        assert np.linalg.norm(have - want) <= 0.005 * np.linalg.norm(want)
