"""Stretches of nodes are found, and do alone what they do in the model."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from support import fixture
from support_encoder import encoder_model
from support_precision import opened as search
from support_precision import small_encoder
from support_rows import opened

from onnx_memo.graph.rowwise import ELEMENTWISE
from onnx_memo.precision.stretches import Stretches, constants, run_stretches

STEPS = """
  h0 = MatMul (attended, w1)
  a0 = Neg (h0)
  a1 = Exp (a0)
  a2 = Mul (h0, a1)
  h1 = MatMul (a2, w2)
  last_hidden_state = Add (h1, hidden_0)
"""


class Graph:
    def __init__(self, path) -> None:
        self.opened = search(path)
        self.encoder = self.opened.encoder
        self.stretches = Stretches(self.encoder)
        self.values = {str(value.name): value for value in self.encoder.forms}

    def after(self, name: str, passes=lambda node: node.op_type in ELEMENTWISE, **options) -> list[str]:
        return [str(way.end.name) for way in self.stretches.after(self.values[name], passes, **options)]

    def between(self, start: str, end: str):
        return self.stretches.between(self.values[start], self.values[end])


@pytest.fixture
def graph(tmp_path) -> Graph:
    return Graph(small_encoder(tmp_path / "m.onnx", last=STEPS))


def test_stretches_come_longest_first_and_are_read_nowhere_else(graph):
    assert graph.after("h0") == ["a2"]  # h0 is read again by a2, so none ends before


def test_a_stretch_ends_before_what_does_not_pass(graph):
    assert graph.after("a0") == ["a1"]  # a2 reads h0 as well, which is not of the stretch
    assert graph.after("h0", lambda node: node.op_type == "Neg") == []  # h0 is read by a2
    assert graph.after("h0", lambda node: node.op_type == "Neg", alone=False) == ["a0"]


def test_what_is_an_output_is_read_elsewhere(graph):
    output = graph.encoder.output
    assert graph.stretches.leaks(output, [])
    assert not graph.stretches.leaks(graph.values["h1"], graph.stretches.readers(graph.values["h1"]))
    assert graph.stretches.leaks(graph.values["h0"], graph.stretches.readers(graph.values["h0"])[:1])


def test_who_reads_only_the_size_reads_no_numbers(tmp_path):
    steps = (
        STEPS.replace("last_hidden_state =", "h2 =")
        + """
      size = Shape (a2)
      last_hidden_state = Reshape (h2, size)
    """
    )
    assert Graph(small_encoder(tmp_path / "m.onnx", last=steps)).after("h0") == ["a2"]


def test_between_are_the_nodes_in_order(graph):
    way = graph.between("h0", "a2")
    assert [node.op_type for node in way.nodes] == ["Neg", "Exp", "Mul"]
    assert graph.between("h0", "h0").nodes == ()


def test_nothing_is_between_where_other_rows_are_read(graph):
    assert graph.between("a0", "a2") is None  # h0 is made by a product before
    assert graph.between("h0", "h1") is None  # products are no part of stretches


def test_a_stretch_does_alone_what_its_nodes_do(graph):
    rows = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)
    ways = [graph.between("h0", "a2"), graph.between("h0", "a1"), graph.between("h0", "h0")]
    gone, exp, same = run_stretches(graph.opened, ways, [rows, 2 * rows, rows])
    np.testing.assert_allclose(gone.reshape(5, 8), rows * np.exp(-rows), rtol=1e-5)
    np.testing.assert_allclose(exp.reshape(5, 8), np.exp(-2 * rows), rtol=1e-5)
    np.testing.assert_array_equal(same.reshape(5, 8), rows)


def test_the_model_is_left_as_it_was(graph):
    before = ir.to_proto(graph.opened.model).SerializeToString()
    rows = np.zeros((5, 8), np.float32)
    run_stretches(graph.opened, [graph.between("h0", "a2")], [rows])
    assert ir.to_proto(graph.opened.model).SerializeToString() == before


def test_no_stretches_are_nothing(graph):
    assert run_stretches(graph.opened, [], []) == []


@pytest.mark.parametrize("rotary", ["[1, 1, L, d]", "computed"])
def test_what_reads_positions_is_not_run(tmp_path, rotary):
    """It does not do the same with every row."""
    graph = Graph(encoder_model(tmp_path / "m.onnx", rotary=rotary))
    turned, plain = graph.between("q0_0", "qg_0"), graph.between("v0_0", "v_0")
    rows = np.zeros((5, 8), np.float32)
    first, second = run_stretches(graph.opened, [turned, plain], [rows, rows])
    assert first is None
    assert second is not None


def test_constants_are_as_they_are_stored_or_computed(tmp_path):
    out = "wt = Transpose <perm = [1, 0]> (wo)\n attended = MatMul (merged, wt)\n"
    found = search(small_encoder(tmp_path / "m.onnx", out=out))
    graph = found.model.graph
    stored = graph.initializers["wo"]
    computed = next(value for node in graph for value in node.outputs if value.name == "wt")
    known = constants(found, [computed, stored, computed])
    np.testing.assert_array_equal(known[computed], stored.const_value.numpy().T)
    np.testing.assert_array_equal(known[stored], stored.const_value.numpy())


def test_readers_are_in_the_models_order():
    found = opened(fixture("bert"))
    stretches = Stretches(found.encoder)
    readers = stretches.readers(found.encoder.input)
    assert [stretches.place[node] for node in readers] == sorted(stretches.place[node] for node in readers)
    assert len(readers) == 4  # queries, keys, values, the residual
