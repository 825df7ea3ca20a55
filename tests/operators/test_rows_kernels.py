"""The kernels that run single rows, run by ONNX Runtime, against their definition in docs/operators.md."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from one_node import INF, INVALID, LIBRARY, NAN, integers, names, run, run_all, session

pytestmark = pytest.mark.skipif(LIBRARY is None, reason="the native library is not built")

THREADS = (1, 4)


class Case:
    """A mixed batch over a store of random entries, the order of whose blocks is not that of their numbers.

    `runs` tells for each place of the batch whether it is computed.
    """

    def __init__(self, seed: int, tokens: list[int], batch: int, padding: int, share: float):
        self.rng = rng = np.random.default_rng(seed)
        self.tokens = np.array(tokens, np.int64)
        order = rng.permutation(len(tokens))
        self.offsets, self.squares = np.zeros_like(self.tokens), np.zeros_like(self.tokens)
        self.offsets[order] = np.cumsum(self.tokens[order]) - self.tokens[order]
        self.squares[order] = np.cumsum(self.tokens[order] ** 2) - self.tokens[order] ** 2
        self.total = int(self.tokens.sum())
        self.entry = rng.integers(-1, len(tokens), batch)
        self.length = np.array(
            [self.tokens[e] if e >= 0 else rng.integers(0, 9) for e in self.entry], np.int64
        )
        self.padded = int(self.length.max(initial=0)) + padding
        self.real = np.arange(self.padded) < self.length[:, None]
        self.runs = self.real & ((rng.random((batch, self.padded)) < share) | (self.entry[:, None] < 0))
        self.rows = np.flatnonzero(self.runs)
        self.influence = rng.uniform(0, 0.2, int((self.tokens**2).sum())).astype(np.float16)

    def floats(self, *shape: int) -> np.ndarray:
        return self.rng.standard_normal(shape, np.float32)

    def halves(self, *shape: int) -> np.ndarray:
        return self.floats(*shape).astype(np.float16)

    def reach(self, e: int) -> np.ndarray:
        """J of an entry."""
        n = self.tokens[e]
        return self.influence[self.squares[e] : self.squares[e] + n * n].reshape(n, n).astype(np.float32)

    def block(self, payload: np.ndarray, e: int) -> np.ndarray:
        return payload[self.offsets[e] : self.offsets[e] + self.tokens[e]].astype(np.float32)


CASES = {
    "seed": st.integers(0, 2**31),
    "tokens": st.lists(st.integers(1, 40), min_size=1, max_size=4),
    "batch": st.integers(0, 4),
    "padding": st.integers(0, 3),
    "share": st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    "threads": st.sampled_from(THREADS),
}


# ---- MemoRows


def naive_rows(case: Case, states: np.ndarray, stored: np.ndarray, epsilon: float, bound: float):
    """The rows that would run, the store's, the change of each token and what it predicts."""
    running = np.zeros_like(case.real)
    origin = np.zeros(case.real.shape, np.int64)
    changes, predicted = np.zeros((2, *case.real.shape), np.float32)
    for b, e in enumerate(case.entry):
        if e >= 0:
            n = case.length[b]
            old = case.block(stored, e)
            change = np.linalg.norm(states[b, :n] - old, axis=1) / np.linalg.norm(old, axis=1)
            changes[b, :n] = np.where(change <= epsilon, 0, np.minimum(change, 8))
            predicted[b, :n] = changes[b, :n] @ case.reach(e)
            running[b, :n] = ~(change <= epsilon) | ~(predicted[b, :n] <= np.float32(bound))
            origin[b, :n] = case.offsets[e] + np.arange(n)
    return running, origin, changes, predicted


