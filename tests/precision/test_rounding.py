"""Weights are rounded so that the product is kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support_operators import SEEDS

from onnx_memo.operators.reference import memo_product
from onnx_memo.precision import rounding
from onnx_memo.precision.rounding import (
    MOST,
    Rounded,
    bytes_to_round,
    gptq,
    pack,
    packed_shape,
    round_product,
)

NONE = np.zeros(0, np.int64)


def unpacked(packed: np.ndarray, columns: int) -> np.ndarray:
    """By the letter of docs/operators.md: row `4 g + i` and column `48 p + c` is `packed[p, g, c, i]`."""
    panels, groups, _, _ = packed.shape
    whole = np.zeros((4 * groups, 48 * panels), np.int8)
    for p in range(panels):
        for g in range(groups):
            for c in range(48):
                for i in range(4):
                    whole[4 * g + i, 48 * p + c] = packed[p, g, c, i]
    assert not whole[:, columns:].any(), "0 beyond the last column"
    return whole[:, :columns]


def weights_of(rounded: Rounded) -> np.ndarray:
    """The matrix that a product has, channels apart included."""
    whole = unpacked(rounded.packed, len(rounded.bias)).astype(np.float64) * rounded.scales
    whole[rounded.channels] = rounded.apart
    return whole


def product_of(rounded: Rounded, x: np.ndarray) -> np.ndarray:
    parts = (rounded.packed, rounded.sums, rounded.scales, rounded.bias, rounded.channels, rounded.apart)
    return memo_product(x, *parts)


def correlated(rng: np.random.Generator, rows: int, inner: int) -> np.ndarray:
    """Rows whose channels go together: made of few."""
    few = rng.standard_normal((rows, max(inner // 4, 1)))
    return (
        few @ rng.standard_normal((few.shape[1], inner)) + 0.1 * rng.standard_normal((rows, inner))
    ).astype(np.float32)


def matrix(rng: np.random.Generator, inner: int, columns: int) -> np.ndarray:
    return rng.standard_normal((inner, columns)).astype(np.float32)


# ---- The layout


@pytest.mark.parametrize(("inner", "columns"), [(4, 1), (8, 48), (12, 49), (64, 130)])
def test_packed_is_as_the_operators_page_has_it(inner, columns):
    whole = np.random.default_rng(0).integers(-127, 128, (inner, columns)).astype(np.int8)
    packed = pack(whole)
    assert packed.shape == packed_shape(inner, columns)
    assert packed.shape == (-(-columns // 48), inner // 4, 48, 4)
    assert packed.dtype == np.int8
    np.testing.assert_array_equal(unpacked(packed, columns), whole)


# ---- GPTQ


def error(x: np.ndarray, weight: np.ndarray, whole: np.ndarray) -> float:
    """Of the product, not of the weights."""
    return float(np.linalg.norm(x @ (whole - weight)))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("inner", [16, 64, 200])
def test_gptq_keeps_products_of_correlated_rows_better_than_the_nearest(seed, inner):
    rng = np.random.default_rng(seed)
    x = correlated(rng, 400, inner).astype(np.float64)
    weight = 2 * matrix(rng, inner, 24)
    gained, nearest = gptq(weight, x.T @ x), np.rint(weight)
    assert error(x, weight, gained) < 0.8 * error(x, weight, nearest)
    assert error(x, weight, gained) > 0


def test_gptq_of_one_rows_direction_hides_the_error_in_the_others():
    """Two channels that are always equal: what one rounds up, the other rounds down."""
    together = np.ones((2, 2)) * 100
    whole = gptq(np.float32([[0.4], [0.4]]), together)
    assert whole.sum() == 1  # and not 0, as of the nearest


@pytest.mark.parametrize("together", [np.eye(80), np.diag(np.linspace(0, 9, 80)), np.zeros((80, 80))])
def test_without_correlation_gptq_rounds_to_the_nearest(together):
    weight = 30 * matrix(np.random.default_rng(0), 80, 9)
    np.testing.assert_array_equal(gptq(weight, together), np.rint(weight))


@given(st.integers(1, 150), st.integers(1, 20), SEEDS)
@settings(deadline=None, max_examples=40)
def test_whole_numbers_stay_within_127(inner, columns, seed):
    rng = np.random.default_rng(seed)
    x = correlated(rng, 7, inner).astype(np.float64)
    weight = 127 * rng.choice(np.float32([-1, 1, 0.999]), (inner, columns))
    whole = gptq(weight, x.T @ x)
    assert whole.dtype == np.int8
    assert np.abs(whole.astype(int)).max() <= MOST == 127


def test_blocks_change_nothing(monkeypatch):
    """What is made up for at once is a matter of speed."""
    rng = np.random.default_rng(4)
    x, weight = correlated(rng, 300, 100).astype(np.float64), matrix(rng, 100, 8) * 9
    want = gptq(weight, x.T @ x)
    for block in (1, 7, 1000):
        monkeypatch.setattr("onnx_memo.precision.rounding.BLOCK", block)
        assert (gptq(weight, x.T @ x) != want).mean() < 0.01  # sums in another order


def test_gptq_is_the_same_as_with_an_inverse():
    """Frantar et al.: algorithm 1, with the channels from the last to the first turned round."""
    rng = np.random.default_rng(5)
    inner = 24
    x, weight = correlated(rng, 300, inner).astype(np.float64), 5 * matrix(rng, inner, 6)
    damped = x.T @ x + 0.01 * np.mean(np.square(x).sum(axis=0)) * np.eye(inner)
    inverse = np.linalg.inv(damped)
    left, whole = weight.astype(np.float64), np.zeros_like(weight)
    for k in range(inner):
        whole[k] = np.clip(np.rint(left[k]), -127, 127)
        lost = (left[k] - whole[k]) / inverse[k, k]
        left[k + 1 :] -= np.outer(inverse[k + 1 :, k], lost)
        inverse -= np.outer(inverse[:, k], inverse[k]) / inverse[k, k]
    np.testing.assert_array_equal(gptq(weight, x.T @ x), whole)


# ---- Products


@given(st.integers(1, 20), st.integers(1, 100), st.integers(0, 12), SEEDS)
@settings(deadline=None, max_examples=40)
def test_a_product_keeps_its_weights_and_those_apart_exactly(groups, columns, apart, seed):
    rng = np.random.default_rng(seed)
    inner = 4 * groups
    weight, bias = matrix(rng, inner, columns), rng.standard_normal(columns)
    channels = np.sort(rng.permutation(inner)[:apart])
    rounded = round_product(weight, bias, np.eye(inner), channels)
    np.testing.assert_array_equal(rounded.apart, weight[channels])
    np.testing.assert_array_equal(rounded.channels, channels)
    np.testing.assert_array_equal(rounded.bias, bias.astype(np.float32))
    whole = unpacked(rounded.packed, columns)
    assert not whole[channels].any()
    np.testing.assert_array_equal(rounded.sums, whole.sum(axis=0, dtype=int))
    assert (np.abs(weights_of(rounded) - weight) <= 0.5001 * rounded.scales).all()
    dtypes = {"packed": "i1", "sums": "i4", "scales": "f4", "bias": "f4", "channels": "i8", "apart": "f4"}
    assert {name: getattr(rounded, name).dtype.str[1:] for name in dtypes} == dtypes


def test_a_scale_is_that_of_the_largest_weight_that_is_not_apart():
    weight = np.float32([[1, 2], [-4, 0], [100, 100], [0, 3]])
    rounded = round_product(weight, np.zeros(2, np.float32), np.eye(4), np.asarray([2]))
    np.testing.assert_allclose(rounded.scales, [4 / 127, 3 / 127], rtol=1e-6)
    assert unpacked(rounded.packed, 2)[1, 0] == -127


def test_the_operator_makes_of_them_nearly_the_product():
    rng = np.random.default_rng(6)
    x, weight = correlated(rng, 200, 64), matrix(rng, 64, 50)
    x[:, 17] *= 100
    bias = rng.standard_normal(50).astype(np.float32)
    want = x @ weight + bias
    errors = []
    for channels in (NONE, np.asarray([17])):
        have = product_of(round_product(weight, bias, (x.T @ x).astype(np.float64), channels), x)
        errors.append(np.linalg.norm(have - want) / np.linalg.norm(want - x[:, [17]] * weight[17]))
    assert errors[1] < 0.02 < errors[0], "a channel that stands out is worth being apart"


def test_a_matrix_of_zeros_is_one():
    rounded = round_product(np.zeros((8, 3), np.float32), np.ones(3, np.float32), np.eye(8), NONE)
    x = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)
    assert np.isfinite(rounded.scales).all() and (rounded.scales > 0).all()
    np.testing.assert_array_equal(product_of(rounded, x), np.ones((5, 3)))


def test_a_column_of_zeros_stays_zero_beside_others():
    weight = matrix(np.random.default_rng(1), 8, 3)
    weight[:, 1] = 0
    rounded = round_product(weight, np.zeros(3, np.float32), np.eye(8), NONE)
    assert not unpacked(rounded.packed, 3)[:, 1].any()


@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e30])
def test_tiny_and_huge_weights_stay_numbers(scale):
    weight = (matrix(np.random.default_rng(2), 8, 3) * scale).astype(np.float32)
    rounded = round_product(weight, np.zeros(3, np.float32), np.eye(8), NONE)
    assert np.isfinite(rounded.scales).all()
    assert (np.abs(weights_of(rounded) - weight) <= 0.51 * rounded.scales).all()


def test_rows_that_were_all_zero_round_to_the_nearest():
    weight = matrix(np.random.default_rng(3), 8, 3)
    rounded = round_product(weight, np.zeros(3, np.float32), np.zeros((8, 8)), NONE)
    np.testing.assert_array_equal(unpacked(rounded.packed, 3), np.rint(weight / rounded.scales))


def test_one_column_alone():
    weight = matrix(np.random.default_rng(4), 8, 1)
    rounded = round_product(weight, np.zeros(1, np.float32), np.eye(8), np.asarray([0, 5]))
    assert rounded.packed.shape == (1, 2, 48, 4)
    assert (np.abs(weights_of(rounded) - weight) <= 0.501 * rounded.scales).all()


def test_with_all_channels_apart_the_product_is_that_of_floats():
    rng = np.random.default_rng(5)
    weight, bias, x = matrix(rng, 8, 3), rng.standard_normal(3).astype(np.float32), matrix(rng, 5, 8)
    rounded = round_product(weight, bias, np.eye(8), np.arange(8))
    assert not rounded.packed.any() and not rounded.sums.any()
    np.testing.assert_allclose(product_of(rounded, x), x @ weight + bias, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("step", [1, 3, 7, 256])
def test_the_factor_is_the_same_in_blocks(monkeypatch, step):
    """U D U^T with ones on the diagonal of U, as LAPACK has it."""
    monkeypatch.setattr(rounding, "STEP", step)
    x = correlated(np.random.default_rng(0), 40, 21).astype(np.float64)
    together = x.T @ x
    damped = together + rounding.DAMPING * np.diag(together).mean() * np.eye(21)
    factor = np.linalg.cholesky(damped[::-1, ::-1])[::-1, ::-1]
    found = rounding._feedback(together)
    np.testing.assert_allclose(found, factor / np.diag(factor), atol=1e-6)
    assert not np.tril(found, -1).any()


def test_what_is_looked_at_stays_as_it_is():
    """Another way is rounded by the same sums."""
    together = np.eye(8) + 0.5
    before = together.copy()
    weight = matrix(np.random.default_rng(0), 8, 3)
    round_product(weight, np.zeros(3, np.float32), together, NONE)
    gptq(weight, together)
    np.testing.assert_array_equal(together, before)


def test_large_products_take_more_room():
    """5,120 channels: a matrix of 64 bits, its factor of 32."""
    assert bytes_to_round(5120, 1280) > 12 * 5120**2
