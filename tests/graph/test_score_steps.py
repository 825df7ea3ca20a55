"""What becomes of scores between product and softmax: what is taken is computed anew, and compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from support import open_model
from support_encoder import POSITIONS, SCALE, encoder_model

from onnx_memo.graph.build import Builder
from onnx_memo.graph.cores import Core, Mixing
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.graph.probe import add_outputs

LOWEST = float(np.finfo(np.float32).min)
CONSTANTS = {
    "lowest": np.float32(LOWEST),
    "none": np.float32(-np.inf),
    "low": np.float32(-1e4),
    "third": np.float32(1 / 3),
    "minus_one": np.float32(-1),
    "tiny": np.float32(1e-12),
    "nought": np.float32(0),
    "table": np.random.default_rng(1).standard_normal((2, POSITIONS * 2, POSITIONS * 2)).astype(np.float32),
    "origin": np.zeros(2, np.int64),
}
REAL = "  r_{n} = Cast <to = 9> (attention_mask)\n  real_{n} = Unsqueeze (r_{n}, i12)\n"
UNREAL = REAL + "  unreal_{n} = Not (real_{n})\n"
# By the distance of positions, [1, H, L, L].
DISTANCES = """
  length_{n} = Shape <start = 1, end = 2> (attention_mask)
  end_{n} = Concat <axis = 0> (length_{n}, length_{n})
  cut_{n} = Slice (table, origin, end_{n}, i12)
  distances_{n} = Unsqueeze (cut_{n}, i0)
"""
TAKEN = {
    "scaled, then a mask": (SCALE, 0.5),
    "a mask in front": ("  s1_{n} = Mul (s0_{n}, two)\n  s2_{n} = Add (bias, s1_{n})\n", 2.0),
    "scaled twice": ("  s1_{n} = Div (s0_{n}, two)\n  s2_{n} = Mul (s1_{n}, third)\n", 1 / 6),
    "a mask alone": ("  s2_{n} = Add (s0_{n}, bias)\n", 1.0),
    "nothing": ("  s2_{n} = Identity (s0_{n})\n", 1.0),
    "distances, then a mask": (
        DISTANCES + "  s1_{n} = Div (s0_{n}, two)\n  d_{n} = Add (s1_{n}, distances_{n})\n"
        "  s2_{n} = Add (d_{n}, bias)\n",
        0.5,
    ),
    "distances that are scaled": (
        DISTANCES + "  d_{n} = Add (distances_{n}, s0_{n})\n  s1_{n} = Mul (d_{n}, third)\n"
        "  s2_{n} = Add (s1_{n}, bias)\n",
        1 / 3,
    ),
    "the lowest number where a token is none": (
        UNREAL + "  s1_{n} = Div (s0_{n}, two)\n  s2_{n} = Where (unreal_{n}, lowest, s1_{n})\n",
        0.5,
    ),
    "scores where a token is one": (REAL + "  s2_{n} = Where (real_{n}, s0_{n}, none)\n", 1.0),
    "shut out, then scaled, then distances": (
        DISTANCES + UNREAL + "  w_{n} = Where (unreal_{n}, lowest, s0_{n})\n  s1_{n} = Div (w_{n}, two)\n"
        "  s2_{n} = Add (s1_{n}, distances_{n})\n",
        0.5,
    ),
    "distances, then shut out": (
        DISTANCES
        + UNREAL
        + "  d_{n} = Add (s0_{n}, distances_{n})\n  s2_{n} = Where (unreal_{n}, lowest, d_{n})\n",
        1.0,
    ),
}


def found(path: Path, scale: str) -> OpenedModel:
    return OpenedModel(encoder_model(path / "m.onnx", scale=scale, constants=CONSTANTS))


@pytest.mark.parametrize("how", TAKEN)
def test_scores_are_what_the_model_makes_them(tmp_path, how):
    """Of a sequence of real tokens, one with padding, and one that is all padding."""
    scale, factor = TAKEN[how]
    opened = found(tmp_path, scale)
    assert [core.scale for core in opened.encoder.cores] == pytest.approx([factor] * 2)
    copy = opened.copy()
    made = [_scores_of(copy.model, copy.twin(core)) for core in opened.encoder.cores]
    add_outputs(copy.model, [value for pair in made for value in pair])
    rng = np.random.default_rng(0)
    mask = np.asarray([[1] * 6, [1, 1, 1, 1, 0, 0], [0] * 6])
    _, *results = open_model(copy.model).run(
        None, {"input_ids": rng.integers(0, 64, (3, 6)), "attention_mask": mask}
    )
    for want, have in zip(results[::2], results[1::2], strict=True):
        np.testing.assert_allclose(have[:2], want[:2], atol=1e-5)
        np.testing.assert_allclose(have[2], want[2], atol=1e-3)  # what -10000 leaves of scores
        assert len(np.unique(want[0])) > 6


def _scores_of(model: ir.Model, core: Core) -> tuple[ir.Value, ir.Value]:
    """Probabilities as the model makes them, and as they follow from the product, its scale and its bias."""
    (made,) = (node for node in model.graph if core.probabilities in node.outputs)
    product = next(value for value in _before(made) if value.producer().op_type == "MatMul")
    b = Builder(f"{product.name}/again", model.opset_imports[""])
    scores = b.op("Mul", product, b.const(core.scale, np.float32))
    bias = core.bias.written(b)
    again = b.op("Softmax", scores if bias is None else b.op("Add", scores, bias), axis=-1)
    model.graph.extend(b.nodes)
    for value in (core.probabilities, again):
        value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([None] * 4)
    return core.probabilities, again


def _before(node: ir.Node) -> list[ir.Value]:
    """What leads to a node, the last first."""
    todo = [value for value in node.inputs if value is not None and value.producer() is not None]
    for value in todo:
        todo += [v for v in value.producer().inputs if v is not None and v.producer() is not None]
    return todo


def test_a_scale_that_follows_from_fixed_sizes(tmp_path):
    """The square root of a head's width, read from the shape of the keys."""
    scale = """
  sz1_{n} = Shape <start = 3, end = 4> (k_{n})
  sz2_{n} = Cast <to = 1> (sz1_{n})
  sz3_{n} = Sqrt (sz2_{n})
  s1_{n} = Div (s0_{n}, sz3_{n})
  s2_{n} = Add (s1_{n}, bias)
"""
    assert [core.scale for core in found(tmp_path, scale).encoder.cores] == [0.5] * 2


