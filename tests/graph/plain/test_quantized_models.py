"""What ONNX Runtime's quantizers make of an encoder, taken apart: its attention is found as in the floats."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from support import fixture
from support_quantized import operators, plain_form, run

from onnx_memo.graph.encoder import Encoder, find_encoder
from onnx_memo.graph.load import load_model
from onnx_memo.graph.shapes import ShapeTable
from onnx_memo.graph.site import Findings
from onnx_memo.graph.sites import find_sites

quantization = pytest.importorskip("onnxruntime.quantization")
matmul_nbits = pytest.importorskip("onnxruntime.quantization.matmul_nbits_quantizer")
matmul_bnb4 = pytest.importorskip("onnxruntime.quantization.matmul_bnb4_quantizer")

SOURCE = fixture("bert")
QDQ, OPERATORS = quantization.QuantFormat.QDQ, quantization.QuantFormat.QOperator
INTEGERS = ("MatMulInteger", "DynamicQuantizeLinear", "QuantizeLinear", "MatMulNBits", "MatMulBnb4")
Quantize = Callable[[Path], None]


def feeds(seed: int) -> dict[str, np.ndarray]:
    ids = np.random.default_rng(seed).integers(5, 60, (2, 11))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


class Sample(quantization.CalibrationDataReader):
    """Some requests, one after the other, as the quantizer asks for them."""

    def __init__(self) -> None:
        names = {value.name for value in load_model(SOURCE).graph.inputs}
        requests = [feeds(seed) for seed in range(8)]
        self.requests: Iterator[dict[str, np.ndarray]] = iter(
            [{name: array for name, array in request.items() if name in names} for request in requests]
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.requests, None)


def dynamic(path: Path, **options: object) -> None:
    quantization.quantize_dynamic(onnx.load(SOURCE), path, **options)


def static(path: Path, form: object, **options: object) -> None:
    quantization.quantize_static(onnx.load(SOURCE), path, Sample(), quant_format=form, **options)


def nbits(path: Path, **options: object) -> None:
    quantizer = matmul_nbits.MatMulNBitsQuantizer(
        onnx.load(SOURCE), block_size=16, accuracy_level=1, **options
    )
    quantizer.process()
    quantizer.model.save_model_to_file(str(path))


def bnb4(path: Path, kind: int) -> None:
    quantizer = matmul_bnb4.MatMulBnb4Quantizer(onnx.load(SOURCE), kind, 16)
    quantizer.process()
    quantizer.model.save_model_to_file(str(path))


def as_optimized(path: Path, make: Quantize) -> None:
    """As ONNX Runtime saves it, with the products fused."""
    unfused = path.with_suffix(".unfused.onnx")
    make(unfused)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    ort.InferenceSession(unfused, options, providers=["CPUExecutionProvider"])


FORMS: dict[str, Quantize] = {
    "qdq": lambda path: static(path, QDQ),
    "qdq, a scale for each column": lambda path: static(path, QDQ, per_channel=True),
    "qdq, fused": lambda path: as_optimized(path, FORMS["qdq"]),
    "operators": lambda path: static(path, OPERATORS),
    "operators, fused": lambda path: as_optimized(path, FORMS["operators"]),
    "dynamic, a scale for each column": lambda path: dynamic(path, per_channel=True),
    "dynamic, products of activations": lambda path: dynamic(path, extra_options={"MatMulConstBOnly": False}),
}
WEIGHTS: dict[str, Quantize] = {
    "4 bits": lambda path: nbits(path, bits=4, is_symmetric=False),
    "8 bits": lambda path: nbits(path, bits=8, is_symmetric=True),
    "4 bits, qdq": lambda path: nbits(path, bits=4, quant_format=QDQ),
    "bitsandbytes": lambda path: bnb4(path, 1),
}


@functools.cache
def in_floats() -> tuple[Findings, Encoder]:
    """What is found in the model that is quantized."""
    model = load_model(SOURCE)
    found = find_sites(model)
    return found, find_encoder(model, found)


@pytest.fixture(scope="module", params=FORMS | WEIGHTS)
def quantized(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, ir.Model]:
    path = tmp_path_factory.mktemp("quantized") / "model.onnx"
    (FORMS | WEIGHTS)[request.param](path)
    return request.param, load_model(path)


def test_nothing_is_left_in_integers_and_all_attention_is_found(quantized):
    _, model = quantized
    plain = plain_form(model)
    assert not {*INTEGERS} & {*operators(plain)}
    assert not [name for name in operators(plain) if name.startswith(("QLinear", "QGemm"))]
    shapes = ShapeTable(plain)
    found = find_sites(plain, shapes)
    encoder = find_encoder(plain, found, shapes)
    sites, wanted = in_floats()
    assert len(found.sites) == len(encoder.cores) == len(sites.sites) == 3
    assert encoder.share == wanted.share


def test_it_computes_what_the_integers_approximate(quantized):
    name, model = quantized
    given = {value.name for value in model.graph.inputs}
    request = {name: array for name, array in feeds(100).items() if name in given}
    original, found = run(model, request, optimized=False)[0], run(plain_form(model), request)[0]
    error = np.linalg.norm(found - original) / np.linalg.norm(original)
    assert error < (1e-5 if name in WEIGHTS else 0.1)
