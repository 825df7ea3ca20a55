"""What else a user could pick to run a model faster: the same weights, rounded by other means.

OpenVINO takes part where it is installed, its 8 bits where NNCF is: `pip install openvino nncf`.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from onnx_memo.data.samples import Arrays
from onnx_memo.runtime import session_options
from tools import int8
from tools.measure import Outputs, Runner

BLOCK = 128  # channels that share a scale

Runs = Callable[[Arrays], Outputs]


def rivals(model: Path, threads: int = 1) -> dict[str, Runs]:
    """What runs the model's requests, by its name in tables."""
    found: dict[str, Runs] = {
        "ONNX Runtime, dynamic int8": _dynamic_int8(model, threads),
        "ONNX Runtime, MatMulNBits of 8 bits": _by_blocks(model, threads),
    }
    if importlib.util.find_spec("openvino"):
        found["OpenVINO, as it chooses"] = _OpenVino.of(model, threads)
        if importlib.util.find_spec("nncf"):
            found["OpenVINO, int8 weights, dynamic activations"] = _OpenVino.of(model, threads, int8=True)
    return found


def _dynamic_int8(model: Path, threads: int) -> Runner:
    """Weights per channel, one scale for all activations."""
    options = session_options(native=False, threads=threads)
    return Runner(ort.InferenceSession(int8.bring(model), options, providers=["CPUExecutionProvider"]))


def _by_blocks(model: Path, threads: int) -> Runner:
    """Weights in blocks; the arithmetic is int8 as well."""
    from onnxruntime.quantization.matmul_nbits_quantizer import (
        DefaultWeightOnlyQuantConfig,
        MatMulNBitsQuantizer,
    )

    config = DefaultWeightOnlyQuantConfig(block_size=BLOCK, is_symmetric=True, accuracy_level=4, bits=8)
    quantizer = MatMulNBitsQuantizer(onnx.load(model), algo_config=config)
    quantizer.process()
    content = quantizer.model.model.SerializeToString()
    options = session_options(native=False, threads=threads)
    return Runner(ort.InferenceSession(content, options, providers=["CPUExecutionProvider"]))


@dataclass(frozen=True)
class _OpenVino:
    """A compiled model's request."""

    request: Any
    outputs: int

    @classmethod
    def of(cls, model: Path, threads: int, int8: bool = False) -> _OpenVino:
        openvino: Any = importlib.import_module("openvino")
        core = openvino.Core()
        read = core.read_model(str(model))
        config: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        if int8:
            nncf: Any = importlib.import_module("nncf")
            read = nncf.compress_weights(read, mode=nncf.CompressWeightsMode.INT8_SYM)
            config["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = BLOCK
        compiled = core.compile_model(read, "CPU", config)
        return cls(compiled.create_infer_request(), len(compiled.outputs))

    def __call__(self, feeds: Arrays) -> Outputs:
        results = self.request.infer(feeds)
        found: list[npt.NDArray[Any]] = [np.array(results[at]) for at in range(self.outputs)]
        return found
