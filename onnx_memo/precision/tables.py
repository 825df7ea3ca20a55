"""The tables in which tokens are looked up, in 8 bits: each row with a scale of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.graph.build import Builder, register
from onnx_memo.graph.copies import Copy
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.store.data import ALIGNMENT, StoredTensor

LEAST = 1 << 18  # numbers of a table that is worth it
MOST = 127  # steps on either side of zero
FLOAT = ir.DataType.FLOAT.value


@dataclass(frozen=True)
class Tables:
    """Constant tables f32[N, d] of the original, and the nodes that gather their rows.

    Attributes:
        gathers: of each table.
    """

    gathers: Mapping[ir.Value, tuple[ir.Node, ...]]

    def tensors(self) -> list[StoredTensor]:
        """The tables' rows, i8[N, d], and their scales, f32[N]."""
        found = []
        for number, table in enumerate(self.gathers):
            rows, scales = _rounded(_numbers(table))
            found += [StoredTensor.of(_name(number, "rows"), rows)]
            found += [StoredTensor.of(_name(number, "scales"), scales)]
        return found

    @property
    def nbytes(self) -> int:
        """What they take in 8 bits, at most; each tensor begins on a page."""
        shapes = (tensor.shape.numpy() for tensor in map(_tensor, self.gathers))
        return sum(rows * (width + 4) + 2 * ALIGNMENT for rows, width in shapes)

    def insert(self, copy: Copy, tensors: Mapping[str, ir.TensorProtocol]) -> None:
        """Read the stored tables in a copy of the original. Values keep their places and names."""
        graph = copy.model.graph
        for number, nodes in enumerate(copy.twin(list(self.gathers.values()))):
            rows, scales = (register(graph, tensors[_name(number, part)]) for part in ("rows", "scales"))
            for at, node in enumerate(nodes):
                b = Builder(f"memo/table/{number}.{at}", copy.model.opset_imports[""])
                ids = node.inputs[1]
                whole = b.op("Cast", b.op("Gather", rows, ids), to=FLOAT)
                scale = b.op("Unsqueeze", b.op("Gather", scales, ids), b.i64(-1))
                graph.insert_before(node, b.nodes)
                # The node goes on as their product, so that what is made of it is made of the same value.
                node.op_type = "Mul"
                node.attributes.clear()
                node.replace_input_with(0, whole)
                node.replace_input_with(1, scale)


def find_tables(opened: OpenedModel) -> Tables:
    """The large tables of the model, all of finite numbers, of which nothing but rows is read."""
    found: dict[ir.Value, tuple[ir.Node, ...]] = {}
    for table in opened.model.graph.initializers.values():
        tensor = table.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or len(tensor.shape) != 2:
            continue
        readers = table.uses()
        gathered = all(
            node.op_type == "Gather" and at == 0 and node.attributes.get_int("axis", 0) == 0
            for node, at in readers
        )
        main = all(node.graph is opened.model.graph for node, _ in readers)
        given = table.is_graph_input() or table.is_graph_output()
        large = tensor.size >= LEAST and readers and gathered and main and not given
        if large and np.isfinite(tensor.numpy()).all():
            found[table] = tuple(node for node, _ in readers)
    return Tables(found)


def _rounded(numbers: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Rows in 127 steps on either side of zero, and what a step is."""
    largest = np.abs(numbers).max(axis=1)
    scales = (np.maximum(largest, np.finfo(np.float32).tiny) / MOST).astype(np.float32)
    return np.rint(numbers / scales[:, None]).clip(-MOST, MOST).astype(np.int8), scales


def _tensor(table: ir.Value) -> ir.TensorProtocol:
    assert table.const_value is not None, "a table is constant"
    return table.const_value


def _numbers(table: ir.Value) -> npt.NDArray[np.float32]:
    return _tensor(table).numpy()


def _name(number: int, part: str) -> str:
    return f"memo/table/{number}.{part}"
