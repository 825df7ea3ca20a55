"""MemoSelfAttention: the standard body and the kernel against the reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from one_node import INVALID
from one_node import run as run_threads
from support import MODES, run_operator
from support_operators import INF, LOWEST, NAN, SEEDS, f32, i64, inputs_of

from onnx_memo.operators.reference import memo_self_attention

EVERY_MODE = pytest.mark.parametrize("mode", MODES)

Arrays = dict[str, np.ndarray]


def random_inputs(
    rng: np.random.Generator,
    rows: np.ndarray,
    padded: int,
    heads: tuple[int, int, int] = (2, 4, 5),
    full: tuple[bool, ...] = (True, False, False, True),
) -> Arrays:
    """Of the bias, the dimensions that are `full` are not 1."""
    count, key_width, value_width = heads
    batch = int(rows[-1]) // padded + 1 if rows.size else 1
    sizes = (batch, count, padded, padded)
    return {
        "qkv": rng.standard_normal((len(rows), count * (2 * key_width + value_width)), np.float32),
        "heads": i64(*heads),
        "rows": rows,
        "asking": rows,
        "padded_length": i64(padded),
        "scale": f32(0.4),
        "bias": rng.standard_normal(
            [size if wide else 1 for size, wide in zip(sizes, full, strict=True)], np.float32
        ),
    }


def check(mode: str, inputs: Arrays, opset: int = 17) -> np.ndarray:
    answer = run_operator("MemoSelfAttention", mode, *inputs.values(), opset=opset)
    want = memo_self_attention(*inputs.values())
    np.testing.assert_allclose(answer, want, rtol=1e-5, atol=1e-5, strict=True)
    return answer


# ---- What it is


@EVERY_MODE
def test_a_row_attends_to_the_rows_of_its_sequence_alone(mode):
    """Keys are 0, so that scores are the bias: 0 for itself, and ln 3 for the other one."""
    inputs = {
        "qkv": f32([[9, 0, 4], [9, 0, 8], [9, 0, 5]]),
        "heads": i64(1, 1, 1),
        "rows": i64(0, 2, 4),  # tokens 0 and 2 of sequence 0, and 1 of sequence 1
        "asking": i64(0, 2, 4),
        "padded_length": i64(3),
        "scale": f32(1),
        "bias": np.log(f32([[1, 7, 3], [7, 7, 7], [3, 7, 1]]))[None, None],
    }
    np.testing.assert_allclose(check(mode, inputs), [[7], [5], [5]], rtol=1e-6)


@EVERY_MODE
@given(
    padded=st.integers(1, 40),
    batch=st.integers(1, 4),
    share=st.sampled_from([0.1, 0.6, 1.0]),
    heads=st.tuples(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40)),
    full=st.tuples(*[st.booleans()] * 4),
    seed=SEEDS,
)
@settings(deadline=None, max_examples=60)
@example(padded=130, batch=1, share=1.0, heads=(12, 32, 32), full=(True, False, False, True), seed=0)
def test_both_forms_agree_with_the_reference(mode, padded, batch, share, heads, full, seed):
    rng = np.random.default_rng(seed)
    rows = np.flatnonzero(rng.random(batch * padded) < share)
    check(mode, random_inputs(rng, rows, padded, heads, full))


@EVERY_MODE
@pytest.mark.parametrize("opset", [13, 17, 18, 21])
@pytest.mark.parametrize("rows", [i64(0, 1, 2, 3, 4, 5), i64(1, 2, 4)])
def test_it_is_written_for_the_models_opset(mode, opset, rows):
    check(mode, random_inputs(np.random.default_rng(0), rows, 3), opset)


@EVERY_MODE
@pytest.mark.parametrize("asking", [slice(None), slice(2, 7), slice(0)])
@pytest.mark.parametrize("rows", [np.arange(8), i64(0, 1, 2, 3, 5, 6, 7, 8)])
def test_axes_before_the_rows_may_be_1(mode, rows, asking):
    inputs = random_inputs(np.random.default_rng(7), rows, 4) | {"asking": rows[asking]}
    flat = check(mode, inputs)
    for axes in ((0,), (0, 1)):
        shaped = inputs | {"qkv": np.expand_dims(inputs["qkv"], axes)}
        np.testing.assert_array_equal(check(mode, shaped), np.expand_dims(flat, axes))


@EVERY_MODE
def test_sequences_may_have_no_rows(mode):
    """The first and the third of five; the bias has one for the last, too."""
    rng = np.random.default_rng(1)
    inputs = random_inputs(rng, i64(4, 5, 7, 13, 15), 4)
    inputs["bias"] = rng.standard_normal((5, 1, 1, 4), np.float32)
    assert np.isfinite(check(mode, inputs)).all()


@EVERY_MODE
@pytest.mark.parametrize("batch", [1, 3])
def test_no_rows_have_no_context(mode, batch):
    inputs = random_inputs(np.random.default_rng(2), i64(), 4)
    inputs["bias"] = np.zeros((batch, 1, 1, 4), np.float32)
    assert check(mode, inputs).shape == (0, 10)
    inputs["qkv"] = inputs["qkv"][None]
    assert check(mode, inputs).shape == (1, 0, 10)


@EVERY_MODE
@pytest.mark.parametrize("padding", [NAN, INF, LOWEST, -INF])
def test_the_bias_of_padding_does_not_count(mode, padding):
    inputs = random_inputs(np.random.default_rng(3), i64(0, 2, 5), 4, full=(True, False, True, True))
    there = np.isin(np.arange(8), inputs["rows"]).reshape(2, 1, 1, 4)
    inputs["bias"] = np.where(there, inputs["bias"], f32(padding))
    assert np.isfinite(check(mode, inputs)).all()


@EVERY_MODE
@pytest.mark.parametrize("masked", [-INF, LOWEST, -1e4])
def test_tokens_of_a_low_bias_do_not_count(mode, masked):
    inputs = random_inputs(np.random.default_rng(4), np.arange(12), 6)
    inputs["bias"][:, :, :, 3:] = masked
    before = check(mode, inputs)
    inputs["qkv"][[3, 4, 5, 9, 10, 11], 8:] = 7  # keys and values
    np.testing.assert_array_equal(
        run_operator("MemoSelfAttention", mode, *inputs.values())[[0, 1, 2, 6, 7, 8]],
        before[[0, 1, 2, 6, 7, 8]],
    )


@EVERY_MODE
@pytest.mark.parametrize("broken", [INF, -INF, NAN])
def test_a_query_that_broke_breaks_its_row_alone(mode, broken):
    inputs = random_inputs(np.random.default_rng(5), np.arange(7), 7, (1, 3, 2))
    before = check(mode, inputs)
    inputs["qkv"][2, 1] = broken
    after = run_operator("MemoSelfAttention", mode, *inputs.values())
    assert np.isnan(after[2]).all()
    rest = [0, 1, 3, 4, 5, 6]
    np.testing.assert_allclose(after[rest], before[rest], rtol=1e-6)


@EVERY_MODE
@given(
    batch=st.integers(1, 3),
    share=st.sampled_from([0.6, 1.0]),
    asking=st.sampled_from([0.0, 0.1, 0.7]),
    seed=SEEDS,
)
@settings(deadline=None, max_examples=40)
def test_rows_that_ask_get_what_they_get_among_all(mode, batch, share, asking, seed):
    rng = np.random.default_rng(seed)
    rows = np.flatnonzero(rng.random(batch * 20) < share)
    inputs = random_inputs(rng, rows, 20)
    asks = rng.random(len(rows)) < asking
    some = check(mode, inputs | {"asking": rows[asks]})
    np.testing.assert_allclose(some, check(mode, inputs)[asks], rtol=1e-6, atol=1e-6)


# ---- The kernel


def test_a_sequence_is_the_same_alone_and_in_a_batch_on_any_number_of_threads():
    rng = np.random.default_rng(6)
    rows = np.concatenate([np.arange(100), 128 + np.arange(128), 256 + np.arange(5, 90)])
    inputs = random_inputs(rng, rows, 128, (4, 32, 32), (False, False, False, False))
    batch = run_threads("MemoSelfAttention", *inputs.values())
    for threads in (2, 4):
        many = run_threads("MemoSelfAttention", *inputs.values(), threads=threads)
        np.testing.assert_array_equal(many, batch)
    one = {"rows": np.arange(85), "asking": np.arange(85), "padded_length": i64(85)}
    alone = inputs | one | {"qkv": inputs["qkv"][228:]}
    np.testing.assert_array_equal(run_threads("MemoSelfAttention", *alone.values()), batch[228:])


BAD = [
    ("heads", i64(0, 3, 5), "three positive numbers"),
    ("heads", i64(2, 3), "holds 2 numbers"),
    ("heads", i64(2, 4, 5), "'qkv' is 22 wide; for 2 heads of 4 and 5 give 26"),
    ("heads", i64(2**62, 3, 5), "too large"),
    ("qkv", f32(np.zeros((2, 2, 22))), "'qkv' has not all of its 4 rows in its last axis but one"),
    ("rows", i64(1, 3, 5), "'qkv' holds 4 rows and 'rows' 3"),
    ("rows", i64(1, 3, 3, 5), "'rows' holds 3 at 2"),
    ("rows", i64(-1, 3, 4, 5), "'rows' holds -1 at 0"),
    ("asking", i64(1, 2), "'asking' holds 2 at 1, which is not among"),
    ("asking", i64(3, 1), "'asking' holds 1 at 1, .* it must rise"),
    ("rows", i64(1, 3, 5, 10), "dimension 0 of 'bias' is 2; it must be 1 or above 2"),
    ("padded_length", i64(0), "'padded_length' is 0"),
    ("bias", f32(np.zeros((1, 1, 1, 4))), "dimension 3 of 'bias' is 4; it must be 1 or 5"),
    ("bias", f32(np.zeros((1, 3, 1, 1))), "dimension 1 of 'bias' is 3; it must be 1 or 2"),
]


@pytest.mark.parametrize(("name", "array", "because"), BAD)
def test_the_kernel_says_what_does_not_fit(name, array, because):
    inputs = inputs_of("MemoSelfAttention") | {name: array}
    with pytest.raises(INVALID, match=because):
        run_threads("MemoSelfAttention", *inputs.values())


@pytest.mark.parametrize(("name", "array", "because"), BAD)
def test_the_reference_refuses_the_same(name, array, because):
    with pytest.raises(ValueError, match=r"do(es)? not"):
        memo_self_attention(*(inputs_of("MemoSelfAttention") | {name: array}).values())
