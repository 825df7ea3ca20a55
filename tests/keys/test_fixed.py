"""Keys: near for near inputs, and blind to padding."""

from __future__ import annotations

import functools

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import open_nodes

from onnx_memo.graph.build import Builder
from onnx_memo.graph.load import MAX_OPSET
from onnx_memo.keys.fixed import fit_keys
from onnx_memo.keys.network import KEY_WIDTH, KeyNetwork, segment_means
from onnx_memo.keys.nodes import emit_key
from onnx_memo.operators.bodies import operator_functions
from onnx_memo.operators.spec import DOMAIN, SEGMENTS

WIDTH = 48
NEAR = 0.02  # a key distance of what is nearly the same


def states(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((length, WIDTH)).astype(np.float32)


def segments(hidden: np.ndarray) -> np.ndarray:
    return segment_means(hidden).reshape(SEGMENTS, -1)


# ---- Segment means


@pytest.mark.parametrize(
    ("length", "tokens"),
    [
        (1, {0: [0]}),
        (7, {0: [0], 1: [1], 2: [2], 3: [3], 4: [4], 5: [5], 6: [6]}),
        (8, {s: [s] for s in range(8)}),
        (9, {0: [0, 1], 1: [2], 2: [3], 3: [4], 4: [5], 5: [6], 6: [7], 7: [8]}),
        (16, {s: [2 * s, 2 * s + 1] for s in range(8)}),
    ],
)
def test_a_segment_is_the_mean_of_its_tokens_or_zero(length, tokens):
    hidden = states(length)
    expected = np.zeros((SEGMENTS, WIDTH), np.float32)
    for segment, members in tokens.items():
        expected[segment] = hidden[members].mean(axis=0)
    np.testing.assert_allclose(segments(hidden), expected, atol=1e-6)


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 64, 100])
def test_token_t_belongs_to_segment_t_times_8_by_length(length):
    hidden = states(length)
    segment = np.arange(length) * SEGMENTS // length
    for s in set(segment):
        np.testing.assert_allclose(segments(hidden)[s], hidden[segment == s].mean(axis=0), atol=1e-5)


# ---- The network


def fitted(count: int, seed: int = 0) -> tuple[np.ndarray, KeyNetwork]:
    means = np.stack([segment_means(states(16, seed + i)) for i in range(count)])
    return means, fit_keys(means)


def test_two_captured_inputs_are_about_one_apart():
    means, network = fitted(60)
    keys = network(means)
    assert keys.shape == (60, KEY_WIDTH)
    assert keys.dtype == np.float32
    distances = np.linalg.norm(keys[:, None] - keys[None], axis=2)[np.triu_indices(60, 1)]
    assert 0.8 < np.sqrt(np.square(distances).mean()) < 1.2


def test_fitting_twice_gives_the_same_network():
    first, second = fitted(20)[1], fitted(20)[1]
    for part in ("reduction", "projection", "bias"):
        np.testing.assert_array_equal(getattr(first, part), getattr(second, part))


def test_a_small_change_moves_the_key_a_little():
    means, network = fitted(40)
    changed = means + np.float32(1e-4) * np.random.default_rng(1).standard_normal(means.shape, np.float32)
    distance = np.linalg.norm(network(changed) - network(means), axis=1)
    assert distance.max() < NEAR / 10


def test_an_input_unlike_all_samples_is_not_near():
    """Where the samples do not differ, principal components are blind; the random directions see it."""
    rng = np.random.default_rng(0)
    means = np.zeros((50, SEGMENTS, WIDTH), np.float32)
    means[:, :, :4] = rng.standard_normal((50, SEGMENTS, 4))
    network = fit_keys(means.reshape(50, -1))
    strange = means[:1].copy()
    strange[:, :, 40] += 1.0
    distance = np.linalg.norm(network(strange.reshape(1, -1)) - network(means[:1].reshape(1, -1)))
    assert distance > 10 * NEAR


@pytest.mark.parametrize("copies", [1, 3])
def test_one_sample_is_enough(copies):
    means = np.repeat(segment_means(states(12))[None], copies, axis=0)
    network = fit_keys(means)
    assert np.isfinite(network(means)).all()
    np.testing.assert_allclose(network(means), network(means)[:1].repeat(copies, axis=0))
    other = segment_means(states(12, seed=9))[None]
    assert np.linalg.norm(network(other) - network(means[:1])) > 10 * NEAR


def test_a_sample_of_zeros_gives_finite_keys():
    means = np.zeros((1, SEGMENTS * WIDTH), np.float32)
    assert np.isfinite(fit_keys(means)(means)).all()


# ---- The same, as nodes


@functools.cache
def session(opset: int = 17):
    """hidden, mask -> length, key: `MemoSegments`' body, then the network of `fitted(20)`."""
    hidden = ir.val("hidden", ir.DataType.FLOAT, ["b", "l", WIDTH])
    mask = ir.val("mask", ir.DataType.INT64, ["b", "l"])
    b = Builder("keys", opset)
    lengths, weights = b.ops("MemoSegments", mask, domain=DOMAIN, names=("length", "weights"))
    network = fitted(20)[1]
    parts = [b.const(part, np.float32) for part in (network.reduction, network.projection, network.bias)]
    key = emit_key(b, weights, hidden, *parts)
    for value, dtype in ((lengths, ir.DataType.INT64), (key, ir.DataType.FLOAT)):
        value.type = ir.TensorType(dtype)
    functions = [f for f in operator_functions(opset) if f.name == "MemoSegments"]
    return open_nodes([hidden, mask], b.nodes, [lengths, key], opset, functions)


def keys_of(hidden: np.ndarray, mask: np.ndarray, opset: int = 17) -> tuple[np.ndarray, np.ndarray]:
    return session(opset).run(None, {"hidden": hidden, "mask": mask})


@pytest.mark.parametrize("opset", [13, 17, 18, MAX_OPSET])
@pytest.mark.parametrize("length", [1, 7, 8, 9, 33])
def test_the_nodes_equal_the_network(length, opset):
    hidden = states(length)[None]
    lengths, key = keys_of(hidden, np.ones((1, length), np.int64), opset=opset)
    assert lengths.tolist() == [length]
    np.testing.assert_allclose(key, fitted(20)[1](segment_means(hidden[0])[None]), atol=1e-4)


@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    padding=st.integers(0, 5),
    seed=st.integers(0, 2**31),
)
@settings(deadline=None, max_examples=30)
def test_padding_changes_nothing_whatever_it_holds(lengths, padding, seed):
    rng = np.random.default_rng(seed)
    padded = max(lengths) + padding
    hidden = 1e3 * rng.standard_normal((len(lengths), padded, WIDTH), np.float32)
    mask = (np.arange(padded) < np.array(lengths)[:, None]).astype(np.int64)
    for row, length in enumerate(lengths):
        hidden[row, :length] = states(length, row)
    found, key = keys_of(hidden, mask)
    assert found.tolist() == lengths
    for row, length in enumerate(lengths):
        alone = keys_of(hidden[row : row + 1, :length], mask[row : row + 1, :length])[1]
        np.testing.assert_allclose(key[row], alone[0], atol=1e-4)


def test_an_empty_batch_has_no_keys():
    lengths, key = keys_of(np.zeros((0, 5, WIDTH), np.float32), np.zeros((0, 5), np.int64))
    assert lengths.shape == (0,)
    assert key.shape == (0, KEY_WIDTH)
