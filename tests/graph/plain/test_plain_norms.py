"""Normalizations are taken apart with what was fused into them, and compute the same."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from support_plain import OneNode, noise, taken_apart

from onnx_memo.graph.plain.rule import Kept
from onnx_memo.graph.plain.rules import rule_of

B, L, D = 2, 5, 16
NONE = None
OPSETS = (14, 17, 18, 21)


def row(seed: int) -> np.ndarray:
    return noise(D, seed=seed)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("skip", [(B, L, D), (1, L, D), (L, D)])
@pytest.mark.parametrize("beta", [row(2), NONE])
@pytest.mark.parametrize("bias", [row(3), NONE])
def test_skip_layer_normalization(opset, skip, beta, bias):
    inputs = [noise(B, L, D), noise(*skip, seed=1), row(1), beta, bias]
    OneNode("SkipLayerNormalization", inputs, opset=opset, epsilon=1e-3).check()


def test_skip_layer_normalization_gives_the_sum_that_later_layers_read():
    inputs = [noise(B, L, D), noise(B, L, D, seed=1), row(1), row(2), row(3)]
    node = OneNode("SkipLayerNormalization", inputs, outputs=4)
    have = node.run_plain()
    assert sorted(have) == ["out.0", "out.3"]
    total = inputs[0] + inputs[1] + inputs[4]
    np.testing.assert_allclose(have["out.3"], total, atol=1e-6)


@pytest.mark.parametrize("product", ["input", "skip"])
def test_the_bias_of_a_product_is_added_to_it_first(product):
    """So the linear step is found whole."""
    node = OneNode("SkipLayerNormalization", [noise(B, L, D)] * 2 + [row(1)] * 3).node
    at = ["input", "skip"].index(product)
    weight = ir.val("weight", ir.DataType.FLOAT, [D, D])
    matmul = ir.node("MatMul", [node.inputs[at], weight])
    node.replace_input_with(at, matmul.outputs[0])
    b, _ = taken_apart(node)
    first = b.nodes[0]
    assert first.op_type == "Add" and list(first.inputs) == [matmul.outputs[0], node.inputs[4]]


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("bias", [row(3), NONE])
def test_skip_simplified_layer_normalization(opset, bias):
    inputs = [noise(B, L, D), noise(B, L, D, seed=1), row(1), bias]
    node = OneNode("SkipSimplifiedLayerNormalization", inputs, opset=opset, outputs=4, epsilon=1e-3)
    assert sorted(node.run_plain()) == ["out.0", "out.3"]
    OneNode("SkipSimplifiedLayerNormalization", inputs, opset=opset, epsilon=1e-3).check()


@pytest.mark.parametrize("axis", [-1, 2])
@pytest.mark.parametrize("beta", [row(2), NONE])
@pytest.mark.parametrize("opset", [14, 16])
def test_layer_normalization_before_onnx_had_it(axis, beta, opset):
    inputs = [noise(B, L, D), row(1), beta]
    OneNode("LayerNormalization", inputs, domain="", opset=opset, axis=axis, epsilon=1e-3).check()


@pytest.mark.parametrize(("opset", "plain"), [(16, False), (17, True), (23, True)])
def test_since_then_it_is_plain(opset, plain):
    node = OneNode("LayerNormalization", [noise(B, L, D), row(1)], domain="").node
    assert (rule_of(node, opset) is None) == plain


@pytest.mark.parametrize("axis", [-1, 2])
def test_simplified_layer_normalization(axis):
    inputs = [noise(B, L, D), row(1)]
    OneNode("SimplifiedLayerNormalization", inputs, domain="", axis=axis, epsilon=1e-3).check()


def test_a_normalization_over_several_axes_is_kept():
    inputs = [noise(B, L, D), noise(L, D)]
    with pytest.raises(Kept, match="axis 1"):
        OneNode("SimplifiedLayerNormalization", inputs, domain="", axis=1).plain()


# ---- Embeddings


def embedding(
    *, segments: bool = True, mask: np.ndarray | None = None, positions: bool = False, **given: object
) -> OneNode:
    rng = np.random.default_rng(0)
    inputs = [
        rng.integers(0, 9, (B, L)).astype(np.int32),
        rng.integers(0, 2, (B, L)).astype(np.int32) if segments else None,
        noise(9, D),
        noise(7, D, seed=1),
        noise(2, D, seed=2) if segments else None,
        row(1),
        row(2),
        mask,
        rng.integers(0, 7, (B, L)).astype(np.int32) if positions else None,
    ]
    return OneNode("EmbedLayerNormalization", inputs, constants=(2, 3, 4, 5, 6), epsilon=1e-3, **given)


@pytest.mark.parametrize("segments", [True, False])
@pytest.mark.parametrize("positions", [True, False])
@pytest.mark.parametrize("opset", OPSETS)
def test_embed_layer_normalization(segments, positions, opset):
    node = embedding(segments=segments, positions=positions, opset=opset, outputs=3)
    want, have = node.run(), node.run_plain()
    for at in range(3):
        np.testing.assert_allclose(have[f"out.{at}"], want[at], rtol=1e-5, atol=1e-5)


def test_the_mask_index_is_how_many_ones_a_mask_has():
    mask = np.array([[1, 1, 1, 0, 0], [1, 0, 1, 2, 1]], np.int32)
    node = embedding(mask=mask, outputs=2)
    node.check(made=2)
    np.testing.assert_array_equal(node.run_plain()["out.1"], [3, 3])


def test_the_mask_index_is_known_to_have_a_number_for_each_sequence():
    """So that attention which reads it knows its form."""
    node = embedding(mask=np.ones((B, L), np.int32), free={B: "batch"}, outputs=2).node
    _, (_, index, _) = taken_apart(node)
    assert index.shape == ir.Shape(["batch"])
