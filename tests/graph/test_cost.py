"""What share of the work is guarded: a number where all of it is known, and nothing where it is not."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest

from onnx_memo.graph.anchors import anchors
from onnx_memo.graph.cost import Work
from onnx_memo.graph.shapes import ShapeTable, lost_at


def parsed(*nodes: str, outputs: str = "float[B, L, 8] y") -> ir.Model:
    """x f32[B, L, 8] and the weight w f32[8, 8] go through the nodes."""
    text = f"""
    <ir_version: 9, opset_import: ["" : 20, "com.microsoft" : 1]>
    g (float[B, L, 8] x) => ({outputs}) <float[8, 8] w = {{{", ".join(["1"] * 64)}}}> {{ {" ".join(nodes)} }}
    """
    return ir.from_proto(onnx.parser.parse_model(text))


def test_products_are_counted():
    model = parsed("h = MatMul(x, w)", "r = Relu(h)", "y = MatMul(r, w)")
    work, (first, relu, second) = Work(model.graph, ShapeTable(model)), model.graph
    assert work.share([first]) == work.share([relu, second]) == 0.5
    assert (work.share([relu]), work.share(model.graph)) == (0, 1)


@pytest.mark.parametrize(
    ("nodes", "unknown"),
    [
        (["h = com.microsoft.BiasGelu(x, b)", "y = MatMul(h, w)"], ["BiasGelu", "MatMul"]),
        (["h = com.microsoft.FusedMatMul(x, w)", "y = Relu(h)"], ["FusedMatMul"]),
        (["h = com.microsoft.Attention(x, w, b)", "y = Identity(h)"], ["Attention"]),
        (["y = If (c) <then_branch = t () => (float[B, L, 8] z) { z = MatMul(x, w) }, "
          "else_branch = e () => (float[B, L, 8] z) { z = Identity(x) }>"], ["If"]),
    ],
)  # fmt: skip
def test_what_is_not_known_is_no_share_of_nothing(nodes, unknown):
    made = [
        "b = Constant <value = float[8] {1, 1, 1, 1, 1, 1, 1, 1}> ()",
        "c = Constant <value = bool {1}> ()",
    ]
    model = parsed("k = MatMul(x, w)", *made, *nodes, outputs="float[B, L, 8] y, float[B, L, 8] k")
    work = Work(model.graph, ShapeTable(model))
    assert [node.op_type for node in work.uncounted] == unknown
    assert work.share([next(iter(model.graph))]) is None


def test_branches_without_products_cost_nothing():
    branches = ", ".join(
        f"{which}_branch = {which} () => (float[B, L, 8] z) {{ z = Abs(x) }}" for which in ("then", "else")
    )
    model = parsed("c = Constant <value = bool {1}> ()", f"h = If (c) <{branches}>", "y = MatMul(x, w)")
    assert Work(model.graph, ShapeTable(model)).uncounted == []


def test_shapes_are_lost_where_inference_stops():
    model = parsed("a = Relu(x)", "h = com.microsoft.QuickGelu(a)", "k = MatMul(h, w)", "y = Softmax(k)")
    assert lost_at(model.graph.outputs[0], ShapeTable(model).at(127)).op_type == "QuickGelu"


def test_known_shapes_are_not_lost():
    model = parsed("y = MatMul(x, w)")
    assert lost_at(model.graph.outputs[0], ShapeTable(model).at(127)) is None


def test_every_softmax_and_attention_operator_is_an_anchor_or_has_a_reason():
    model = parsed(
        "s = Softmax(x)",
        "a = com.microsoft.MultiHeadAttention <num_heads = 2> (x, x, x)",
        "p = com.microsoft.PackedAttention <num_heads = 2> (x, w)",
        "c = Constant <value = bool {1}> ()",
        "b = If (c) <then_branch = t () => (float[B, L, 8] z) { z = Softmax(x) }, "
        "else_branch = e () => (float[B, L, 8] z) { z = Identity(x) }>",
        "l = LogSoftmax(x)",
        "t = Sum(s, a, p, b)",
        "y = Add(t, l)",
    )
    found, others = anchors(model.graph)
    assert list(found.values()) == ["s"]
    assert [(other.name, other.reason.split(",")[0]) for other in others] == [
        ("a", "it is one operator"),
        ("p", "it is one operator"),
        ("z", "it stands in a branch (If"),
    ]
