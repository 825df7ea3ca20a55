"""The check of a bundle that was just written: it finds what no proof is about."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from support import fixture, nothing_left_in, original, random_samples, variants, write_samples

import onnx_memo
from onnx_memo import pipeline, verify
from onnx_memo.errors import MemoError
from onnx_memo.levels.padding import TRIED
from onnx_memo.levels.sites.payload import OUTPUT

LENGTHS = (3, 5, 9, 9, 16, 23)


@pytest.fixture
def data(tmp_path):
    return write_samples(tmp_path / "data.npz", random_samples(original(fixture("bert")), LENGTHS, seed=1))


def libraries() -> list[str]:
    return ["stock", "native"] if onnx_memo.library_path() else ["stock"]


@pytest.mark.parametrize(("level", "most"), [("rows", 0.0), ("output", 5e-3), ("probs", 5e-3)])
def test_what_was_checked_stands_in_the_manifest_and_is_shown(tmp_path, data, cli, level, most):
    checked = onnx_memo.optimize(fixture("bert"), data, tmp_path / "b", level=level).manifest.checked
    assert (checked["requests"], checked["libraries"]) == (len(LENGTHS) + TRIED, libraries())
    assert 0 <= checked["stored_error"] <= most
    shown = " ".join(cli("inspect", tmp_path / "b").out.split())
    assert f"checked on 10 requests ({' and '.join(libraries())}): with nothing reused, identical" in shown


@pytest.mark.usefixtures("everything_pays")
def test_with_a_tolerance_the_proof_is_about_what_is_reused(tmp_path):
    data = write_samples(tmp_path / "data.npz", variants(240, seed=1))
    checked = onnx_memo.optimize(fixture("bert"), data, tmp_path / "b", tolerance=0.3).manifest.checked
    assert (checked["requests"], checked["stored_error"]) == (verify.REQUESTS + TRIED, None)


@pytest.mark.parametrize("level", ["rows", "output"])
def test_a_miss_that_is_off_by_a_bit_is_never_published(tmp_path, data, monkeypatch, level):
    """As where ONNX Runtime fuses across a cut."""
    write = pipeline._write_model

    def spoiled(*arguments):
        write(*arguments)
        path = arguments[-1] / "model.onnx"
        model = ir.load(path)
        (output,) = model.graph.outputs
        nearly = ir.tensor(np.float32(1 + 2**-20), name="nearly")
        one = ir.Value(
            name="nearly", const_value=nearly, type=ir.TensorType(nearly.dtype), shape=ir.Shape([])
        )
        model.graph.register_initializer(one)
        last = ir.node("Mul", [output, one])
        last.outputs[0].name, last.outputs[0].type, last.outputs[0].shape = "off", output.type, output.shape
        model.graph.append(last)
        model.graph.outputs[0] = last.outputs[0]
        ir.save(model, path)

    monkeypatch.setattr(pipeline, "_write_model", spoiled)
    reason = r"not written: with nothing reused its output 'off' is off by .*try another --level"
    with nothing_left_in(tmp_path), pytest.raises(MemoError, match=reason):
        onnx_memo.optimize(fixture("bert"), data, tmp_path / "b", level=level)


def test_an_answer_to_a_stored_input_that_is_wrong_is_never_published(tmp_path, data, monkeypatch):
    unpadded = type(OUTPUT).unpadded

    def spoiled(payload, array, length):
        return unpadded(payload, array, length) * np.float32(1.5)

    monkeypatch.setattr(type(OUTPUT), "unpadded", spoiled)
    reason = r"not written: the answer to a stored input is off by .* \(stock operators"
    with nothing_left_in(tmp_path), pytest.raises(MemoError, match=reason):
        onnx_memo.optimize(fixture("bert"), data, tmp_path / "b", level="output")


def test_a_statically_quantized_model_is_refused_where_it_would_be_wrong(tmp_path, data):
    """Payloads of half precision are quantized again: a step more or less here and there."""
    quantization = pytest.importorskip("onnxruntime.quantization")
    samples = iter(random_samples(original(fixture("bert")), LENGTHS, seed=1))

    class Reader(quantization.CalibrationDataReader):
        def get_next(self):
            return next(samples, None)

    quantization.quantize_static(fixture("bert"), tmp_path / "qdq.onnx", Reader())
    with pytest.raises(MemoError, match=r"not written: .* is off by"):
        onnx_memo.optimize(tmp_path / "qdq.onnx", data, tmp_path / "b", level="probs")
