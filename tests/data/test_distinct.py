"""Which inputs of a sample are distinct, and how often each occurs."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from onnx_memo.data.distinct import content, distinct
from onnx_memo.data.samples import Samples


def samples(*inputs: list[int]) -> Samples:
    return Samples([{"ids": np.asarray([ids])} for ids in inputs], [len(ids) for ids in inputs], "ids")


def test_the_same_numbers_are_the_same_content():
    first, again, other = samples([1, 2], [1, 2], [2, 1]).arrays
    assert content(first) == content(again) != content(other)


def test_every_input_of_a_model_counts():
    one = {"ids": np.asarray([[1, 2]]), "types": np.asarray([[0, 0]])}
    other = {"ids": np.asarray([[1, 2]]), "types": np.asarray([[0, 1]])}
    assert content(one) != content(other)


def test_the_same_bytes_in_another_shape_or_type_are_another_content():
    """Pictures have sizes, and 16 bytes may be two numbers or four."""
    numbers = np.arange(6, dtype=np.int32)
    wide, high = ({"x": numbers.reshape(1, *shape)} for shape in ((2, 3), (3, 2)))
    assert content(wide) != content(high)
    assert content(wide) != content({"x": wide["x"].view(np.float32)})
    assert distinct(Samples([wide, high, wide], [0, 0, 0], None), range(3))[1].tolist() == [[2, 1]]


def test_each_input_once_shortest_first_and_how_often_it_occurs():
    numbers, counts = distinct(samples([5, 5, 5], [1, 2], [7], [1, 2], [7], [7]), range(6))
    assert numbers == [2, 1, 0]
    assert counts.tolist() == [[3, 2, 1]]


def test_inputs_of_one_length_stay_in_the_order_in_which_they_occur_first():
    numbers, _ = distinct(samples([3], [1], [2], [1]), [3, 2, 0, 1])
    assert numbers == [3, 2, 0]


def test_groups_are_counted_apart_and_the_first_group_names_an_input():
    numbers, counts = distinct(samples([1], [2], [1], [3], [1]), [2, 1], [0, 3, 4])
    assert numbers == [2, 1, 3]
    assert counts.tolist() == [[1, 1, 0], [2, 0, 1]]


def test_a_group_may_be_empty():
    numbers, counts = distinct(samples([1], [1]), [], [0, 1])
    assert (numbers, counts.tolist()) == ([0], [[0], [2]])
    assert counts.dtype == np.int64


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=3), min_size=1, max_size=20))
def test_counts_add_up_and_lengths_rise(inputs):
    made = samples(*inputs)
    numbers, (counts,) = distinct(made, range(len(inputs)))
    assert [inputs.count(inputs[at]) for at in numbers] == counts.tolist()
    assert counts.sum() == len(inputs)
    assert all(inputs.index(inputs[at]) == at for at in numbers)
    assert [len(inputs[at]) for at in numbers] == sorted(len(inputs[at]) for at in numbers)
