"""Positions that the caller gives: they are told from other inputs by what attention does with them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
from support import changed, fixture, input_named
from support_rows import opened

from onnx_memo.data.samples import model_inputs
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.graph.rowwise import Table
from onnx_memo.graph.sites import find_sites

Change = Callable[[ir.Model], None]


def stored(model: ir.Model, array: np.ndarray) -> ir.Value:
    """A new initializer of the model."""
    name = f"extra.{len(model.graph.initializers)}"
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype))
    value.shape = ir.Shape(array.shape)
    model.graph.register_initializer(value)
    return value


def placed(model: ir.Model, op: str, inputs: list[ir.Value], before: ir.Node, **attributes: int) -> ir.Value:
    """The result of a new node."""
    node = ir.node(op, inputs, attributes)
    node.outputs[0].name = f"extra.{op}.{len(model.graph)}"
    model.graph.insert_before(before, node)
    return node.outputs[0]


def instead(made: Callable[[ir.Model, ir.Value, ir.Node], ir.Value]) -> Change:
    """The model's positions are made of its input first."""

    def change(model: ir.Model) -> None:
        given = input_named(model, "position_ids")
        readers = [(node, at) for node, at in given.uses() if node.op_type != "Shape"]
        value = made(model, given, model.graph[0])
        for node, at in readers:
            node.replace_input_with(at, value)

    return change


def beside_values(made: Callable[[ir.Model, ir.Value, ir.Node], ir.Value]) -> Change:
    """What is made of another input `kinds` is added to the values of each layer."""

    def change(model: ir.Model) -> None:
        kinds = ir.val("kinds", ir.DataType.INT64, ["batch_size", "sequence_length"])
        model.graph.inputs.append(kinds)
        products = [site.context.producer() for site in find_sites(model).sites]
        added = made(model, kinds, model.graph[0])
        for product in products:
            sums = placed(model, "Add", [product.inputs[1], added], product)
            product.replace_input_with(1, sums)

    return change


def of_table(rows: int):
    """Looked up in a table of so many rows, for each head."""

    def made(model: ir.Model, value: ir.Value, before: ir.Node) -> ir.Value:
        table = stored(model, np.random.default_rng(0).standard_normal((rows, 8)).astype(np.float32))
        looked_up = placed(model, "Gather", [table, value], before)
        return placed(model, "Unsqueeze", [looked_up, stored(model, np.array([1]))], before)

    return made


def as_factor(model: ir.Model, value: ir.Value, before: ir.Node) -> ir.Value:
    numbers = placed(model, "Cast", [value], before, to=ir.DataType.FLOAT.value)
    return placed(model, "Unsqueeze", [numbers, stored(model, np.array([1, 3]))], before)


def from_the_last(model: ir.Model, value: ir.Value, before: ir.Node) -> ir.Value:
    most = ir.node("ReduceMax", [value], {"axes": [1], "keepdims": 1})
    most.outputs[0].name = "most"
    model.graph.insert_before(before, most)
    return placed(model, "Sub", [most.outputs[0], value], before)


def looked_up_before(model: ir.Model, value: ir.Value, before: ir.Node) -> ir.Value:
    """Positions of positions: in a table of 64."""
    return placed(model, "Gather", [stored(model, np.arange(64)[::-1].copy()), value], before)


def into_scores(model: ir.Model) -> None:
    given = input_named(model, "position_ids")
    first = model.graph[0]
    numbers = placed(model, "Cast", [given], first, to=ir.DataType.FLOAT.value)
    bias = placed(model, "Unsqueeze", [numbers, stored(model, np.array([1, 2]))], first)
    for node in [node for node in model.graph if node.op_type == "Softmax"]:
        node.replace_input_with(0, placed(model, "Add", [node.inputs[0], bias], node))


def renamed(model: ir.Model) -> None:
    input_named(model, "position_ids").name = "kinds"


def reasons(path) -> set[str]:
    findings = OpenedModel(path).findings
    assert not findings.sites
    return {refusal.reason for refusal in findings.refusals}


def test_a_decoder_that_is_given_positions_has_sites_and_an_encoder():
    model = opened(fixture("qwen3"))
    findings, encoder = model.findings, model.encoder
    assert (findings.mask, findings.positions) == ("attention_mask", "position_ids")
    assert findings.notes == [
        "positions are given by 'position_ids': reused are requests where they count the tokens, 0, 1, ..."
    ]
    assert [site.positions.name for site in findings.sites] == ["position_ids"] * 2
    assert encoder.positions.name == "position_ids"
    assert list(encoder.tables.values()) == [Table(2, (1, 1, -1, 0))] * 2
    assert [i.name for i in model_inputs(model) if i.positions] == ["position_ids"]


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_positions_that_attention_does_not_read_are_none(name):
    """GPT-2 adds them to the words: hidden states that are equal have equal ones."""
    assert opened(fixture(name)).findings.positions is None


@pytest.mark.parametrize(
    ("change", "name"), [(renamed, "kinds"), (instead(looked_up_before), "position_ids")]
)
def test_what_is_looked_up_by_an_input_tells_and_not_its_name(tmp_path, change, name):
    model = OpenedModel(changed("qwen3", tmp_path / "model.onnx", change))
    assert model.findings.positions == name
    assert model.encoder.positions.name == name


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (beside_values(of_table(2)), "it is neither looked up in a table of positions nor made sines"),
        (beside_values(as_factor), "it is neither looked up in a table of positions nor made sines"),
        (into_scores, "it reaches more than queries, keys and values"),
        (instead(from_the_last), "(ReduceMax) works across rows"),
        (beside_values(of_table(64)), "positions are given to the model twice: 'kinds', 'position_ids'"),
    ],
    ids=["a table of two", "a factor", "scores", "from the last", "a second input"],
)
def test_other_inputs_are_refused_with_the_reason(tmp_path, change, why):
    assert any(why in reason for reason in reasons(changed("qwen3", tmp_path / "model.onnx", change)))