@settings(max_examples=80, deadline=None)
@given(**CASES, width=st.integers(1, 70), bound=st.sampled_from([0.0, 0.05, 0.3, 2.0, np.inf]))
def test_rows_equal_the_definition(threads, width, bound, **case):
    case = Case(**case)
    stored = case.halves(case.total, width)
    states = case.floats(len(case.entry), case.padded, width)
    for b, e in enumerate(case.entry):
        if e >= 0:
            states[b, : case.length[b]] *= 0.3 * case.runs[b, : case.length[b], None]
            states[b, : case.length[b]] += case.block(stored, e)
    running, origin, *known = naive_rows(case, states, stored, 1e-3, bound)
    inputs = (states, case.entry, case.length, stored, case.influence, case.offsets, case.squares)
    for limit in 1.0, 0.4:
        got = run_all("MemoRows", *inputs, *np.float32([1e-3, bound, limit]), threads=threads)
        few = running.sum(axis=1) <= np.float64(np.float32(limit)) * case.length
        hit = few & (case.entry >= 0) & (case.length > 0)
        assert got[2].tolist() == hit.tolist()
        assert got[3] == (hit.size > 0 and hit.all())
        runs = running & hit[:, None]
        assert got[0].tolist() == np.flatnonzero(runs).tolist()
        assert got[1].tolist() == origin[runs].tolist()
        np.testing.assert_allclose(got[4:], np.array(known) * hit[:, None], rtol=1e-4, atol=1e-5)


def rows_inputs() -> dict[str, np.ndarray]:
    """Of 3 tokens the second changed and moves the third. The entry is the second of two."""
    reach = np.array([[1, 0, 0], [0, 1, 0.5], [0, 0, 1]])
    return {
        "states": np.float32([[[1], [3], [1], [9]]]),
        "entry": integers(1),
        "length": integers(3),
        "stored": np.ones((5, 1), np.float16),
        "influence": np.append([7], reach).astype(np.float16),
        "offsets": integers(0, 2),
        "squares": integers(0, 1),
        "epsilon": np.float32(0.1),
        "bound": np.float32(0.2),
        "limit": np.float32([1]),
    }


@pytest.mark.parametrize(
    ("changes", "rows"),
    [
        ({}, [1, 2]),
        ({"bound": np.float32(1)}, [1]),
        ({"bound": np.float32(0.99)}, [1, 2]),
        ({"bound": np.float32(0)}, [1, 2]),
        ({"bound": np.float32([-0.1])}, None),
        ({"bound": NAN}, None),
        ({"limit": np.float32(0.67)}, [1, 2]),
        ({"limit": np.float32(0.66)}, None),
        ({"limit": NAN}, None),
        ({"epsilon": np.float32(2)}, []),
        ({"epsilon": NAN}, [0, 1, 2]),
        ({"states": np.full((1, 4, 1), NAN), "epsilon": INF}, [0, 1, 2]),
        ({"entry": integers(-1)}, None),
        ({"length": integers(-1)}, None),
        ({"length": integers(-1), "entry": integers(-1)}, None),
        ({"length": integers(0)}, None),
    ],
)
def test_rows_at_their_edges(changes, rows):
    got, stored_rows, hit, all_hit, *_ = run_all("MemoRows", *(rows_inputs() | changes).values())
    assert hit.tolist() == [all_hit] == [rows is not None]
    assert got.tolist() == (rows or [])
    assert stored_rows.tolist() == [2 + t for t in rows or []]


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("entry", integers(2), "entry 2 does not exist, the store holds 2"),
        ("entry", integers(-2), "entry -2 does not exist"),
        ("entry", integers(1, 1), "'entry' holds 2 rows and 'length' 1"),
        ("length", integers(5), "sequence 0 has 5 tokens and is padded to 4"),
        ("states", np.zeros((2, 4, 1), np.float32), "'states' holds 2 sequences and 'entry' 1"),
        ("states", np.zeros((1, 4, 2), np.float32), "'states' is 2 wide and 'stored' 1"),
        ("stored", np.zeros((4, 1), np.float16), "owns 3 of 'stored' from 2 on, but that ends after 4"),
        ("influence", np.zeros(9, np.float16), "owns 9 of 'influence' from 1 on, but that ends after 9"),
        ("offsets", integers(0, -1), "owns 3 of 'stored' from -1 on"),
        ("offsets", integers(0, 2, 4), "'offsets' holds 3 entries and 'squares' 2"),
        ("squares", integers(0, 2**63 - 1), "owns 9 of 'influence' from 9223372036854775807 on"),
        ("epsilon", np.zeros(2, np.float32), r"'epsilon' has shape \[2\]"),
        ("bound", np.zeros((1, 1), np.float32), r"'bound' has shape \[1, 1\]"),
        ("limit", np.zeros(0, np.float32), r"'limit' has shape \[0\]"),
    ],
)
def test_rows_refuse_and_say_what_they_found(name, array, message):
    with pytest.raises(INVALID, match="MemoRows: .*" + message):
        run("MemoRows", *(rows_inputs() | {name: array}).values())


