"""Padding that counts: a model that reads padded positions is never answered from rows without them."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnxruntime import quantization
from support import (
    assert_identical,
    changed,
    fix_sizes,
    fixture,
    join,
    memoized,
    nothing_left_in,
    open_model,
    original,
    random_samples,
    variants,
    write_samples,
)

import onnx_memo
from onnx_memo.data.readers import read_samples
from onnx_memo.data.samples import model_inputs
from onnx_memo.errors import MemoError
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.levels.padding import padding_counts

LENGTHS = (3, 5, 9, 9, 16, 23)
LEVELS = ("rows", "output", "probs")
READERS = ("ReduceMean", "ReduceMax", "ReduceL2")


def pooled(reduction: str):
    """The model's states, reduced over all positions."""

    def change(model: ir.Model) -> None:
        (states,) = model.graph.outputs
        node = ir.node(reduction, [states], {"axes": [1], "keepdims": 0})
        node.outputs[0].name, node.outputs[0].type = "pooled", states.type
        node.outputs[0].shape = ir.Shape([None, 32])
        model.graph.append(node)
        model.graph.outputs[0] = node.outputs[0]

    return change


def pooled_by_mask(model: ir.Model) -> None:
    """The mean over real positions, as sentence encoders take it."""
    (states,) = model.graph.outputs
    (mask,) = (value for value in model.graph.inputs if value.name == "attention_mask")
    axes = ir.tensor(np.asarray([2]), name="axes")
    last = ir.Value(name="axes", const_value=axes, type=ir.TensorType(axes.dtype), shape=ir.Shape([1]))
    model.graph.register_initializer(last)
    floats = ir.node("Cast", [mask], {"to": ir.DataType.FLOAT.value})
    wide = ir.node("Unsqueeze", [floats.outputs[0], last])
    real = ir.node("Mul", [states, wide.outputs[0]])
    mean = ir.node("ReduceMean", [real.outputs[0]], {"axes": [1], "keepdims": 0})
    mean.outputs[0].name, mean.outputs[0].type = "pooled", states.type
    mean.outputs[0].shape = ir.Shape([None, 32])
    model.graph.extend([floats, wide, real, mean])
    model.graph.outputs[0] = mean.outputs[0]


@pytest.fixture
def samples():
    return random_samples(original(fixture("bert")), LENGTHS, seed=1)


@pytest.fixture
def data(tmp_path, samples):
    return write_samples(tmp_path / "data.npz", samples)


def counts(model, data) -> bool:
    opened = OpenedModel(model)
    return padding_counts(opened.model, original(model), read_samples(data, model_inputs(opened), None))


@pytest.mark.parametrize("reduction", READERS)
def test_outputs_over_all_positions_read_padding(tmp_path, data, reduction):
    assert counts(changed("bert", tmp_path / "model.onnx", pooled(reduction)), data)


@pytest.mark.parametrize("name", ["bert", "bert_dynamo", "distilbert", "gpt2", "deberta_v2", "mpnet", "xlm"])
def test_an_output_with_a_row_a_token_does_not(name, tmp_path):
    """Nor do keys and values that a decoder returns: what counts of them belongs to real tokens."""
    data = write_samples(tmp_path / "data.npz", random_samples(original(fixture(name)), LENGTHS, seed=1))
    assert not counts(fixture(name), data)


def test_a_mean_over_real_positions_does_not(tmp_path, data):
    assert not counts(changed("bert", tmp_path / "model.onnx", pooled_by_mask), data)


@pytest.mark.parametrize("options", [{}, {"per_channel": True}])
def test_where_one_scale_rounds_padding_too_it_counts_if_answers_move(tmp_path, options, mode):
    """By more than what is stored may be off, whatever stands in padding, which this model sets to zeros."""
    model = tmp_path / "quantized.onnx"
    quantization.quantize_dynamic(onnx.load(fixture("xlm")), model, **options)
    samples = random_samples(original(fixture("xlm")), LENGTHS, seed=2)
    made = onnx_memo.optimize(model, write_samples(tmp_path / "d.npz", samples), tmp_path / "b", level="rows")
    assert any("padding counts in this model" in note for note in made.manifest.notes)
    before, after = original(model), memoized(made.path, mode)
    batch = join([samples[0], samples[-1]])
    assert_identical(after.run(None, batch), before.run(None, batch))


