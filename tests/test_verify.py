"""The check of a bundle that was just written: it finds what no proof is about."""

from __future__ import annotations

import weakref

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnxruntime import quantization
from support import fixture, nothing_left_in, original, random_samples, variants, write_samples

import onnx_memo
from onnx_memo import build, questions, verify
from onnx_memo.errors import MemoError
from onnx_memo.graph import sites
from onnx_memo.levels import literal
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
    assert (checked["requests"], checked["libraries"]) == (2 * len(LENGTHS) + TRIED + 1, libraries())
    assert 0 <= checked["stored_error"] <= most
    shown = " ".join(cli("inspect", tmp_path / "b").out.split())
    assert f"checked on 17 requests ({' and '.join(libraries())}): with nothing reused, identical" in shown


@pytest.mark.usefixtures("everything_pays")
def test_with_a_tolerance_the_proof_is_about_what_is_reused(tmp_path):
    data = write_samples(tmp_path / "data.npz", variants(240, seed=1))
    checked = onnx_memo.optimize(fixture("bert"), data, tmp_path / "b", tolerance=0.3).manifest.checked
    assert (checked["requests"], checked["stored_error"]) == (questions.REQUESTS + TRIED + 1, None)


def test_one_session_is_open_at_a_time(tmp_path, data, monkeypatch):
    """Each may hold the weights once more, packed."""
    opened, others = [], []
    open_file = verify.open_file

    def watched(*arguments):
        others.extend(session for one in opened if (session := one()) is not None)
        session = open_file(*arguments)
        opened.append(weakref.ref(session))
        return session

    for module in (questions, verify):
        monkeypatch.setattr(module, "open_file", watched)
    onnx_memo.optimize(fixture("bert"), data, tmp_path / "b")
    assert len(opened) == 1 + len(libraries())
    assert not others


@pytest.mark.parametrize("level", ["rows", "output"])
def test_a_miss_that_is_off_by_a_bit_is_never_published(tmp_path, data, monkeypatch, level):
    """As where ONNX Runtime fuses across a cut."""
    write = build._write_model

    def spoiled(*arguments, **options):
        written = write(*arguments, **options)
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
        return written

    monkeypatch.setattr(build, "_write_model", spoiled)
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


def test_an_answer_to_an_input_that_is_not_stored_is_checked(tmp_path, data, monkeypatch):
    """As where everything is taken for a repeat."""
    monkeypatch.setattr(literal, "EPSILON", 1e9)
    reason = r"not written: the answer to an input that is not stored is off by .* \(stock operators"
    with nothing_left_in(tmp_path), pytest.raises(MemoError, match=reason):
        onnx_memo.optimize(fixture("bert"), data, tmp_path / "b", level="output")


def test_with_a_threshold_the_rest_is_the_users_to_measure(tmp_path, data):
    """Not all is stored, and what is not reuses what is near enough to the user."""
    made = onnx_memo.optimize(
        fixture("bert"), data, tmp_path / "b", level="output", threshold=1e9, max_bytes=300_000
    )
    assert 0 < made.manifest.entries < 5
    assert made.manifest.checked["stored_error"] is None


def dynamically_quantized(path):
    quantization.quantize_dynamic(onnx.load(fixture("bert")), path)


def statically_quantized(path):
    samples = iter(random_samples(original(fixture("bert")), LENGTHS, seed=1))

    class Reader(quantization.CalibrationDataReader):
        def get_next(self):
            return next(samples, None)

    quantization.quantize_static(onnx.load(fixture("bert")), path, Reader())


@pytest.mark.parametrize("level", ["output", "probs"])
@pytest.mark.parametrize("quantize", [dynamically_quantized, statically_quantized])
def test_what_quantizes_its_states_offers_no_single_blocks(tmp_path, data, quantize, level):
    """ONNX Runtime fuses across their cuts, and half precision would be quantized again."""
    quantize(tmp_path / "quantized.onnx")
    with pytest.raises(
        MemoError, match=rf"not allow the level '{level}': the model quantizes what attention"
    ):
        onnx_memo.optimize(tmp_path / "quantized.onnx", data, tmp_path / "b", level=level)


@pytest.mark.parametrize("level", ["output", "probs"])
def test_the_check_would_find_that_too(tmp_path, data, monkeypatch, level):
    monkeypatch.setattr(sites, "why_no_level", lambda *_: None)
    monkeypatch.setattr("onnx_memo.graph.opened.plain_form", lambda _: None)  # else it is not cut there
    statically_quantized(tmp_path / "quantized.onnx")
    with nothing_left_in(tmp_path), pytest.raises(MemoError, match=r"not written: .* is off by"):
        onnx_memo.optimize(tmp_path / "quantized.onnx", data, tmp_path / "b", level=level)


def test_a_level_whose_bundle_is_not_right_is_left_out(tmp_path, data, monkeypatch):
    """Where there is another."""
    check = verify.check_bundle

    def checked(job, folder, apart):
        if "memo/encoder" in (folder / "model.onnx").read_bytes().decode("latin1"):
            raise verify.Unfit("made to fail", "try another --level")
        return check(job, folder, apart)

    monkeypatch.setattr(build, "check_bundle", checked)
    made = onnx_memo.optimize(fixture("bert"), data, tmp_path / "b")
    assert {site.level for site in made.manifest.sites} == {"output"}
    assert "the level 'rows' is left out: made to fail" in made.manifest.notes
    assert onnx_memo.bench(fixture("bert"), tmp_path / "b", data, rounds=1).hit_rate == 1
    with nothing_left_in(tmp_path), pytest.raises(MemoError, match="not written: made to fail; try another"):
        onnx_memo.optimize(fixture("bert"), data, tmp_path / "c", level="rows")
