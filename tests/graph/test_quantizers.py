"""Quantizers keep what they read to themselves, and stand where what they make is read."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_memo.graph.quantizers import merge_initializers, take_in_dequantized

STEPS = np.arange(6, dtype=np.int8).reshape(2, 3)


def model_of(nodes: list[onnx.NodeProto], initializers: dict[str, np.ndarray]) -> ir.Model:
    graph = helper.make_graph(
        nodes,
        "graph",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2]),
            helper.make_tensor_value_info("hit", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(array, name) for name, array in initializers.items()],
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]))


def branching(*outside: onnx.NodeProto, other: onnx.NodeProto | None = None) -> ir.Model:
    """What a branch multiplies with is made outside of it: `w` of the bytes `q`."""
    result = helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 3])
    product = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["z"])], "then", [], [result])
    zeros = [helper.make_node("MatMul", ["x", "zeros"], ["z"])]
    chosen = helper.make_node(
        "If", ["hit"], ["y"], then_branch=product, else_branch=helper.make_graph(zeros, "else", [], [result])
    )
    constants = {
        "q": STEPS,
        "scale": np.float32(0.5),
        "zero": np.int8(1),
        "zeros": np.zeros((2, 3), np.float32),
        "axes": np.int64([0]),
    }
    return model_of([*outside, chosen, *([] if other is None else [other])], constants)


DEQUANTIZED = helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["w"])


def branch_of(model: ir.Model) -> ir.Graph:
    (node,) = [node for node in model.graph if node.op_type == "If"]
    return node.attributes["then_branch"].as_graph()


def kinds(graph: ir.Graph) -> list[str]:
    return [node.op_type for node in graph]


def take_in(model: ir.Model) -> ir.Graph:
    branch = branch_of(model)
    take_in_dequantized(branch, model.graph, "memo")
    onnx.checker.check_model(ir.to_proto(model))
    return branch


def test_a_branch_dequantizes_what_it_reads_by_constants_of_its_own():
    model = branching(DEQUANTIZED)
    branch = take_in(model)
    assert kinds(branch) == ["DequantizeLinear", "MatMul"]
    assert kinds(model.graph) == ["If"]
    names = {"memo/q", "memo/scale", "memo/zero"}
    assert set(branch.initializers) == names
    assert not names & set(model.graph.initializers) and "q" not in model.graph.initializers
    tensor = branch.initializers["memo/q"].const_value
    assert tensor is not None
    np.testing.assert_array_equal(tensor.numpy(), STEPS)


def test_what_others_read_stays_outside_as_well():
    model = branching(DEQUANTIZED, other=helper.make_node("Abs", ["w"], ["abs"]))
    assert kinds(take_in(model)) == ["DequantizeLinear", "MatMul"]
    assert kinds(model.graph) == ["DequantizeLinear", "If", "Abs"]
    assert "q" in model.graph.initializers


@pytest.mark.parametrize(
    "moves",
    [
        [helper.make_node("Identity", ["d"], ["w"])],
        [helper.make_node("Cast", ["d"], ["w"], to=TensorProto.FLOAT)],
        [
            helper.make_node("Unsqueeze", ["d", "axes"], ["m"]),
            helper.make_node("Squeeze", ["m", "axes"], ["w"]),
        ],
    ],
)
def test_what_moves_dequantized_values_goes_with_them(moves):
    dequantized = helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"])
    model = branching(dequantized, *moves)
    assert kinds(take_in(model)) == ["DequantizeLinear", *(move.op_type for move in moves), "MatMul"]
    assert kinds(model.graph) == ["If"]


def test_other_values_stay_outside():
    model = branching(helper.make_node("Cast", ["q"], ["w"], to=TensorProto.FLOAT))
    assert kinds(take_in(model)) == ["MatMul"]


def test_equal_initializers_are_merged_but_those_of_quantizers():
    one = np.float32(0.5)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale.0"], ["q.0"]),
        helper.make_node("QuantizeLinear", ["x", "scale.1"], ["q.1"]),
        helper.make_node("Add", ["x", "one.0"], ["a"]),
        helper.make_node("Add", ["a", "one.1"], ["y"]),
    ]
    model = model_of(nodes, {"scale.0": one, "one.0": one, "scale.1": one, "one.1": one})
    merge_initializers(model)
    assert set(model.graph.initializers) == {"scale.0", "scale.1", "one.0"}
