"""Read an ONNX file that may come from anywhere."""

from __future__ import annotations

import logging
from pathlib import Path

import onnx
import onnx_ir as ir
import onnxruntime as ort
from google.protobuf.message import DecodeError
from onnx_ir.passes.common import CommonSubexpressionEliminationPass, InlinePass

from onnx_memo.errors import MemoError, reason_of
from onnx_memo.files import LFS_POINTER
from onnx_memo.graph.convert import MIN_OPSET, OLDEST_OPSET, converted
from onnx_memo.graph.external import all_tensors, check_external_data, external_weights, read_linked
from onnx_memo.graph.quantizers import merge_initializers
from onnx_memo.runtime import session_options

MOST_SIZES = 1024  # integers in a tensor up to which it is a constant rather than a weight
INITIALIZERS_APART = 4  # the IR version below which all are listed as inputs, and yet are constants
MAX_OPSET = 26  # the newest that the operators' bodies were run with


# Its warnings about initializers that are inputs too are no concern of the user's.
logging.getLogger("onnx_ir").addHandler(logging.NullHandler())


def load_model(path: Path) -> ir.Model:
    """Read and check the model at `path`; functions are inlined, repetitions merged.

    What ONNX's checker finds fault with is read all the same if ONNX Runtime loads it.

    Raises:
        MemoError: there is no such file, it is no ONNX model or a damaged one, its external data
            is missing, or its opset is one we do not write.
    """
    if not path.is_file():
        raise MemoError(f"'{path}' is not a file: name an ONNX model")
    with path.open("rb") as file:
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            raise MemoError(
                f"'{path}' is a pointer of Git LFS, not the model itself: fetch it with git lfs pull"
            )
    try:
        proto = onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise MemoError(
            f"'{path}' is not an ONNX model, or its end is missing: export or copy it again"
        ) from error
    if not proto.ir_version or not proto.graph.node:
        raise MemoError(f"'{path}' is not an ONNX model: it holds no graph")
    check_external_data(path, proto)
    try:
        onnx.checker.check_model(_without_files(proto))
    except UnicodeDecodeError as error:  # of the checker's own message
        raise MemoError(f"'{path}' holds names that are no UTF-8: export or copy it again") from error
    except onnx.checker.ValidationError as error:
        if not _runs(path):
            raise MemoError(
                f"'{path}' is not a valid ONNX model ({reason_of(error)}), nor does ONNX Runtime load it: "
                "export it again"
            ) from error
    try:
        return _prepared(path, _read(path, proto))
    except MemoError:
        raise
    except Exception as error:  # whatever libraries meet in a foreign graph; they share no class of errors
        raise unhandled(path, error) from error


def unhandled(path: Path, error: Exception) -> MemoError:
    """What is said of a model that libraries cannot handle."""
    return MemoError(
        f"'{path}' holds a graph that cannot be handled ({reason_of(error)}): export it another way"
    )


def _runs(path: Path) -> bool:
    """Whether ONNX Runtime loads the model as it is."""
    options = session_options(native=False, threads=1)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception:  # ONNX Runtime's errors share no public base class
        return False
    return True


def _read(path: Path, proto: onnx.ModelProto) -> ir.Model:
    model = read_linked(path, proto) or ir.load(path)
    if "ai.onnx" in model.opset_imports:  # another name of the standard operators
        model.opset_imports.setdefault("", model.opset_imports.pop("ai.onnx"))
    old = OLDEST_OPSET <= model.opset_imports.get("", 0) < MIN_OPSET
    return converted(path, model) if old else model


def _prepared(path: Path, model: ir.Model) -> ir.Model:
    for node in model.graph.all_nodes():
        for name in (name for name, attribute in node.attributes.items() if attribute.is_ref()):
            raise MemoError(
                f"'{path}' has a node '{node.name}' whose attribute '{name}' has no value: export it again"
            )
    model.graph.sort()
    if model.ir_version < INITIALIZERS_APART:
        model.graph.inputs[:] = [value for value in model.graph.inputs if not value.is_initializer()]
    _take_in_constants(model)
    opset = model.opset_imports.get("", 0)
    if not MIN_OPSET <= opset <= MAX_OPSET:
        raise MemoError(
            f"'{path}' is of opset {opset}; opsets {OLDEST_OPSET} to {MAX_OPSET} are supported: "
            "export it again with one of these"
        )
    if model.functions:
        model = InlinePass()(model).model
    # ONNX Runtime merges repeated small computations in the main graph, but not across a branch.
    merge_initializers(model)
    CommonSubexpressionEliminationPass()(model)
    return model


def _take_in_constants(model: ir.Model) -> None:
    """Read constants that lie in other files, but for weights.

    Whoever is given the model without its folder (shape inference, a session on a model in memory) would look
    for them where one works, or refuse them.
    """
    for value, tensor in external_weights(model):
        if tensor.dtype.is_integer() and tensor.size <= MOST_SIZES:
            value.const_value = ir.tensor(tensor.numpy(), name=tensor.name)
    graphs = (model.graph, *(function.graph for function in model.functions.values()))
    for node in (node for graph in graphs for node in graph.all_nodes()):
        for name, attribute in list(node.attributes.items()):
            if isinstance(attribute.value, ir.ExternalTensor):
                constant = attribute.value
                node.attributes[name] = ir.AttrTensor(name, ir.tensor(constant.numpy(), name=constant.name))


def _without_files(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy for ONNX's checker, which refuses links: what lies in files counts as empty there."""
    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    for tensor in all_tensors(bare):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
            tensor.dims[:] = [0]
    return bare
