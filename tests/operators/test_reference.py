"""The reference: what it refuses, and that bundles run on it through onnxruntime-extensions."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from support import LEVELS, memoized, operator_model, original, random_samples
from support_operators import i64, inputs_of

from onnx_memo.errors import MemoError
from onnx_memo.operators.python import python_library, rename_for_python, run_in_python
from onnx_memo.operators.reference import REFERENCES, memo_context, memo_fetch, memo_lookup
from onnx_memo.operators.spec import OPERATORS

NO_INDEX = np.zeros(0, np.uint8)


# ---- By hand


def test_lookup_takes_the_nearest_of_the_same_length():
    keys = np.array([[0, 1, 5, 2]], np.float32)
    query = np.array([[2.2], [2.2], [9]], np.float32)
    entry, hit = memo_lookup(query, i64(8, 7, 8), keys, i64(7, 7, 8, 8), np.float32(2), NO_INDEX)
    assert entry.tolist() == [3, 1, -1]
    assert not hit


def test_lookup_in_an_empty_store():
    query = np.zeros((2, 3), np.float32)
    entry, hit = memo_lookup(query, i64(4, 4), np.zeros((3, 0), np.float32), i64(), np.float32(1), NO_INDEX)
    assert entry.tolist() == [-1, -1]
    assert not hit


def test_lookup_refuses_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match="do not fit"):
        memo_lookup(
            np.zeros((1, 2), np.float32),
            i64(4),
            np.zeros((3, 5), np.float32),
            i64(1),
            np.float32(1),
            NO_INDEX,
        )


@pytest.mark.parametrize(
    ("entry", "offset", "length", "because"),
    [
        (1, 0, 2, "not in a store of 1"),
        (-2, 0, 2, "not in a store of 1"),
        (0, 0, 5, "does not fit a request of length 4"),
        (0, 0, -1, "does not fit a request of length 4"),
        (0, 8, 2, "not in a payload of 9"),
        (0, -1, 2, "not in a payload of 9"),
    ],
)
def test_entries_outside_the_store_are_refused(entry, offset, length, because):
    payload = np.zeros((9, 2), np.float16)
    with pytest.raises(ValueError, match=because):
        memo_fetch(i64(entry), payload, i64(offset), i64(length), i64(4))
    with pytest.raises(ValueError, match=because):
        memo_context(i64(entry), np.zeros((1, 4, 6), np.float32), payload, i64(offset), i64(length))


def test_heads_that_do_not_divide_the_values_are_refused():
    payload = np.zeros((9, 4), np.float16)
    with pytest.raises(ValueError, match="4 heads do not divide values of width 6"):
        memo_context(i64(-1), np.zeros((1, 4, 6), np.float32), payload, i64(0), i64(1))


def test_fetch_takes_its_padded_length_in_both_shapes():
    inputs = inputs_of("MemoFetch")
    scalar = inputs | {"padded_length": np.array(5)}
    np.testing.assert_array_equal(memo_fetch(**scalar), memo_fetch(**inputs), strict=True)
    with pytest.raises(ValueError, match="padded_length of shape"):
        memo_fetch(**(inputs | {"padded_length": i64(5, 5)}))


# ---- Through onnxruntime-extensions


@pytest.fixture
def _extensions():
    pytest.importorskip("onnxruntime_extensions", reason="onnxruntime-extensions is not installed")


@pytest.mark.usefixtures("_extensions")
@pytest.mark.parametrize("op", OPERATORS)
def test_all_operators_run_in_python(op):
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


@pytest.mark.usefixtures("_extensions")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ["bert", "gpt2", "vit"])
def test_a_bundle_run_in_python_equals_the_stock_session(made, name, level):
    source = made(name, level)
    reference, stock = run_in_python(source.bundle), memoized(source.bundle, "stock")
    unseen = random_samples(original(source.model), [5, 12], seed=50)
    for request in [*source.samples, *unseen]:
        want = stock.run(None, request)[0]
        np.testing.assert_allclose(reference.run(None, request)[0], want, atol=1e-4)


@pytest.mark.usefixtures("_extensions")
def test_a_lookup_of_your_own_decides(made):
    """One that never finds anything makes every request a miss."""
    asked = []

    def never(query, length, keys, lengths, threshold, index):
        asked.append(length.tolist())
        return np.full(len(query), -1, np.int64), np.asarray(False)

    source = made("bert")
    request = source.samples[3]
    session = run_in_python(source.bundle, never)
    np.testing.assert_array_equal(session.run(None, request)[0], original(source.model).run(None, request)[0])
    assert asked == [[7]], "one for all sites"
    assert not np.array_equal(
        run_in_python(source.bundle).run(None, request)[0], original(source.model).run(None, request)[0]
    )


@pytest.mark.usefixtures("_extensions")
def test_a_bundle_is_named_by_its_directory_or_its_model(made):
    source = made("bert")
    request = source.samples[3]
    (model,) = source.bundle.glob("*.onnx")
    want = run_in_python(source.bundle).run(None, request)[0]
    for path in str(source.bundle), model:
        np.testing.assert_array_equal(run_in_python(path).run(None, request)[0], want)


def test_what_holds_no_model_is_no_bundle(tmp_path):
    with pytest.raises(MemoError, match=r"holds 0 ONNX models.*directory that onnx-memo optimize wrote"):
        run_in_python(tmp_path)
