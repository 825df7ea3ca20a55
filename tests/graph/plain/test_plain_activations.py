"""Activations of ONNX Runtime compute the same in plain operators."""

from __future__ import annotations

import numpy as np
import pytest
from support_plain import OneNode, noise

X = np.concatenate([noise(2, 3, 64), np.linspace(-12, 12, 384, dtype=np.float32).reshape(2, 3, 64)])
BIAS = noise(64, seed=1)


@pytest.mark.parametrize(
    ("op", "inputs"),
    [
        ("Gelu", [X]),
        ("BiasGelu", [X, BIAS]),
        ("FastGelu", [X]),
        ("FastGelu", [X, BIAS]),
        ("QuickGelu", [X]),
    ],
)
@pytest.mark.parametrize("opset", [14, 21])
def test_an_activation(op, inputs, opset):
    OneNode(op, inputs, opset=opset).check()


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_quick_gelu_takes_its_alpha(alpha):
    OneNode("QuickGelu", [X], alpha=alpha).check()