def test_it_does_not_count_if_they_move_less(tmp_path):
    model, name = tmp_path / "quantized.onnx", "forms/bert-torchscript-normalized"
    quantization.quantize_dynamic(onnx.load(fixture(name)), model)
    requests = random_samples(original(fixture(name)), LENGTHS, seed=1)
    assert not counts(model, write_samples(tmp_path / "data.npz", requests))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("reduction", READERS)
def test_a_stored_input_with_padding_gets_the_answer_of_the_original(
    tmp_path, data, samples, level, reduction, mode
):
    model = changed("bert", tmp_path / "model.onnx", pooled(reduction))
    made = onnx_memo.optimize(model, data, tmp_path / "b", level=level)
    assert any("padding counts in this model" in note for note in made.manifest.notes)
    before, after = original(model), memoized(made.path, mode)
    for padded in (join(samples[:1], 4), join(samples[3:4], 20), join([samples[0], samples[4]])):
        assert_identical(after.run(None, padded), before.run(None, padded))


@pytest.mark.parametrize("level", LEVELS)
def test_a_stored_input_without_padding_is_reused(tmp_path, data, samples, level, mode):
    model = changed("bert", tmp_path / "model.onnx", pooled("ReduceMean"))
    onnx_memo.optimize(model, data, tmp_path / "b", level=level)
    done = onnx_memo.bench(model, tmp_path / "b", data, native=mode == "native", rounds=1)
    assert done.hit_rate == 1
    equal = join([samples[2], samples[3]])  # a batch of one length has no padding
    want = original(model).run(None, equal)[0]
    np.testing.assert_allclose(memoized(tmp_path / "b", mode).run(None, equal)[0], want, atol=2e-3)


@pytest.mark.usefixtures("everything_pays")
@pytest.mark.parametrize("level", ["int8", "rows"])
def test_what_would_run_in_8_bits_does_not_where_it_is_padded(tmp_path, level, mode):
    model = changed("bert", tmp_path / "model.onnx", pooled("ReduceMean"))
    data = write_samples(tmp_path / "data.npz", variants(240, seed=1, changes=8))
    made = onnx_memo.optimize(model, data, tmp_path / "b", level=level, tolerance=0.2)
    before, after = original(model), memoized(made.path, mode)
    (short, other) = variants(2, seed=7, changes=8)
    for padded in (join([short], 30), join([other], 40)):
        assert_identical(after.run(None, padded), before.run(None, padded))


def test_inputs_that_are_padded_to_a_fixed_length_are_refused(tmp_path, samples):
    """They would be stored, and never be reused."""

    def fixed(model: ir.Model) -> None:
        pooled("ReduceMean")(model)
        fix_sizes(model, 24)

    model = changed("bert", tmp_path / "model.onnx", fixed)
    padded = write_samples(tmp_path / "padded.npz", [join([one], 24) for one in samples])
    with nothing_left_in(tmp_path), pytest.raises(MemoError, match=r"padding counts .* length; export"):
        onnx_memo.optimize(model, padded, tmp_path / "b")


class FewSamples(list):
    """Requests with a mask, as far as padding is tried with them."""

    mask = "mask"
    lengths = property(lambda self: [feeds["mask"].shape[1] for feeds in self])
    arrays = property(list)

    def extent(self, at: int) -> int:
        return self.lengths[at]


def test_it_counts_if_only_the_longer_sequence_of_a_batch_moves():
    """Its small numbers are rounded with the scale of the large ones beside it."""
    graph = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        rounded (float[B, L] x, float[B, L] mask) => (float[B, L] y) {
            real = Mul (x, mask)
            q, scale, zero = DynamicQuantizeLinear (real)
            y = DequantizeLinear (q, scale, zero)
        }"""
    )
    model = ir.from_proto(graph)
    large, small = np.float32([[50, 100]]), np.float32([[0.1, 0.2, 0.3, 0.4, 0.5]])
    requests = FewSamples({"x": x, "mask": np.ones_like(x)} for x in (large, small))
    session = open_model(model)
    assert padding_counts(model, session, requests)
    assert not padding_counts(model, session, FewSamples([requests[0], requests[0]]))
