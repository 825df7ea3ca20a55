"""MemoRows: standard body and kernel against the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support import MODES, OPSETS, run_operator
from support_operators import (
    INF,
    LENGTHS,
    MISS,
    NAN,
    SEEDS,
    f32,
    i64,
    random_batch,
)

from onnx_memo.operators.reference import memo_rows
from onnx_memo.store.data import offsets_of


def dyadic_rows(rng: np.random.Generator, mode: str, lengths: np.ndarray, padding: int) -> list[np.ndarray]:
    """The first 7 inputs. All norms, changes and sums are exact in f32, so that ties are ties."""
    entry, length = random_batch(rng, mode, lengths)
    padded, width, total = int(lengths.max()) + padding, 5, int(lengths.sum())
    norm = rng.choice([0, 0.5, 1, 1, 1, 2], total).astype(np.float16)
    stored = norm[:, None] * np.eye(width, dtype=np.float16)[rng.integers(0, width, total)]
    influence = (rng.integers(0, 17, (lengths**2).sum()) / 16).astype(np.float16)
    states = rng.standard_normal((len(entry), padded, width), np.float32)
    offsets = offsets_of(lengths)
    moves = f32([0, 0, 0, 0, 1 / 16, 0.5, 1, 100, INF, NAN])
    for b, e in enumerate(entry):
        if e != MISS:
            n = length[b]
            states[b, :n] = stored[offsets[e] : offsets[e] + n]
            states[b, np.arange(n), rng.integers(0, width, n)] += rng.choice(moves, n)
    return [states, entry, length, stored, influence, offsets, offsets_of(lengths**2)]


def assert_rows_as_specified(mode: str, opset: int, *inputs: np.ndarray) -> None:
    have, want = run_operator("MemoRows", mode, *inputs, opset=opset), memo_rows(*inputs)
    for a, b in zip(have[:4], want[:4], strict=True):
        np.testing.assert_array_equal(a, b, strict=True)
    for a, b in zip(have[4:], want[4:], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6, strict=True)


@pytest.mark.parametrize("mode", MODES)
@given(
    lengths=LENGTHS,
    padding=st.integers(0, 3),
    epsilon=st.sampled_from([-1.0, 0.0, 1 / 16, 1 / 16, 0.5, INF, NAN]),
    bound=st.sampled_from([-1.0, 0.0, 1 / 16, 0.25, 0.5, 1.0, 4.0, 20.0, INF, NAN]),
    limit=st.sampled_from([0.25, 0.5, 1.0, 1.0, 2.0, NAN]),
    opset=st.sampled_from(OPSETS),
    seed=SEEDS,
)
@settings(deadline=None, max_examples=150)
def test_rows_equal_the_reference(mode, lengths, padding, epsilon, bound, limit, opset, seed):
    inputs = dyadic_rows(np.random.default_rng(seed), mode, lengths, padding)
    assert_rows_as_specified(mode, opset, *inputs, f32(epsilon), f32(bound), f32(limit))


@pytest.mark.parametrize("mode", MODES)
@given(length=st.integers(1, 130), bound=st.floats(0, 3), share=st.floats(0, 1), seed=SEEDS)
@settings(deadline=None, max_examples=40)
def test_rows_of_states_as_they_are(mode, length, bound, share, seed):
    rng = np.random.default_rng(seed)
    stored = rng.standard_normal((length, 48)).astype(np.float16)
    influence = (rng.random(length**2) ** 6).astype(np.float16)
    moved = rng.random(length) < share
    states = stored + 0.3 * moved[:, None] * rng.standard_normal((length, 48))
    inputs = [f32(states)[None], i64(0), i64(length), stored, influence, i64(0), i64(0), f32(0.05)]
    less, more = (memo_rows(*inputs, f32(bound * slack), f32(1))[0] for slack in (0.999, 1.001))
    assume(np.array_equal(less, more))  # no tie
    assert_rows_as_specified(mode, 17, *inputs, f32(bound), f32(1))


def rows_of(mode: str, change: Any, influence: Any, bound: float, limit: float = 1, padded: int = 0) -> Any:
    """The rows that run of one sequence whose tokens changed by that much; None on a miss."""
    change = f32(change)
    states = np.zeros((1, max(padded, len(change)), 1), np.float32)
    states[0, : len(change), 0] = 1 + change
    rows, stored_rows, hit, all_hit, *_ = run_operator(
        "MemoRows",
        mode,
        states,
        i64(0),
        i64(len(change)),
        np.ones((len(change), 1), np.float16),
        np.array(influence, np.float16).ravel(),
        i64(0),
        i64(0),
        f32(0.25),
        f32(bound),
        f32(limit),
    )
    assert hit.tolist() == [all_hit]
    if not all_hit:
        return None
    assert rows.tolist() == stored_rows.tolist()
    return rows.tolist()


ONE_LEADS = [[0, 0, 0, 0], [0, 0, 1, 2], [0, 0, 0, 0], [9, 9, 9, 9]]  # only token 1 passes something on


def test_rows_that_changed_run_and_those_that_they_move(mode):
    assert rows_of(mode, [0, 0.5, 0, 0], ONE_LEADS, bound=0) == [1, 2, 3]
    assert rows_of(mode, [0, 0.5, 0, 0], ONE_LEADS, bound=0.499) == [1, 2, 3]
    assert rows_of(mode, [0, 0.5, 0, 0], ONE_LEADS, bound=0.5) == [1, 3]
    assert rows_of(mode, [0, 0.5, 0, 0], ONE_LEADS, bound=0.999) == [1, 3]
    assert rows_of(mode, [0, 0.5, 0, 0], ONE_LEADS, bound=1) == [1]
    assert rows_of(mode, [0, 0.5, 0, 0], ONE_LEADS, bound=INF) == [1]


def test_a_change_of_epsilon_is_none(mode):
    assert rows_of(mode, [0, 0.25, 0, 0.25], ONE_LEADS, bound=0) == []
    assert rows_of(mode, [0, 0, 0, 0], ONE_LEADS, bound=0) == []


def test_all_rows_run_if_all_changed(mode):
    assert rows_of(mode, [1, 1, 1, 1], ONE_LEADS, bound=INF) == [0, 1, 2, 3]


def test_no_bound_or_a_negative_one_never_hits(mode):
    assert rows_of(mode, [0, 0, 0, 0], ONE_LEADS, bound=-1e-9) is None
    assert rows_of(mode, [0, 0, 0, 0], ONE_LEADS, bound=NAN) is None


def test_a_request_that_would_run_too_many_rows_misses(mode):
    assert rows_of(mode, [0, 0.5, 0, 0], ONE_LEADS, bound=0, limit=0.75) == [1, 2, 3]
    assert rows_of(mode, [0, 0.5, 0, 0], ONE_LEADS, bound=0, limit=0.7) is None
    assert rows_of(mode, [0, 0.5, 0, 0], ONE_LEADS, bound=0, limit=0.75, padded=9) == [1, 2, 3]
    assert rows_of(mode, [0, 0.5, 0, 0], ONE_LEADS, bound=0, limit=0.7, padded=9) is None
    assert rows_of(mode, [0, 0.5, 0, 0], ONE_LEADS, bound=0, limit=NAN) is None


def test_a_change_counts_at_most_eightfold(mode):
    equal = [[0, 1, 1, 1], [0] * 4, [0] * 4, [0] * 4]
    for change in (8, 100, INF, NAN):
        assert rows_of(mode, [change, 0, 0, 0], equal, bound=8) == [0]
        assert rows_of(mode, [change, 0, 0, 0], equal, bound=7.99) == [0, 1, 2, 3]


def test_changes_add_up(mode):
    each = np.full((4, 4), 0.25)
    assert rows_of(mode, [1, 0, 2, 0], each, bound=0.75) == [0, 2]
    assert rows_of(mode, [1, 0, 2, 0], each, bound=0.74) == [0, 1, 2, 3]


@pytest.mark.parametrize("unknown", [NAN, INF])
def test_a_row_of_unknown_influence_runs(mode, unknown):
    reach = np.zeros((20, 20))
    reach[0] = np.arange(20, 0, -1)
    reach[0, [1, 7, 13]] = unknown
    assert rows_of(mode, np.eye(20)[0], reach, bound=1e9) == [0, 1, 7, 13]


def test_a_sequence_of_one_token(mode):
    assert rows_of(mode, [0], [[1]], bound=0) == []
    assert rows_of(mode, [1], [[1]], bound=INF) == [0]


@pytest.mark.parametrize(("entry", "length"), [([MISS], [3]), ([0], [-1]), ([MISS], [-1]), ([], [])])
def test_what_has_no_entry_or_no_length_misses(mode, entry, length):
    """Also where the entry that is looked at instead is shorter than the request."""
    states = np.zeros((len(entry), 3, 2), np.float32)
    store = np.zeros((1, 2), np.float16), np.zeros(1, np.float16), i64(0), i64(0)
    rows, stored_rows, hit, all_hit, change, predicted = run_operator(
        "MemoRows", mode, states, i64(*entry), i64(*length), *store, f32(1), f32(1), f32(1)
    )
    np.testing.assert_array_equal(change, np.zeros((len(entry), 3), np.float32), strict=True)
    np.testing.assert_array_equal(predicted, change, strict=True)
    np.testing.assert_array_equal(hit, np.zeros(len(entry), np.bool_), strict=True)
    assert not all_hit
    assert rows.size == stored_rows.size == 0


def test_every_sequence_of_a_batch_is_compared_with_its_own_entry(mode):
    """Of 2 and 1 tokens: the first is its entry, the other has changed."""
    store = f32([[1], [2], [4]]).astype(np.float16), np.ones(5, np.float16), i64(0, 2), i64(0, 4)
    states = f32([[[4], [9]], [[1], [2]], [[8], [9]]])
    inputs = states, i64(1, 0, 1), i64(1, 2, 1), *store, f32(0), f32(1), f32(1)
    rows, stored_rows, hit, all_hit, change, predicted = run_operator("MemoRows", mode, *inputs)
    assert (rows.tolist(), stored_rows.tolist()) == ([4], [2])
    assert (hit.tolist(), bool(all_hit)) == ([True, True, True], True)
    np.testing.assert_array_equal(change, f32([[0, 0], [0, 0], [1, 0]]), strict=True)
    np.testing.assert_array_equal(predicted, change, strict=True)


@pytest.mark.parametrize("mode", MODES)
def test_a_sequence_that_is_all_padding_misses(mode):
    store = np.zeros((4, 2), np.float16), np.zeros(8, np.float16), i64(0, 2), i64(0, 4)
    for entry, length in (i64(0), i64(0)), (i64(0, 1, MISS), i64(2, 0, 0)):
        inputs = np.zeros((len(entry), 3, 2), np.float32), entry, length, *store, f32(1), f32(1), f32(1)
        for hit, all_hit in memo_rows(*inputs)[2:4], run_operator("MemoRows", mode, *inputs)[2:4]:
            assert hit.tolist() == (length > 0).tolist()
            assert not all_hit


BESIDE = [  # of 2, 3 and 4 tokens: what has no entry, as it is stored, with 1 change, with 3, and all padding
    (MISS, 2, []),
    (0, 2, []),
    (1, 3, [1]),
    (2, 4, [0, 1, 3]),
    (0, 0, []),
    (0, MISS, []),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bound", [1.0, -1.0])
@given(order=st.lists(st.integers(0, len(BESIDE) - 1), max_size=5), padded=st.integers(4, 6))
@settings(deadline=None, max_examples=40)
def test_a_sequence_hits_or_not_whatever_stands_beside_it(mode, bound, order, padded):
    """Where at most half of its tokens run, and there are any; other sequences, and padding, do not count."""
    store = np.ones((9, 1), np.float16), np.zeros(29, np.float16), i64(0, 2, 5), i64(0, 4, 13)
    states = np.full((len(order), padded, 1), 1, np.float32)
    for b, number in enumerate(order):
        states[b, BESIDE[number][2]] = 2
    entry, length = (i64(*[BESIDE[number][part] for number in order]) for part in (0, 1))
    inputs = states, entry, length, *store, f32(0), f32(bound), f32(0.5)
    rows, stored_rows, hit, all_hit, change, predicted = run_operator("MemoRows", mode, *inputs)
    assert hit.tolist() == [bound > 0 and number in (1, 2) for number in order]
    assert all_hit == (len(order) > 0 and all(hit))
    running = [b * padded + 1 for b, number in enumerate(order) if number == 2 and bound > 0]
    assert (rows.tolist(), stored_rows.tolist()) == (running, [3] * len(running))
    assert np.flatnonzero(change).tolist() == running
    assert not predicted.any()