# ---- MemoGrow


def grow_inputs(case: Case, width: int, bound: float) -> tuple[np.ndarray, ...]:
    """About half of the rows that run changed."""
    change, predicted = np.abs(case.floats(2, *case.real.shape))
    change[case.rng.random(case.real.shape) < 0.5] = 0
    return (
        *(case.floats(len(case.rows), width), case.rows, change, predicted),
        *(case.entry, case.length, case.halves(case.total, width), case.influence),
        *(case.offsets, case.squares, np.float32(bound)),
        *(case.floats(width, width), np.abs(case.halves(len(case.influence)))),
    )


def naive_grown(case: Case, states, rows, change, predicted, entry, length, stored, *rest):
    """What is predicted, and the states of all places if all rows joined."""
    *_, correction, rollout = rest
    all_states = np.zeros((*case.real.shape, states.shape[1]), np.float32)
    now = np.zeros_like(predicted)
    for b, e in enumerate(entry):
        ran = case.runs[b, : length[b]]
        own = states[np.isin(rows, b * case.padded + np.flatnonzero(ran))]
        if e < 0:
            all_states[b, : length[b]] = own
            continue
        old, weight = case.block(stored, e), predicted[b, : length[b]].copy()
        difference = np.zeros_like(old)
        difference[ran] = own - old[ran]
        weight[ran] = np.minimum((np.linalg.norm(difference, axis=1) / np.linalg.norm(old, axis=1))[ran], 8)
        now[b, : length[b]] = weight @ case.reach(e)
        reach = rollout[case.squares[e] :][: length[b] ** 2].reshape(length[b], length[b]).astype(np.float32)
        passed_on = np.where(change[b, : length[b], None] != 0, difference, 0) @ correction
        all_states[b, : length[b]] = np.where(ran[:, None], old + difference, old + reach.T @ passed_on)
    return now, all_states


@settings(max_examples=80, deadline=None)
@given(**CASES, width=st.integers(1, 70), bound=st.sampled_from([-1.0, 0.1, 0.5, 2.0, np.inf]))
def test_grown_rows_equal_the_definition(threads, width, bound, **case):
    case = Case(**case)
    inputs = grow_inputs(case, width, bound)
    states, rows, stored_rows, predicted = run_all("MemoGrow", *inputs, threads=threads)
    now, all_states = naive_grown(case, *inputs)
    np.testing.assert_allclose(predicted, now, rtol=1e-4, atol=1e-4)
    runs = case.runs | (case.real & ~(predicted <= np.float32(bound)))
    origin = np.where(case.entry < 0, 0, case.offsets[case.entry])[:, None] + np.arange(case.padded)
    assert rows.tolist() == np.flatnonzero(runs).tolist()
    assert stored_rows.tolist() == np.where(case.entry[:, None] < 0, 0, origin)[runs].tolist()
    np.testing.assert_allclose(states, all_states[runs], rtol=1e-3, atol=1e-3)
    assert states[np.isin(rows, case.rows)].tobytes() == inputs[0].tobytes()


# ---- MemoAttention


