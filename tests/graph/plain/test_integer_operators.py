"""Operators of integers (QOperator), and fused ones, become the ones in floats that they approximate."""

from __future__ import annotations

import numpy as np
import pytest
from support_quantized import (
    RNG,
    STEP,
    Weights,
    both,
    dequantize,
    is_plain,
    model_of,
    node,
    operators,
    plain_form,
    quantize,
    run,
    same,
    scale,
    steps,
    triple,
    weight,
)

from onnx_memo.graph.plain import blocks, quantized
from onnx_memo.graph.plain.rule import MICROSOFT, Kept

# ---- QOperator


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_qlinear_matmul(columns, dtype):
    feeds, weights = (
        {"x": steps(2, 9, 40)},
        scale("x") | scale("v", step=0.5) | weight("w", 40, 7, dtype=dtype, columns=columns),
    )
    product = node("QLinearMatMul", f"{triple('x')} {triple('w')} v_s v_z", "v_q")
    model = model_of([quantize("x"), product, dequantize("v")], feeds, weights)
    same(model, feeds, 0.26)
    is_plain(model, "MatMul")


def test_qlinear_matmul_of_activations():
    feeds = {"x": steps(2, 9, 40), "k": steps(2, 40, 9)}
    weights = scale("x") | scale("k") | scale("v", step=1)
    product = node("QLinearMatMul", f"{triple('x')} {triple('k')} v_s v_z", "v_q")
    model = model_of([quantize("x"), quantize("k"), product, dequantize("v")], feeds, weights)
    original, plain = both(model, feeds)
    inside = np.abs(plain) < 120
    assert inside.mean() > 0.8
    np.testing.assert_allclose(plain[inside], original[inside], atol=0.51)
    assert operators(plain_form(model)) == ["MatMul"]


@pytest.mark.parametrize("count", [3, 4])
def test_a_left_side_with_a_scale_for_each_row_is_kept(count):
    feeds = {"x_q": np.zeros((count, 4), np.uint8)}
    weights = (
        {"x_s": np.ones(count, np.float32), "x_z": np.zeros(count, np.uint8)} | scale("v") | weight("w", 4, 4)
    )
    product = node("QLinearMatMul", f"{triple('x')} {triple('w')} v_s v_z", "v_q")
    with pytest.raises(Kept, match="neither one number nor one a column"):
        plain_form(model_of([product, dequantize("v")], feeds, weights))


def test_scales_for_other_columns_are_kept():
    feeds, weights = {"x": steps(3, 4)}, weight("w", 4, 5) | {"w_s": np.ones(4, np.float32)}
    product = node("DynamicQuantizeMatMul", "x w_q w_s", domain=MICROSOFT)
    with pytest.raises(Kept, match="neither one number nor one a column"):
        plain_form(model_of([product], feeds, weights))


