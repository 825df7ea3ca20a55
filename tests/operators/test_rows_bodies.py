"""MemoAttention and MemoMerge: standard bodies and kernels against the reference.

MemoRows is in `test_rows_body.py`, MemoGrow in `test_grow_body.py`. Of a single sequence the standard bodies
are given only what has an entry.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import MODES, OPSETS, run_operator
from support_operators import (
    INF,
    LENGTHS,
    LOWEST,
    NAN,
    NATIVE,
    SEEDS,
    f32,
    i64,
    random_batch,
    random_rows,
)

from onnx_memo.operators.reference import memo_attention, memo_merge
from onnx_memo.store.data import offsets_of

# ---- MemoAttention


@pytest.mark.parametrize("mode", MODES)
@given(
    lengths=LENGTHS,
    heads=st.integers(1, 3),
    widths=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    padding=st.integers(0, 3),
    share=st.sampled_from([0.0, 0.2, 0.6, 1.0]),
    spread=st.tuples(*[st.booleans()] * 4),
    shut=st.sampled_from([0.0, -INF, LOWEST]),
    opset=st.sampled_from(OPSETS),
    seed=SEEDS,
)
@settings(deadline=None, max_examples=150)
def test_attention_equals_the_reference(
    mode, lengths, heads, widths, padding, share, spread, shut, opset, seed
):
    rng = np.random.default_rng(seed)
    entry, length = random_batch(rng, mode, lengths)
    padded, (width, value_width) = int(lengths.max()) + padding, widths
    rows = random_rows(rng, entry, length, padded, share)
    full = len(entry), heads, padded, padded
    bias = rng.standard_normal(
        [1 if one else size for one, size in zip(spread, full, strict=True)], np.float32
    )
    bias[..., 1:][rng.random(bias[..., 1:].shape) < 0.4] += np.float32(shut)
    inputs = (
        rng.standard_normal((heads, len(rows), width), np.float32),
        rng.standard_normal((heads, width, len(rows)), np.float32),
        rng.standard_normal((heads, len(rows), value_width), np.float32),
        rows,
        entry,
        length,
        i64(padded),
        rng.standard_normal((lengths.sum(), heads * width)).astype(np.float16),
        rng.standard_normal((lengths.sum(), heads * value_width)).astype(np.float16),
        offsets_of(lengths),
        f32(width**-0.5),
        bias,
    )
    answer = run_operator("MemoAttention", mode, *inputs, opset=opset)
    np.testing.assert_allclose(answer, memo_attention(*inputs), rtol=1e-5, atol=1e-5, strict=True)


def attention_of(mode: str, rows: list[int], values: list[float], bias: Any = 0.0) -> list[float]:
    """One head of width 1 and 4 tokens whose scores are all 0; stored values are 1, 2, 4 and 8."""
    count, fresh = len(rows), f32(values).reshape(1, -1, 1)
    context = run_operator(
        "MemoAttention",
        mode,
        np.zeros((1, count, 1), np.float32),
        np.ones((1, 1, count), np.float32),
        fresh,
        i64(*rows),
        i64(0),
        i64(4),
        i64(5),
        np.ones((4, 1), np.float16),
        np.array([[1], [2], [4], [8]], np.float16),
        i64(0),
        f32(1),
        f32(bias).reshape(1, 1, 1, -1),
    )
    assert context.shape == (1, count, 1)
    return context.ravel().tolist()


def test_attention_by_hand(mode):
    assert attention_of(mode, [], []) == []
    assert attention_of(mode, [1], [10]) == pytest.approx([23 / 4])
    assert attention_of(mode, [0, 3], [10, 20]) == pytest.approx([9, 9])
    assert attention_of(mode, [0, 1, 2, 3], [3, 5, 7, 9]) == pytest.approx([6] * 4)


@pytest.mark.parametrize("shut", [-INF, LOWEST])
def test_columns_that_the_bias_shuts_out_do_not_count(mode, shut):
    assert attention_of(mode, [1], [10], [0, 0, shut, shut, 0]) == pytest.approx([11 / 2])
    assert attention_of(mode, [1], [10], [shut, shut, shut, 0, 0]) == pytest.approx([8])
    assert attention_of(mode, [1, 2], [10, 99], [0, 0, shut, shut, 0]) == pytest.approx([11 / 2] * 2)


@pytest.mark.parametrize("mode", [NATIVE])
@pytest.mark.parametrize("unknown", [NAN, INF])
def test_stored_keys_and_values_that_rows_replace_do_not_count(mode, unknown):
    stored = np.array([[1], [unknown]], np.float16)
    fresh = np.ones((1, 1, 1), np.float32)
    inputs = fresh, fresh, fresh, i64(1), i64(0), i64(2), i64(2), stored, stored, i64(0), f32(1)
    assert run_operator("MemoAttention", mode, *inputs, np.zeros((1, 1, 1, 1), np.float32)) == pytest.approx(
        1
    )


def test_the_bias_of_padding_does_not_count(mode):
    assert attention_of(mode, [1], [10], [0, 0, 0, 0, NAN]) == pytest.approx([23 / 4])


# ---- MemoMerge


@pytest.mark.parametrize("mode", MODES)
@given(
    lengths=LENGTHS,
    width=st.integers(1, 40),
    padding=st.integers(0, 3),
    share=st.sampled_from([0.0, 0.2, 0.6, 1.0]),
    opset=st.sampled_from(OPSETS),
    seed=SEEDS,
)
@settings(deadline=None, max_examples=80)
def test_merge_equals_the_reference(mode, lengths, width, padding, share, opset, seed):
    rng = np.random.default_rng(seed)
    entry, length = random_batch(rng, mode, lengths)
    padded = int(lengths.max()) + padding
    rows = random_rows(rng, entry, length, padded, share)
    inputs = (
        rng.standard_normal((len(rows), width), np.float32),
        rng.standard_normal((len(rows), width), np.float32),
        rows,
        entry,
        length,
        i64(padded),
        rng.standard_normal((lengths.sum(), width), np.float32),
        rng.random((lengths**2).sum()).astype(np.float16),
        offsets_of(lengths),
        offsets_of(lengths**2),
    )
    answer = run_operator("MemoMerge", mode, *inputs, opset=opset)
    np.testing.assert_allclose(answer, memo_merge(*inputs), rtol=1e-5, atol=1e-5, strict=True)


def merge_of(mode: str, rows: list[int], states: list[float], spread: list[float]) -> np.ndarray:
    """3 tokens padded to 4; final states 10, 20 and 30; token 1 reaches its neighbours by 0.5 and 2."""
    reach = [[0, 0, 0], [0.5, 9, 2], [0, 0, 0]]
    return run_operator(
        "MemoMerge",
        mode,
        f32(states).reshape(-1, 1),
        f32(spread).reshape(-1, 1),
        i64(*rows),
        i64(1),
        i64(3),
        i64(4),
        f32([[-1], [10], [20], [30]]),
        np.array([7, *np.ravel(reach)], np.float16),
        i64(0, 1),
        i64(0, 1),
    )


def test_merge_by_hand(mode):
    assert merge_of(mode, [1], [5], [2]).ravel().tolist() == [11, 5, 34, 0]
    assert merge_of(mode, [0, 2], [1, 3], [2, 2]).ravel().tolist() == [1, 20, 3, 0]
    assert merge_of(mode, [0, 1, 2], [1, 2, 3], [9, 9, 9]).ravel().tolist() == [1, 2, 3, 0]


def test_merge_of_no_rows_is_what_is_stored(mode):
    """Also after a request that left other numbers in the memory that is used again."""
    merge_of(mode, [1], [5], [1e30])
    assert merge_of(mode, [], [], []).ravel().tolist() == [10, 20, 30, 0]