def naive_attention(case: Case, query, key, value, keys, values, scale, bias) -> np.ndarray:
    heads, width = query.shape[0], query.shape[2]
    context = np.zeros(value.shape, np.float64)
    bias = np.broadcast_to(bias, (len(case.entry), heads, case.padded, case.padded))
    for b, e in enumerate(case.entry):
        n = case.length[b]
        own = case.rows // max(case.padded, 1) == b
        tokens = case.rows[own] % max(case.padded, 1)
        all_keys, all_values = np.zeros((heads, width, n)), np.zeros((heads, n, value.shape[2]))
        if e >= 0:
            all_keys[:] = case.block(keys, e).reshape(all_keys.shape)
            all_values[:] = case.block(values, e).reshape(all_values.shape)
        all_keys[:, :, tokens], all_values[:, tokens] = key[:, :, own], value[:, own]
        scores = scale * (query[:, own] @ all_keys) + bias[b][:, tokens, :n]
        powers = np.exp(scores - scores.max(-1, keepdims=True, initial=-np.inf))
        context[:, own] = powers / powers.sum(-1, keepdims=True) @ all_values
    return context


def attention_inputs(case: Case, heads: int, width: int, value_width: int, full: list[bool]):
    sizes = (len(case.entry), heads, case.padded, case.padded)
    bias = case.floats(*(size if whole else 1 for size, whole in zip(sizes, full, strict=True)))
    bias[case.rng.random(bias.shape) < 0.2] = case.rng.choice([-np.inf, -1e4, np.finfo(np.float32).min])
    bias[..., :1] = 0  # something is left to look at
    fresh = (
        case.floats(heads, len(case.rows), width),
        case.floats(heads, width, len(case.rows)),
        case.floats(heads, len(case.rows), value_width),
    )
    stored = case.halves(case.total, heads * width), case.halves(case.total, heads * value_width)
    return fresh, stored, bias


@settings(max_examples=80, deadline=None)
@given(
    **CASES,
    heads=st.integers(1, 4),
    width=st.integers(0, 40),
    value_width=st.integers(0, 40),
    full=st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_attention_equals_the_definition(threads, heads, width, value_width, full, **case):
    case = Case(**case)
    fresh, stored, bias = attention_inputs(case, heads, width, value_width, full)
    place = (case.rows, case.entry, case.length, integers(case.padded))
    answer = run(
        "MemoAttention", *fresh, *place, *stored, case.offsets, np.float32(0.2), bias, threads=threads
    )
    expected = naive_attention(case, *fresh, *stored, np.float32(0.2), bias)
    np.testing.assert_allclose(answer, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("share", [0.02, 0.4, 1])
def test_attention_of_a_long_request(share, threads):
    case = Case(1, [300, 280], 3, 5, share)
    fresh, stored, bias = attention_inputs(case, 4, 32, 32, [True, False, False, True])
    place = (case.rows, case.entry, case.length, integers(case.padded))
    answer = run(
        "MemoAttention", *fresh, *place, *stored, case.offsets, np.float32(0.2), bias, threads=threads
    )
    expected = naive_attention(case, *fresh, *stored, np.float32(0.2), bias)
    np.testing.assert_allclose(answer, expected, rtol=1e-5, atol=1e-5)


def small_attention() -> dict[str, np.ndarray]:
    """Two heads of 3 wide keys and 4 wide values, the second and last of 3 tokens run, padded to 4."""
    return {
        "query": np.zeros((2, 2, 3), np.float32),
        "key": np.zeros((2, 3, 2), np.float32),
        "value": np.ones((2, 2, 4), np.float32),
        "rows": integers(1, 2),
        "entry": integers(1),
        "length": integers(3),
        "padded_length": integers(4),
        "keys": np.zeros((5, 6), np.float16),
        "values": np.full((5, 8), 4, np.float16),
        "offsets": integers(0, 2),
        "scale": np.float32([1]),
        "bias": np.zeros((1, 1, 1, 4), np.float32),
    }


def test_attention_takes_fresh_keys_and_values_of_the_rows_that_run():
    assert run("MemoAttention", *small_attention().values()).ravel().tolist() == [2] * 16


def test_attention_of_a_row_that_may_look_at_nothing_is_nan():
    bias = np.full((1, 1, 4, 1), 0, np.float32)
    bias[0, 0, 2] = -np.inf
    answer = run("MemoAttention", *(small_attention() | {"bias": bias}).values())
    assert np.isnan(answer[:, 1]).all()
    assert (answer[:, 0] == 2).all()


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("entry", integers(2), "entry 2 does not exist, the store holds 2"),
        ("entry", integers(-1), "sequence 0 has no entry and 2 of its 3 tokens run"),
        ("length", integers(5), "sequence 0 has 5 tokens and is padded to 4"),
        ("length", integers(2), "which is token 2 of sequence 0, but that has 2"),
        ("length", integers(-1), "sequence 0 has -1 tokens"),
        ("length", integers(3, 3), "'entry' holds 1 rows and 'length' 2"),
        ("rows", integers(2, 1), "'rows' holds 1 at 1, where at least 3 was expected"),
        ("rows", integers(1, 4), "'rows' holds 4, but the batch has 4 places"),
        ("rows", integers(-1, 2), "'rows' holds -1 at 0"),
        ("rows", integers(1), "'rows' holds 1 rows, and there are queries of 2"),
        ("padded_length", np.array(-1), "'padded_length' is -1"),
        ("query", np.zeros((2, 2, 2), np.float32), "'key' does not fit"),
        ("value", np.zeros((2, 2, 5), np.float32), "'values' does not fit"),
        ("keys", np.zeros((5, 7), np.float16), "'keys' does not fit"),
        ("keys", np.zeros((4, 6), np.float16), "'values' does not fit"),
        ("offsets", integers(0, 3), "entry 1 owns 3 of 'keys' from 3 on, but that ends after 5"),
        ("scale", np.zeros(2, np.float32), r"'scale' has shape \[2\]"),
        ("bias", np.zeros((1, 1, 1, 3), np.float32), "dimension 3 of 'bias' is 3; it must be 1 or 4"),
        ("bias", np.zeros((0, 1, 1, 4), np.float32), "dimension 0 of 'bias' is 0; it must be 1 or 1"),
        ("bias", np.zeros((1, 1, 4), np.float32), r"'bias' has shape \[1, 1, 4\]"),
    ],
)
def test_attention_refuses_and_says_what_it_found(name, array, message):
    with pytest.raises(INVALID, match="MemoAttention: .*" + message):
        run("MemoAttention", *(small_attention() | {name: array}).values())


