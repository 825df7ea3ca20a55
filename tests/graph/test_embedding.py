"""What inputs are looked up in is read from the graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from support import changed, fixture

from onnx_memo.graph.opened import OpenedModel


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("bert", {"input_ids": 64, "token_type_ids": 2}),
        ("bert_dynamo", {"input_ids": 64}),
        ("gpt2", {"input_ids": 64, "position_ids": 64}),
        ("vit", {}),
    ],
)
def test_every_table_that_an_input_is_looked_up_in_is_found(name, rows):
    assert OpenedModel(fixture(name)).rows == rows


def with_a_table(path: Path, table: ir.Value, *nodes: ir.Node, axis: int = 0) -> Path:
    """BERT in which `input_ids`, or what nodes make of it, is looked up in another table first."""

    def change(model: ir.Model) -> None:
        (ids,) = (value for value in model.graph.inputs if value.name == "input_ids")
        if nodes:
            nodes[0].replace_input_with(0, ids)
        last = nodes[-1].outputs[0] if nodes else ids
        gather = ir.node("Gather", [table, last], {"axis": axis})
        for at, node in enumerate((*nodes, gather)):
            node.outputs[0].name = f"added/{at}"
        model.graph.insert_before(model.graph[0], [*nodes, gather])
        if table.const_value is not None:
            model.graph.register_initializer(table)
        elif table.producer() is None:
            model.graph.inputs.append(table)

    return changed("bert", path, change)


def weight(*shape: int) -> ir.Value:
    return ir.val("table", const_value=ir.tensor(np.zeros(shape, np.float32), name="table"))


def test_of_several_tables_the_smallest_counts(tmp_path):
    assert OpenedModel(with_a_table(tmp_path / "m.onnx", weight(40, 2))).rows["input_ids"] == 40
    assert OpenedModel(with_a_table(tmp_path / "m.onnx", weight(70, 2))).rows["input_ids"] == 64


def test_the_axis_that_is_looked_up_counts(tmp_path):
    assert OpenedModel(with_a_table(tmp_path / "m.onnx", weight(2, 30), axis=-1)).rows["input_ids"] == 30


def test_numbers_that_are_only_moved_are_followed(tmp_path):
    cast = ir.node("Cast", [ir.val("x")], {"to": ir.DataType.INT32.value})
    assert OpenedModel(with_a_table(tmp_path / "m.onnx", weight(40, 2), cast)).rows["input_ids"] == 40


def test_numbers_that_are_changed_are_not(tmp_path):
    absolute = ir.node("Abs", [ir.val("x")])
    assert OpenedModel(with_a_table(tmp_path / "m.onnx", weight(40, 2), absolute)).rows["input_ids"] == 64


def test_a_table_that_the_caller_gives_is_no_limit(tmp_path):
    given = ir.val("table", ir.DataType.FLOAT, [40, 2])
    assert OpenedModel(with_a_table(tmp_path / "m.onnx", given)).rows["input_ids"] == 64