@pytest.mark.parametrize("turned", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("alpha", [1.0, 0.5])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("integers", [False, True])
def test_qgemm(turned, alpha, bias, integers):
    left, right = (9, 40)[:: -1 if turned[0] else 1], (40, 7)[:: -1 if turned[1] else 1]
    feeds = {"x": steps(*left)}
    weights = scale("x") | scale("v", step=0.5) | weight("w", *right)
    weights["c"] = RNG.integers(-5000, 5000, 7).astype(np.int32)
    names = f"{triple('x')} {triple('w')} {'c' if bias else '_'}" + " v_s v_z" * integers
    product = node(
        "QGemm",
        names,
        "v_q" if integers else "y",
        domain=MICROSOFT,
        transA=turned[0],
        transB=turned[1],
        alpha=alpha,
    )
    nodes = [quantize("x"), product] + [dequantize("v")] * integers
    same(model_of(nodes, feeds, weights), feeds, 0.26 if integers else 1e-5)


def test_qgemm_with_a_scale_for_each_column_of_a_weight_that_is_turned():
    feeds, weights = {"x": steps(9, 40)}, scale("x") | weight("w", 7, 40)
    weights["w_s"], weights["w_z"] = RNG.uniform(0.01, 0.02, 7).astype(np.float32), np.zeros(7, np.int8)
    weights["c"] = RNG.integers(-5000, 5000, 7).astype(np.int32)
    product = node("QGemm", f"{triple('x')} {triple('w')} c", domain=MICROSOFT, transB=1)
    same(model_of([quantize("x"), product], feeds, weights), feeds)


@pytest.mark.parametrize("channels", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_qlinear_conv(channels, bias):
    feeds, weights = {"x": steps(2, 3, 8, 8)}, scale("x") | scale("v", step=0.5) | weight("w", 4, 3, 2, 2)
    if channels:
        weights["w_s"], weights["w_z"] = RNG.uniform(0.01, 0.02, 4).astype(np.float32), np.zeros(4, np.int8)
    weights["c"] = RNG.integers(-5000, 5000, 4).astype(np.int32)
    names = f"{triple('x')} {triple('w')} v_s v_z" + " c" * bias
    model = model_of(
        [quantize("x"), node("QLinearConv", names, "v_q", strides=[2, 2]), dequantize("v")], feeds, weights
    )
    same(model, feeds, 0.26)
    is_plain(model, "Conv")


@pytest.mark.parametrize("op_type", ["Add", "Mul"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_two_operands(op_type, dtype):
    zero = 128 if dtype == np.uint8 else 0
    feeds = {"a": steps(2, 5, 6, most=60), "b": steps(6, most=60)}
    weights = {k: v for name in ("a", "b", "v") for k, v in scale(name, zero, dtype).items()}
    made = node(f"QLinear{op_type}", f"{triple('a')} {triple('b')} v_s v_z", "v_q", domain=MICROSOFT)
    model = model_of([quantize("a"), quantize("b"), made, dequantize("v")], feeds, weights)
    same(model, feeds, STEP / 1.9)
    assert operators(plain_form(model)) == [op_type]


def test_an_operand_that_is_constant():
    feeds, weights = {"a": steps(2, 5, 6, most=60)}, scale("a") | scale("v", step=2 * STEP) | weight("w", 6)
    weights["w_q"], weights["w_z"] = weights["w_q"].astype(np.uint8), np.uint8(3)
    made = node("QLinearAdd", f"{triple('a')} {triple('w')} v_s v_z", "v_q", domain=MICROSOFT)
    model = model_of([quantize("a"), made, dequantize("v")], feeds, weights)
    same(model, feeds, STEP * 1.1)
    is_plain(model, "Add")


@pytest.mark.parametrize(
    ("op_type", "attributes", "v"),
    [
        ("Sigmoid", {}, scale("v", 0, step=1 / 256)),
        ("LeakyRelu", {}, scale("v")),
        ("LeakyRelu", {"alpha": 0.25}, scale("v")),
        ("Softmax", {"axis": -1, "opset": 13}, scale("v", 0, step=1 / 256)),
        ("Softmax", {"axis": 1, "opset": 17}, scale("v", 0, step=1 / 256)),
        ("Softmax", {"opset": 13}, scale("v", 0, step=1 / 256)),
    ],
)
@pytest.mark.parametrize("opset", [17, 18])
def test_one_operand(op_type, attributes, v, opset):
    feeds, weights = {"x": steps(2, 5, 6)}, scale("x") | v
    made = node(f"QLinear{op_type}", f"{triple('x')} v_s v_z", "v_q", domain=MICROSOFT, **attributes)
    model = model_of([quantize("x"), made, dequantize("v")], feeds, weights, opset)
    same(model, feeds, float(v["v_s"]) * 2)
    assert operators(plain_form(model)) == [op_type]


@pytest.mark.parametrize(("axis", "kept"), [(2, False), (-1, False), (1, True)])
def test_a_softmax_as_before_opset_13(axis, kept):
    weights = scale("x") | scale("v", 0, step=1 / 256)
    weights["x_q"] = RNG.integers(0, 255, (2, 5, 6), np.uint8)
    made = node("QLinearSoftmax", f"{triple('x')} v_s v_z", "v_q", domain=MICROSOFT, axis=axis, opset=11)
    model = model_of([made, dequantize("v")], {}, weights)
    if kept:
        with pytest.raises(Kept, match="over all axes from 1 on"):
            plain_form(model)
    else:
        same(model, {}, 2 / 256)


def test_qlinear_concat():
    feeds, weights = (
        {"a": steps(2, 3, most=60), "b": steps(2, 4, most=60)},
        scale("a") | scale("b") | scale("v"),
    )
    made = node("QLinearConcat", f"v_s v_z {triple('a')} {triple('b')}", "v_q", domain=MICROSOFT, axis=1)
    model = model_of([quantize("a"), quantize("b"), made, dequantize("v")], feeds, weights)
    same(model, feeds)
    assert operators(plain_form(model)) == ["Concat"]


@pytest.mark.parametrize("names", ["v_s", "v_s v_z a_q a_s a_z b_q"])
def test_a_concat_that_lacks_inputs_is_kept(names):
    made = node("QLinearConcat", names, domain=MICROSOFT, axis=1)
    weights = scale("v") | scale("a") | {"a_q": np.zeros((2, 3), np.uint8), "b_q": np.zeros((2, 3), np.uint8)}
    with pytest.raises(Kept):
        plain_form(model_of([made], {}, weights))


def test_qlinear_where():
    feeds = {"c": RNG.integers(0, 2, (2, 3)).astype(bool), "a": steps(2, 3), "b": steps(3)}
    weights = scale("a") | scale("b") | scale("v")
    made = node("QLinearWhere", f"c {triple('a')} {triple('b')} v_s v_z", "v_q", domain=MICROSOFT)
    model = model_of([quantize("a"), quantize("b"), made, dequantize("v")], feeds, weights)
    same(model, feeds)
    assert operators(plain_form(model)) == ["Where"]


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize(
    "op_type",
    sorted(
        name
        for domain, name in (*quantized.RULES, *blocks.RULES)
        if domain == MICROSOFT and name not in ("QLinearConcat", "DequantizeLinear")
    ),
)
def test_a_node_that_lacks_inputs_is_kept(op_type, count):
    """Nobody checks operators that are not ONNX's before a session does."""
    made = node(op_type, " ".join(["x"] * count), domain=MICROSOFT, N=1, K=16, block_size=16, quant_type=1)
    with pytest.raises(Kept):
        plain_form(model_of([made], {"x": steps(1, 16)}, {}))


def test_what_has_no_rule_between_others_gets_integers():
    """A pooling in integers, which no rule knows: what it reads is quantized, what it gives dequantized."""
    feeds, weights = {"a": steps(1, 2, 6, 6, most=60)}, scale("a") | scale("v", step=4 * STEP)
    nodes = [
        quantize("a"),
        node("QLinearAdd", f"{triple('a')} {triple('a')} v_s v_z", "s_q", domain=MICROSOFT),
        node("MaxPool", "s_q", "p_q", kernel_shape=[2, 2]),
        node("QLinearAdd", "p_q v_s v_z p_q v_s v_z v_s v_z", "v_q", domain=MICROSOFT),
        dequantize("v"),
    ]
    same(model_of(nodes, feeds, weights), feeds, 4 * STEP)


# ---- Fused


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("unidirectional", [0, 1])
def test_qattention(columns, mask, unidirectional):
    feeds = {"x": steps(2, 5, 8, most=60)}
    weights = scale("x") | weight("w", 8, 24, columns=columns)
    weights["w_z"] = np.zeros_like(weights["w_z"])  # others it computes wrongly where they are many
    weights["bias"] = RNG.standard_normal(24, np.float32)
    weights["mask"] = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.int32)
    attention = node(
        "QAttention",
        f"x_q w_q bias x_s w_s {'mask' if mask else '_'} x_z w_z",
        domain=MICROSOFT,
        num_heads=2,
        unidirectional=unidirectional,
    )
    model = model_of([quantize("x"), attention], feeds, weights)
    same(model, feeds, 1e-4)
    assert "QAttention" not in operators(plain_form(model))


@pytest.mark.parametrize("segments", [False, True])
@pytest.mark.parametrize("mask", [False, True])
def test_qembed_layer_normalization(segments, mask):
    feeds = {name: RNG.integers(0, 2, (2, 5)).astype(np.int32) for name in ("ids", "types", "mask")}
    weights: Weights = {}
    for name, shape in (("word", (9, 8)), ("pos", (6, 8)), ("seg", (2, 8)), ("gamma", (8,)), ("beta", (8,))):
        weights |= weight(name, *shape)
    seg = "seg" if segments else "_"
    names = [
        *("ids", "types" if segments else "_", "word_q", "pos_q", "seg_q" if segments else "_"),
        *("gamma_q", "beta_q", "mask" if mask else "_"),
        *(f"{name}_s" if name != "_" else "_" for name in ("word", "pos", seg, "gamma", "beta")),
        *(f"{name}_z" if name != "_" else "_" for name in ("word", "pos", seg, "gamma", "beta")),
    ]
    made = node("QEmbedLayerNormalization", " ".join(names), "y lengths", domain=MICROSOFT)
    model = model_of([made], feeds, weights, outputs=("y", "lengths"))
    for found, wanted in zip(run(plain_form(model), feeds), run(model, feeds), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)
