"""Models of a few operators, and what the rules make of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from onnx_memo.graph.plain import form
from onnx_memo.graph.plain.rule import MICROSOFT, Kept

Arrays = dict[str, np.ndarray]


def model_of(
    nodes: list[onnx.NodeProto],
    feeds: Arrays,
    weights: Arrays,
    opset: int = 17,
    outputs: tuple[str, ...] = ("y",),
) -> ir.Model:
    """A model that reads `feeds`, of any sizes, beside weights."""
    inputs = [
        onnx.helper.make_tensor_value_info(
            name,
            onnx.helper.np_dtype_to_tensor_dtype(array.dtype),
            [f"{name}_{axis}" for axis in range(array.ndim)],
        )
        for name, array in feeds.items()
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        inputs,
        [onnx.helper.make_empty_tensor_value_info(name) for name in outputs],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [onnx.helper.make_opsetid("", opset), onnx.helper.make_opsetid(MICROSOFT, 1)]
    return ir.from_proto(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10))


def plain_form(model: ir.Model) -> ir.Model:
    """The model with all operators taken apart for which there are rules. Raises Kept where one is kept."""
    plain = form.plain_form(model)
    found = model if plain is None else plain.model
    for kept in found.graph:
        if form.WHY_KEPT in kept.meta:
            raise Kept(kept.meta[form.WHY_KEPT])
    return found


def operators(model: ir.Model) -> list[str]:
    """The operators of a model, in order, without what moves data and what makes constants."""
    return [node.op_type for node in model.graph if node.op_type not in ("Identity", "Constant")]


def run(model: ir.Model, feeds: Arrays, optimized: bool = True) -> Any:
    """What ONNX Runtime computes."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    content = ir.to_proto(model).SerializeToString()
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"]).run(None, feeds)


def node(
    op_type: str, inputs: str, outputs: str = "y", domain: str = "", **attributes: Any
) -> onnx.NodeProto:
    """A node; names are separated by blanks, and `_` stands for an input that is left out."""
    given = ["" if name == "_" else name for name in inputs.split()]
    return onnx.helper.make_node(op_type, given, outputs.split(), domain=domain, **attributes)


def both(model: ir.Model, feeds: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """The first output of a model, and of its plain form."""
    return run(model, feeds)[0], run(plain_form(model), feeds)[0]


# ---- Numbers

RNG = np.random.default_rng(0)
STEP = 1 / 32  # a power of two: what is a multiple of it is quantized without an error
Weights = dict[str, np.ndarray]


def steps(*shape: int, dtype: type = np.uint8, zero: int = 128, most: int = 100) -> np.ndarray:
    """Floats that are quantized with `STEP` and `zero` without an error."""
    return (RNG.integers(-most, most, shape) * STEP).astype(np.float32)


def scale(name: str, zero: int = 128, dtype: type = np.uint8, step: float = STEP) -> Weights:
    """The scale and the zero point of a tensor, as `name_s` and `name_z`."""
    return {f"{name}_s": np.float32(step), f"{name}_z": dtype(zero)}


def quantize(name: str, domain: str = "") -> onnx.NodeProto:
    return node("QuantizeLinear", f"{name} {name}_s {name}_z", f"{name}_q", domain=domain)


def dequantize(name: str, output: str = "y", domain: str = "") -> onnx.NodeProto:
    return node("DequantizeLinear", f"{name}_q {name}_s {name}_z", output, domain=domain)


def triple(name: str) -> str:
    return f"{name}_q {name}_s {name}_z"


def weight(name: str, *shape: int, dtype: type = np.int8, columns: bool = False) -> Weights:
    """A weight in integers, with one scale, or one for each column, and a zero point."""
    size = shape[-1:] if columns else ()
    info = np.iinfo(dtype)
    return {
        f"{name}_q": RNG.integers(info.min // 2, info.max // 2, shape).astype(dtype),
        f"{name}_s": RNG.uniform(0.01, 0.02, size).astype(np.float32),
        f"{name}_z": np.full(size, 3, dtype),
    }


def same(model: ir.Model, feeds: Weights, within: float = 1e-5) -> None:
    original, plain = both(model, feeds)
    assert plain.dtype == original.dtype == np.float32
    np.testing.assert_allclose(plain, original, atol=within * max(1, np.abs(original).max()), rtol=0)


def is_plain(model: ir.Model, *wanted: str) -> None:
    """The plain form is made of these operators, besides what dequantizes constants."""
    found = operators(plain_form(model))
    assert [name for name in found if name not in ("Cast", "Sub", "Mul", "Unsqueeze")] == list(wanted)


def rows(*shape: int) -> Weights:
    return {"x": RNG.standard_normal(shape, np.float32)}
