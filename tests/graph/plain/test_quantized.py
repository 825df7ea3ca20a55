"""Operators in 8 bits become the ones in floats that they approximate."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from support_quantized import (
    RNG,
    STEP,
    dequantize,
    is_plain,
    model_of,
    node,
    operators,
    plain_form,
    quantize,
    rows,
    run,
    same,
    scale,
    steps,
    weight,
)

from onnx_memo.graph.plain.rule import MICROSOFT, Kept

# ---- QDQ


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("domain", ["", MICROSOFT])
def test_a_quantizer_and_what_undoes_it_are_nothing(dtype, domain):
    feeds, weights = {"x": steps(2, 5)}, scale("x", 128 if dtype == np.uint8 else 0, dtype)
    model = model_of([quantize("x", domain), dequantize("x", domain=domain)], feeds, weights)
    same(model, feeds)
    assert operators(plain_form(model)) == []


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
@pytest.mark.parametrize(("domain", "opset"), [("", 21), (MICROSOFT, 17)])
def test_sixteen_bits(dtype, domain, opset):
    feeds, weights = {"x": steps(2, 5)}, scale("x", 300, dtype) | weight("w", 5, 3, dtype=dtype)
    nodes = [
        quantize("x", domain),
        dequantize("x", "a", domain),
        dequantize("w", "b", domain),
        node("MatMul", "a b"),
    ]
    model = model_of(nodes, feeds, weights, opset)
    same(model, feeds)
    is_plain(model, "MatMul")


def test_what_is_out_of_range_is_not_cut_off():
    feeds, weights = {"x": np.array([-9, 9], np.float32)}, scale("x")
    model = model_of([quantize("x"), dequantize("x")], feeds, weights)
    np.testing.assert_array_equal(run(plain_form(model), feeds)[0], [-9, 9])


@pytest.mark.parametrize(("dtype", "zero"), [(np.uint8, 0), (np.int8, -128)])
def test_where_integers_begin_at_zero_they_stand_for_a_relu(dtype, zero):
    """ONNX Runtime's quantizer leaves it out; the largest integer may stand for the end of a Clip."""
    feeds, weights = {"x": np.array([-1, 0.5, 20], np.float32)}, scale("x", zero, dtype)
    model = model_of([quantize("x"), dequantize("x")], feeds, weights)
    same(model, feeds)
    assert operators(plain_form(model)) == ["Clip"]


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Softmax", "x", "v")],
        [node("Relu", "x", "r"), node("Transpose", "r", "v", perm=[1, 0])],
        [node("Mul", "x x", "v")],
        [node("Pow", "x two", "p"), node("ReduceMean", "p", "v", axes=[-1])],
        [node("Erf", "x", "e"), node("Add", "e one", "v")],
        [node("Softmax", "x", "r"), node("IsNaN", "r", "n"), node("Where", "n one r", "v")],
    ],
    ids=lambda nodes: nodes[0].op_type,
)
def test_what_cannot_be_negative_is_not_cut_off(nodes):
    feeds = {"x": steps(2, 5, most=20)}
    weights = scale("v", 0) | {"one": np.float32(1), "two": np.float32(2)}
    model = model_of([*nodes, quantize("v"), dequantize("v")], feeds, weights)
    same(model, feeds, STEP)
    assert "Clip" not in operators(plain_form(model))


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Mul", "x one", "v")],
        [node("Pow", "x three", "v")],
        [node("ReduceSum", "x", "v")],
        [node("Tanh", "x", "e"), node("Add", "e half", "v")],
        [node("Softmax", "x", "r"), node("IsNaN", "r", "n"), node("Where", "n r x", "v")],
    ],
    ids=lambda nodes: nodes[0].op_type,
)
def test_what_can_be_negative_is_cut_off(nodes):
    feeds = {"x": -np.abs(steps(2, 5, most=20))}
    weights = scale("v", 0) | {
        "one": np.float32(1),
        "three": np.float32(3),
        "half": np.float32(0.5),
    }
    model = model_of([*nodes, quantize("v"), dequantize("v")], feeds, weights)
    same(model, feeds, STEP)
    assert "Clip" in operators(plain_form(model))


def test_another_scale_is_another_number():
    feeds, weights = {"x": steps(2, 5)}, scale("x") | scale("other", step=2 * STEP)
    model = model_of([quantize("x"), node("DequantizeLinear", "x_q other_s other_z")], feeds, weights)
    same(model, feeds)
    assert operators(plain_form(model)) == ["QuantizeLinear", "DequantizeLinear"]


def test_another_zero_point_is_another_number():
    feeds, weights = {"x": steps(2, 5)}, scale("x") | scale("other", 100)
    model = model_of([quantize("x"), node("DequantizeLinear", "x_q other_s other_z")], feeds, weights)
    same(model, feeds)


