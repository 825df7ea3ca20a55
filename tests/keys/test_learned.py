"""Keys that are learned: their distance predicts the error of reuse."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_memo.keys.fixed import fit_keys
from onnx_memo.keys.learned import SKETCH_WIDTH, fit_learned, picked_error, sketch
from onnx_memo.keys.network import KEY_WIDTH
from onnx_memo.operators.spec import SEGMENTS

WIDTH = 24


def world(count: int, seed: int = 0, lengths: int = 1):
    """Means with large variation that does not matter, and payloads that depend on a few directions."""
    rng = np.random.default_rng(seed)
    means = rng.standard_normal((count, SEGMENTS * WIDTH)) * np.repeat([0.2, 3.0], SEGMENTS * WIDTH // 2)
    matters = np.random.default_rng(99).standard_normal((SEGMENTS * WIDTH // 2, 30))
    payloads = means[:, : SEGMENTS * WIDTH // 2] @ matters
    return means.astype(np.float32), payloads.astype(np.float32), rng.integers(5, 5 + lengths, count)


def test_sketches_keep_distances():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 40, 64)).astype(np.float32)
    assert np.linalg.norm(sketch(a) - sketch(b)) == pytest.approx(np.linalg.norm(a - b), rel=0.1)
    assert sketch(a).shape == (SKETCH_WIDTH,)
    np.testing.assert_allclose(sketch(a + b), sketch(a) + sketch(b), atol=1e-4)


@pytest.mark.parametrize("lengths", [1, 4])
def test_the_learned_key_picks_better_entries_than_the_fixed_one(lengths):
    means, payloads, length = world(400, lengths=lengths)
    learned, fixed = fit_learned(means[:300], payloads[:300], length[:300]), fit_keys(means[:300])
    requests = np.arange(400) >= 300
    errors = [
        picked_error(net(means), payloads.astype(np.float64), length, requests) for net in (learned, fixed)
    ]
    assert errors[0] < (0.7 if lengths == 1 else 0.8) * errors[1]  # fewer pairs of each length
    assert learned(means).shape == (400, KEY_WIDTH)


@pytest.mark.parametrize("seed", range(4))
def test_where_the_fixed_key_picks_better_entries_it_serves(seed):
    """Inputs that differ in a few directions: the fixed key holds all of them; the payload bends them."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(9).standard_normal((4, SEGMENTS * WIDTH))
    means = (rng.standard_normal((80, 4)) @ directions).astype(np.float32)
    network = fit_learned(means, means * np.abs(means), np.full(80, 5))
    np.testing.assert_array_equal(network(means), fit_keys(means)(means))


def test_distances_are_in_units_of_the_error():
    means, payloads, length = world(400)
    keys = fit_learned(means, payloads, length)(means)
    pairs = np.random.default_rng(1).integers(0, 400, (500, 2))
    of_keys = np.linalg.norm(keys[pairs[:, 0]] - keys[pairs[:, 1]], axis=1)
    of_payloads = np.linalg.norm(payloads[pairs[:, 0]] - payloads[pairs[:, 1]], axis=1)
    assert np.corrcoef(of_keys, of_payloads)[0, 1] > 0.9


@pytest.mark.parametrize("count", [1, 2, 15])
def test_with_little_to_compare_the_fixed_key_serves(count):
    means, payloads, length = world(count)
    np.testing.assert_array_equal(fit_learned(means, payloads, length)(means), fit_keys(means)(means))


def test_what_the_sample_never_showed_looks_far():
    means, payloads, length = world(300)
    flat = means.reshape(300, SEGMENTS, WIDTH).copy()
    flat[:, :, -1] = 0  # a direction without any variation
    network = fit_learned(flat.reshape(300, -1), payloads, length)
    strange = flat.copy()
    strange[:, :, -1] = 5
    apart = np.linalg.norm(network(strange.reshape(300, -1)) - network(flat.reshape(300, -1)), axis=1)
    assert apart.min() > 0
