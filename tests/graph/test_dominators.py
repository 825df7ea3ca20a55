"""Which values all ways to another one pass."""

from __future__ import annotations

import onnx_ir as ir
from onnx import parser

from onnx_memo.graph.dominators import Dominators


def dominators(body: str, of: str, without: str = "") -> list[str]:
    """The names of those of a value, the nearest first; inputs are x, y and c (a condition)."""
    text = (
        '<ir_version: 8, opset_import: ["" : 17]> g (float[B, 4] x, float[B, 4] y, bool c) => (float[B, 4] z)'
        f"{{\n{body}\n}}"
    )
    graph = ir.from_proto(parser.parse_model(text)).graph
    values = {str(v.name): v for v in (*graph.inputs, *(v for node in graph for v in node.outputs))}
    found = Dominators(graph, [values[without]] if without else [])
    return [str(value.name) for value in found.of(values[of])]


def test_in_a_chain_they_are_all_before_it():
    assert dominators("a = Relu (x)\n b = Tanh (a)\n z = Exp (b)", "z") == ["b", "a", "x"]


def test_ways_that_meet_again_leave_what_lies_before_and_behind_them():
    body = "a = Relu (x)\n b = Tanh (a)\n d = Exp (a)\n e = Add (b, d)\n z = Neg (e)"
    assert dominators(body, "z") == ["e", "a", "x"]


def test_results_of_one_node_are_values_of_their_own():
    body = "b, d = Split <axis = 1> (x)\n z = Concat <axis = 1> (d, b)"
    assert dominators(body, "z") == ["x"]


def test_two_inputs_have_none_before_they_meet():
    body = "a = Relu (x)\n b = Add (a, y)\n z = Tanh (b)"
    assert dominators(body, "z") == ["b"]
    assert dominators(body, "b") == []


def test_an_input_that_is_left_out_counts_as_a_constant():
    body = "m = Relu (y)\n a = Tanh (x)\n b = Mul (a, m)\n z = Exp (b)"
    assert dominators(body, "z", without="y") == ["b", "a", "x"]
    assert dominators(body, "m", without="y") == []


def test_a_size_is_no_data():
    body = "a = Relu (x)\n s = Shape (y)\n b = Reshape (a, s)\n z = Tanh (b)"
    assert dominators(body, "z") == ["b", "a", "x"]


def test_random_numbers_are_another_input():
    body = "a = Relu (x)\n r = RandomNormalLike (a)\n b = Add (a, r)\n z = Tanh (b)"
    assert dominators(body, "z") == ["b"]


def test_what_a_branch_reads_counts():
    body = (
        "a = Relu (x)\n b = If (c) <then_branch = t () => (float[B, 4] p) { p = Add (a, y) }, "
        "else_branch = e () => (float[B, 4] q) { q = Tanh (a) }>\n z = Exp (b)"
    )
    assert dominators(body, "z", without="c") == ["b"]
    assert dominators(body.replace("(a, y)", "(a, a)"), "z", without="c") == ["b", "a", "x"]
