"""MemoProduct: the standard body and the kernel against the reference, and against the product in floats."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import MODES, run_operator
from support_operators import INF, NAN, SEEDS, f32, i64, inputs_of, random_product

from onnx_memo.graph.build import Builder
from onnx_memo.operators.bodies.product import multiply_halves
from onnx_memo.operators.reference import memo_product
from onnx_memo.runtime import session_options

EVERY_MODE = pytest.mark.parametrize("mode", MODES)


@EVERY_MODE
@given(
    shape=st.lists(st.integers(1, 9), min_size=0, max_size=3).map(tuple),
    groups=st.integers(1, 30),
    columns=st.integers(1, 130),
    apart=st.integers(1, 4),
    seed=SEEDS,
)
@example(shape=(2, 61), groups=96, columns=96, apart=4, seed=0)
def test_both_forms_agree_with_the_reference(mode, shape, groups, columns, apart, seed):
    inputs = random_product(np.random.default_rng(seed), (*shape, 4 * groups), columns, apart)
    answer = run_operator("MemoProduct", mode, *inputs.values())
    np.testing.assert_allclose(answer, memo_product(*inputs.values()), rtol=1e-5, atol=1e-4, strict=True)


@EVERY_MODE
def test_the_integers_are_the_same(mode):
    """Of numbers that lie, as near as floats come, in the middle of two steps."""
    rng = np.random.default_rng(7)
    inputs = random_product(rng, (50, 96), 96, 0)
    inputs["packed"] = np.eye(96, dtype=np.int8).reshape(24, 4, 2, 48).transpose(2, 0, 3, 1)
    inputs["sums"][:], inputs["scales"][:], inputs["bias"][:] = 1, 1, 0
    low, high = -rng.uniform(0.1, 9, (50, 1)), rng.uniform(0.1, 9, (50, 1))
    x = low + (rng.integers(0, 255, (50, 96)) + 0.5) * (high - low) / 255
    x[:, :1], x[:, 1:2] = low, high
    inputs["x"] = f32(x)
    want = memo_product(*inputs.values())
    step = f32(np.ptp(inputs["x"], axis=1, keepdims=True)) / np.float32(255)
    answer = run_operator("MemoProduct", mode, *inputs.values())
    np.testing.assert_array_equal(np.rint(answer / step), np.rint(want / step))


@given(
    groups=st.integers(1, 30),
    columns=st.integers(1, 60),
    zero=st.sampled_from([0, 128]),
    seed=SEEDS,
)
@settings(deadline=None)
def test_products_in_halves_are_those_of_bytes_and_need_no_more_than_16_bits(groups, columns, zero, seed):
    """Two products of a byte with a weight, as processors without VNNI add them up."""
    rng = np.random.default_rng(seed)
    steps = f32(rng.uniform(-zero - 20, 280 - zero, (5, 4 * groups)))
    steps[0] = 255 - zero
    weight = rng.choice([-127, 127, 3], (4 * groups, columns)).astype(np.int8)
    x, matrix = ir.val("x", ir.DataType.FLOAT, steps.shape), ir.val("w", ir.DataType.INT8, weight.shape)
    b = Builder("halves", 17)
    y = multiply_halves(b, x, matrix, zero)
    halves = [node for node in b.nodes if node.op_type == "MatMulInteger"]
    given_out = [y, *(node.inputs[0] for node in halves)]
    for value, dtype in zip(given_out, ("FLOAT", "UINT8", "UINT8"), strict=True):
        value.type = ir.TensorType(ir.DataType[dtype])
    graph = ir.Graph([x, matrix], given_out, nodes=b.nodes, opset_imports={"": 17})
    content = ir.to_proto(ir.Model(graph, ir_version=8)).SerializeToString()
    session = ort.InferenceSession(content, session_options(native=False, threads=1))
    total, *parts = session.run(None, {"x": steps, "w": weight})
    whole = np.clip(np.rint(steps) + zero, 0, 255) - zero
    np.testing.assert_array_equal(total, whole @ weight.astype(np.float32))
    assert max(int(part.max()) for part in parts) * 2 * 127 < 2**15


@EVERY_MODE
@pytest.mark.parametrize("opset", [13, 17, 18, 21])
def test_it_is_written_for_the_models_opset(mode, opset):
    inputs = random_product(np.random.default_rng(0), (3, 8), 5, 2)
    answer = run_operator("MemoProduct", mode, *inputs.values(), opset=opset)
    np.testing.assert_allclose(answer, memo_product(*inputs.values()), rtol=1e-5, atol=1e-5)


@EVERY_MODE
def test_the_product_is_near_that_of_floats(mode):
    """A row is rounded to 255 steps of its own range, and the weights are exact here."""
    rng = np.random.default_rng(1)
    inputs = random_product(rng, (40, 256), 60, 1)
    inputs["apart"][:] = 0
    sizes = 10.0 ** rng.integers(-4, 5, 40)
    inputs["x"] *= f32(sizes)[:, None]
    weight = inputs["packed"].transpose(1, 3, 0, 2).reshape(256, -1)[:, :60].astype(np.float32)
    weight[inputs["channels"]] = 0
    want = inputs["x"] @ (weight * inputs["scales"]) + inputs["bias"]
    errors = np.linalg.norm(run_operator("MemoProduct", mode, *inputs.values()) - want, axis=1)
    step = np.ptp(inputs["x"], axis=1) / 255
    limit = step / np.sqrt(12) * np.linalg.norm(weight * inputs["scales"])
    assert (errors <= 1.5 * limit).all()


@EVERY_MODE
def test_a_large_channel_apart_does_not_cost_the_others_their_steps(mode):
    rng = np.random.default_rng(2)
    inputs = random_product(rng, (10, 64), 48, 1)
    quiet = run_operator("MemoProduct", mode, *inputs.values())
    own = inputs["x"][:, inputs["channels"]].copy()
    inputs["x"][:, inputs["channels"]] *= 1000
    loud = run_operator("MemoProduct", mode, *inputs.values())
    np.testing.assert_allclose(loud - quiet, 999 * own @ inputs["apart"], rtol=1e-3, atol=1e-3)


@EVERY_MODE
@pytest.mark.parametrize("broken", [INF, -INF, NAN])
def test_a_number_that_broke_breaks_its_row_alone(mode, broken):
    inputs = random_product(np.random.default_rng(3), (3, 16), 5, 1)
    before = run_operator("MemoProduct", mode, *inputs.values())
    place = 0 if inputs["channels"][0] else 1
    inputs["x"][1, place] = broken
    after = run_operator("MemoProduct", mode, *inputs.values())
    assert not np.isfinite(after[1]).any()
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])


@EVERY_MODE
def test_rows_of_zeros_are_the_bias(mode):
    inputs = random_product(np.random.default_rng(4), (2, 8), 50, 1)
    inputs["x"][:] = 0
    np.testing.assert_array_equal(
        run_operator("MemoProduct", mode, *inputs.values()), np.stack([inputs["bias"]] * 2)
    )


@EVERY_MODE
def test_without_channels_apart_all_are_rounded(mode):
    inputs = random_product(np.random.default_rng(5), (4, 8), 50, 0)
    answer = run_operator("MemoProduct", mode, *inputs.values())
    np.testing.assert_allclose(answer, memo_product(*inputs.values()), rtol=1e-5, atol=1e-5)


@EVERY_MODE
def test_no_rows_give_none(mode):
    inputs = random_product(np.random.default_rng(6), (1, 0, 8), 50, 1)
    assert run_operator("MemoProduct", mode, *inputs.values()).shape == (1, 0, 50)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("packed", np.zeros((1, 3, 48, 4), np.int8)),
        ("packed", np.zeros((2, 2, 48, 4), np.int8)),
        ("packed", np.zeros((1, 2, 4, 48), np.int8)),
        ("sums", np.zeros(4, np.int32)),
        ("bias", f32([0] * 6)),
        ("apart", f32(np.zeros((1, 5)))),
        ("apart", f32(np.zeros((2, 4)))),
        ("channels", i64(1, 8)),
        ("channels", i64(-1, 6)),
        ("channels", i64(6, 1)),
        ("channels", i64(6, 6)),
    ],
)
def test_the_reference_refuses_what_does_not_fit(name, array):
    with pytest.raises(ValueError, match="do not"):
        memo_product(*(inputs_of("MemoProduct") | {name: array}).values())