@pytest.mark.parametrize("turned", [False, True])
def test_a_scale_for_each_column_is_another_one_elsewhere(turned):
    feeds = {"x": steps(5, 5)}
    weights = {"x_s": (2.0 ** -np.arange(3, 8)).astype(np.float32), "x_z": np.full(5, 128, np.uint8)}
    nodes = [quantize("x"), node("Transpose" if turned else "Identity", "x_q", "v_q")]
    model = model_of([*nodes, node("DequantizeLinear", "v_q x_s x_z", axis=0)], feeds, weights)
    same(model, feeds)


def test_integers_in_blocks_are_not_moved():
    feeds = {"x": steps(1, 4)}
    weights = scale("x") | {"b_s": np.full((1, 1), STEP, np.float32), "b_z": np.full((1, 1), 128, np.uint8)}
    weights["shape"] = np.array([4, 1])
    nodes = [
        node("QuantizeLinear", "x b_s b_z", "x_q", axis=1, block_size=4),
        node("Reshape", "x_q shape", "v_q"),
        node("DequantizeLinear", "v_q x_s x_z"),
    ]
    same(model_of(nodes, feeds, weights, opset=21), feeds)


def test_sums_of_sums_are_followed_no_further_than_a_few():
    nodes = [node("Relu", "x", "v0")] + [node("Add", f"v{n} v{n}", f"v{n + 1}") for n in range(60)]
    model = model_of([*nodes, quantize("v60"), dequantize("v60")], {"x": steps(3)}, scale("v60", 0))
    assert operators(plain_form(model))[-1] == "Clip"


def test_an_equal_scale_under_another_name_is_the_same():
    feeds, weights = {"x": steps(2, 5)}, scale("x") | scale("other")
    model = model_of([quantize("x"), node("DequantizeLinear", "x_q other_s other_z")], feeds, weights)
    assert operators(plain_form(model)) == []


def test_a_scale_that_is_given_stays():
    feeds = {"x": steps(2, 5), "x_s": np.array(STEP, np.float32)}
    model = model_of([quantize("x"), dequantize("x")], feeds, {"x_z": np.uint8(128)})
    same(model, feeds)


def test_who_reads_the_integers_themselves_still_gets_them():
    feeds, weights = {"x": steps(2, 5)}, scale("x")
    nodes = [quantize("x"), dequantize("x"), node("Cast", "x_q", "integers", to=onnx.TensorProto.INT32)]
    model = model_of(nodes, feeds, weights, outputs=("y", "integers"))
    for found, wanted in zip(run(plain_form(model), feeds), run(model, feeds), strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    "move",
    [
        node("Transpose", "x_q", "v_q", perm=[1, 0]),
        node("Reshape", "x_q shape", "v_q"),
        node("Unsqueeze", "x_q first", "v_q"),
        node("Gather", "x_q first", "v_q", axis=1),
        node("Slice", "x_q first shape", "v_q"),
    ],
    ids=lambda node: node.op_type,
)
def test_integers_that_are_moved_are_floats_that_are_moved(move):
    feeds = {"x": steps(4, 5)}
    weights = scale("x") | {"shape": np.array([10, 2]), "first": np.array([0])}
    if move.op_type == "Slice":
        weights["shape"] = np.array([2])
    model = model_of([quantize("x"), move, node("DequantizeLinear", "v_q x_s x_z")], feeds, weights)
    same(model, feeds)
    assert operators(plain_form(model)) == [move.op_type]


def test_integers_that_are_split():
    feeds, weights = {"x": steps(4, 6)}, scale("x")
    nodes = [
        quantize("x"),
        node("Split", "x_q", "a_q b_q", axis=1),
        node("DequantizeLinear", "a_q x_s x_z", "a"),
        node("DequantizeLinear", "b_q x_s x_z", "b"),
        node("Add", "a b"),
    ]
    model = model_of(nodes, feeds, weights)
    same(model, feeds)
    is_plain(model, "Split", "Add")


def test_integers_that_are_given_stay():
    feeds, weights = {"x_q": np.arange(10, dtype=np.uint8)}, scale("x")
    model = model_of([dequantize("x")], feeds, weights)
    same(model, feeds)
    assert operators(plain_form(model)) == ["DequantizeLinear"]


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
def test_a_weight_with_scales_along_an_axis(axis):
    weights = weight("w", 4, 5, 6)
    size = (4, 5, 6)[axis]
    weights["w_s"], weights["w_z"] = (
        RNG.uniform(1, 2, size).astype(np.float32),
        np.arange(size, dtype=np.int8),
    )
    nodes = [node("DequantizeLinear", "w_q w_s w_z", "w", axis=axis), node("Mul", "x w")]
    feeds = {"x": steps(6)}
    same(model_of(nodes, feeds, weights), feeds)