# ---- MemoMerge


def naive_merge(case: Case, states: np.ndarray, spread: np.ndarray, final: np.ndarray) -> np.ndarray:
    output = np.zeros((len(case.entry), case.padded, states.shape[1]))
    for b, e in enumerate(case.entry):
        own = case.rows // max(case.padded, 1) == b
        tokens = case.rows[own] % max(case.padded, 1)
        if e >= 0:
            output[b, : case.length[b]] = case.block(final, e) + case.reach(e)[tokens].T @ spread[own]
        output[b, tokens] = states[own]
    return output


@settings(max_examples=80, deadline=None)
@given(**CASES, width=st.integers(0, 70))
def test_merge_equals_the_definition(threads, width, **case):
    case = Case(**case)
    states, spread = case.floats(len(case.rows), width), case.floats(len(case.rows), width)
    final = case.floats(case.total, width)
    place = (case.rows, case.entry, case.length, integers(case.padded))
    store = (final, case.influence, case.offsets, case.squares)
    answer = run("MemoMerge", states, spread, *place, *store, threads=threads)
    np.testing.assert_allclose(answer, naive_merge(case, states, spread, final), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(answer[case.runs], states)
    assert not answer[~case.real].any()


@pytest.mark.parametrize("threads", THREADS)
def test_merge_of_a_long_request(threads):
    case = Case(2, [300, 180], 4, 7, 0.3)
    states, spread = case.floats(len(case.rows), 200), case.floats(len(case.rows), 200)
    final = case.floats(case.total, 200)
    place = (case.rows, case.entry, case.length, integers(case.padded))
    store = (final, case.influence, case.offsets, case.squares)
    answer = run("MemoMerge", states, spread, *place, *store, threads=threads)
    np.testing.assert_allclose(answer, naive_merge(case, states, spread, final), rtol=1e-5, atol=1e-5)


def merge_inputs() -> dict[str, np.ndarray]:
    """The second of 3 tokens ran and moves the others; padded to 4. The entry is the second of two."""
    return {
        "states": np.float32([[100]]),
        "spread": np.float32([[4]]),
        "rows": integers(1),
        "entry": integers(1),
        "length": integers(3),
        "padded_length": np.array(4),
        "final": np.float32([[1], [2], [10], [20], [30]]),
        "influence": np.arange(10).astype(np.float16),
        "offsets": integers(0, 2),
        "squares": integers(0, 1),
    }


def test_merge_moves_the_rows_that_did_not_run():
    assert run("MemoMerge", *merge_inputs().values()).ravel().tolist() == [10 + 4 * 4, 100, 30 + 4 * 6, 0]


def test_merge_where_nothing_ran_is_the_stored_output():
    none = {
        "states": np.zeros((0, 1), np.float32),
        "spread": np.zeros((0, 1), np.float32),
        "rows": integers(),
    }
    assert run("MemoMerge", *(merge_inputs() | none).values()).ravel().tolist() == [10, 20, 30, 0]


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("entry", integers(2), "entry 2 does not exist, the store holds 2"),
        ("entry", integers(-1), "sequence 0 has no entry and 1 of its 3 tokens run"),
        ("length", integers(5), "sequence 0 has 5 tokens and is padded to 4"),
        ("length", integers(1), "which is token 1 of sequence 0, but that has 1"),
        ("rows", integers(4), "'rows' holds 4, but the batch has 4 places"),
        ("rows", integers(0, 1), "'states' holds 1 rows and 'rows' 2"),
        ("padded_length", integers(4, 4), r"'padded_length' has shape \[2\]"),
        ("spread", np.zeros((2, 1), np.float32), r"'spread' has shape \[2, 1\] and 'states' \[1, 1\]"),
        ("final", np.zeros((5, 2), np.float32), "'states' is 1 wide and 'final' 2"),
        ("final", np.zeros((4, 1), np.float32), "owns 3 of 'final' from 2 on, but that ends after 4"),
        ("influence", np.zeros(9, np.float16), "owns 9 of 'influence' from 1 on, but that ends after 9"),
        ("offsets", integers(0, 2**63 - 1), "of 'final' from 9223372036854775807 on"),
        ("squares", integers(0, -1), "of 'influence' from -1 on"),
        ("squares", integers(0), "'offsets' holds 2 entries and 'squares' 1"),
    ],
)
def test_merge_refuses_and_says_what_it_found(name, array, message):
    with pytest.raises(INVALID, match="MemoMerge: .*" + message):
        run("MemoMerge", *(merge_inputs() | {name: array}).values())


