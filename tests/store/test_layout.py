"""Layouts: the sizes that are announced are those that are written."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_memo.store.data import ALIGNMENT, memo_data, write_store
from onnx_memo.store.layout import Layout, TensorSpec, entries, pairs, tokens

AXES = st.one_of(st.just(()), st.just((entries,)), st.just((tokens,)), st.just((pairs,)))
DTYPES = st.sampled_from([np.float16, np.float32, np.int64, np.int8])
LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=8).map(lambda given: np.asarray(given, np.int64))


@st.composite
def layouts(draw):
    count = draw(st.integers(0, 5))
    specs = []
    for number in range(count):
        fixed = tuple(draw(st.lists(st.integers(0, 5), max_size=2)))
        specs.append(TensorSpec(f"t{number}", draw(DTYPES), draw(AXES) + fixed))
    return Layout(specs)


def zeros(layout: Layout, lengths: np.ndarray) -> dict[str, np.ndarray]:
    return {spec.name: np.zeros(spec.shape(lengths), spec.dtype) for spec in layout.specs}


@settings(max_examples=60, deadline=None)
@given(layouts(), LENGTHS)
def test_the_file_takes_no_more_than_the_footprint(layout, lengths):
    tensors = layout.holding(zeros(layout, lengths), lengths)
    size = layout.footprint()
    with tempfile.TemporaryDirectory() as folder:
        write_store(Path(folder), tensors)
        whole = memo_data(Path(folder)).stat().st_size
    content = sum(tensor.nbytes for tensor in tensors)
    assert content <= whole <= size.total(lengths) == content + ALIGNMENT * (len(layout.specs) + 1)


@settings(max_examples=60, deadline=None)
@given(layouts(), LENGTHS, LENGTHS)
def test_what_entries_take_adds_up(layout, some, others):
    size = layout.footprint()
    both = np.concatenate([some, others])
    assert size.total(both) == size.total(some) + size.total(others) - size.fixed
    assert size.each(both).tolist() == size.each(some).tolist() + size.each(others).tolist()


def test_axes_count_entries_tokens_and_pairs():
    lengths = np.asarray([3, 1, 4])
    assert TensorSpec("t", np.float16, (entries, 2)).shape(lengths) == (3, 2)
    assert TensorSpec("t", np.float16, (5, tokens)).shape(lengths) == (5, 8)
    assert TensorSpec("t", np.float16, (pairs,)).shape(lengths) == (26,)
    assert TensorSpec("t", np.float16, (pairs, 3)).each(lengths).tolist() == [54, 6, 96]
    assert TensorSpec("t", np.float32, (2, 3)).fixed == 24


def test_a_content_of_another_size_is_a_defect_of_ours(tmp_path):
    spec, lengths = TensorSpec("t", np.float16, (tokens, 3)), np.asarray([2])
    (tmp_path / "part").write_bytes(bytes(11))
    with pytest.raises(AssertionError, match="of 11 bytes does not hold"):
        spec.holding(tmp_path / "part", lengths)
    for wrong in (np.zeros((3, 3), np.float16), np.zeros((2, 3), np.float32), np.zeros(6, np.float16)):
        with pytest.raises(AssertionError, match="'t'"):
            spec.holding(wrong, lengths)


def test_an_upper_bound_may_hold_less(tmp_path):
    spec, lengths = TensorSpec("t", np.uint8, (tokens,), at_most=True), np.asarray([5])
    assert spec.holding(np.zeros(2, np.uint8), lengths).shape == (2,)
    with pytest.raises(AssertionError, match="'t'"):
        spec.holding(np.zeros(6, np.uint8), lengths)
