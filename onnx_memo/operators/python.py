"""Run the memo operators in Python, through onnxruntime-extensions.

So a policy of your own can be tried in Python before it is written in C++.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_ir as ir
import onnxruntime as ort

from onnx_memo.errors import MemoError
from onnx_memo.operators.reference import REFERENCES, memo_lookup
from onnx_memo.operators.spec import DOMAIN, OPERATORS, Tensor
from onnx_memo.runtime import session_options
from onnx_memo.sessions import open_session

# The only domain in which onnxruntime-extensions runs operators written in Python.
PYTHON_DOMAIN = "ai.onnx.contrib"


def run_in_python(bundle: Path | str, lookup: Callable[..., Any] = memo_lookup) -> ort.InferenceSession:
    """A session on a bundle whose memo operators are the references, or a lookup of your own.

    `bundle` is its directory, or its model file. The operators are the process's: the newest `lookup` serves
    all such sessions.

    Raises:
        MemoError: there is no model, or onnxruntime-extensions is not installed.
    """
    path = _model_file(Path(bundle))
    model = ir.load(path)
    rename_for_python(model)
    options = session_options(native=False)
    options.register_custom_ops_library(python_library())
    _policy[0] = lookup
    return open_session(model, path.parent, options)


def _model_file(bundle: Path) -> Path:
    """The model in a bundle, which holds only one; a file is taken for the model itself."""
    models = [bundle] if bundle.is_file() else [*bundle.glob("*.onnx"), *bundle.glob("onnx/*.onnx")]
    if len(models) != 1:
        raise MemoError(
            f"'{bundle}' holds {len(models)} ONNX models where a bundle holds one: "
            "give the directory that onnx-memo optimize wrote, or the model in it"
        )
    return models[0]


def rename_for_python(model: ir.Model) -> None:
    """Move the memo nodes of `model` to the domain of Python operators and drop their bodies.

    onnxruntime-extensions knows no half precision: a `Cast` widens the payloads first (all of them,
    so this is for trying things out, not for large stores).
    """
    for node in list(model.graph.all_nodes()):
        if node.domain != DOMAIN:
            continue
        node.domain = PYTHON_DOMAIN
        for at, value in enumerate(node.inputs):
            if value is not None and value.dtype == ir.DataType.FLOAT16:
                widen = ir.node("Cast", [value], {"to": ir.DataType.FLOAT.value})
                widen.outputs[0].name = f"{value.name}/wide/{node.outputs[0].name}"
                assert node.graph is not None
                node.graph.insert_before(node, widen)
                node.replace_input_with(at, widen.outputs[0])
    for identifier in [key for key in model.functions if key[0] == DOMAIN]:
        del model.functions[identifier]
    del model.opset_imports[DOMAIN]
    model.opset_imports[PYTHON_DOMAIN] = 1


# Operators can be registered only once in a process; this is what the one lookup calls.
_policy: list[Callable[..., Any]] = [memo_lookup]


def _lookup(*inputs: Any) -> Any:
    return _policy[0](*inputs)


@functools.cache
def python_library() -> str:
    """The library that runs operators written in Python, after ours were registered with it.

    Raises:
        MemoError: onnxruntime-extensions is not installed.
    """
    try:
        from onnxruntime_extensions import PyCustomOpDef, get_library_path, onnx_op
    except ImportError as error:
        raise MemoError(
            "Python operators need onnxruntime-extensions: pip install 'onnx-memo[extensions]'"
        ) from error
    numbers = {
        "f16": PyCustomOpDef.dt_float,  # as `rename_for_python` widens it
        "f32": PyCustomOpDef.dt_float,
        "i64": PyCustomOpDef.dt_int64,
        "i8": PyCustomOpDef.dt_int8,
        "i32": PyCustomOpDef.dt_int32,
        "u8": PyCustomOpDef.dt_uint8,
        "bool": PyCustomOpDef.dt_bool,
    }

    def types(tensors: tuple[Tensor, ...]) -> list[int]:
        return [numbers[tensor.element] for tensor in tensors]

    functions = REFERENCES | {"MemoLookup": _lookup}
    for name, operator in OPERATORS.items():
        register = onnx_op(op_type=name, inputs=types(operator.inputs), outputs=types(operator.outputs))
        register(functions[name])
    path: str = get_library_path()
    return path
