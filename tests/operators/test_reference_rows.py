"""The operators of single rows: what their references and kernels refuse."""

from __future__ import annotations

import onnxruntime as ort
import pytest
from support import run_operator
from support_operators import NATIVE, i64, inputs_of, random_f16, random_f32

from onnx_memo.operators.reference import REFERENCES

ROWS_OPERATORS = ("MemoRows", "MemoGrow", "MemoAttention", "MemoRowsAttention", "MemoMerge")
REFUSED = ort.capi.onnxruntime_pybind11_state.InvalidArgument


EVERYWHERE = [
    ("entry", i64(2, -1)),
    ("entry", i64(-2, -1)),
    ("entry", i64(1)),
    ("length", i64(6, 2)),
    ("length", i64(5, 2)),  # more rows than the payload has
    ("offsets", i64(0, 4)),
    ("offsets", i64(0, -1)),
    ("offsets", i64(0, 2**63 - 1)),
]
SQUARES = [
    ("squares", i64(0, 10)),
    ("squares", i64(0, -1)),
    ("squares", i64(0)),
    ("influence", random_f16(24)),
]
ROWS = [
    ("rows", i64(3, 1, 5, 6)),
    ("rows", i64(1, 1, 5, 6)),
    ("rows", i64(-1, 3, 5, 6)),
    ("rows", i64(1, 4, 5, 6)),  # padding of the first sequence
    ("rows", i64(1, 3, 5, 10)),
    ("rows", i64(1, 2, 3, 5)),  # not all of the second sequence, which has no entry
    ("rows", i64(1, 5, 6)),
    ("length", i64(4, -1)),
    ("padded_length", i64(-1)),
    ("padded_length", i64(5, 5)),
]
REFUSALS = [
    *[("MemoRows", *case) for case in EVERYWHERE + SQUARES],
    ("MemoRows", "states", random_f32(2, 5, 7)),
    ("MemoRows", "states", random_f32(1, 5, 6)),
    ("MemoRows", "epsilon", random_f32(2)),
    ("MemoRows", "bound", random_f32(2)),
    ("MemoRows", "limit", random_f32(0)),
    *[("MemoGrow", *case) for case in EVERYWHERE + SQUARES + ROWS if case[0] != "padded_length"],
    ("MemoGrow", "states", random_f32(3, 6)),
    ("MemoGrow", "states", random_f32(4, 5)),
    ("MemoGrow", "change", random_f32(2, 4)),
    ("MemoGrow", "change", random_f32(1, 5)),
    ("MemoGrow", "predicted", random_f32(2, 4)),
    ("MemoGrow", "bound", random_f32(2)),
    ("MemoGrow", "correction", random_f32(6, 5)),
    ("MemoGrow", "correction", random_f32(5, 6)),
    ("MemoGrow", "rollout", random_f16(24)),
    *[("MemoAttention", *case) for case in EVERYWHERE + ROWS],
    *[("MemoRowsAttention", *case) for case in EVERYWHERE + ROWS],
    ("MemoAttention", "query", random_f32(2, 4, 4)),
    ("MemoAttention", "key", random_f32(2, 4, 3)),
    ("MemoAttention", "value", random_f32(1, 4, 5)),
    ("MemoAttention", "value", random_f32(2, 4, 6)),
    ("MemoAttention", "keys", random_f16(7, 5)),
    ("MemoAttention", "keys", random_f16(8, 6)),
    ("MemoAttention", "values", random_f16(7, 6)),
    ("MemoAttention", "scale", random_f32(2)),
    ("MemoAttention", "bias", random_f32(3, 1, 1, 5)),
    ("MemoAttention", "bias", random_f32(1, 1, 4, 5)),
    ("MemoAttention", "bias", random_f32(1, 3, 1, 5)),
    ("MemoRowsAttention", "qkv", random_f32(4, 21)),
    ("MemoRowsAttention", "qkv", random_f32(3, 22)),
    ("MemoRowsAttention", "heads", i64(2, 3, 4)),
    ("MemoRowsAttention", "heads", i64(2, 3, 5, 1)),
    ("MemoRowsAttention", "values", random_f16(6, 10)),
    ("MemoRowsAttention", "bias", random_f32(1, 3, 1, 5)),
    *[("MemoMerge", *case) for case in EVERYWHERE + SQUARES + ROWS],
    ("MemoMerge", "states", random_f32(3, 6)),
    ("MemoMerge", "states", random_f32(4, 5)),
    ("MemoMerge", "spread", random_f32(4, 5)),
    ("MemoMerge", "final", random_f32(7, 5)),
]


@pytest.mark.parametrize("op", ROWS_OPERATORS)
def test_what_fits_is_taken(op):
    REFERENCES[op](*inputs_of(op).values())


@pytest.mark.parametrize(("op", "name", "array"), REFUSALS)
def test_what_does_not_fit_is_refused(op, name, array):
    with pytest.raises(ValueError, match=r"fit|is not|do not rise|runs|run$|does not spread"):
        REFERENCES[op](*(inputs_of(op) | {name: array}).values())


@pytest.mark.parametrize("mode", [NATIVE])
@pytest.mark.parametrize(("op", "name", "array"), REFUSALS)
def test_the_kernels_refuse_the_same(mode, op, name, array):
    inputs = inputs_of(op)
    run_operator(op, mode, *inputs.values())
    with pytest.raises(REFUSED, match=op):
        run_operator(op, mode, *(inputs | {name: array}).values())
