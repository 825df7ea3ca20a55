"""Models of opsets that are older than what we write: ONNX's converter brings them to one that we do."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from pathlib import Path

import onnx
import onnx_ir as ir

from onnx_memo.errors import MemoError, reason_of
from onnx_memo.graph.shapes import LENGTHS, Shape, ShapeTable

MIN_OPSET = 13  # below, Unsqueeze and ReduceSum take their axes another way
OLDEST_OPSET = 9  # that is converted
TARGET = 14  # ONNX's inference loses sizes in 13 that it follows in 14
ASIDE = "onnx_memo.aside"  # the domain of what the converter leaves as it is
CONVERTED = "onnx_memo.converted"  # in a model's `meta`: the opset that it had


def converted(path: Path, model: ir.Model, saved: Path | None = None) -> ir.Model:
    """`model`, which is in the file at `path`, in the opset `TARGET`.

    Args:
        path: what the user calls it.
        model: the model.
        saved: the file it is in, if it is another one.

    Raises:
        MemoError: the converter cannot do it.
    """
    opset, table = model.opset_imports[""], ShapeTable(model)
    # Of how many axes something is, is not known at a length that the model does not take.
    shapes = ChainMap(*(dict(table.at(length, follow=True)) for length in LENGTHS))
    proto = onnx.load(saved or path)  # with weights of other files, which the converter would lose
    for node in proto.graph.node:
        if node.op_type in ("Softmax", "LogSoftmax"):
            _over_the_last_axis(node, shapes)
        if not node.domain and not onnx.defs.has(node.op_type):  # ONNX Runtime has some operators there
            node.domain = ASIDE
    proto.opset_import.append(onnx.helper.make_opsetid(ASIDE, 1))
    try:
        found = ir.from_proto(onnx.version_converter.convert_version(proto, TARGET))
    except Exception as error:  # the converter's errors share no class
        raise MemoError(
            f"'{path}' is of opset {opset}, and ONNX's converter does not bring it to {TARGET} "
            f"({reason_of(error)}): export it again with {TARGET} or newer"
        ) from error
    for left in found.graph.all_nodes():
        if left.domain == ASIDE:
            left.domain = ""
    found.opset_imports.pop(ASIDE, None)
    found.meta[CONVERTED] = opset
    return found


def _over_the_last_axis(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> None:
    """Call the last axis -1: by a number of its own the converter knows it only where it knows all axes.

    Before opset 13 a softmax flattened what it read; over the last axis that is the same.
    """
    shape = shapes.get(node.input[0])
    for attribute in node.attribute:
        if attribute.name == "axis" and shape is not None and attribute.i == len(shape) - 1:
            attribute.i = -1
