"""Forms of half precision, of 8 bits and of 4 bits, as the tools of ONNX Runtime write them."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort

from tools.forms.form import Form, Scale
from tools.forms.fused import Base, Recipe, fuse, saved
from tools.forms.inputs import Inputs

BLOCK = 32  # weights that share a scale
FLOATS = {"DefaultTensorType": onnx.TensorProto.FLOAT}  # of what shape inference does not know
CALIBRATION = (8, 16, 24, 32)  # lengths of the samples that static quantization sees


def halves(module: str, **options: Any) -> Callable[[Base, Path], None]:
    """To half precision, by a module with `convert_float_to_float16`."""

    def make(base: Base, to: Path) -> None:
        convert: Any = importlib.import_module(module)
        onnx.save(convert.convert_float_to_float16(onnx.load(base.path), **options), to)

    return make


def dynamic(**options: Any) -> Callable[[Base, Path], None]:
    """By `quantize_dynamic`."""

    def make(base: Base, to: Path) -> None:
        quantization: Any = importlib.import_module("onnxruntime.quantization")
        quantization.quantize_dynamic(base.path, to, **options)

    return make


class _Reader:
    """The samples that static quantization sees, one after the other."""

    def __init__(self, base: Base) -> None:
        session = ort.InferenceSession(base.path, providers=["CPUExecutionProvider"])
        inputs = Inputs(session, Form("", "", "", lambda _, __: None), Scale())
        self.samples = iter(inputs.samples(CALIBRATION, seed=0))

    def get_next(self) -> Any:
        """The next sample's arrays by name; None: there is no more."""
        return next(self.samples, None)


def static(form: str, **options: Any) -> Callable[[Base, Path], None]:
    """By `quantize_static`, in the form QDQ or QOperator."""

    def make(base: Base, to: Path) -> None:
        quantization: Any = importlib.import_module("onnxruntime.quantization")
        kind = getattr(quantization.QuantFormat, form)
        quantization.quantize_static(base.path, to, _Reader(base), quant_format=kind, **options)

    return make


def optimum_dynamic(base: Base, to: Path) -> None:
    """By optimum's `ORTQuantizer` as sentence-transformers calls it."""
    optimum: Any = importlib.import_module("optimum.onnxruntime")
    config = optimum.AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True)
    quantizer = optimum.ORTQuantizer.from_pretrained(base.path.parent, file_name=base.path.name)
    quantizer.quantize(config, to.parent, file_suffix="")


def in_blocks(bits: int, **options: Any) -> Callable[[Base, Path], None]:
    """By `matmul_nbits_quantizer`: weights in blocks with a scale each."""

    def make(base: Base, to: Path) -> None:
        nbits: Any = importlib.import_module("onnxruntime.quantization.matmul_nbits_quantizer")
        given = dict(options)
        if given.pop("qdq", False):
            given["quant_format"] = nbits.QuantFormat.QDQ
        quantizer = nbits.MatMulNBitsQuantizer(
            onnx.load(base.path), bits=bits, block_size=BLOCK, **{"is_symmetric": False} | given
        )
        quantizer.process()
        quantizer.model.save_model_to_file(str(to))

    return make


def bitsandbytes(kind: str) -> Callable[[Base, Path], None]:
    """By `matmul_bnb4_quantizer`: nf4 or fp4."""

    def make(base: Base, to: Path) -> None:
        bnb4: Any = importlib.import_module("onnxruntime.quantization.matmul_bnb4_quantizer")
        quantizer = bnb4.MatMulBnb4Quantizer(
            onnx.load(base.path), getattr(bnb4.MatMulBnb4Quantizer, kind), BLOCK
        )
        quantizer.process()
        quantizer.model.save_model_to_file(str(to))

    return make


def then(
    first: Callable[[Base, Path], None], second: Callable[[Base, Path], None]
) -> Callable[[Base, Path], None]:
    """One after the other."""

    def make(base: Base, to: Path) -> None:
        with tempfile.TemporaryDirectory() as work:
            between = Path(work) / "model.onnx"
            first(base, between)
            second(Base(between, base.heads, base.width, base.kind), to)

    return make


ORT16, COMMON16 = "onnxruntime.transformers.float16", "onnxconverter_common.float16"
HALVES = {
    "fp16": Recipe("`convert_float_to_float16(keep_io_types=True)`", halves(ORT16, keep_io_types=True)),
    "fp16-io": Recipe("`convert_float_to_float16`, inputs and outputs too", halves(ORT16)),
    "fp16-extended": Recipe(
        "the first, saved at `extended`", then(halves(ORT16, keep_io_types=True), saved("EXTENDED"))
    ),
    "fp16-common": Recipe("onnxconverter-common, `keep_io_types=True`", halves(COMMON16, keep_io_types=True)),
}
BITS4 = {
    "nbits-4": Recipe("MatMulNBits, 4 bits, asymmetric", in_blocks(4)),
    "nbits-4-symmetric": Recipe("MatMulNBits, 4 bits, symmetric", in_blocks(4, is_symmetric=True)),
    "nbits-4-accuracy": Recipe("MatMulNBits, 4 bits, `accuracy_level=4`", in_blocks(4, accuracy_level=4)),
    "nbits-4-tables": Recipe(
        "MatMulNBits and GatherBlockQuantized, 4 bits",
        in_blocks(4, is_symmetric=True, op_types_to_quantize=("MatMul", "Gather")),
    ),
    "nbits-4-qdq": Recipe("4 bits as DequantizeLinear in blocks", in_blocks(4, is_symmetric=True, qdq=True)),
    "nbits-8": Recipe("MatMulNBits, 8 bits, asymmetric", in_blocks(8)),
    "nbits-8-symmetric": Recipe("MatMulNBits, 8 bits, symmetric", in_blocks(8, is_symmetric=True)),
    "nbits-4-fp16": Recipe(
        "float16, then MatMulNBits", then(halves(ORT16, keep_io_types=True), in_blocks(4))
    ),
    "nbits-4-fused": Recipe("fused, then MatMulNBits", then(fuse(0), in_blocks(4))),
    "bnb4-nf4": Recipe("MatMulBnb4, nf4", bitsandbytes("NF4")),
    "bnb4-fp4": Recipe("MatMulBnb4, fp4", bitsandbytes("FP4")),
}
INT8 = {
    "int8": Recipe("`quantize_dynamic`", dynamic()),
    "int8-extended": Recipe("the same, saved at `extended`", then(dynamic(), saved("EXTENDED"))),
    "int8-products": Recipe(
        "`MatMulConstBOnly=False`: products of attention too",
        dynamic(extra_options={"MatMulConstBOnly": False}),
    ),
    "int8-channels": Recipe("`per_channel`", dynamic(per_channel=True)),
    "int8-channels-extended": Recipe(
        "`per_channel`, saved at `extended`", then(dynamic(per_channel=True), saved("EXTENDED"))
    ),
    "int8-range": Recipe("`reduce_range`", dynamic(reduce_range=True)),
    "int8-fused": Recipe("fused, then `quantize_dynamic`", then(fuse(0), dynamic(extra_options=FLOATS))),
    "int8-optimum": Recipe("optimum `ORTQuantizer`, avx512_vnni, per channel", optimum_dynamic),
    "qdq": Recipe("`quantize_static`, QDQ", static("QDQ")),
    "qdq-channels": Recipe("QDQ, `per_channel`", static("QDQ", per_channel=True)),
    "qdq-extended": Recipe("QDQ, saved at `extended`", then(static("QDQ"), saved("EXTENDED"))),
    "qoperator": Recipe("`quantize_static`, QOperator", static("QOperator")),
}