# ---- All


@pytest.mark.parametrize("op", ["MemoRows", "MemoGrow", "MemoAttention", "MemoMerge"])
def test_one_session_serves_many_threads(op):
    case = Case(3, [60, 50], 4, 2, 0.3)
    if op == "MemoRows":
        stored = case.halves(case.total, 96)
        states = case.floats(len(case.entry), case.padded, 96)
        inputs = (states, case.entry, case.length, stored, case.influence, case.offsets, case.squares)
        inputs += tuple(np.float32([0.01, 0.1, 1]))
    elif op == "MemoGrow":
        inputs = grow_inputs(case, 96, 1.0)
    else:
        place = (case.rows, case.entry, case.length, integers(case.padded))
        fresh, stored, bias = attention_inputs(case, 4, 32, 32, [False, False, False, True])
        inputs = (*fresh, *place, *stored, case.offsets, np.float32(0.2), bias)
        if op == "MemoMerge":
            states = case.floats(len(case.rows), 96)
            inputs = (states, states, *place, case.floats(case.total, 96), case.influence)
            inputs += (case.offsets, case.squares)
    feeds = {name: np.asarray(array) for name, array in zip(names(op), inputs, strict=True)}
    shared = session(op, feeds, {}, threads=2)
    expected = [output.tobytes() for output in shared.run(None, feeds)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: [x.tobytes() for x in shared.run(None, feeds)], range(64)))
    assert answers == [expected] * 64
