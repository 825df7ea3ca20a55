"""Read an ONNX file that may come from anywhere."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError
from onnx_ir.passes.common import (
    CommonSubexpressionEliminationPass,
    DeduplicateInitializersPass,
    InlinePass,
)

from onnx_memo.errors import MemoError

MIN_OPSET = 13  # below, Unsqueeze and ReduceSum take their axes another way
MAX_OPSET = 26  # the newest that the operators' bodies were run with


def load_model(path: Path) -> ir.Model:
    """Read and check the model at `path`; functions are inlined, repetitions merged.

    Raises:
        MemoError: there is no such file, it is no ONNX model or a damaged one, its external data
            is missing, or its opset is one we do not write.
    """
    if not path.is_file():
        raise MemoError(f"'{path}' is not a file: name an ONNX model")
    try:
        proto = onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise MemoError(
            f"'{path}' is not an ONNX model, or its end is missing: export or copy it again"
        ) from error
    if not proto.ir_version or not proto.graph.node:
        raise MemoError(f"'{path}' is not an ONNX model: it holds no graph")
    _check_external_data(path, proto)
    try:
        onnx.checker.check_model(str(path))
    except onnx.checker.ValidationError as error:
        reason = str(error).splitlines()[0]
        raise MemoError(f"'{path}' is not a valid ONNX model ({reason}): export it again") from error
    del proto
    model = ir.load(path)
    opset = model.opset_imports.get("", 0)
    if not MIN_OPSET <= opset <= MAX_OPSET:
        raise MemoError(
            f"'{path}' is of opset {opset}; opsets {MIN_OPSET} to {MAX_OPSET} are supported: "
            "export it again with one of these"
        )
    if model.functions:
        model = InlinePass()(model).model
    # ONNX Runtime merges repeated small computations in the main graph, but not across a branch.
    DeduplicateInitializersPass()(model)
    CommonSubexpressionEliminationPass()(model)
    return model


def external_files(model: ir.Model) -> set[str]:
    """The names, relative to the model's folder, of the files that hold its weights."""
    return {
        str(value.const_value.location)
        for graph in (model.graph, *model.graph.subgraphs())
        for value in graph.initializers.values()
        if isinstance(value.const_value, ir.ExternalTensor)
    }


def _check_external_data(path: Path, proto: onnx.ModelProto) -> None:
    """Every tensor outside the file must lie in a file below the model's folder, whole."""
    for tensor in proto.graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entry = {item.key: item.value for item in tensor.external_data}
        location = PurePosixPath(entry.get("location", ""))
        if location.is_absolute() or ".." in location.parts or not location.parts:
            raise MemoError(
                f"'{path}' takes the weight '{tensor.name}' from '{location}', outside its folder: "
                "only files beside the model are read"
            )
        file = path.parent / location
        if not file.is_file():
            raise MemoError(
                f"'{path}' takes its weights from '{location}', which is missing: copy it beside the model"
            )
        try:
            offset, length = int(entry.get("offset", 0)), int(entry.get("length", 0))
        except ValueError:
            offset = length = -1
        if min(offset, length) < 0 or offset + length > file.stat().st_size:
            raise MemoError(
                f"'{file}' is too short for the weight '{tensor.name}' of '{path}': copy it again"
            )
