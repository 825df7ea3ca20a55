"""Int8 for the products of the rows that run, and models that are int8 themselves."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import changed, fixture, join, open_nodes, original, random_samples
from support_rows import TINY, Built, build, changed_last, open_pair, samples_of

from onnx_memo.graph import flow
from onnx_memo.graph.build import Builder
from onnx_memo.graph.encoder import find_encoder
from onnx_memo.graph.load import load_model
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.graph.packed import (
    Int8Weight,
    Steps,
    product_of_bytes,
    to_bytes,
    whole_products,
)
from onnx_memo.graph.sites import find_sites
from onnx_memo.levels.literal import RADIUS
from onnx_memo.levels.rows import blueprint
from onnx_memo.levels.rows.propose import key_radius
from onnx_memo.levels.rows.quantize import BY_ROW, MOST, int8_products, product_error, quantize

LENGTHS = (9, 9, 16, 16, 23)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_weights_keep_within_half_a_step(inner, outer, seed):
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((inner, outer)).astype(np.float32)
    channel = rng.uniform(0.1, 10, inner).astype(np.float32)
    product = quantize(weight, channel, BY_ROW[0])
    assert product.weight.dtype == np.int8
    assert np.abs(product.weight).max() <= MOST
    scaled = weight * channel[:, None]
    assert (np.abs(product.weight * product.scales - scaled) <= 0.501 * product.scales + 1e-7).all()


def test_a_column_of_zeros_stays_zero():
    product = quantize(np.zeros((4, 2), np.float32), np.ones(4, np.float32), BY_ROW[0])
    assert not product.weight.any()
    assert np.isfinite(product.scales).all()


def test_sums_of_two_bytes_never_leave_16_bits():
    """So that processors which add up there compute the same."""
    assert 2 * 255 * MOST < 2**15


# Rows that the steps fit, unlike rows that have steps of their own, and rows that are cut.
ALIKE, UNLIKE = np.ones((7, 1), np.float32), np.float32([[1], [9], [0.1], [1], [0], [3], [1]])


@pytest.mark.parametrize(
    ("sizes", "steps"),
    [
        (ALIKE, Steps.between(-8, 8)),
        *((UNLIKE, steps) for steps in BY_ROW),
        (ALIKE, Steps.between(-1, 1.5)),
    ],
)
def test_the_error_is_that_of_onnx_runtime(sizes, steps):
    rng = np.random.default_rng(0)
    x, weight = sizes * rng.standard_normal((7, 24), np.float32), rng.standard_normal((24, 8), np.float32)
    x[:, 3] *= 20
    product = quantize(weight, np.sqrt(np.abs(x).max(axis=0)), steps)
    source = ir.val("x", ir.DataType.FLOAT, [None, 24])
    b = Builder("test", 17)
    own = Int8Weight(
        b.const(product.weight, np.int8),
        b.const(product.scales, np.float32),
        b.const(product.smooth, np.float32),
        steps,
    )
    rows = to_bytes(b, b.op("Unsqueeze", source, b.i64(0)), own)
    result = b.op("Squeeze", product_of_bytes(b, rows, own), b.i64(0))
    result.type = ir.TensorType(ir.DataType.FLOAT)
    (have,) = open_nodes([source], b.nodes, [result], 17).run(None, {"x": x})
    error = np.linalg.norm(have - x @ weight) / np.linalg.norm(x @ weight)
    assert 0 < error < (0.1 if steps != Steps.between(-1, 1.5) else 0.9)
    assert product_error(product, x, weight) == pytest.approx(error, rel=1e-3)


@given(st.floats(-9, 9), st.floats(-9, 9))
def test_steps_reach_from_the_least_to_the_greatest_and_hold_zero(one, other):
    low, high = sorted((one, other))
    steps = Steps.between(low, high)
    assert 0 <= steps.zero <= 255
    for number in (low, high, 0.0):
        place = np.clip(round(number / steps.step) + steps.zero, 0, 255)
        assert abs((place - steps.zero) * steps.step - number) <= steps.step


def test_products_of_the_same_states_share_their_channels(tmp_path):
    samples = samples_of(fixture("bert"), random_samples(original(fixture("bert")), LENGTHS, 1), tmp_path)
    model = load_model(fixture("bert"))
    encoder = find_encoder(model, find_sites(model))
    nodes = whole_products(encoder, flow.constant_nodes(model.graph))
    products = int8_products(OpenedModel(fixture("bert")), samples)
    assert len(products) == len(nodes) == 6 * len(encoder.cores)
    for node, product in zip(nodes, products, strict=True):
        assert product.weight.shape == tuple(node.inputs[1].shape)
        assert product.error < 0.1
        for other, twin in zip(nodes, products, strict=True):
            if other.inputs[0] is node.inputs[0]:
                assert np.array_equal(product.smooth, twin.smooth)


def test_weights_that_are_stored_in_another_form(tmp_path):
    """As in models whose weights are kept in half precision and widened when they run."""

    def narrow(model: ir.Model) -> None:
        for value in list(model.graph.initializers.values()):
            if value.name.startswith("onnx::MatMul"):
                half = ir.Value(
                    name=f"{value.name}/half",
                    const_value=ir.tensor(value.const_value.numpy().astype(np.float16)),
                    shape=value.shape,
                    type=ir.TensorType(ir.DataType.FLOAT16),
                )
                model.graph.register_initializer(half)
                widen = ir.node("Cast", [half], {"to": ir.DataType.FLOAT.value})
                widen.outputs[0].name = f"{value.name}/wide"
                widen.outputs[0].shape, widen.outputs[0].type = value.shape, value.type
                model.graph.insert_before(model.graph[0], widen)
                value.replace_all_uses_with(widen.outputs[0])
                del model.graph.initializers[value.name]

    path = changed("bert", tmp_path / "half.onnx", narrow)
    samples = samples_of(path, random_samples(original(path), LENGTHS, 1), tmp_path)
    whole = int8_products(OpenedModel(fixture("bert")), samples)
    for product, same in zip(int8_products(OpenedModel(path), samples), whole, strict=True):
        assert np.abs(product.weight.astype(int) - same.weight).max() <= 1


@pytest.fixture
def all_rows_may_run(monkeypatch):
    monkeypatch.setattr(blueprint, "INT8_LIMIT", 2.0)


def built_in_int8(tmp_path, every: int) -> Built:
    """A bundle of which every so many products are the original's."""
    requests = random_samples(original(fixture("bert")), LENGTHS, 1)
    build(fixture("bert"), requests, tmp_path / "bundle", int8=every)
    return Built(tmp_path / "bundle", fixture("bert"), requests)


