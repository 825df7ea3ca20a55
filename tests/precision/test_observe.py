"""What products read is looked at in the sample, and each is rounded for its own rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from support import fixture, original, random_samples
from support_precision import LENGTHS
from support_rows import opened, samples_of

from onnx_memo.graph.probe import add_outputs
from onnx_memo.precision import observe as observing
from onnx_memo.precision.chains import find_chains
from onnx_memo.precision.form import Form
from onnx_memo.precision.observe import Observed, observe
from onnx_memo.precision.products import largest, round_products
from onnx_memo.precision.stretches import constants
from onnx_memo.progress import silent
from onnx_memo.runtime import session_options
from onnx_memo.sessions import open_session


def read_values():
    found = opened(fixture("bert"))
    tasks = Form(found.encoder, find_chains(found)).tasks()
    return found, tasks, list(dict.fromkeys(task.x for task in tasks))


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    requests = random_samples(original(fixture("bert")), LENGTHS, seed=1)
    return samples_of(fixture("bert"), requests, tmp_path_factory.mktemp("samples"))


def rows_of(found, value, arrays) -> list[np.ndarray]:
    """The rows of a value, request by request."""
    copy = found.copy()
    add_outputs(copy.model, [copy.twin(value)])
    session = open_session(copy.model, found.path.parent, session_options(native=False, threads=1))
    results = [session.run(None, feeds)[-1] for feeds in arrays]
    return [result.reshape(-1, result.shape[-1]).astype(np.float64) for result in results]


@pytest.mark.parametrize("at_once", [1, 10, 10_000])
def test_each_request_counts_the_same_by_the_mean_over_its_rows(samples, monkeypatch, at_once):
    monkeypatch.setattr(observing, "TOGETHER", at_once)
    found, _, values = read_values()
    seen = observe(found, samples, values, silent)
    assert list(seen) == values
    for value in values[:4]:
        rows = rows_of(found, value, samples.arrays)
        assert [len(own) for own in rows] == sorted(LENGTHS)
        fourth = sum((own**4).mean(axis=0) for own in rows)
        np.testing.assert_allclose(seen[value].fourth, fourth, rtol=1e-5)
        together = sum(own.T @ own / len(own) for own in rows)
        np.testing.assert_allclose(seen[value].together, together, rtol=1e-5, atol=1e-5)
        assert seen[value].fourth.dtype == seen[value].together.dtype == np.float64


def test_of_a_large_sample_some_are_run(samples, monkeypatch):
    monkeypatch.setattr(observing, "REQUESTS", 2)
    found, _, values = read_values()
    told: list[int] = []

    def progress(step: str, parts: int) -> Callable[[], None]:
        told.append(parts)
        return lambda: told.append(-1)

    seen = observe(found, samples, values, progress)
    rows = rows_of(found, values[0], samples.arrays[::3])
    assert told == [2, -1, -1], "as many are run as it says"
    fourth = sum((own**4).mean(axis=0) for own in rows)
    np.testing.assert_allclose(seen[values[0]].fourth, fourth, rtol=1e-5)


def test_the_largest_channels_rise():
    fourth = np.asarray([1.0, 9, 3, 7, 5, 8])
    found = largest(Observed(fourth, np.eye(6)), 3)
    np.testing.assert_array_equal(found, [1, 3, 5])
    assert found.dtype == np.int64
    np.testing.assert_array_equal(largest(Observed(fourth, np.eye(6)), 8), np.arange(6))


def test_products_are_rounded_for_what_they_read(samples):
    found, tasks, values = read_values()
    chains = find_chains(found)
    rounded, without = (round_products(found, chains, samples, apart, silent) for apart in (8, 0))
    assert list(rounded) == list(without) == [task.key for task in tasks]
    seen = observe(found, samples, values, silent)
    known = constants(found, [value for task in tasks for value in task.constants])
    for task in tasks:
        product = rounded[task.key]
        np.testing.assert_array_equal(product.channels, largest(seen[task.x], 8))
        np.testing.assert_array_equal(product.apart, task.weight(known)[product.channels])
        np.testing.assert_array_equal(product.bias, task.bias(known))
        assert len(without[task.key].channels) == 0


def test_a_projections_weight_is_its_parts_side_by_side():
    found, tasks, _ = read_values()
    task = tasks[0]
    known = constants(found, task.constants)
    weight, bias = task.weight(known), task.bias(known)
    assert weight.shape == (32, 96) and bias.shape == (96,)
    for at, part in enumerate(task.parts):
        columns = slice(32 * at, 32 * at + 32)
        np.testing.assert_array_equal(weight[:, columns], known[part.linear.weight] * np.float32(part.factor))
        np.testing.assert_array_equal(bias[columns], known[part.linear.bias] * np.float32(part.factor))
