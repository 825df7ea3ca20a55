"""Activations and normalizations are told by what they make of numbers, and near ones are not mistaken."""

from __future__ import annotations

import math

import numpy as np
import pytest

from onnx_memo.precision.recognize import (
    ACTIVATIONS,
    EPSILONS,
    activation_of,
    activation_probe,
    normalization_of,
    normalization_probe,
)

erf = np.vectorize(math.erf)


def f32(array) -> np.ndarray:
    return np.asarray(array, np.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# As exporters write them, computed in floats.
FORMS = {
    "Gelu, halved last": ("Gelu", lambda x: f32(x * f32(1 + erf(x / f32(np.sqrt(2))))) * f32(0.5)),
    "Gelu, halved first": ("Gelu", lambda x: f32(0.5) * x * f32(1 + erf(x * f32(np.sqrt(0.5))))),
    "Gelu, erfc": ("Gelu", lambda x: x * f32(0.5 * np.vectorize(math.erfc)(-x / np.sqrt(2)))),
    "GeluTanh, cube by power": (
        "GeluTanh",
        lambda x: f32(0.5) * x * (1 + np.tanh(f32(np.sqrt(2 / np.pi)) * (x + f32(0.044715) * x**3))),
    ),
    "GeluTanh, cube by products": (
        "GeluTanh",
        lambda x: x * (f32(0.5) + f32(0.5) * np.tanh(x * f32(0.7978845608) * (1 + f32(0.044715) * x * x))),
    ),
    "GeluTanh, as sigmoid": (
        "GeluTanh",
        lambda x: x * sigmoid(f32(2 * math.sqrt(2 / math.pi)) * (x + f32(0.044715) * x**3)),
    ),
    "Relu, maximum": ("Relu", lambda x: np.maximum(x, f32(0))),
    "Relu, half of x + |x|": ("Relu", lambda x: (x + np.abs(x)) / 2),
    "Silu, x * sigmoid": ("Silu", lambda x: x * sigmoid(x)),
    "Silu, by tanh": ("Silu", lambda x: x * (f32(0.5) + f32(0.5) * np.tanh(f32(0.5) * x))),
}

NEAR = {
    "QuickGelu": lambda x: x * sigmoid(f32(1.702) * x),
    "LeakyRelu": lambda x: np.where(x < 0, f32(0.01) * x, x),
    "LeakyRelu, hardly": lambda x: np.where(x < 0, f32(1e-5) * x, x),
    "Relu6": lambda x: np.clip(x, 0, 6),
    "Elu": lambda x: np.where(x < 0, np.expm1(x), x),
    "HardSwish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "Gelu of another factor": lambda x: x / 2 * (1 + erf(x / 1.4)),
    "Tanh": np.tanh,
    "Sigmoid": sigmoid,
    "Softplus": lambda x: np.logaddexp(x, 0),
    "the identity": lambda x: x,
    "twice Relu": lambda x: 2 * np.maximum(x, 0),
    "Relu and something": lambda x: np.maximum(x, 0) + f32(1e-4),
    "zeros": np.zeros_like,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("width", [32, 48, 3072])
def test_an_activation_is_told_in_any_form(form, width):
    name, function = FORMS[form]
    given = activation_probe(width)
    with np.errstate(over="ignore"):
        assert activation_of(given, f32(function(given))) == name


def test_every_activation_is_tried_in_more_than_one_form():
    told = [name for name, _ in FORMS.values()]
    assert all(told.count(name) >= 2 for name in ACTIVATIONS)
    assert set(told) == set(ACTIVATIONS)


@pytest.mark.parametrize("other", NEAR)
def test_what_is_near_an_activation_is_none(other):
    given = activation_probe(32)
    assert activation_of(given, f32(NEAR[other](given))) is None


def test_both_forms_of_gelu_differ_by_more_than_is_let_pass():
    given = activation_probe(32)
    assert {
        name: activation_of(given, f32(ACTIVATIONS[name](given.astype(float)))) for name in ACTIVATIONS
    } == {name: name for name in ACTIVATIONS}


@pytest.mark.parametrize("at", [0, 700, -1])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, 0.1])
def test_a_single_number_that_differs_makes_it_none(at, wrong):
    given = activation_probe(32)
    came = np.maximum(given, 0)
    came.ravel()[at] += wrong
    assert activation_of(given, came) is None


