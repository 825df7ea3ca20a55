"""Sizes of rows are read at the encoder's input: the model computes the same, and the encoder stays whole."""

from __future__ import annotations

import pytest
from support import assert_identical, fixture, join, open_model, original, random_samples
from support_rows import ENCODERS

from onnx_memo.graph import flow
from onnx_memo.graph.copies import Copy
from onnx_memo.graph.encoder import Encoder
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.graph.shape_reads import read_shapes_at, shape_reads

architectures = pytest.mark.parametrize("name", ENCODERS)


def moved(name: str) -> tuple[Copy, Encoder]:
    opened = OpenedModel(fixture(name))
    copy = opened.copy()
    encoder = copy.twin(opened.encoder)
    read_shapes_at(copy.model, encoder.input, encoder.forms, encoder.shapes, encoder.batch)
    return copy, encoder


@architectures
def test_no_shape_of_an_inner_value_is_read_any_more(name):
    copy, encoder = moved(name)
    assert shape_reads(copy.model.graph, encoder.input, encoder.forms) == []
    inner = set(encoder.forms) - {encoder.input}
    assert not [node for node in copy.model.graph if node.op_type == "Shape" and node.inputs[0] in inner]


@architectures
def test_the_model_computes_the_same_bits(name):
    copy, _ = moved(name)
    before, after = original(fixture(name)), open_model(copy.model)
    requests = random_samples(before, [1, 5, 23], seed=3)
    for request in (*requests, join(requests)):
        assert_identical(after.run(None, request), before.run(None, request))


@architectures
def test_the_region_is_the_one_that_the_search_announced(name):
    """The search took the readers as moved already."""
    copy, encoder = moved(name)
    graph = copy.model.graph
    region = flow.region(graph, encoder.output, encoder.boundary, flow.constant_nodes(graph))
    assert tuple(node for node in region if not node.name.startswith("memo/shape/")) == encoder.region
    assert set(encoder.steps) <= set(graph)


@architectures
def test_what_was_replaced_gives_the_same_numbers(name):
    opened = OpenedModel(fixture(name))
    copy = opened.copy()
    encoder = copy.twin(opened.encoder)
    wanted = shape_reads(copy.model.graph, encoder.input, encoder.forms)
    outputs = [node.outputs[0] for node in wanted]
    replaced = read_shapes_at(copy.model, encoder.input, encoder.forms, encoder.shapes, encoder.batch)
    assert list(replaced) == outputs
    assert all(value.producer() is not None for value in replaced.values())
