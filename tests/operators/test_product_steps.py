"""What may follow MemoProduct: the standard bodies and the kernels against the references."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import MODES, run_operator
from support_operators import INF, NAN, NATIVE, SEEDS, f32, inputs_of, random_product

from onnx_memo.operators.reference import REFERENCES, memo_product, memo_product_norm

EVERY_MODE = pytest.mark.parametrize("mode", MODES)
ONLY_NATIVE = pytest.mark.parametrize("mode", [NATIVE])
ACTIVATED = ["MemoProductGelu", "MemoProductGeluTanh", "MemoProductRelu", "MemoProductSilu"]
EVERY_ACTIVATION = pytest.mark.parametrize("op", ACTIVATED)
EVERY_OPSET = pytest.mark.parametrize("opset", [13, 17, 18, 21])

SHAPES = st.lists(st.integers(1, 9), min_size=0, max_size=3).map(tuple)


def random_norm(rng: np.random.Generator, shape: tuple[int, ...], columns: int, apart: int = 2):
    return random_product(rng, shape, columns, apart) | {
        "residual": rng.standard_normal((*shape[:-1], columns), np.float32),
        "gamma": rng.standard_normal(columns, np.float32),
        "beta": rng.standard_normal(columns, np.float32),
        "epsilon": f32(1e-5),
    }


def of_zeros(bias: np.ndarray) -> dict[str, np.ndarray]:
    """Inputs whose product is this."""
    return random_product(np.random.default_rng(0), (1, 8), len(bias), 1) | {
        **{"x": np.zeros((1, 8), np.float32), "bias": f32(bias)},
    }


@EVERY_MODE
@EVERY_ACTIVATION
@given(shape=SHAPES, groups=st.integers(1, 30), columns=st.integers(1, 130), seed=SEEDS)
def test_both_forms_of_an_activation_agree_with_the_reference(mode, op, shape, groups, columns, seed):
    inputs = random_product(np.random.default_rng(seed), (*shape, 4 * groups), columns, 2)
    answer = run_operator(op, mode, *inputs.values())
    np.testing.assert_allclose(answer, REFERENCES[op](*inputs.values()), rtol=1e-5, atol=1e-4, strict=True)


@EVERY_MODE
@given(shape=SHAPES, groups=st.integers(1, 30), columns=st.integers(2, 130), seed=SEEDS)
def test_both_forms_of_the_norm_agree_with_the_reference(mode, shape, groups, columns, seed):
    inputs = random_norm(np.random.default_rng(seed), (*shape, 4 * groups), columns)
    inputs["epsilon"] = f32(0.1)  # of two columns that are nearly equal, the difference is rounding
    have = run_operator("MemoProductNorm", mode, *inputs.values())
    for a, b in zip(have, memo_product_norm(*inputs.values()), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-4, strict=True)


@EVERY_MODE
@EVERY_ACTIVATION
@EVERY_OPSET
def test_an_activation_is_written_for_the_models_opset(mode, op, opset):
    inputs = inputs_of(op)
    answer = run_operator(op, mode, *inputs.values(), opset=opset)
    np.testing.assert_allclose(answer, REFERENCES[op](*inputs.values()), rtol=1e-5, atol=1e-5)


@EVERY_MODE
@EVERY_OPSET
def test_the_norm_is_written_for_the_models_opset(mode, opset):
    inputs = random_norm(np.random.default_rng(0), (2, 3, 8), 50)
    have = run_operator("MemoProductNorm", mode, *inputs.values(), opset=opset)
    for a, b in zip(have, memo_product_norm(*inputs.values()), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_the_references_of_activations_are_their_formulas():
    v = np.linspace(-6, 6, 300).astype(np.float32)
    cube = math.sqrt(2 / math.pi)
    want = {
        "MemoProductGelu": [0.5 * x * (1 + math.erf(x / math.sqrt(2))) for x in v],
        "MemoProductGeluTanh": [0.5 * x * (1 + math.tanh(cube * (x + 0.044715 * x**3))) for x in v],
        "MemoProductRelu": [max(x, 0) for x in v],
        "MemoProductSilu": [x / (1 + math.exp(-x)) for x in v],
    }
    for op in ACTIVATED:
        np.testing.assert_allclose(REFERENCES[op](*of_zeros(v).values())[0], want[op], atol=1e-6)


@ONLY_NATIVE
@EVERY_ACTIVATION
def test_the_kernels_of_activations_are_exact(mode, op):
    """Also where the products are large."""
    inputs = of_zeros(np.concatenate([np.linspace(-30, 30, 20000), [0, 1e5, -1e5]]))
    have, want = run_operator(op, mode, *inputs.values()), REFERENCES[op](*inputs.values())
    assert (np.abs(have - want) <= 2.5e-7 * np.maximum(np.abs(inputs["bias"]), 1)).all()


@ONLY_NATIVE
@EVERY_ACTIVATION
def test_activations_of_numbers_that_broke_are_their_limits(mode, op):
    inputs = of_zeros(f32([INF, -INF, NAN]))
    for answer in (run_operator(op, mode, *inputs.values()), REFERENCES[op](*inputs.values())):
        np.testing.assert_array_equal(answer, f32([[INF, 0, NAN]]))


@EVERY_MODE
def test_the_sum_is_the_residual_and_the_product(mode):
    inputs = random_norm(np.random.default_rng(1), (4, 5, 64), 96)
    y, total = run_operator("MemoProductNorm", mode, *inputs.values())
    product = memo_product(*list(inputs.values())[:7])
    np.testing.assert_allclose(total, inputs["residual"] + product, rtol=1e-5, atol=1e-5)
    normal = (y - inputs["beta"]) / inputs["gamma"]
    np.testing.assert_allclose(normal.mean(axis=-1), 0, atol=1e-4)
    np.testing.assert_allclose(normal.std(axis=-1), 1, atol=1e-4)


@EVERY_MODE
def test_epsilon_may_have_a_dimension(mode):
    inputs = random_norm(np.random.default_rng(2), (3, 8), 50)
    want = run_operator("MemoProductNorm", mode, *inputs.values())
    inputs["epsilon"] = inputs["epsilon"].reshape(1)
    for a, b in zip(run_operator("MemoProductNorm", mode, *inputs.values()), want, strict=True):
        np.testing.assert_array_equal(a, b, strict=True)
    np.testing.assert_allclose(memo_product_norm(*inputs.values())[0], want[0], rtol=1e-4, atol=1e-4)


@EVERY_MODE
def test_no_rows_give_none(mode):
    inputs = random_norm(np.random.default_rng(3), (1, 0, 8), 50)
    for answer in run_operator("MemoProductNorm", mode, *inputs.values()):
        assert answer.shape == (1, 0, 50)


@ONLY_NATIVE
@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("residual", f32(np.zeros((3, 4)))),
        ("residual", f32(np.zeros((1, 3, 5)))),
        ("residual", f32(np.zeros((1, 5)))),
        ("gamma", f32([1] * 4)),
        ("beta", f32([1] * 6)),
        ("epsilon", f32([1, 1])),
    ],
)
def test_what_does_not_fit_is_refused(mode, name, array):
    inputs = inputs_of("MemoProductNorm") | {name: array}
    with pytest.raises(ValueError, match=r"do not fit|is not one number"):
        memo_product_norm(*inputs.values())
    with pytest.raises(Exception, match=f"MemoProductNorm: .*{name}"):
        run_operator("MemoProductNorm", mode, *inputs.values())
