"""Questions about where values come from, on graphs small enough to see."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from onnx_memo.graph import flow
from onnx_memo.graph.build import Builder


class Small:
    """x, side -> inputs; w: a weight. Results get the names under which they are wanted."""

    def __init__(self) -> None:
        self.b = Builder("small", 17)
        self.x = ir.val("x", ir.DataType.FLOAT, ["n", 4])
        self.side = ir.val("side", ir.DataType.FLOAT, ["n", 4])
        self.w = ir.val("w", const_value=ir.tensor(np.ones((4, 4), np.float32), name="w"))

    def graph(self, *outputs: ir.Value) -> ir.Graph:
        inputs = [self.x, self.side]
        return ir.Graph(inputs, outputs, nodes=self.b.nodes, initializers=[self.w], opset_imports={"": 17})


@pytest.fixture
def small() -> Small:
    return Small()


def test_what_is_made_of_weights_alone_is_constant(small):
    transposed = small.b.op("Transpose", small.w)
    product = small.b.op("MatMul", small.x, transposed)
    constant = flow.constant_nodes(small.graph(product))
    assert flow.is_constant(small.w, constant)
    assert flow.is_constant(transposed, constant)
    assert not flow.is_constant(product, constant)
    assert not flow.is_constant(small.x, constant)


def test_sizes_of_inputs_and_random_numbers_are_not_constant(small):
    size = small.b.op("Shape", small.x)
    drawn = small.b.op("RandomNormal", shape=[4])
    constant = flow.constant_nodes(small.graph(size, drawn))
    assert not flow.is_constant(size, constant)
    assert not flow.is_constant(drawn, constant)


def test_an_initializer_that_callers_may_override_is_not_constant(small):
    result = small.b.op("MatMul", small.x, small.w)
    inputs = [small.x, small.side, small.w]
    graph = ir.Graph(inputs, [result], nodes=small.b.nodes, initializers=[small.w], opset_imports={"": 17})
    assert not flow.is_constant(small.w, flow.constant_nodes(graph))


def test_sources_are_the_inputs_whose_data_arrives(small):
    size = small.b.op("Shape", small.side)
    result = small.b.op("Reshape", small.x, size)
    small.graph(result)
    assert flow.sources(result, ()) == {small.x}


def test_sources_end_at_the_boundary(small):
    inner = small.b.op("Relu", small.x)
    result = small.b.op("Add", inner, small.side)
    small.graph(result)
    assert flow.sources(result, (inner,)) == {small.side}
    assert flow.sources(inner, (inner,)) == set()


def test_sources_include_what_subgraphs_capture(small):
    branch = Builder("branch", 17)
    captured = branch.op("Relu", small.side)
    then = ir.Graph([], [captured], nodes=branch.nodes, name="then")
    other = Builder("other", 17)
    orelse = ir.Graph([], [other.op("Identity", small.x)], nodes=other.nodes, name="else")
    condition = small.b.const(True, np.bool_)
    result = small.b.op("If", condition, then_branch=then, else_branch=orelse)
    small.graph(result)
    assert flow.sources(result, ()) == {small.x, small.side}


def region(small: Small, output: ir.Value, *boundary: ir.Value, outputs: tuple[ir.Value, ...] = ()) -> list:
    graph = small.graph(output, *outputs)
    return [n.op_type for n in flow.region(graph, output, boundary, flow.constant_nodes(graph))]


def test_a_region_reaches_back_to_the_boundary(small):
    hidden = small.b.op("Relu", small.x)
    inner = small.b.op("Exp", hidden)
    result = small.b.op("Add", inner, hidden)
    assert region(small, result, hidden) == ["Exp", "Add"]


def test_constant_nodes_stay_outside(small):
    transposed = small.b.op("Transpose", small.w)
    result = small.b.op("MatMul", small.x, transposed)
    assert region(small, result, small.x) == ["MatMul"]


def test_what_others_read_stays_outside_with_all_before_it(small):
    before = small.b.op("Exp", small.x)
    shared = small.b.op("Relu", before)
    result = small.b.op("Neg", shared)
    assert region(small, result, small.x, outputs=(small.b.op("Abs", shared),)) == ["Neg"]


def test_what_the_model_returns_stays_outside(small):
    returned = small.b.op("Relu", small.x)
    result = small.b.op("Neg", returned)
    assert region(small, result, small.x, outputs=(returned,)) == ["Neg"]


def test_a_dead_node_is_in_no_region(small):
    small.b.op("Exp", small.x)
    result = small.b.op("Neg", small.x)
    assert region(small, result, small.x) == ["Neg"]


def branching(small: Small) -> tuple[ir.Value, ir.Value]:
    """An inner value that only a branch reads, and what the branch leads to."""
    inner = small.b.op("Relu", small.x)
    branches = {}
    for name, op in (("then_branch", "Neg"), ("else_branch", "Abs")):
        b = Builder(name, 17)
        branches[name] = ir.Graph([], [b.op(op, inner)], nodes=b.nodes, name=name)
    truth = small.b.op(
        "Greater", small.b.op("ReduceMax", small.side, keepdims=0), small.b.const(0, "float32")
    )
    return inner, small.b.op("If", truth, **branches)


def test_what_branches_read_belongs_to_the_region_of_their_node(small):
    inner, result = branching(small)
    graph = small.graph(result)
    region = flow.region(graph, result, (small.x, small.side), flow.constant_nodes(graph))
    assert inner.producer() in region


def test_what_branches_read_reaches_the_results_of_their_node(small):
    inner, result = branching(small)
    small.graph(result)
    assert result in flow.downstream(small.x)
    assert result in flow.downstream(inner)


def test_what_only_removed_branches_read_is_unread(small):
    inner, result = branching(small)
    graph = small.graph(small.b.op("Identity", result))
    assert flow.unread(graph, []) == set()
    graph.outputs[0] = small.x
    assert inner.producer() in flow.unread(graph, [result.producer()])
