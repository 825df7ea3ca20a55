"""A model of half precision, written as ONNX Runtime computes it, has its bits however it is optimized."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from support import assert_identical, join, original, random_samples
from support_halves import halved

from onnx_memo.errors import MemoError
from onnx_memo.graph.load import load_model
from onnx_memo.graph.plain.halves import as_computed
from onnx_memo.sessions import open_session

LENGTHS = (3, 5, 9, 11, 16, 16, 23)
LEVELS = ("DISABLE_ALL", "ENABLE_BASIC", "ENABLE_EXTENDED", "ENABLE_ALL")


def session(model, folder, level="ENABLE_ALL"):
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_{level}")
    return open_session(model, folder, options)


def large(model):
    return [
        value.const_value for value in model.graph.initializers.values() if value.const_value.size >= 1024
    ]


@pytest.mark.parametrize("name", ["bert_opset11", "llama", "mpnet", "deberta_v2"])
def test_the_bits_are_the_originals_at_every_level_of_optimization(name, tmp_path):
    path = halved(name, tmp_path)
    before, computed = original(path), as_computed(path, load_model(path))
    samples = random_samples(before, LENGTHS, seed=1)
    for level in LEVELS:
        after = session(computed, tmp_path, level)
        for request in (*samples, join(samples[:4])):
            assert_identical(after.run(None, request), before.run(None, request))


def test_they_are_where_all_sizes_are_stated(tmp_path):
    path = halved("llama", tmp_path, length=16)
    before, computed = original(path), as_computed(path, load_model(path))
    after = session(computed, tmp_path)
    for request in random_samples(before, [16] * 6, seed=1):
        assert_identical(after.run(None, request), before.run(None, request))


@pytest.mark.parametrize("apart", [False, True])
def test_its_weights_are_the_models_own(apart, tmp_path):
    path = halved("llama", tmp_path, apart=apart)
    model = load_model(path)
    computed = as_computed(path, model)
    own = {id(tensor) for tensor in large(model)}
    assert large(computed) and {id(tensor) for tensor in large(computed)} <= own
    assert all(isinstance(tensor, ir.ExternalTensor) is apart for tensor in large(computed))
    request = random_samples(original(path), [9], seed=1)[0]
    after = session(computed, tmp_path)
    assert_identical(after.run(None, request), original(path).run(None, request))


def test_weights_that_were_turned_take_no_more_room(tmp_path):
    rng = np.random.default_rng(0)
    weight = (rng.standard_normal((48, 32)) / 8).astype(np.float16)
    path = tmp_path / "turned.onnx"
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Transpose", ["weight"], ["turned"], perm=[1, 0]),
            onnx.helper.make_node("MatMul", ["x", "turned"], ["product"]),
            onnx.helper.make_node("Cast", ["product"], ["y"], to=onnx.TensorProto.FLOAT),
        ],
        "turned",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT16, ["rows", 32])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["rows", 48])],
        [onnx.numpy_helper.from_array(weight, "weight")],
    )
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path
    )
    computed = as_computed(path, load_model(path))
    (kept,) = large(computed)
    assert kept.dtype == ir.DataType.FLOAT16
    np.testing.assert_array_equal(kept.numpy(), weight.T)
    request = {"x": rng.standard_normal((7, 32)).astype(np.float16)}
    assert_identical(session(computed, tmp_path).run(None, request), original(path).run(None, request))


def test_types_and_domains_are_stated(tmp_path):
    path = halved("deberta_v2", tmp_path)
    computed = as_computed(path, load_model(path))
    assert "com.microsoft" in {node.domain for node in computed.graph} <= set(computed.opset_imports)
    floats = {ir.DataType.FLOAT, ir.DataType.FLOAT16}
    made = {value.name: value.dtype for node in computed.graph for value in node.outputs if value.name}
    assert floats <= set(made.values())
    for node in computed.graph:
        if node.op_type in ("MatMul", "Add", "Mul", "LayerNormalization", "SkipLayerNormalization"):
            assert node.outputs[0].dtype is not None, node


def test_it_is_of_no_processors_layout(tmp_path):
    path = halved("vit", tmp_path)
    computed = as_computed(path, load_model(path))
    assert [node.domain for node in computed.graph if node.op_type == "Conv"] == [""]
    after = session(computed, tmp_path)
    for request in random_samples(original(path), [0] * 8, seed=1):
        assert_identical(after.run(None, request), original(path).run(None, request))


def test_what_asks_for_nothing_is_constant(tmp_path):
    """No request tells anything."""
    half = onnx.numpy_helper.from_array(np.ones((4, 4), np.float16), "half")
    node = onnx.helper.make_node("MatMul", ["half", "half"], ["y"])
    made = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT16, [4, 4])
    graph = onnx.helper.make_graph([node], "constant", [], [made], [half])
    path = tmp_path / "constant.onnx"
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path
    )
    computed = as_computed(path, load_model(path))
    assert_identical(session(computed, tmp_path).run(None, {}), original(path).run(None, {}))


def test_what_onnx_runtime_does_not_load_is_one_line(tmp_path):
    path = halved("mpnet", tmp_path)
    model = load_model(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(MemoError, match="is of half precision, and how ONNX Runtime computes it") as failure:
        as_computed(path, model)
    assert "\n" not in str(failure.value)
