"""Models of one native kernel each, and how to run them."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
from onnx import helper, numpy_helper
from support import ELEMENTS

from onnx_memo.operators.spec import DOMAIN, OPERATORS, VERSION
from onnx_memo.runtime import library_path

LIBRARY = library_path()
INF = np.float32(np.inf)
NAN = np.float32(np.nan)
INVALID = ort.capi.onnxruntime_pybind11_state.InvalidArgument


def names(op: str) -> list[str]:
    """Those of its inputs, in their order."""
    return [tensor.name for tensor in OPERATORS[op].inputs]


def session(op: str, feeds: dict[str, np.ndarray], constants: dict[str, np.ndarray], threads: int = 1):
    """A model of one node: `feeds` are its inputs, `constants` its initializers."""
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), [None] * array.ndim)
        for name, array in feeds.items()
    ]
    graph = helper.make_graph(
        [helper.make_node(op, names(op), [t.name for t in OPERATORS[op].outputs], domain=DOMAIN)],
        "one_node",
        inputs,
        [helper.make_tensor_value_info(t.name, ELEMENTS[t.element], None) for t in OPERATORS[op].outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, VERSION)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = ort.SessionOptions()
    options.register_custom_ops_library(str(LIBRARY))
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run_all(op: str, *arrays: np.ndarray, threads: int = 1) -> list[np.ndarray]:
    """Every output."""
    feeds = {name: np.asarray(array) for name, array in zip(names(op), arrays, strict=True)}
    return session(op, feeds, {}, threads).run(None, feeds)


def run(op: str, *arrays: np.ndarray, threads: int = 1) -> np.ndarray:
    """The first output."""
    return run_all(op, *arrays, threads=threads)[0]


def integers(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)
