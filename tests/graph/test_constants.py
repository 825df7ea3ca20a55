"""What is constant although no initializer says so, and what only looks like it."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import parser

from onnx_memo.graph.constants import MOST_NUMBERS, Constants
from onnx_memo.graph.shapes import ShapeTable

HEADER = """<ir_version: 8, opset_import: ["" : 17]>
g (int64[B, L] ids, float[B, L, 8] x) => (float[B, L, 8] y) {
  y = Identity (x)
  half = Constant <value = float {0.5}> ()
  i2 = Constant <value = int64 {2}> ()
"""


def constants_of(text: str, **weights: np.ndarray) -> tuple[dict[str, ir.Value], Constants]:
    """The values of a model that computes `text` beside its output, by name."""
    proto = parser.parse_model(HEADER + text + "}")
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(a, name) for name, a in weights.items())
    model = ir.from_proto(proto)
    values = {value.name: value for node in model.graph for value in node.outputs}
    values |= {value.name: value for value in (*model.graph.inputs, *model.graph.initializers.values())}
    return values, Constants(model, ShapeTable(model), 127)


def array(text: str, name: str, **weights: np.ndarray):
    values, constants = constants_of(text, **weights)
    return constants.array(values[name])


def test_an_initializer_and_a_constant_node():
    np.testing.assert_array_equal(array("", "w", w=np.arange(3)), [0, 1, 2])
    assert array("", "half") == np.float32(0.5)


def test_a_size_that_is_fixed():
    np.testing.assert_array_equal(array("  s = Shape <start = 2, end = 3> (x)\n", "s"), [8])


def test_a_scale_computed_from_a_fixed_size():
    text = """
  s = Shape (x)
  w = Gather (s, i2)
  f = Cast <to = 1> (w)
  r = Pow (f, half)
"""
    found = array(text, "r")
    assert found.dtype == np.float32
    assert found == pytest.approx(np.sqrt(8))


@pytest.mark.parametrize("axis", [1, None])
def test_a_size_that_follows_the_length_is_none(axis):
    where = "" if axis is None else "<start = 1, end = 2>"
    assert array(f"  s = Shape {where} (x)\n", "s") is None


def test_what_depends_on_data_is_none():
    text = "  f = Cast <to = 1> (ids)\n  s = ReduceSum <keepdims = 0> (f)\n"
    assert array(text, "s") is None
    assert array("", "ids") is None
    assert array("", "x") is None


def test_what_is_random_is_none():
    assert array("  r = RandomNormal <shape = [1]> ()\n", "r") is None


def test_what_is_large_is_none():
    assert array("", "w", w=np.zeros(MOST_NUMBERS)) is not None
    assert array("", "w", w=np.zeros(MOST_NUMBERS + 1)) is None
    text = "  big = ConstantOfShape (n)\n"
    assert array(text, "big", n=np.asarray([MOST_NUMBERS])) is not None
    assert array(text, "big", n=np.asarray([MOST_NUMBERS + 1])) is None


def test_what_the_evaluator_cannot_run_is_none():
    assert array("  bad = Reshape (half, n)\n", "bad", n=np.asarray([7])) is None


def test_an_input_that_has_an_initializer_is_none():
    """The caller may override it."""
    values, _ = constants_of("", w=np.arange(3))
    model = values["w"].graph
    model.inputs.append(values["w"])
    owner = ir.Model(model, ir_version=8)
    constants = Constants(owner, ShapeTable(owner), 127)
    assert constants.array(values["w"]) is None


def test_what_was_found_is_kept():
    values, constants = constants_of("  s = Shape <start = 2, end = 3> (x)\n  t = Shape (x)\n")
    first = constants.array(values["s"])
    assert constants.array(values["s"]) is first
    assert constants.array(values["t"]) is None
    assert constants.array(values["t"]) is None
    assert set(constants.found) == {values["s"]}
    assert constants.numbers(values["s"]) == [8.0]
    assert constants.numbers(values["t"]) is None
