"""Products with what was fused into them compute the same in plain operators."""

from __future__ import annotations

import itertools

import onnx_ir as ir
import pytest
from support_plain import OneNode, noise, taken_apart

from onnx_memo.graph.plain.rule import Kept

K = 7


@pytest.mark.parametrize("left", [0, 1])
@pytest.mark.parametrize("right", [0, 1])
@pytest.mark.parametrize("alpha", [1.0, 0.3])
@pytest.mark.parametrize("op", ["FusedMatMul", "TransposeMatMul"])
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_fused_matmul(op, left, right, alpha, batch):
    a = noise(*batch, *((K, 5) if left else (5, K)))
    b = noise(*batch, *((4, K) if right else (K, 4)), seed=1)
    OneNode(op, [a, b], transA=left, transB=right, alpha=alpha).check()


def test_a_weight_is_turned_beside_batches():
    OneNode("FusedMatMul", [noise(2, 3, K), noise(4, K)], transB=1, constants=(1,)).check()


@pytest.mark.parametrize(("left", "right"), list(itertools.product([0, 1], [0, 1])))
def test_fused_matmul_with_rows_before_batches(left, right):
    """transBatch: the first axis holds the rows."""
    a = noise(K, 2, 3, 5) if left else noise(5, 2, 3, K)
    b = noise(4, 2, 3, K, seed=1) if right else noise(K, 2, 3, 4, seed=1)
    OneNode("FusedMatMul", [a, b], transA=left, transB=right, transBatchA=1, transBatchB=1).check()


def test_of_a_turned_weight_the_shape_is_known():
    """What runs rows in 8 bits asks for it."""
    b, _ = taken_apart(OneNode("FusedMatMul", [noise(2, 3, K), noise(4, K)], transB=1, constants=(1,)).node)
    turned = next(made for made in b.nodes if made.op_type == "Transpose")
    assert turned.outputs[0].shape == ir.Shape([K, 4])


def test_what_cannot_be_turned_is_kept():
    node = OneNode("FusedMatMul", [noise(2, 3, K), noise(4, K)], transB=1).node
    node.inputs[1].shape = None
    with pytest.raises(Kept, match=r"'in.1', of which the number of axes is not known"):
        taken_apart(node)


@pytest.mark.parametrize(
    ("activation", "shape"),
    [
        ("Relu", {}),
        ("Tanh", {}),
        ("Sigmoid", {}),
        ("LeakyRelu", {"activation_alpha": 0.2}),
        ("HardSigmoid", {"activation_alpha": 0.3, "activation_beta": 0.4}),
    ],
)
@pytest.mark.parametrize("bias", [noise(4, seed=2), None])
def test_fused_gemm(activation, shape, bias):
    inputs = [noise(K, 5), noise(4, K, seed=1), bias]
    OneNode(
        "FusedGemm", inputs, activation=activation, transA=1, transB=1, alpha=0.5, beta=2.0, **shape
    ).check()


def test_a_gemm_with_an_unknown_activation_is_kept():
    with pytest.raises(Kept, match="'Softsign' is not known"):
        OneNode("FusedGemm", [noise(5, K), noise(K, 4)], activation="Softsign").plain()
