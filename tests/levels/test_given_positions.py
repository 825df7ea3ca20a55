"""Requests that bring positions of their tokens: what is stored serves those that count them, no others."""

from __future__ import annotations

import numpy as np
import pytest
from support import (
    LEVELS,
    Arrays,
    assert_identical,
    fixture,
    join,
    memoized,
    original,
    random_samples,
    relative_errors,
    write_samples,
)
from support_precision import MOST_APART, exact_products, int8_pair
from support_rows import RowsPair, changed_last, made_rows, open_pair

import onnx_memo
from onnx_memo.errors import MemoError

NAME = "qwen3"
HALF = 2e-3  # where rows run over stored keys and values of half precision
SAME = 2e-5  # of floats that are added in another order


def at(request: Arrays, *positions: int) -> Arrays:
    """A request of one with these positions."""
    return request | {"position_ids": np.array([positions])}


def moved(request: Arrays) -> Arrays:
    """A request whose positions begin with 1."""
    return request | {"position_ids": request["position_ids"] + 1}


def with_padding(request: Arrays, position: int) -> Arrays:
    """A request that has this position for all its padding."""
    given = np.where(request["attention_mask"] == 1, request["position_ids"], position)
    return request | {"position_ids": given}


@pytest.fixture
def pair(rows_root, mode) -> RowsPair:
    return open_pair(made_rows(NAME, rows_root), mode)


@pytest.fixture(scope="module")
def int8_root(tmp_path_factory):
    return tmp_path_factory.mktemp("int8")


def worst(pair: RowsPair, request: Arrays) -> float:
    return max(relative_errors(request, pair.ask(request).outputs[0], pair.want(request)))


# ---- At the level `rows`


def test_a_stored_input_comes_back_and_a_changed_one_runs_some_rows(pair):
    for request in pair.stored:
        answer = pair.ask(request)
        assert answer.hit and not len(answer.rows)
        assert worst(pair, request) <= SAME
    near = changed_last(pair.stored[-1])
    answer = pair.ask(near)
    assert answer.hit and len(answer.rows) > 0
    assert worst(pair, near) <= HALF


@pytest.mark.parametrize("position", [0, 1, 63])
def test_positions_of_padding_do_not_matter(pair, position):
    request = with_padding(join(pair.stored[3:4], padded=12), position)
    assert pair.ask(request).hit
    assert worst(pair, request) <= SAME


def test_a_miss_is_the_original(pair):
    for request in random_samples(pair.before, [4, 9, 40], seed=1000):
        answer = pair.ask(request, 0.0)
        assert not answer.hit
        assert_identical(answer.outputs, pair.before.run(None, request))


def test_positions_that_do_not_count_the_tokens_get_the_original(pair):
    five = pair.stored[2]
    assert five["input_ids"].shape == (1, 5)
    for request in (
        at(five, 1, 2, 3, 4, 5),
        at(five, 0, 1, 2, 3, 5),
        at(five, 0, 1, 2, 2, 3),
        at(five, *[0] * 5),
    ):
        answer = pair.ask(request)
        assert not answer.hit
        assert_identical(answer.outputs, pair.before.run(None, request))


@pytest.mark.parametrize("position", [0, 63])
def test_each_row_of_an_uneven_batch_has_its_own_position(pair, position):
    """Also behind a shorter first sequence, whose padding has other positions."""
    some = [pair.stored[2], changed_last(pair.stored[-1]), changed_last(pair.stored[6])]
    request = with_padding(join(some), position)
    assert pair.ask(request).hit
    assert worst(pair, request) <= HALF


def test_beside_such_a_sequence_others_are_reused(pair):
    request = join([changed_last(pair.stored[-1]), moved(pair.stored[6])])
    answer = pair.ask(request)
    assert answer.hits.tolist() == [True, False]
    n = pair.stored[6]["input_ids"].shape[1]
    want = pair.before.run(None, request)[0]
    np.testing.assert_array_equal(answer.outputs[0][1, :n], want[1, :n])
    assert worst(pair, request) <= HALF


# ---- At the other levels


@pytest.mark.parametrize("level", [level for level in LEVELS if level != "probs"])
def test_blocks_are_reused_for_counted_positions_alone(tmp_path, mode, level):
    samples = random_samples(original(fixture(NAME)), [3, 5, 9, 16], seed=1)
    data = write_samples(tmp_path / "data.npz", samples)
    made = onnx_memo.optimize(fixture(NAME), data, tmp_path / "b", level=level)
    before, after = original(fixture(NAME)), memoized(made.path, mode)
    have, want = after.run(None, samples[2])[0], before.run(None, samples[2])[0]
    assert (have != want).any()  # stored in half precision
    np.testing.assert_allclose(have, want, atol=HALF * np.abs(want).max())
    assert_identical(after.run(None, moved(samples[2])), before.run(None, moved(samples[2])))


def test_in_8_bits_rows_have_the_positions_that_are_given(int8_root, mode):
    """Nothing is reused, so that any will do."""
    if not exact_products(mode):
        pytest.skip("products of bytes are not exact on this processor: the original runs")
    pair = int8_pair(fixture(NAME), int8_root / mode, mode, MOST_APART)
    samples = random_samples(pair.before, [5, 23, 9], seed=3)
    other = np.random.default_rng(0).integers(0, 64, (3, 23))
    both = join(samples)
    for request in (
        samples[0],
        moved(samples[0]),
        both,
        with_padding(both, 7),
        both | {"position_ids": other},
    ):
        have, want = (session.run(None, request)[0] for session in (pair.after, pair.before))
        assert max(relative_errors(request, have, want)) <= SAME


# ---- The samples


def test_samples_with_other_positions_are_left_out_and_it_is_said(tmp_path):
    samples = random_samples(original(fixture(NAME)), [3, 5, 9, 16], seed=1)
    data = write_samples(tmp_path / "data.npz", [samples[0], moved(samples[1]), *samples[2:]])
    made = onnx_memo.optimize(fixture(NAME), data, tmp_path / "b")
    assert made.manifest.entries == 3
    assert (
        "1 input left out: its 'position_ids' do not count 0, 1, 2, ..., first input 2" in made.manifest.notes
    )


def test_samples_that_all_have_other_positions_are_refused(tmp_path):
    samples = random_samples(original(fixture(NAME)), [3, 5], seed=1)
    data = write_samples(tmp_path / "data.npz", [moved(one) for one in samples])
    with pytest.raises(MemoError, match=r"no input that can be used .*'position_ids' do not count 0, 1, 2"):
        onnx_memo.optimize(fixture(NAME), data, tmp_path / "b")
