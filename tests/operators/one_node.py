"""Models of one native kernel each, and how to run them."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from onnx_memo.runtime import library_path

LIBRARY = library_path()
INF = np.float32(np.inf)
NAN = np.float32(np.nan)
INVALID = ort.capi.onnxruntime_pybind11_state.InvalidArgument
INPUTS = {
    "MemoLookup": ("query", "length", "keys", "lengths", "threshold", "index"),
    "MemoFetch": ("entry", "payload", "offsets", "lengths", "padded_length"),
    "MemoContext": ("entry", "values", "payload", "offsets", "lengths"),
    "MemoRows": (
        *("states", "entry", "length", "stored", "influence", "offsets", "squares"),
        *("epsilon", "bound", "limit"),
    ),
    "MemoGrow": (
        *("states", "rows", "change", "predicted", "entry", "length", "stored", "influence"),
        *("offsets", "squares", "bound", "correction", "rollout"),
    ),
    "MemoAttention": (
        *("query", "key", "value", "rows", "entry", "length", "padded_length"),
        *("keys", "values", "offsets", "scale", "bias"),
    ),
    "MemoMerge": (
        *("states", "spread", "rows", "entry", "length", "padded_length"),
        *("final", "influence", "offsets", "squares"),
    ),
}
OUTPUTS = {
    "MemoLookup": {"entry": TensorProto.INT64, "hit": TensorProto.BOOL},
    "MemoFetch": {"output": TensorProto.FLOAT},
    "MemoContext": {"context": TensorProto.FLOAT},
    "MemoRows": {
        **{"rows": TensorProto.INT64, "stored_rows": TensorProto.INT64, "hit": TensorProto.BOOL},
        **{"change": TensorProto.FLOAT, "predicted": TensorProto.FLOAT},
    },
    "MemoGrow": {
        **{"grown": TensorProto.FLOAT, "grown_rows": TensorProto.INT64},
        **{"stored_rows": TensorProto.INT64, "predicted_now": TensorProto.FLOAT},
    },
    "MemoAttention": {"context": TensorProto.FLOAT},
    "MemoMerge": {"output": TensorProto.FLOAT},
}


def session(op: str, feeds: dict[str, np.ndarray], constants: dict[str, np.ndarray], threads: int = 1):
    """A model of one node: `feeds` are its inputs, `constants` its initializers."""
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), [None] * array.ndim)
        for name, array in feeds.items()
    ]
    graph = helper.make_graph(
        [helper.make_node(op, INPUTS[op], list(OUTPUTS[op]), domain="onnx_memo")],
        "one_node",
        inputs,
        [helper.make_tensor_value_info(name, kind, None) for name, kind in OUTPUTS[op].items()],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("onnx_memo", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = ort.SessionOptions()
    options.register_custom_ops_library(str(LIBRARY))
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run_all(op: str, *arrays: np.ndarray, threads: int = 1) -> list[np.ndarray]:
    """Every output."""
    feeds = {name: np.asarray(array) for name, array in zip(INPUTS[op], arrays, strict=True)}
    return session(op, feeds, {}, threads).run(None, feeds)


def run(op: str, *arrays: np.ndarray, threads: int = 1) -> np.ndarray:
    """The first output."""
    return run_all(op, *arrays, threads=threads)[0]


def integers(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)