@pytest.mark.usefixtures("all_rows_may_run")
@pytest.mark.parametrize("every", [2, 100])
def test_rows_run_in_int8_come_near_the_original(tmp_path, mode, every):
    pair = open_pair(built_in_int8(tmp_path, every), mode)
    for request in pair.stored:
        assert pair.error(request) == 0, "a repeat runs nothing"
        near = changed_last(request)
        answer, want = pair.ask(near, TINY), pair.want(near)
        assert answer.hit
        assert len(answer.rows) == want.shape[1]
        error = np.linalg.norm(answer.outputs[0] - want) / np.linalg.norm(want)
        assert 0 < error < 0.1
        assert pair.error(near, 0.0) == 0, "the original stays in floats"


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_model_that_is_int8_itself(tmp_path, per_channel):
    """Regions are found by structure: integer products, their scales and zero points belong to it."""
    quantization = pytest.importorskip("onnxruntime.quantization")
    path = tmp_path / "int8.onnx"
    quantization.quantize_dynamic(
        onnx.load(fixture("bert")), path, weight_type=quantization.QuantType.QInt8, per_channel=per_channel
    )
    model = load_model(path)
    kinds = {node.op_type for node in model.graph}
    assert "MatMulInteger" in kinds, "the quantizer did its work"
    assert len(find_sites(model).sites) == 3
    encoder = find_encoder(model, find_sites(model))
    assert len(encoder.cores) == 3
    assert ort.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.usefixtures("all_rows_may_run")
@pytest.mark.parametrize("strictness", [TINY, 1.0])
def test_in_int8_a_request_is_the_same_alone_and_in_a_batch(tmp_path, mode, strictness):
    """To the last bit: no row's steps depend on other rows."""
    pair = open_pair(built_in_int8(tmp_path, 100), mode)
    some = [*map(changed_last, pair.stored[1:5]), pair.stored[0]]
    answers = pair.ask(join(some, padded=30), strictness)
    assert answers.hit
    for answer, request in zip(answers.outputs[0], some, strict=True):
        (alone,) = pair.ask(request, strictness).outputs[0]
        np.testing.assert_array_equal(answer[: len(alone)], alone)


@pytest.mark.usefixtures("all_rows_may_run")
def test_int8_never_answers_for_what_is_not_stored(tmp_path, mode):
    """The others of its batch are reused all the same."""
    built = built_in_int8(tmp_path, 100)
    pair = open_pair(built, mode)
    near, unknown = changed_last(pair.stored[2]), random_samples(pair.before, [12], seed=9)[0]
    together = join([near, unknown])
    answer = pair.ask(together)
    assert answer.hits.tolist() == [True, False]
    length = unknown["input_ids"].shape[1]
    np.testing.assert_array_equal(answer.outputs[0][1, :length], pair.want(together)[1, :length])


def test_int8_counts_no_padding(tmp_path, mode):
    """A request most of whose real rows changed is computed, however much padding stands behind them."""
    pair = open_pair(built_in_int8(tmp_path, 100), mode)
    unlike = join(random_samples(pair.before, [16], seed=9), padded=60)
    answer = pair.ask(unlike)
    assert not answer.hit
    assert answer.outputs[0].tobytes() == pair.want(unlike).tobytes()
    alike = join([changed_last(pair.stored[2])], padded=60)
    assert pair.ask(alike).hit


def test_an_entry_farther_than_any_of_the_sample_is_none():
    keys = np.array([[0.0], [1.0], [3.0], [10.0]], np.float32)
    lengths = np.array([5, 5, 5, 7])
    assert key_radius(keys, lengths) == pytest.approx(4.0), "twice that of 3 to 1; 10 is alone"
    assert key_radius(keys[3:], lengths[3:]) == RADIUS, "nothing is known"
    assert key_radius(np.zeros((3, 1), np.float32), lengths[:3]) == RADIUS, "copies say nothing"
