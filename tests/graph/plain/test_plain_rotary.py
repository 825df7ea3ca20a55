"""Rotary positions compute the same in plain operators, in ONNX's form and in ONNX Runtime's."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from support_plain import OneNode, noise, taken_apart

from onnx_memo.graph.plain.rule import Kept

B, L, H, W, FAR = 2, 5, 3, 16, 11
POSITIONS = np.array([[0, 1, 2, 3, 4], [6, 2, 10, 0, 0]])


def tables(half: int = W // 2, rows: int = FAR) -> list[np.ndarray]:
    angles = np.outer(np.arange(rows), 0.5 ** np.arange(half)).astype(np.float32)
    return [np.cos(angles), np.sin(angles)]


def values(rank: int) -> np.ndarray:
    return noise(B, L, H * W) if rank == 3 else noise(B, H, L, W)


@pytest.mark.parametrize("rank", [3, 4])
@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("positions", [POSITIONS, np.array([3]), np.array([0])], ids=["each", "3", "0"])
@pytest.mark.parametrize("turned", [0, 8, W])
def test_onnx_runtimes(rank, interleaved, positions, turned):
    part = {"rotary_embedding_dim": turned, "num_heads": H} if turned else {}
    cos, sin = tables((turned or W) // 2)
    inputs = [values(rank), positions, cos, sin]
    OneNode("RotaryEmbedding", inputs, constants=(2, 3), interleaved=interleaved, **part).check()


@pytest.mark.parametrize("rank", [3, 4])
@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("positions", [POSITIONS, None])
@pytest.mark.parametrize("turned", [0, 8, W])
def test_onnxs(rank, interleaved, positions, turned):
    part = {"rotary_embedding_dim": turned} if turned else {}
    heads = {"num_heads": H} if rank == 3 else {}
    cos, sin = tables((turned or W) // 2)
    if positions is None:
        cos, sin = cos[POSITIONS], sin[POSITIONS]
    OneNode(
        "RotaryEmbedding",
        [values(rank), cos, sin, positions],
        domain="",
        opset=23,
        interleaved=interleaved,
        **part,
        **heads,
    ).check()


@pytest.mark.parametrize(
    ("given", "reason"), [({"scale": 2.0}, "it scales"), ({"is_packed_batching": 1}, "batch is packed")]
)
def test_what_is_not_the_same_everywhere_is_kept(given, reason):
    node = OneNode("RotaryEmbedding", [values(3), POSITIONS, *tables()], **given).node
    with pytest.raises(Kept, match=reason):
        taken_apart(node)


@pytest.mark.parametrize(("at", "reason"), [(1, "axes of its positions"), (2, "how many angles")])
def test_what_is_not_known_is_kept(at, reason):
    node = OneNode("RotaryEmbedding", [values(3), POSITIONS, *tables()]).node
    node.inputs[at].shape = None
    with pytest.raises(Kept, match=reason):
        taken_apart(node)


def test_heads_that_are_not_told_apart_are_kept():
    node = OneNode("RotaryEmbedding", [values(4), *tables(), POSITIONS], domain="", opset=23).node
    node.inputs[0].shape = ir.Shape([B, L, H * W])
    with pytest.raises(Kept, match="how many heads"):
        taken_apart(node)