def test_layers_that_add_the_same_share_a_bias(tmp_path):
    first, second = found(tmp_path, TAKEN["distances, then a mask"][0]).encoder.cores
    assert first.bias == second.bias and [value.name for value in first.bias.values] == [
        "distances_0",
        "bias",
    ]


def test_where_nothing_is_added_there_is_no_bias(tmp_path):
    first, _ = found(tmp_path, TAKEN["scaled twice"][0]).encoder.cores
    assert first.bias.values == []


@pytest.mark.parametrize(
    ("scale", "why"),
    [
        ("  s1_{n} = Div (two, s0_{n})\n  s2_{n} = Add (s1_{n}, bias)\n", "scaled by no fixed number"),
        (
            "  t_{n} = ReduceSum <keepdims = 0> (mask)\n  s1_{n} = Div (s0_{n}, t_{n})\n"
            "  s2_{n} = Add (s1_{n}, bias)\n",
            "scaled by no fixed number",
        ),
        (
            "  sz1_{n} = Shape <start = 2, end = 3> (k_{n})\n  sz2_{n} = Cast <to = 1> (sz1_{n})\n"
            "  s2_{n} = Div (s0_{n}, sz2_{n})\n",
            "scaled by no fixed number",
        ),
        ("  s2_{n} = Tanh (s0_{n})\n", "its scores go through '/s2_0' (Tanh)"),
        ("  s2_{n} = Add (s0_{n}, s0_{n})\n", "its scores go through '/s2_0' (Add)"),
        # Among scores around -10000 such a one would count.
        (UNREAL + "  s2_{n} = Where (unreal_{n}, low, s0_{n})\n", "by what does not shut out for sure"),
        (REAL + "  s2_{n} = Where (real_{n}, s0_{n}, bias)\n", "by what does not shut out for sure"),
        (
            UNREAL + "  w_{n} = Where (unreal_{n}, lowest, s0_{n})\n  s2_{n} = Mul (w_{n}, tiny)\n",
            "what its scores shut out is scaled by 1e-12",
        ),
    ],
)
def test_scores_that_are_made_in_another_way_are_no_core(tmp_path, scale, why):
    meeting = found(tmp_path, scale).encoder.meetings[0]
    assert isinstance(meeting, Mixing) and meeting.why.startswith("attention.0: ")
    assert why in meeting.why


@pytest.mark.parametrize(
    ("after", "why"),
    [
        ("  p_{n} = Mul (o_{n}, third)\n", "its probabilities go through '/p_0' (Mul)"),
        (REAL + "  p_{n} = Where (real_{n}, o_{n}, nought)\n", "its probabilities go through '/p_0' (Where)"),
        ("  nan_{n} = IsNaN (o_{n})\n  p_{n} = Where (nan_{n}, third, o_{n})\n", "(Where)"),
        ("  nan_{n} = IsNaN (o_{n})\n  p_{n} = Where (nan_{n}, nought, o_{n})\n", None),
        ("  p_{n} = Identity (o_{n})\n", None),
    ],
)
def test_what_is_done_to_probabilities(tmp_path, after, why):
    """Zeros in place of what is no number leave them as they are."""
    scale = SCALE + "  o_{n} = Softmax <axis = -1> (s2_{n})\n" + after
    opened = OpenedModel(encoder_model(tmp_path / "m.onnx", scale=scale, constants=CONSTANTS, softmax=False))
    meeting = opened.encoder.meetings[0]
    assert isinstance(meeting, Core) if why is None else why in meeting.why
