"""The operators of single rows: what they refuse, and that they run as Python operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from support import MODES, OPERATOR_INPUTS, operator_model, run_operator

from onnx_memo.operators.reference import python_library, rename_for_python
from onnx_memo.operators.reference_rows import memo_attention, memo_grow, memo_merge, memo_rows

REFERENCES: dict[str, Callable[..., Any]] = {
    "MemoRows": memo_rows,
    "MemoGrow": memo_grow,
    "MemoAttention": memo_attention,
    "MemoMerge": memo_merge,
}
NATIVE = MODES[1]
REFUSED = ort.capi.onnxruntime_pybind11_state.InvalidArgument


def i64(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def f32(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def f16(*shape: int) -> np.ndarray:
    return f32(*shape).astype(np.float16)


def inputs_of(op: str) -> dict[str, np.ndarray]:
    """Two sequences padded to 5 tokens: 4 with entry 1, and 2 without one. Entry 0 has 3 tokens."""
    rows = {"rows": i64(1, 3, 5, 6), "entry": i64(1, -1), "length": i64(4, 2), "padded_length": i64(5)}
    store = {"influence": np.abs(f16(25)), "offsets": i64(0, 3), "squares": i64(0, 9)}
    one = np.array(1, np.float32)
    have = {
        "MemoRows": {
            **{"states": f32(2, 5, 6), "stored": f16(7, 6), "epsilon": one, "bound": one, "limit": one},
            **store,
        },
        "MemoGrow": {
            **{"states": f32(4, 6), "change": np.abs(f32(2, 5)), "predicted": np.abs(f32(2, 5))},
            **{"stored": f16(7, 6), "bound": one, "correction": f32(6, 6), "rollout": np.abs(f16(25))},
            **store,
        },
        "MemoAttention": {
            **{"query": f32(2, 4, 3), "key": f32(2, 3, 4), "value": f32(2, 4, 5)},
            **{"keys": f16(7, 6), "values": f16(7, 10), "scale": one, "bias": f32(2, 1, 1, 5)},
            **store,
        },
        "MemoMerge": {"states": f32(4, 6), "spread": f32(4, 6), "final": f32(7, 6), **store},
    }[op]
    return {name: (rows | have)[name] for name in OPERATOR_INPUTS[op]}


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
SQUARES = [("squares", i64(0, 10)), ("squares", i64(0, -1)), ("squares", i64(0)), ("influence", f16(24))]
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
    ("MemoRows", "states", f32(2, 5, 7)),
    ("MemoRows", "states", f32(1, 5, 6)),
    ("MemoRows", "epsilon", f32(2)),
    ("MemoRows", "bound", f32(2)),
    ("MemoRows", "limit", f32(0)),
    *[("MemoGrow", *case) for case in EVERYWHERE + SQUARES + ROWS if case[0] != "padded_length"],
    ("MemoGrow", "states", f32(3, 6)),
    ("MemoGrow", "states", f32(4, 5)),
    ("MemoGrow", "change", f32(2, 4)),
    ("MemoGrow", "change", f32(1, 5)),
    ("MemoGrow", "predicted", f32(2, 4)),
    ("MemoGrow", "bound", f32(2)),
    ("MemoGrow", "correction", f32(6, 5)),
    ("MemoGrow", "correction", f32(5, 6)),
    ("MemoGrow", "rollout", f16(24)),
    *[("MemoAttention", *case) for case in EVERYWHERE + ROWS],
    ("MemoAttention", "query", f32(2, 4, 4)),
    ("MemoAttention", "key", f32(2, 4, 3)),
    ("MemoAttention", "value", f32(1, 4, 5)),
    ("MemoAttention", "value", f32(2, 4, 6)),
    ("MemoAttention", "keys", f16(7, 5)),
    ("MemoAttention", "keys", f16(8, 6)),
    ("MemoAttention", "values", f16(7, 6)),
    ("MemoAttention", "scale", f32(2)),
    ("MemoAttention", "bias", f32(3, 1, 1, 5)),
    ("MemoAttention", "bias", f32(1, 1, 4, 5)),
    ("MemoAttention", "bias", f32(1, 3, 1, 5)),
    *[("MemoMerge", *case) for case in EVERYWHERE + SQUARES + ROWS],
    ("MemoMerge", "states", f32(3, 6)),
    ("MemoMerge", "states", f32(4, 5)),
    ("MemoMerge", "spread", f32(4, 5)),
    ("MemoMerge", "final", f32(7, 5)),
]


@pytest.mark.parametrize("op", REFERENCES)
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


@pytest.mark.parametrize("op", REFERENCES)
def test_they_run_as_python_operators(op):
    pytest.importorskip("onnxruntime_extensions", reason="onnxruntime-extensions is not installed")
    model = operator_model(op, 17)
    rename_for_python(model)
    options = ort.SessionOptions()
    options.register_custom_ops_library(python_library())
    content = ir.to_proto(model).SerializeToString()
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    have = session.run(None, inputs_of(op))
    want = REFERENCES[op](*inputs_of(op).values())
    for a, b in zip(have, want if isinstance(want, tuple) else [want], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, strict=True)
