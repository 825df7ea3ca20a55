"""MemoExact: products in 8 bits run where they are wanted, and exact."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from support import MODES, run_operator

from onnx_memo.operators.bodies import operator_functions
from onnx_memo.operators.reference import memo_exact


@pytest.mark.parametrize("strictness", [1.0, 0.5, 1e-30, 0.0, -1.0, -np.inf, np.nan])
@pytest.mark.parametrize("mode", MODES)
def test_it_is_whether_the_strictness_is_above_zero(mode, strictness):
    given = np.asarray(strictness, np.float32)

    found = run_operator("MemoExact", mode, given)

    assert found.shape == () and bool(found) is (strictness > 0) is bool(memo_exact(given))


class MatMulInteger(OpRun):
    """As on processors where two products of bytes are added in 16 bits."""

    def _run(self, rows, weights):
        products = rows.astype(np.int32)[:, :, None] * weights.astype(np.int32)
        pairs = products[:, 0::2] + products[:, 1::2]
        return (np.clip(pairs, -32768, 32767).sum(axis=1, dtype=np.int32),)


@pytest.mark.parametrize(("operators", "runs"), [([], True), ([MatMulInteger], False)])
def test_the_body_sees_sums_that_are_cut_off(operators, runs):
    (function,) = operator_functions(17, ["MemoExact"])
    nodes = [ir.to_proto(node) for node in function]
    given = onnx.helper.make_tensor_value_info("strictness", onnx.TensorProto.FLOAT, [])
    made = onnx.helper.make_tensor_value_info(str(function.outputs[0].name), onnx.TensorProto.BOOL, [])
    graph = onnx.helper.make_graph(nodes, "body", [given], [made])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])

    (found,) = ReferenceEvaluator(model, new_ops=operators).run(None, {"strictness": np.float32(1)})

    assert bool(found) is runs
