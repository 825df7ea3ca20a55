"""Padding in front of tokens, as servers put it where a model's answer is its last token's."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from support import (
    Arrays,
    assert_identical,
    changed,
    fixture,
    input_named,
    join,
    original,
    random_samples,
    relative_errors,
)
from support_precision import MOST_APART, exact_products, int8_pair
from support_rows import ENCODERS, TINY, RowsPair, changed_at, made_rows, open_pair, opened

from onnx_memo.data.readers import read_samples
from onnx_memo.data.samples import model_inputs
from onnx_memo.errors import MemoError
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.graph.sites import find_sites

NAME = "qwen3"
HALF = 2e-3  # where rows run over stored keys and values of half precision
SAME = 2e-5  # of floats that are added in another order


def counted(request: Arrays, padding: int = 1) -> Arrays:
    """A request whose positions count its real tokens, as callers do; those of padding are `padding`."""
    mask = request["attention_mask"]
    return request | {"position_ids": np.where(mask == 1, np.cumsum(mask, 1) - 1, padding)}


def left(samples: list[Arrays], padded: int = 0, padding: int = 1) -> Arrays:
    """One request of all samples, with padding in front."""
    return counted(join(samples, padded, side="left"), padding)


def with_zeros(request: Arrays, places: slice) -> Arrays:
    """A request of which these places are padding."""
    mask = request["attention_mask"].copy()
    mask[:, places] = 0
    return counted(request | {"attention_mask": mask})


@pytest.fixture
def pair(rows_root, mode) -> RowsPair:
    return open_pair(made_rows(NAME, rows_root), mode)


def worst(pair: RowsPair, request: Arrays, strictness: float = 1.0) -> float:
    have = pair.ask(request, strictness).outputs[0]
    return max(relative_errors(request, have, pair.want(request)))


# ---- Where it may be turned


def test_a_decoder_that_is_given_positions_turns():
    assert opened(fixture(NAME)).encoder.turns


@pytest.mark.parametrize("name", ENCODERS)
def test_other_models_do_not(name):
    """They take positions from places, or add them to the words."""
    assert not opened(fixture(name)).encoder.turns


def test_it_does_not_where_padding_is_read_behind_it(tmp_path):
    def first_row(model: ir.Model) -> None:
        (states,) = model.graph.outputs
        number = ir.node("Constant", [], {"value": ir.tensor(np.asarray(0))})
        row = ir.node("Gather", [states, number.outputs[0]], {"axis": 1})
        row.outputs[0].name, row.outputs[0].type = "row", states.type
        row.outputs[0].shape = ir.Shape([None, 16])
        model.graph.extend([number, row])
        model.graph.outputs.append(row.outputs[0])

    assert not OpenedModel(changed(NAME, tmp_path / "model.onnx", first_row)).encoder.turns


@pytest.mark.parametrize("masked", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("op", "turns"), [("Sub", True), ("Mul", False)])
def test_it_does_where_attention_depends_on_how_far_tokens_are_apart_and_not_on_where(
    tmp_path, op, turns, masked
):
    def biased(model: ir.Model) -> None:
        """Scores get a hundredth of the two places' difference, or product."""
        anchors = [site.softmax for site in find_sites(model).sites]
        ids, before = input_named(model, "input_ids"), model.graph[0]

        def node(op_type: str, *inputs: ir.Value, **attributes: object) -> ir.Value:
            made = ir.node(op_type, inputs, attributes)
            made.outputs[0].name = f"place.{len(model.graph)}"
            model.graph.insert_before(before, made)
            return made.outputs[0]

        def number(value: object, dtype: type = np.int64) -> ir.Value:
            return node("Constant", value=ir.tensor(np.asarray(value, dtype)))

        length = node("Squeeze", node("Shape", ids, start=1, end=2))
        places = node("Cast", node("Range", number(0), length, number(1)), to=ir.DataType.FLOAT.value)
        both = node(op, node("Unsqueeze", places, number([1])), places)
        bias = node("Mul", both, number(0.01, np.float32))
        for node in anchors:
            scores = node.inputs[0] if masked else node.inputs[0].producer().inputs[0]
            readers = list(scores.uses())
            added = ir.node("Add", [scores, bias])
            added.outputs[0].name = f"{node.name}/biased"
            model.graph.insert_before(readers[0][0], added)
            for reader, at in readers:
                reader.replace_input_with(at, added.outputs[0])

    findings = OpenedModel(changed(NAME, tmp_path / "model.onnx", biased)).findings
    assert [site.turns for site in findings.sites] == [turns] * 2


# ---- What is reused


@pytest.mark.parametrize("padding", [0, 1, 63])
def test_a_stored_input_is_reused_and_its_padding_is_zero(pair, padding):
    for sample in (pair.stored[0], pair.stored[3], pair.stored[-1]):
        request = left([sample], 64, padding)
        answer = pair.ask(request)
        assert answer.hit and not len(answer.rows)
        assert worst(pair, request) <= SAME
        assert not answer.outputs[0][request["attention_mask"] == 0].any()


