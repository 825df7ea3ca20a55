"""Add outputs to a model, so that a run shows what happens inside it."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir


def add_outputs(model: ir.Model, values: Iterable[ir.Value], dtype: ir.DataType = ir.DataType.FLOAT) -> None:
    """Make each of `values` an output of the main graph, after the model's own; `model` is changed.

    Values that are outputs already stay where they are. Values whose type is unknown get `dtype`.
    """
    present = set(model.graph.outputs)
    for value in values:
        if value in present:
            continue
        present.add(value)
        if value.type is None:
            value.type = ir.TensorType(dtype)
        model.graph.outputs.append(value)