def test_a_weight_with_scales_along_the_axis_that_is_meant_without_one():
    feeds, weights = {"x": steps(5)}, weight("w", 5, 5, columns=True)
    same(model_of([node("DequantizeLinear", "w_q w_s w_z", "w"), node("Mul", "x w")], feeds, weights), feeds)


def test_a_weight_in_short_floats():
    weights = {"w_q": steps(4, 5).astype(ml_dtypes.float8_e4m3fn), "w_s": np.float32(STEP)}
    feeds = {"x": steps(5)}
    nodes = [node("DequantizeLinear", "w_q w_s", "w"), node("Mul", "x w")]
    same(model_of(nodes, feeds, weights, opset=21), feeds)


def test_a_bias_in_32_bits():
    weights = {"w_q": np.array([-(10**6), 10**6], np.int32), "w_s": np.array([1e-6], np.float32)}
    feeds = {"x": steps(3, 2)}
    model = model_of([node("DequantizeLinear", "w_q w_s", "w", axis=0), node("Add", "x w")], feeds, weights)
    same(model, feeds)
    is_plain(model, "Add")


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, "int4", "uint4"])
@pytest.mark.parametrize("block", [0, 2, 5])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("zeros", [False, True])
def test_a_weight_in_blocks(dtype, block, axis, zeros):
    dtype = getattr(ml_dtypes, dtype) if isinstance(dtype, str) else dtype
    shape = [6, 7]
    blocks = [*shape]
    blocks[axis] = -(-shape[axis] // block) if block else 1
    blocks = blocks if block else [shape[axis]]
    weights = {
        "w_q": RNG.integers(0, 8, shape).astype(dtype),
        "w_s": RNG.uniform(1, 2, blocks).astype(np.float32),
    }
    if zeros:
        weights["w_z"] = RNG.integers(0, 8, blocks).astype(dtype)
    names = "w_q w_s w_z" if zeros else "w_q w_s"
    nodes = [
        node("DequantizeLinear", names, "w", axis=axis, **({"block_size": block} if block else {})),
        node("Mul", "x w"),
    ]
    feeds = {"x": steps(7)}
    same(model_of(nodes, feeds, weights, opset=21), feeds)


@pytest.mark.parametrize(
    ("changed", "attributes", "reason"),
    [
        ({"w_s": np.ones(3, np.float32)}, {"axis": 0}, "do not fit its axis 0"),
        ({"w_s": np.ones(4, np.float32)}, {"axis": 2}, "do not fit its axis 2"),
        ({"w_s": np.ones((3, 5), np.float32)}, {"axis": 0, "block_size": 2}, "its scales are"),
        ({"w_s": np.ones((2, 5), np.float32)}, {"axis": 0, "block_size": -2}, "its axis"),
        ({"w_s": np.ones((2, 5), np.float32)}, {"axis": 2, "block_size": 2}, "its axis 2"),
        (
            {"w_s": np.ones((2, 5), np.float32), "w_z": np.zeros(2, np.int8)},
            {"axis": 0, "block_size": 2},
            "zero",
        ),
    ],
)
def test_a_weight_whose_scales_do_not_fit_is_kept(changed, attributes, reason):
    weights = {"w_q": np.zeros((4, 5), np.int8), **changed}
    names = " ".join(weights)
    nodes = [node("DequantizeLinear", names, "w", **attributes), node("Mul", "x w")]
    with pytest.raises(Kept, match=reason):
        plain_form(model_of(nodes, {"x": steps(5)}, weights, opset=21))


# ---- Dynamic


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("names", ["w_q w_s", "w_q w_s w_z", "w_q w_s _ bias", "w_q w_s w_z bias"])
def test_dynamic_quantize_matmul(columns, dtype, names):
    feeds, weights = rows(2, 9, 40), weight("w", 40, 7, dtype=dtype, columns=columns)
    weights["bias"] = RNG.standard_normal(7, np.float32)
    model = model_of([node("DynamicQuantizeMatMul", f"x {names}", domain=MICROSOFT)], feeds, weights)
    same(model, feeds, 0.02)
    is_plain(model, *(["MatMul", "Add"] if "bias" in names else ["MatMul"]))


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_matmul_integer_to_float(columns, bias):
    feeds, weights = rows(2, 9, 40), weight("w", 40, 7, columns=columns)
    weights["bias"] = RNG.standard_normal(7, np.float32)
    product = node("MatMulIntegerToFloat", "x_q w_q x_s w_s x_z w_z" + " bias" * bias, domain=MICROSOFT)
    model = model_of([node("DynamicQuantizeLinear", "x", "x_q x_s x_z"), product], feeds, weights)
    same(model, feeds, 0.02)
    is_plain(model, "MatMul", *["Add"] * bias)


def scaled(left: str, right: str, scales: str = "both", sides: str = "scaled both") -> list[onnx.NodeProto]:
    return [
        node("MatMulInteger", f"{left}_q {right}_q {left}_z {right}_z", "integers"),
        node("Cast", "integers", "scaled", to=onnx.TensorProto.FLOAT),
        node("Mul", f"{left}_s {right}_s", scales),
        node("Mul", sides),
    ]


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("sides", ["scaled both", "both scaled"])
def test_a_product_of_integers_that_is_scaled(columns, sides):
    feeds, weights = rows(2, 9, 40), weight("w", 40, 7, columns=columns)
    nodes = [node("DynamicQuantizeLinear", "x", "x_q x_s x_z"), *scaled("x", "w", sides=sides)]
    model = model_of(nodes, feeds, weights)
    same(model, feeds, 0.02)
    is_plain(model, "MatMul")


def test_a_product_of_activations_in_integers():
    feeds = {**rows(2, 9, 40), "k": RNG.standard_normal((2, 40, 9), np.float32)}
    nodes = [
        node("DynamicQuantizeLinear", "x", "x_q x_s x_z"),
        node("DynamicQuantizeLinear", "k", "k_q k_s k_z"),
        *scaled("x", "k"),
    ]
    model = model_of(nodes, feeds, {})
    same(model, feeds, 0.02)
    assert operators(plain_form(model)) == ["MatMul"]


def test_the_square_of_activations_in_integers_takes_their_scale_twice():
    feeds = {"x": RNG.standard_normal((9, 9), np.float32)}
    nodes = [node("DynamicQuantizeLinear", "x", "x_q x_s x_z"), *scaled("x", "x")]
    same(model_of(nodes, feeds, {}), feeds, 0.03)


@pytest.mark.parametrize("scales", ["w_s", "x_s", "other"])
def test_a_product_of_integers_that_is_scaled_otherwise_stays(scales):
    feeds, weights = rows(2, 9, 40), weight("w", 40, 7) | {"other": np.float32(2)}
    nodes = [
        node("DynamicQuantizeLinear", "x", "x_q x_s x_z"),
        node("MatMulInteger", "x_q w_q x_z w_z", "integers"),
        node("Cast", "integers", "scaled", to=onnx.TensorProto.FLOAT),
        node("Mul", f"scaled {scales}"),
    ]
    model = model_of(nodes, feeds, weights)
    same(model, feeds, 1e-6 if scales != "x_s" else 0.02)


def test_integers_of_a_dynamic_quantizer_that_are_scaled_otherwise():
    feeds, weights = rows(2, 9, 40), weight("w", 40, 7) | scale("other")
    product = node("MatMulIntegerToFloat", "x_q w_q other_s w_s other_z w_z", domain=MICROSOFT)
    model = model_of([node("DynamicQuantizeLinear", "x", "x_q x_s x_z"), product], feeds, weights)
    same(model, feeds)


def test_a_product_of_integers_with_another_zero_point_stays():
    feeds, weights = rows(2, 9, 40), weight("w", 40, 7)
    nodes = [node("DynamicQuantizeLinear", "x", "x_q x_s x_z"), *scaled("x", "w")]
    nodes[1] = node("MatMulInteger", "x_q w_q _ w_z", "integers")
    same(model_of(nodes, feeds, weights), feeds)


def test_a_convolution_that_is_scaled_by_the_column_of_its_result_is_kept():
    feeds, weights = rows(1, 3, 3, 3), weight("w", 4, 3, 2, 2, columns=True) | {"w_z": np.int8(0)}
    nodes = [
        node("DynamicQuantizeLinear", "x", "x_q x_s x_z"),
        node("ConvInteger", "x_q w_q x_z w_z", "integers"),
        *scaled("x", "w")[1:],
    ]
    with pytest.raises(Kept, match="neither one number nor one a column"):
        plain_form(model_of(nodes, feeds, weights))


def test_a_convolution_of_integers_that_is_scaled():
    feeds, weights = rows(2, 3, 8, 8), weight("w", 4, 3, 2, 2)
    nodes = [
        node("DynamicQuantizeLinear", "x", "x_q x_s x_z"),
        node("ConvInteger", "x_q w_q x_z w_z", "integers", strides=[2, 2]),
        *scaled("x", "w")[1:],
    ]
    model = model_of(nodes, feeds, weights)
    same(model, feeds, 0.02)
    is_plain(model, "Conv")
