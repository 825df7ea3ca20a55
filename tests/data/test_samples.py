"""Samples, the batches they form, and what a model wants of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
from support import changed, fixture

from onnx_memo import MemoError
from onnx_memo.data.samples import ModelInput, Samples, mask_name, model_inputs
from onnx_memo.graph.opened import OpenedModel

I64 = np.dtype(np.int64)
IDS = ModelInput("input_ids", I64, (None, None))
MASK = ModelInput("attention_mask", I64, (None, None), mask=True)
TYPES = ModelInput("token_type_ids", I64, (None, None))


def some(lengths: Sequence[int], mask: str | None = "attention_mask") -> Samples:
    made = [{"input_ids": np.full((1, n), n), "attention_mask": np.ones((1, n), np.int64)} for n in lengths]
    return Samples(made, list(lengths), mask)


# ---- Samples


def test_a_samples_extent_is_its_real_tokens_or_without_a_mask_its_largest_array():
    assert [some([3, 5]).extent(at) for at in range(2)] == [3, 5]
    pixels = {"pixel_values": np.zeros((1, 3, 4, 5)), "scale": np.zeros((1, 2))}
    assert Samples([pixels], [0], None).extent(0) == 60


def test_taken_samples_keep_their_lengths_mask_and_texts():
    made = Samples(some([1, 2, 3]).arrays, [1, 2, 3], "attention_mask", notes=["x"], texts=["a", "b", "c"])
    taken = made.take([2, 0])
    assert (taken.lengths, taken.texts, taken.mask) == ([3, 1], ["c", "a"], "attention_mask")
    assert taken.text(0) == "c"
    assert some([1]).text(0) is None


def test_taken_samples_keep_their_places_in_the_file():
    made = replace(some([1, 2, 3]), numbers=[2, 5, 9])
    assert [made.take([2, 0]).take([1]).place(0), made.place(1)] == ["input 2", "input 5"]
    assert replace(made, texts=["a", "b", "c"]).take([2]).place(0) == "line 9"
    assert some([1, 2]).take([1]).place(0) == "input 2"


# ---- Batches


def test_a_batch_is_padded_with_zeros_on_the_right():
    batch = some([1, 3, 2]).batch(1, 2)
    assert batch["input_ids"].tolist() == [[3, 3, 3], [2, 2, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]


def test_the_last_batch_may_be_smaller():
    assert len(some([2, 2, 2]).batch(2, 2)["input_ids"]) == 1


def test_without_a_mask_a_batch_needs_equal_sizes():
    assert some([2, 2], mask=None).batch(0, 2)["input_ids"].shape == (2, 2)
    with pytest.raises(MemoError, match=r"different size in 'input_ids'.*--batch 1"):
        some([2, 3], mask=None).batch(0, 2)


# ---- What the model wants


def test_a_models_inputs_with_their_types_free_axes_and_what_they_are_looked_up_in():
    assert model_inputs(OpenedModel(fixture("bert"))) == [
        replace(IDS, rows=64, longest=64),
        replace(MASK, longest=64),
        replace(TYPES, rows=2, longest=64),
    ]


def test_initializers_that_are_inputs_too_need_not_be_given(tmp_path):
    def list_a_weight(model: ir.Model) -> None:
        model.graph.inputs.append(next(iter(model.graph.initializers.values())))

    opened = OpenedModel(changed("bert", tmp_path / "model.onnx", list_a_weight))
    assert [i.name for i in model_inputs(opened)] == [IDS.name, MASK.name, TYPES.name]


def test_a_scalar_input_is_refused(tmp_path):
    def add_a_scalar(model: ir.Model) -> None:
        model.graph.inputs.append(ir.val("factor", ir.DataType.FLOAT, []))

    opened = OpenedModel(changed("bert", tmp_path / "model.onnx", add_a_scalar))
    with pytest.raises(MemoError, match="'factor' is no tensor with a batch axis"):
        model_inputs(opened)


@pytest.mark.parametrize(
    ("number", "beyond"), [(0, None), (63, None), (64, 64), (-64, None), (-65, -65), (2**62, 2**62)]
)
def test_a_table_is_looked_up_from_both_ends_but_not_beyond(number, beyond):
    assert replace(IDS, rows=64).beyond(np.asarray([[1, number]])) == beyond
    assert IDS.beyond(np.asarray([[1, number]])) is None
    assert replace(IDS, rows=64).beyond(np.zeros((1, 0), np.int64)) is None


def test_the_mask_is_what_the_graph_says():
    assert mask_name([IDS, MASK, TYPES]) == "attention_mask"
    assert mask_name([IDS, replace(MASK, mask=False)]) is None