def test_an_activation_may_come_in_another_shape():
    given = activation_probe(32)
    assert activation_of(given, np.maximum(given, 0).reshape(1, 4, -1, 8)) == "Relu"


def test_nothing_that_came_is_no_activation():
    given = activation_probe(32)
    assert activation_of(given, None) is None
    assert activation_of(given, np.maximum(given, 0)[:-1]) is None
    assert activation_of(given, np.zeros(0, np.float32)) is None


def test_numbers_on_both_sides_of_zero_are_tried_for_any_width():
    for width in (1, 7, 32, 4096):
        given = activation_probe(width)
        assert given.shape[1] == width
        assert given.min() <= -10 and given.max() >= 10
        assert np.diff(given.ravel()).max() < 0.02


# ---- Normalizations


def normalized(rows: np.ndarray, gamma: np.ndarray, beta: np.ndarray, epsilon: float) -> np.ndarray:
    """In floats, as models compute it."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    variance = (centred * centred).mean(axis=1, keepdims=True)
    return centred / np.sqrt(variance + f32(epsilon)) * gamma + beta


def of_width(width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return normalization_probe(width), *(rng.standard_normal(width).astype(np.float32) for _ in "gb")


@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("width", [8, 32, 768])
def test_a_normalization_is_told_with_its_numbers(epsilon, width):
    rows, gamma, beta = of_width(width)
    found = normalization_of(rows, normalized(rows, gamma, beta, epsilon))
    assert found is not None
    assert found.epsilon == epsilon
    np.testing.assert_allclose(found.gamma, gamma, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.beta, beta, rtol=1e-4, atol=1e-5)
    assert found.gamma.dtype == found.beta.dtype == np.float32


@pytest.mark.parametrize(
    ("gamma", "beta"), [(1, 0), (0, 0), (0, 1), (-2, 0), (100, 1e-3)], ids=lambda number: str(number)
)
def test_factors_and_summands_may_be_plain(gamma, beta):
    rows = normalization_probe(32)
    ones = np.ones(32, np.float32)
    found = normalization_of(rows, normalized(rows, gamma * ones, beta * ones, 1e-5))
    assert found is not None
    np.testing.assert_allclose(found.gamma, gamma, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.beta, beta, rtol=1e-4, atol=2e-3 * abs(gamma / 100) + 1e-6)


def rms(rows: np.ndarray, epsilon: float) -> np.ndarray:
    return rows / np.sqrt((rows * rows).mean(axis=1, keepdims=True) + f32(epsilon))


OTHERS = {
    "RMS": lambda rows: rms(rows, 1e-5),
    "RMS, of epsilon 1e-12": lambda rows: rms(rows, 1e-12),
    "an epsilon that is none of the list": lambda rows: normalized(rows, f32(1), f32(0), 3e-6),
    "a large epsilon": lambda rows: normalized(rows, f32(1), f32(0), 0.1),
    "by the column": lambda rows: (rows - rows.mean(0)) / rows.std(0),
    "in two groups": lambda rows: normalized(rows.reshape(-1, 16), f32(1), f32(0), 1e-5).reshape(rows.shape),
    "epsilon outside of the root": lambda rows: f32(
        (rows - rows.mean(1, keepdims=True)) / (rows.std(1, keepdims=True) + f32(1e-5))
    ),
    "the mean absolute value": lambda rows: rows / np.abs(rows).mean(axis=1, keepdims=True),
    "nothing": lambda rows: rows,
    "an activation after it": lambda rows: np.maximum(normalized(rows, f32(1), f32(0), 1e-5), 0),
}


@pytest.mark.parametrize("other", OTHERS)
def test_what_is_near_a_normalization_is_none(other):
    rows = normalization_probe(32)
    assert normalization_of(rows, f32(OTHERS[other](rows))) is None


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_a_normalization_with_a_number_that_broke_is_none(broken):
    rows, gamma, beta = of_width(32)
    came = normalized(rows, gamma, beta, 1e-5)
    came[5, 5] = broken
    assert normalization_of(rows, came) is None


def test_nothing_that_came_is_no_normalization():
    rows, gamma, beta = of_width(32)
    came = normalized(rows, gamma, beta, 1e-5)
    assert normalization_of(rows, None) is None
    assert normalization_of(rows, came[:-1]) is None


def test_a_normalization_may_come_in_another_shape():
    rows, gamma, beta = of_width(32)
    found = normalization_of(rows, normalized(rows, gamma, beta, 1e-5)[None])
    assert found is not None and found.epsilon == 1e-5
