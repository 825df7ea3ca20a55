"""Products by standard nodes, for where no native library is: fewer than bodies have, and less exact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import assert_identical, fixture, join, random_samples, relative_errors
from support_operators import SEEDS, f32, random_product
from support_precision import Int8Pair, exact_products, int8_pair
from support_rows import ENCODERS

from onnx_memo.graph.build import Builder
from onnx_memo.operators.spec import DOMAIN
from onnx_memo.precision.nodes import coarse_product
from onnx_memo.runtime import session_options

NEAR = 0.1  # relative L2 error of products in 8 bits, of these models of random weights

pytestmark = pytest.mark.skipif(
    not exact_products("stock"), reason="products of bytes are not exact on this processor"
)


def run(inputs: dict[str, np.ndarray], opset: int = 17) -> np.ndarray:
    """The nodes alone, with weights as initializers."""
    names = ("x", "packed", "scales", "bias")
    values = {
        name: ir.val(name, ir.tensor(inputs[name]).dtype, inputs[name].shape if name != "x" else None)
        for name in names
    }
    b = Builder("coarse", opset)
    y = coarse_product(b, *values.values())
    y.type = ir.TensorType(ir.DataType.FLOAT)
    for name in names[1:]:
        values[name].const_value = ir.tensor(inputs[name], name=name)
    graph = ir.Graph(
        [values["x"]],
        [y],
        nodes=b.nodes,
        initializers=[values[name] for name in names[1:]],
        opset_imports={"": opset},
    )
    model = ir.serde.serialize_model(ir.Model(graph, ir_version=8)).SerializeToString()
    session = ort.InferenceSession(model, session_options(native=False), providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {"x": inputs["x"]})
    return answer


def product(seed: int, shape: tuple[int, ...], columns: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Random inputs, and their weight in floats."""
    inputs = random_product(np.random.default_rng(seed), shape, columns, 0)
    turned = inputs["packed"].transpose(1, 3, 0, 2).reshape(shape[-1], -1)
    return inputs, turned[:, :columns] * inputs["scales"]


@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=2).map(tuple),
    groups=st.integers(1, 30),
    columns=st.integers(1, 130),
    seed=SEEDS,
)
@settings(deadline=None)
def test_each_row_is_rounded_to_steps_of_its_own_size(shape, groups, columns, seed):
    inputs, weight = product(seed, (*shape, 4 * groups), columns)
    inputs["x"] *= f32(10.0 ** np.random.default_rng(seed).integers(-4, 5, (*shape, 1)))
    step = np.abs(inputs["x"]).max(axis=-1, keepdims=True) / 127
    rounded = np.rint(inputs["x"] / step) * step
    want = rounded @ weight + inputs["bias"]
    terms = np.abs(rounded) @ np.abs(weight) + np.abs(inputs["bias"])
    # Where a number lies in the middle of two steps, either is right.
    most = step * np.abs(weight).max(axis=0) + 1e-5 * terms
    assert (np.abs(run(inputs) - want) <= most).all()


@pytest.mark.parametrize("opset", [13, 17, 18, 21])
def test_rows_of_zeros_are_the_bias(opset):
    inputs, _ = product(1, (2, 8), 50)
    inputs["x"][0] = 0
    np.testing.assert_array_equal(run(inputs, opset)[0], inputs["bias"])


def test_no_rows_give_none():
    inputs, _ = product(2, (1, 0, 8), 50)
    assert run(inputs).shape == (1, 0, 50)


@pytest.mark.parametrize("broken", [np.inf, -np.inf, np.nan])
def test_a_number_that_broke_breaks_its_row_alone(broken):
    inputs, _ = product(3, (3, 16), 5)
    before = run(inputs)
    inputs["x"][1, 0] = broken
    after = run(inputs)
    assert not np.isfinite(after[1]).any()
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])


# ---- Encoders


@pytest.fixture
def pair(tmp_path_factory: pytest.TempPathFactory, mode: str, name: str) -> Int8Pair:
    folder = tmp_path_factory.getbasetemp() / "coarse" / name
    return int8_pair(fixture(name), folder, mode, coarse=True)


every_encoder = pytest.mark.parametrize("name", ENCODERS)


@every_encoder
def test_the_form_is_near_the_original(pair, name):
    some = random_samples(pair.before, (1, 7, 33, 60), seed=5)
    for request in [*some, join(some[1:3]), join(some, padded=64 if name != "vit" else 0)]:
        errors = relative_errors(request, pair.ask(request), pair.want(request))
        assert 1e-4 < max(errors) <= NEAR
        assert_identical([pair.ask(request, 0.0)], [pair.want(request)])


@pytest.mark.parametrize("name", ["bert", "llama"])
@pytest.mark.parametrize("mode", ["stock"])
def test_what_follows_products_is_the_originals(pair, name, tmp_path_factory):
    model = ir.load(tmp_path_factory.getbasetemp() / "coarse" / name / "model.onnx")
    (guard,) = (node for node in model.graph if node.op_type == "If")
    branch = guard.attributes["then_branch"].as_graph()
    assert {node.op_type for node in branch if node.domain == DOMAIN} == {"MemoSelfAttention"}
    assert not {node.op_type for node in branch} & {"MatMul", "Gemm", "Softmax"}


def test_no_more_is_stored_than_is_read(tmp_path: Path):
    int8_pair(fixture("bert"), tmp_path / "bert", "stock", coarse=True)
    model = ir.load(tmp_path / "bert" / "model.onnx")
    read = {value.name for value in model.graph.initializers.values() if "memo/int8" in str(value.name)}
    assert {str(name).rsplit(".")[-1] for name in read} == {"packed", "scales", "bias"}
