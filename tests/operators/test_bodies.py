"""The standard bodies and the native kernels against the reference, as `docs/operators.md` has it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import MODES, OPSETS, run_operator

from onnx_memo.keys.network import segment_means
from onnx_memo.operators.reference import memo_context, memo_fetch, memo_lookup, memo_segments
from onnx_memo.operators.spec import NO_ENTRY
from onnx_memo.store.data import offsets_of

NO_INDEX = np.zeros(0, np.uint8)
INF = np.float32(np.inf)
NAN = np.float32(np.nan)
MISS = NO_ENTRY

LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=12).map(lambda n: np.sort(np.array(n, np.int64)))
SEEDS = st.integers(0, 2**31)


def i64(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


# ---- MemoSegments


@pytest.mark.parametrize("mode", MODES)
@given(
    lengths=st.lists(st.integers(0, 40), max_size=5),
    padding=st.integers(0, 5),
    spoilt=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 44), st.integers(-2, 3)), max_size=3),
    opset=st.sampled_from(OPSETS),
)
@settings(deadline=None, max_examples=60)
def test_segments_equal_the_reference(mode, lengths, padding, spoilt, opset):
    padded = max(lengths, default=1) + padding
    mask = (np.arange(padded) < np.array(lengths, np.int64)[:, None]).astype(np.int64)
    for row, token, value in spoilt:
        if row < len(lengths) and token < padded:
            mask[row, token] = value
    length, weights = run_operator("MemoSegments", mode, mask, opset=opset)
    expected_length, expected_weights = memo_segments(mask)
    np.testing.assert_array_equal(length, expected_length, strict=True)
    np.testing.assert_allclose(weights, expected_weights, atol=1e-7, strict=True)


@pytest.mark.parametrize(
    ("mask", "length"),
    [
        ([1, 1, 1, 1], 4),
        ([1, 1, 0, 0], 2),
        ([0, 0, 0, 0], 0),
        ([0, 0, 1, 1], -1),
        ([1, 0, 1, 1], -1),
        ([2, 0, 0, 0], -1),
        ([2, 2, 2, 2], -1),
        ([1, 1, 1, -1], -1),
        ([3, -1, 0, 0], -1),
        ([2**63 - 1, 2**63 - 1, 2, 1], -1),
    ],
)
def test_only_right_padding_has_a_length(mode, mask, length):
    found, weights = run_operator("MemoSegments", mode, np.array([mask], np.int64))
    assert found.tolist() == [length]
    assert weights.sum() == pytest.approx(max(length, 0))


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 16, 33])
def test_the_weights_take_hidden_states_to_segment_means(mode, length):
    hidden = np.random.default_rng(0).standard_normal((length, 5), np.float32)
    _, weights = run_operator("MemoSegments", mode, np.ones((1, length), np.int64))
    np.testing.assert_allclose((weights[0] @ hidden).ravel(), segment_means(hidden), atol=1e-6)


# ---- MemoLookup


def distance(query: np.ndarray, key: np.ndarray) -> float:
    return float(np.linalg.norm(query.astype(np.float64) - key))


def assert_same_choice(chosen: int, expected: int, query: np.ndarray, keys: np.ndarray, threshold: float):
    """The same entry, or one as near (a tie); at the very threshold, hit and miss are a tie too."""
    if chosen == expected:
        return
    near = [distance(query, keys[:, entry]) for entry in (chosen, expected) if entry != MISS]
    tie = 1e-5 * (np.square(query).sum() + np.square(keys).sum(axis=0).max())
    if len(near) == 2:
        assert abs(near[0] ** 2 - near[1] ** 2) < tie
    else:
        assert abs(near[0] - threshold) < 1e-5 * (1 + threshold)


def assert_lookup_as_specified(mode, opset, query, length, keys, lengths, threshold):
    inputs = (query, length, keys, lengths, np.float32(threshold), NO_INDEX)
    expected, _ = memo_lookup(*inputs)
    entry, hit = run_operator("MemoLookup", mode, *inputs, opset=opset)
    assert entry.shape == expected.shape
    for row in range(len(query)):
        assert_same_choice(entry[row], expected[row], query[row], keys, threshold)
    assert hit == (len(entry) > 0 and (entry >= 0).all())


@pytest.mark.parametrize("mode", MODES)
@given(
    lengths=LENGTHS,
    width=st.integers(1, 24),
    batch=st.integers(0, 5),
    threshold=st.sampled_from([-1.0, 0.0, 0.5, 3.0, float("inf")]),
    noise=st.sampled_from([0.0, 0.1, 3.0]),
    opset=st.sampled_from(OPSETS),
    seed=SEEDS,
)
@settings(deadline=None, max_examples=60)
def test_lookup_equals_the_reference(mode, lengths, width, batch, threshold, noise, opset, seed):
    rng = np.random.default_rng(seed)
    keys = rng.standard_normal((width, len(lengths)), np.float32)
    asked = rng.integers(0, len(lengths), batch)
    query = keys[:, asked].T + noise * rng.standard_normal((batch, width), np.float32)
    length = np.where(rng.random(batch) < 0.7, lengths[asked], rng.integers(-1, 14, batch))
    assert_lookup_as_specified(mode, opset, query, length, keys, lengths, threshold)


def lookup(mode, query, length, keys, lengths, threshold):
    entry, hit = run_operator(
        "MemoLookup",
        mode,
        np.array(query, np.float32).reshape(-1, 1),
        i64(*length),
        np.array(keys, np.float32).reshape(1, -1),
        i64(*lengths),
        np.float32(threshold),
        NO_INDEX,
    )
    return entry.tolist(), bool(hit)


def test_only_entries_of_the_same_length_count(mode):
    assert lookup(mode, [5], [8], keys=[5, 9], lengths=[7, 8], threshold=10) == ([1], True)
    assert lookup(mode, [5], [9], keys=[5, 9], lengths=[7, 8], threshold=10) == ([MISS], False)


def test_a_negative_length_never_hits(mode):
    assert lookup(mode, [5], [-1], keys=[5, 5], lengths=[0, 8], threshold=INF) == ([MISS], False)


def test_the_smaller_number_wins_between_equal_keys(mode):
    assert lookup(mode, [1], [8], keys=[2, 2, 2], lengths=[8, 8, 8], threshold=3) == ([0], True)


def test_a_distance_equal_to_the_threshold_hits(mode):
    assert lookup(mode, [0], [8], keys=[2], lengths=[8], threshold=2) == ([0], True)
    assert lookup(mode, [0], [8], keys=[2], lengths=[8], threshold=1.999) == ([MISS], False)
    assert lookup(mode, [2], [8], keys=[2], lengths=[8], threshold=0) == ([0], True)


def test_a_negative_threshold_never_hits(mode):
    assert lookup(mode, [2], [8], keys=[2], lengths=[8], threshold=-1e-9) == ([MISS], False)


@pytest.mark.parametrize(("query", "key", "threshold"), [(NAN, 2, INF), (2, NAN, INF), (2, 2, NAN)])
def test_a_nan_anywhere_misses(mode, query, key, threshold):
    assert lookup(mode, [query], [8], keys=[key], lengths=[8], threshold=threshold) == ([MISS], False)


def test_one_missing_row_denies_the_batch(mode):
    assert lookup(mode, [2, 7], [8, 8], keys=[2], lengths=[8], threshold=1) == ([0, MISS], False)
    assert lookup(mode, [2, 7], [8, 8], keys=[2], lengths=[8], threshold=9) == ([0, 0], True)


def test_an_empty_batch_does_not_hit(mode):
    assert lookup(mode, [], [], keys=[2], lengths=[8], threshold=1) == ([], False)


def test_near_keys_are_told_apart_far_from_the_origin(mode):
    """The distance that decides comes from the difference, which does not cancel."""
    assert lookup(mode, [1000], [8], keys=[1000.5], lengths=[8], threshold=0.4) == ([MISS], False)


# ---- MemoFetch


def random_entries(rng, entries: int, batch: int, misses: str) -> np.ndarray:
    entry = rng.integers(0, entries, batch)
    if misses == "all":
        entry[:] = MISS
    elif misses == "some":
        entry[rng.random(batch) < 0.5] = MISS
    return entry


MISSES = st.sampled_from(["none", "some", "all"])


@pytest.mark.parametrize("mode", MODES)
@given(
    lengths=LENGTHS,
    width=st.integers(1, 40),
    batch=st.integers(0, 5),
    misses=MISSES,
    padding=st.integers(0, 3),
    opset=st.sampled_from(OPSETS),
    seed=SEEDS,
)
@settings(deadline=None, max_examples=50)
def test_fetch_equals_the_reference(mode, lengths, width, batch, misses, padding, opset, seed):
    rng = np.random.default_rng(seed)
    payload = rng.standard_normal((lengths.sum(), width)).astype(np.float16)
    entry = random_entries(rng, len(lengths), batch, misses)
    inputs = (entry, payload, offsets_of(lengths), lengths, i64(lengths.max() + padding))
    answer = run_operator("MemoFetch", mode, *inputs, opset=opset)
    np.testing.assert_array_equal(answer, memo_fetch(*inputs), strict=True)


def test_fetch_is_zero_after_the_entry_and_for_a_miss(mode):
    payload = np.array([[1], [2], [3]], np.float16)
    answer = run_operator("MemoFetch", mode, i64(1, MISS), payload, i64(0, 1), i64(1, 2), i64(4))
    assert answer[..., 0].tolist() == [[2, 3, 0, 0], [0, 0, 0, 0]]


# ---- MemoContext


def probabilities(rng: np.random.Generator, heads: int, length: int) -> np.ndarray:
    scores = np.exp(2 * rng.standard_normal((heads, length, length)))
    rows = scores / scores.sum(axis=-1, keepdims=True)
    return rows.astype(np.float16).reshape(length**2, heads)


@pytest.mark.parametrize("mode", MODES)
@given(
    lengths=LENGTHS,
    heads=st.integers(1, 4),
    head_width=st.integers(1, 20),
    batch=st.integers(1, 4),
    misses=MISSES,
    padding=st.integers(0, 3),
    opset=st.sampled_from(OPSETS),
    seed=SEEDS,
)
@settings(deadline=None, max_examples=50)
def test_context_equals_the_reference(mode, lengths, heads, head_width, batch, misses, padding, opset, seed):
    rng = np.random.default_rng(seed)
    payload = np.concatenate([probabilities(rng, heads, length) for length in lengths])
    entry = random_entries(rng, len(lengths), batch, misses)
    shape = (batch, lengths.max() + padding, heads * head_width)
    values = rng.standard_normal(shape, np.float32)
    inputs = (entry, values, payload, offsets_of(lengths**2), lengths)
    answer = run_operator("MemoContext", mode, *inputs, opset=opset)
    np.testing.assert_allclose(answer, memo_context(*inputs), atol=1e-5, strict=True)


def test_context_of_one_head_by_hand(mode):
    payload = np.array([[1], [0], [0.25], [0.75]], np.float16)  # P[1, 2, 2]
    values = np.array([[[4], [8], [99]]], np.float32)
    answer = run_operator("MemoContext", mode, i64(0), values, payload, i64(0), i64(2))
    assert answer.ravel().tolist() == [4, 7, 0]


def test_values_in_the_padding_take_no_part_in_the_context(mode):
    payload = np.array([[1.0]], np.float16)
    values = np.array([[[3], [NAN]]], np.float32)
    answer = run_operator("MemoContext", mode, i64(0), values, payload, i64(0), i64(1))
    assert answer.ravel().tolist() == [3, 0]


def test_context_of_an_empty_batch(mode):
    payload = np.array([[1.0]], np.float16)
    answer = run_operator(
        "MemoContext", mode, i64(), np.zeros((0, 3, 4), np.float32), payload, i64(0), i64(1)
    )
    assert answer.size == 0
