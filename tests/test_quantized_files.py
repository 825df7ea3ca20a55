"""Files as ONNX Runtime's quantization writes them: repeats are reused, and all else is the original's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnxruntime import quantization
from support import (
    FIXTURES,
    assert_identical,
    fixture,
    join,
    memoized,
    original,
    random_samples,
    write_samples,
)

import onnx_memo
from onnx_memo.runtime import session_options

LENGTHS = (3, 5, 9, 9, 16, 23)
INTEGERS = ("QLinear", "MatMulInteger", "DynamicQuantizeMatMul", "MatMulNBits")
FORMS = FIXTURES / "forms"
FLOAT = onnx.TensorProto.FLOAT


class Calibration(quantization.CalibrationDataReader):
    """Some samples, one after the other."""

    def __init__(self, model: Path) -> None:
        self.samples = iter(random_samples(original(model), LENGTHS, seed=0))

    def get_next(self) -> Any:
        return next(self.samples, None)


def dynamic(model: Path, to: Path) -> None:
    quantization.quantize_dynamic(onnx.load(model), to)


def static(model: Path, to: Path) -> None:
    quantization.quantize_static(
        onnx.load(model), to, Calibration(model), activation_type=quantization.QuantType.QInt8
    )


def written(model: Path, _: Path) -> Path:
    return model


Quantize = Callable[[Path, Path], Any]
# ONNX Runtime ends the process that loads a branch which reads what was moved outside of it (MPNet's table);
# it does not fuse the first normalization (Llama) in the original alone; rows are flattened before products
# (GPT-2); bytes have a sign, and who reads them decides (BERT).
FILES: dict[str, tuple[Path, Quantize]] = {
    "mpnet-dynamic": (FORMS / "mpnet-optimum.onnx", dynamic),
    "llama-dynamic": (FORMS / "llama-optimum.onnx", dynamic),
    "gpt2-dynamic": (fixture("gpt2"), dynamic),
    "bert-dynamic": (fixture("bert"), dynamic),
    "bert-static": (fixture("bert"), static),
    "bert-in-blocks": (FORMS / "bert-nbits-4-qdq.onnx", written),
}


@pytest.fixture(scope="module", params=sorted(FILES))
def quantized(request, tmp_path_factory):
    model, quantize = FILES[request.param]
    to = tmp_path_factory.mktemp(request.param) / "quantized.onnx"
    return quantize(model, to) or to


@pytest.fixture(scope="module")
def bundle(quantized, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    data = write_samples(folder / "data.npz", random_samples(original(quantized), LENGTHS, seed=1))
    return onnx_memo.optimize(quantized, data, folder / "bundle", level="rows").path


def optimized(model: Path, folder: Path) -> onnx.ModelProto:
    """The model as ONNX Runtime runs it; `folder` is for its file."""
    options = session_options(native=False, threads=1)
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return onnx.load(options.optimized_model_filepath, load_external_data=False)


def kinds(graph: onnx.GraphProto) -> Iterator[str]:
    for node in graph.node:
        yield node.op_type
        for attribute in node.attribute:
            yield from kinds(attribute.g)


def of_integers(model: onnx.ModelProto) -> Counter[str]:
    return Counter(kind for kind in kinds(model.graph) if kind.startswith(INTEGERS))


def test_repeats_are_reused_and_others_are_the_originals(quantized, bundle, mode):
    before, after = original(quantized), memoized(bundle, mode)
    for sample in random_samples(before, LENGTHS, seed=1):
        (want, *_), (have, *_) = before.run(None, sample), after.run(None, sample)
        assert np.linalg.norm(have - want) <= 1e-5 * np.linalg.norm(want)
    unseen = random_samples(before, LENGTHS, seed=2)
    for request in (*unseen, join(unseen[1:5])):
        assert_identical(after.run(None, request), before.run(None, request))


def test_onnx_runtime_takes_the_same_operators_of_integers(quantized, bundle, tmp_path):
    have, want = optimized(bundle / "model.onnx", tmp_path), optimized(quantized, tmp_path)
    assert of_integers(have) == of_integers(want)


@pytest.mark.parametrize("level", ["output", "probs"])
def test_blocks_are_cut_behind_the_bias_that_is_fused_with_the_product(level, tmp_path):
    model, _ = FILES["bert-in-blocks"]
    before = original(model)
    data = write_samples(tmp_path / "data.npz", random_samples(before, LENGTHS, seed=1))
    after = memoized(onnx_memo.optimize(model, data, tmp_path / "bundle", level=level).path, "stock")
    for request in random_samples(before, LENGTHS, seed=2):
        assert_identical(after.run(None, request), before.run(None, request))


def test_weights_in_files_of_their_own_stay_there(tmp_path):
    model, _ = FILES["bert-in-blocks"]
    outside = tmp_path / "model.onnx"
    onnx.save(onnx.load(model), outside, save_as_external_data=True, size_threshold=0)
    before = original(outside)
    data = write_samples(tmp_path / "data.npz", random_samples(before, LENGTHS, seed=1))
    bundle = onnx_memo.optimize(outside, data, tmp_path / "bundle", level="rows").path
    written = onnx.load(bundle / "model.onnx", load_external_data=False)
    branches = [a.g for node in written.graph.node for a in node.attribute if a.name == "else_branch"]
    scales = [tensor for branch in branches for tensor in branch.initializer if tensor.data_type == FLOAT]
    assert {tensor.data_location for tensor in scales} == {onnx.TensorProto.EXTERNAL}
    after = memoized(bundle, "stock")
    for request in random_samples(before, LENGTHS, seed=2):
        assert_identical(after.run(None, request), before.run(None, request))
