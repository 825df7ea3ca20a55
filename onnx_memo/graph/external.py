"""Weights that lie in other files than their model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import onnx
import onnx_ir as ir

from onnx_memo.errors import MemoError


def external_files(model: ir.Model) -> set[str]:
    """The names, relative to the model's folder, of the files that hold its weights."""
    return {str(tensor.location) for _, tensor in external_weights(model)}


def external_weights(model: ir.Model) -> Iterator[tuple[ir.Value, ir.ExternalTensor]]:
    """The initializers that lie in other files, and their tensors."""
    for graph in (model.graph, *model.graph.subgraphs()):
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                yield value, value.const_value


def bytes_outside(model: ir.Model) -> int:
    """The bytes of the initializers that lie in other files."""
    return sum(tensor.nbytes for _, tensor in external_weights(model))


def folder_of_weights(model: ir.Model, path: Path) -> Path:
    """Where the files lie that hold weights of the model at `path`."""
    return next((Path(tensor.base_dir) for _, tensor in external_weights(model)), path.parent)


def read_linked(path: Path, proto: onnx.ModelProto) -> ir.Model | None:
    """The model, its weights read from where links lead to; None where none leads out of its folder."""
    home, real = path.parent.resolve(), path.resolve().parent
    linked = [tensor for tensor in all_tensors(proto) if tensor.data_location == onnx.TensorProto.EXTERNAL]
    files = [(path.parent / _location(tensor)).resolve() for tensor in linked]
    if all(file.is_relative_to(home) for file in files):
        return None
    for tensor, file in zip(linked, files, strict=True):
        for item in tensor.external_data:
            if item.key == "location":
                item.value = file.relative_to(real).as_posix()
    model = ir.from_proto(proto)
    ir.external_data.set_base_dir(model.graph, real)
    return model


def all_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """All tensors of a model, those of functions and of graphs inside included."""
    yield from _tensors(proto.graph)
    for function in proto.functions:
        yield from _tensors_of_nodes(function.node)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """All tensors of a graph: initializers, constants of nodes, and those of the graphs inside."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("sparse_tensor"):
                yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
            yield from attribute.tensors
            for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _tensors(graph)


def check_external_data(path: Path, proto: onnx.ModelProto) -> None:
    """Every tensor outside the file must lie, whole, in a file below the model's folder, links followed.

    A model's file may be a link itself, as in the cache of a hub: then its weights may lie beside what it
    leads to.

    Raises:
        MemoError: with the tensor that does not.
    """
    homes = (path.parent.resolve(), path.resolve().parent)
    for tensor in all_tensors(proto):
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
        if not any(file.resolve().is_relative_to(home) for home in homes):
            raise MemoError(
                f"'{path}' takes the weight '{tensor.name}' from '{location}', a link out of its folder: "
                "copy the file itself beside the model (cp -L)"
            )
        if not file.is_file():
            raise MemoError(
                f"'{path}' takes its weights from '{location}', which is missing: copy it beside the model"
            )
        try:
            offset, length = int(entry.get("offset", 0)), int(entry.get("length", 0))
        except ValueError:
            offset = length = -1
        size = file.stat().st_size
        try:
            bits = ir.DataType(tensor.data_type).bitwidth
        except (TypeError, ValueError) as error:  # no type, one of no fixed size, or one that is not known
            raise MemoError(
                f"'{path}' takes the weight '{tensor.name}' from '{location}', and its type has no size: "
                "export it again"
            ) from error
        needed = -(-math.prod(tensor.dims) * bits // 8)
        if min(offset, length) < 0 or offset + length > size or needed > (length or size - offset):
            raise MemoError(
                f"'{file}' is too short for the weight '{tensor.name}' of '{path}': copy it again"
            )


def _location(tensor: onnx.TensorProto) -> str:
    return next((item.value for item in tensor.external_data if item.key == "location"), "")