def test_padding_on_both_sides_is_as_well(pair):
    sample = pair.stored[3]
    both = counted(join([join([sample], 10, side="left")], 15))
    assert both["attention_mask"].tolist() == [[0] * 3 + [1] * 7 + [0] * 5]
    assert pair.ask(both).hit
    assert worst(pair, both) <= SAME


@pytest.mark.parametrize("tokens", [(0,), (7, 20), (58,)])
def test_changed_rows_and_those_they_move_run_wherever_they_stand(pair, tokens):
    near = changed_at(pair.stored[-1], *tokens)
    request = left([near], 64)
    answer, same = pair.ask(request, TINY), pair.ask(near, TINY)
    assert answer.hit and same.hit
    np.testing.assert_array_equal(answer.rows, same.rows)  # counted from the first real token
    assert len(answer.rows) == 60 - min(tokens)
    assert worst(pair, request, TINY) <= HALF


def test_each_sequence_of_a_batch_has_its_own_padding(pair):
    some = [changed_at(pair.stored[6], 4), pair.stored[2], changed_at(pair.stored[-1], 3, 40), pair.stored[8]]
    request = left(some)
    assert pair.ask(request, TINY).hit
    assert worst(pair, request, TINY) <= HALF


# ---- What is not


def test_a_miss_is_the_original(pair):
    for request in (left(pair.stored[3:4], 20), left(pair.stored[2:5])):
        answer = pair.ask(request, 0.0)
        assert not answer.hit
        assert_identical(answer.outputs, pair.before.run(None, request))


@pytest.mark.parametrize("padded", [8, 64])
def test_positions_that_count_places_and_not_tokens_get_the_original(pair, padded):
    request = left(pair.stored[3:4], padded)
    request["position_ids"] = np.arange(padded)[None]
    answer = pair.ask(request)
    assert not answer.hit
    assert_identical(answer.outputs, pair.before.run(None, request))


@pytest.mark.parametrize("places", [slice(3, 4), slice(0, None), slice(5, 7)], ids=["a hole", "all", "two"])
def test_masks_with_holes_or_without_a_token_get_the_original(pair, places):
    request = with_zeros(pair.stored[6], places)
    answer = pair.ask(request)
    assert not answer.hit
    assert_identical(answer.outputs, pair.before.run(None, request))


# ---- The samples


def test_samples_may_have_padding_in_front_where_the_model_is_given_positions(tmp_path):
    samples = random_samples(original(fixture(NAME)), [3, 5, 9, 16], seed=1)
    inputs = model_inputs(opened(fixture(NAME)))
    np.savez(tmp_path / "left.npz", **left(samples))
    np.savez(tmp_path / "holes.npz", **with_zeros(join(samples[3:]), slice(3, 4)))
    read = read_samples(tmp_path / "left.npz", inputs, None)
    assert read.lengths == [3, 5, 9, 16]
    for have, want in zip(read.arrays, samples, strict=True):
        assert_identical([have[name] for name in want], list(want.values()))
    with pytest.raises(MemoError, match="1 input left out: its 'attention_mask' is not ones in a row"):
        read_samples(tmp_path / "holes.npz", inputs, None)


def test_elsewhere_such_samples_are_left_out(tmp_path):
    samples = random_samples(original(fixture("gpt2")), [3, 5], seed=1)
    np.savez(tmp_path / "left.npz", **left(samples))
    read = read_samples(tmp_path / "left.npz", model_inputs(opened(fixture("gpt2"))), None)
    assert read.lengths == [5]
    assert "is no right padding (ones, then zeros), first input 1" in read.notes[0]


# ---- In 8 bits


@pytest.fixture(scope="module")
def int8_root(tmp_path_factory):
    return tmp_path_factory.mktemp("int8")


@pytest.mark.parametrize("name", [*(name for name in ENCODERS if name != "vit"), NAME])
def test_in_8_bits_rows_run_where_they_stand(int8_root, mode, name):
    """With all channels in floats the answers are the original's, wherever it takes positions from."""
    if not exact_products(mode):
        pytest.skip("products of bytes are not exact on this processor: the original runs")
    pair = int8_pair(fixture(name), int8_root / name, mode, MOST_APART)
    rng = np.random.default_rng(5)
    request = join([{"input_ids": rng.integers(0, 64, (1, size))} for size in (5, 17, 9)], side="left")
    request["attention_mask"] = (np.arange(17) >= np.array([[12], [0], [8]])).astype(np.int64)
    taken = {value.name for value in pair.before.get_inputs()}
    request |= {"token_type_ids": np.zeros((3, 17), np.int64)}
    request = {key: array for key, array in counted(request).items() if key in taken}
    assert max(relative_errors(request, pair.ask(request), pair.want(request))) <= SAME
