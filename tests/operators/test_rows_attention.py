"""MemoRowsAttention: the standard body and the kernel against the reference.

What both operators of attention over stored keys and
values refuse is in `test_reference_rows.py`.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from one_node import INVALID
from one_node import run as run_threads
from support import MODES, OPSETS, run_operator
from support_operators import (
    INF,
    LENGTHS,
    LOWEST,
    MISS,
    SEEDS,
    f32,
    i64,
    inputs_of,
    random_batch,
    random_rows,
)

from onnx_memo.operators.reference import memo_rows_attention, memo_self_attention
from onnx_memo.store.data import offsets_of

EVERY_MODE = pytest.mark.parametrize("mode", MODES)

Arrays = dict[str, np.ndarray]


def random_inputs(
    rng: np.random.Generator,
    mode: str,
    lengths: np.ndarray,
    share: float,
    heads: tuple[int, int, int] = (2, 4, 5),
    full: tuple[bool, ...] = (False, False, False, True),
    most: int = 4,
) -> Arrays:
    """Of at most so many sequences; of the bias, the dimensions that are `full` are not 1."""
    entry, length = random_batch(rng, mode, lengths, most)
    padded, (count, key_width, value_width) = int(lengths.max()) + 2, heads
    rows = random_rows(rng, entry, length, padded, share)
    sizes = (len(entry), count, padded, padded)
    return {
        "qkv": rng.standard_normal((len(rows), count * (2 * key_width + value_width)), np.float32),
        "heads": i64(*heads),
        "rows": rows,
        "entry": entry,
        "length": length,
        "padded_length": i64(padded),
        "keys": rng.standard_normal((lengths.sum(), count * key_width)).astype(np.float16),
        "values": rng.standard_normal((lengths.sum(), count * value_width)).astype(np.float16),
        "offsets": offsets_of(lengths),
        "scale": f32(0.4),
        "bias": rng.standard_normal(
            [size if wide else 1 for size, wide in zip(sizes, full, strict=True)], np.float32
        ),
    }


def check(mode: str, inputs: Arrays, opset: int = 17) -> np.ndarray:
    answer = run_operator("MemoRowsAttention", mode, *inputs.values(), opset=opset)
    want = memo_rows_attention(*inputs.values())
    np.testing.assert_allclose(answer, want, rtol=1e-5, atol=1e-5, strict=True)
    return answer


# ---- What it is


@EVERY_MODE
def test_rows_attend_to_stored_tokens_and_to_each_other(mode):
    """All scores are 0. Stored are 1, 2, 4 and 8, and of the second head ten times that."""
    inputs = {
        "qkv": f32([[0, 0, 9, 9, 16, 160], [0, 0, 9, 9, 32, 320]]),
        "heads": i64(2, 1, 1),
        "rows": i64(0, 3),
        "entry": i64(0),
        "length": i64(4),
        "padded_length": i64(5),
        "keys": np.zeros((4, 2), np.float16),
        "values": np.array([[1, 2], [4, 8], [10, 20], [40, 80]], np.float16),  # [H, n] in memory order
        "offsets": i64(0),
        "scale": f32(1),
        "bias": np.zeros((1, 1, 1, 5), np.float32),
    }
    mean = (16 + 2 + 4 + 32) / 4
    np.testing.assert_allclose(check(mode, inputs), [[mean, 10 * mean]] * 2, rtol=1e-6)


@EVERY_MODE
@given(
    lengths=LENGTHS,
    share=st.sampled_from([0.0, 0.2, 0.6, 1.0]),
    heads=st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 20)),
    full=st.tuples(*[st.booleans()] * 4),
    shut=st.sampled_from([0.0, -INF, LOWEST]),
    opset=st.sampled_from(OPSETS),
    seed=SEEDS,
)
@settings(deadline=None, max_examples=100)
def test_both_forms_agree_with_the_reference(mode, lengths, share, heads, full, shut, opset, seed):
    rng = np.random.default_rng(seed)
    inputs = random_inputs(rng, mode, lengths, share, heads, full)
    others = inputs["bias"][..., 1:]
    others[rng.random(others.shape) < 0.4] += np.float32(shut)
    check(mode, inputs, opset)


@EVERY_MODE
@pytest.mark.parametrize("opset", OPSETS)
def test_axes_before_the_rows_may_be_1(mode, opset):
    inputs = random_inputs(np.random.default_rng(1), "stock", i64(8), 1.0, most=1)
    flat = check(mode, inputs, opset)
    for axes in ((0,), (0, 1)):
        shaped = inputs | {"qkv": np.expand_dims(inputs["qkv"], axes)}
        np.testing.assert_array_equal(check(mode, shaped, opset), np.expand_dims(flat, axes))


@EVERY_MODE
@pytest.mark.parametrize("leading", [(0,), (1, 0)])
def test_no_rows_have_no_context(mode, leading):
    inputs = random_inputs(np.random.default_rng(2), "stock", i64(5), 0.0, most=1)
    inputs["qkv"] = inputs["qkv"].reshape(*leading, 26)
    assert check(mode, inputs).shape == (*leading, 10)


# ---- The kernel


def test_without_entries_it_is_attention_among_the_rows():
    """Of sequences of 5, 7 and no tokens."""
    rng = np.random.default_rng(3)
    inputs = random_inputs(rng, "stock", i64(7), 0.0, full=(False, True, True, True), most=1)
    inputs["rows"] = np.concatenate([np.arange(5), 9 + np.arange(7)])
    inputs |= {"entry": i64(MISS, MISS, MISS), "length": i64(5, 7, 0)}
    inputs["qkv"] = rng.standard_normal((12, 26), np.float32)
    own = ("qkv", "heads", "rows", "rows", "padded_length", "scale", "bias")  # all rows ask
    want = memo_self_attention(*(inputs[name] for name in own))
    answer = run_threads("MemoRowsAttention", *inputs.values())
    np.testing.assert_allclose(answer, want, rtol=1e-5, atol=1e-5)


def test_a_sequence_is_the_same_alone_and_in_a_batch_on_any_number_of_threads():
    rng = np.random.default_rng(4)
    lengths = i64(90, 130, 130)
    inputs = random_inputs(rng, "stock", lengths, 0.0, (4, 32, 32), most=1)
    entry, length = i64(1, MISS, 0, 2), i64(130, 75, 90, 130)
    inputs |= {"entry": entry, "length": length, "rows": random_rows(rng, entry, length, 132, 0.6)}
    inputs["qkv"] = rng.standard_normal((len(inputs["rows"]), 4 * 96), np.float32)
    batch = run_threads("MemoRowsAttention", *inputs.values())
    for threads in (2, 4):
        many = run_threads("MemoRowsAttention", *inputs.values(), threads=threads)
        np.testing.assert_array_equal(many, batch)
    for b in range(4):
        own = inputs["rows"] // 132 == b
        alone = inputs | {"rows": inputs["rows"][own] % 132, "qkv": inputs["qkv"][own]}
        alone |= {"entry": entry[b : b + 1], "length": length[b : b + 1]}
        np.testing.assert_array_equal(run_threads("MemoRowsAttention", *alone.values()), batch[own])


BAD = [
    ("heads", i64(0, 3, 5), "three positive numbers"),
    ("heads", i64(2, 3), "holds 2 numbers"),
    ("heads", i64(2, 4, 5), "'qkv' is 22 wide; for 2 heads of 4 and 5 give 26"),
    ("heads", i64(2**62, 3, 5), "too large"),
    ("heads", i64(2, 2**62, 2**62), "too large"),
    ("qkv", f32(np.zeros((3, 22))), "'rows' holds 4 rows, and there are queries of 3"),
    ("qkv", f32(np.zeros((2, 2, 22))), "'qkv' has not all of its 4 rows in its last axis but one"),
    ("qkv", f32(np.zeros(22)), "'qkv' has not all of its 1 rows in its last axis but one"),
    ("heads", i64(1, 6, 10), "dimension 1 of 'bias' is 2; it must be 1 or 1"),
    ("keys", np.zeros((7, 5), np.float16), "'keys' does not fit"),
    ("values", np.zeros((7, 9), np.float16), "'values' does not fit"),
    ("rows", i64(1, 3, 3, 5), "'rows' holds 3 at 2"),
]


def bad_inputs(name: str, array: np.ndarray) -> Arrays:
    """With a bias for each of two heads."""
    return inputs_of("MemoRowsAttention") | {"bias": f32(np.zeros((2, 2, 1, 5))), name: array}


@pytest.mark.parametrize(("name", "array", "because"), BAD)
def test_the_kernel_says_what_does_not_fit(name, array, because):
    with pytest.raises(INVALID, match=f"MemoRowsAttention: .*{because}"):
        run_threads("MemoRowsAttention", *bad_inputs(name, array).values())


@pytest.mark.parametrize(("name", "array", "because"), BAD)
def test_the_reference_refuses_the_same(name, array, because):
    with pytest.raises(ValueError, match=r"do(es)? not"):
        memo_rows_attention(*bad_inputs(name, array).values())
