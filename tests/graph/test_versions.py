"""A guarded model states no newer version of ONNX than its content needs."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from support import changed, fixture, original

from onnx_memo.graph.load import load_model
from onnx_memo.graph.versions import lower_versions
from onnx_memo.operators.spec import DOMAIN, VERSION


def lowered(opset: int, ir_version: int, *domains: str, dtype: ir.DataType = ir.DataType.FLOAT) -> ir.Model:
    """A model of one node in the main operator set, that imports others as well."""
    x = ir.val("x", dtype, [1])
    node = ir.node("Identity", [x])
    imports = {"": opset, **dict.fromkeys(domains, 1)}
    model = ir.Model(ir.Graph([x], node.outputs, nodes=[node], opset_imports=imports), ir_version=ir_version)
    lower_versions(model)
    return model


@pytest.mark.parametrize(
    ("opset", "stated", "least"),
    [
        (13, 10, 7),
        (17, 10, 8),
        (18, 10, 8),
        (20, 10, 9),
        (21, 11, 10),
        (23, 13, 11),
        (24, 13, 12),
        (17, 8, 8),
    ],
)
def test_the_ir_version_is_that_of_the_opset(opset, stated, least):
    assert lowered(opset, stated).ir_version == least


def test_it_is_never_raised_without_functions_nor_lowered_for_an_unknown_opset():
    assert lowered(21, 8).ir_version == 8
    assert lowered(99, 11).ir_version == 11


def test_element_types_count(tmp_path):
    assert lowered(17, 11, dtype=ir.DataType.FLOAT8E5M2).ir_version == 9
    assert lowered(17, 11, dtype=ir.DataType.UINT4).ir_version == 10

    def hold(model: ir.Model) -> None:
        packed = ir.Tensor(np.ones(4, np.int8).astype(ir.DataType.INT4.numpy()), dtype=ir.DataType.INT4)
        model.graph.insert_before(model.graph[0], ir.node("Constant", [], {"value": packed}))

    model = ir.load(changed("bert", tmp_path / "held.onnx", hold))
    model.ir_version = 12
    lower_versions(model)
    assert model.ir_version == 10


def test_operator_sets_that_no_node_is_of_are_dropped():
    assert lowered(17, 8, "ai.onnx.ml", "com.example").opset_imports == {"": 17}


def test_bundles_need_ir_version_8_for_their_functions(made):
    for name, level in ("bert", "output"), ("bert_dynamo", "rows"), ("vit", "probs"):
        model = onnx.load(made(name, level).bundle / "model.onnx", load_external_data=False)
        assert model.ir_version == 8
        assert {o.domain: o.version for o in model.opset_import} == {"": 17, DOMAIN: VERSION}
    assert onnx.load(fixture("bert_dynamo")).ir_version == 10


def test_weights_that_an_old_ir_version_lists_as_inputs_are_none(tmp_path):
    """They are constants there to ONNX Runtime; since IR version 4 such an input could be overridden."""
    model = onnx.load(fixture("bert"))
    inputs = [value.name for value in model.graph.input]
    for tensor in model.graph.initializer:
        shape = list(tensor.dims)
        model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, shape))
    model.ir_version = 3
    onnx.save(model, tmp_path / "old.onnx")
    loaded = load_model(tmp_path / "old.onnx")
    assert [value.name for value in loaded.graph.inputs] == inputs
    assert [value.name for value in original(tmp_path / "old.onnx").get_inputs()] == inputs
