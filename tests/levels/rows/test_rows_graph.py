"""The graph of a model that is guarded at the level `rows`, and what it holds."""

from __future__ import annotations

from collections import Counter

import onnx_ir as ir
import pytest
from support import (
    fixture,
)
from support_rows import (
    ENCODERS,
    capture_of,
    made_rows,
)

from onnx_memo.store.data import memo_data

architectures = pytest.mark.parametrize("name", ENCODERS)


def graphs_of(node: ir.Node):
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield from graphs(attribute.as_graph())


def graphs(graph: ir.Graph):
    yield graph
    for node in graph:
        yield from graphs_of(node)


def large_tensors(model: ir.Model) -> Counter:
    """How often each content of at least 32 numbers is in the file: weights, and constants of nodes."""
    found: Counter = Counter()
    for graph in graphs(model.graph):
        tensors = [value.const_value for value in graph.initializers.values()]
        tensors += [
            attribute.value
            for node in graph
            for attribute in node.attributes.values()
            if attribute.type == ir.AttributeType.TENSOR
        ]
        for tensor in tensors:
            if tensor.size >= 32 and not isinstance(tensor, ir.ExternalTensor):
                found[tensor.numpy().tobytes()] += 1
    return found


@architectures
def test_inputs_and_outputs_keep_names_and_order(rows_root, name):
    before = ir.load(fixture(name)).graph
    after = ir.load(made_rows(name, rows_root).bundle / "model.onnx").graph
    assert [v.name for v in after.inputs] == [*(v.name for v in before.inputs), "memo_strictness"]
    assert [v.name for v in after.outputs] == [v.name for v in before.outputs]


@architectures
def test_branches_hold_no_weights_and_none_is_stored_twice(rows_root, name):
    model = ir.load(made_rows(name, rows_root).bundle / "model.onnx")
    _, *branches = graphs(model.graph)
    assert len(branches) >= 4
    assert not any(branch.initializers for branch in branches)
    before, after = large_tensors(ir.load(fixture(name))), large_tensors(model)
    assert {content: count for content, count in after.items() if count > before[content]} == {}


@architectures
def test_no_product_stands_in_a_branch_of_a_branch(rows_root, name):
    """There ONNX Runtime does not rearrange weights."""
    model = ir.load(made_rows(name, rows_root).bundle / "model.onnx")
    main, *branches = graphs(model.graph)
    own = sum(node.op_type == "If" for node in ir.load(fixture(name)).graph)
    assert sum(node.op_type == "If" for node in main) == own + 2
    inner = [
        graph for branch in branches for node in branch if node.op_type == "If" for graph in graphs_of(node)
    ]
    assert [node.op_type for graph in inner for node in graph if node.op_type in ("MatMul", "Gemm")] == []


def test_the_captured_files_are_what_the_bundle_holds(rows_root, tmp_path):
    """Nothing is lost on the way: the memo data holds the final states of every sample."""
    made = made_rows("bert", rows_root)
    captured = capture_of(made.model, made.samples, tmp_path)
    assert captured.states(len(captured.stages)).tobytes() in memo_data(made.bundle).read_bytes()
