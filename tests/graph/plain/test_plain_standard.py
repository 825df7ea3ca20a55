"""ONNX's own attention computes the same in plain operators."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from support_plain import OneNode, close, noise, taken_apart

from onnx_memo.graph.plain.rule import Kept

B, L, H, W, V = 3, 7, 4, 8, 6
LENGTHS = np.array([4, 7, 1])
REAL = np.arange(L) < LENGTHS[:, None]
LEFT = np.arange(L) >= np.array([[2], [0], [1]])


def attention(
    *,
    rank: int = 3,
    groups: int = H,
    keys: int = L,
    mask: np.ndarray | None = None,
    past: np.ndarray | None = None,
    lengths: np.ndarray | None = None,
    opset: int = 24,
    outputs: int = 1,
    **attributes: object,
) -> OneNode:
    sizes = ((H, L, W), (groups, keys, W), (groups, keys, V))
    parts = [
        noise(B, rows, heads * width, seed=at) if rank == 3 else noise(B, heads, rows, width, seed=at)
        for at, (heads, rows, width) in enumerate(sizes)
    ]
    inputs = [*parts, mask, past, past] + ([lengths] if lengths is not None else [])
    heads = {"q_num_heads": H, "kv_num_heads": groups} if rank == 3 else {}
    return OneNode("Attention", inputs, domain="", opset=opset, outputs=outputs, **{**heads, **attributes})


@pytest.mark.parametrize("rank", [3, 4])
@pytest.mark.parametrize("groups", [H, 2, 1])
@pytest.mark.parametrize("is_causal", [0, 1])
@pytest.mark.parametrize("opset", [23, 24])
def test_attention_of_either_rank_and_of_groups(rank, groups, is_causal, opset):
    attention(rank=rank, groups=groups, is_causal=is_causal, opset=opset).check()


MASKS = {
    "right": np.broadcast_to(REAL[:, None, None], (B, 1, L, L)),
    "left": np.broadcast_to(LEFT[:, None, None], (B, 1, L, L)),
    "square": np.tril(np.ones((L, L), bool), 2),
    "of heads": np.random.default_rng(0).random((H, L, L)) > 0.3,
    "of all": np.random.default_rng(1).random((B, H, L, L)) > 0.3,
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("floats", [False, True])
@pytest.mark.parametrize("is_causal", [0, 1])
@pytest.mark.parametrize("rank", [3, 4])
def test_masks_of_truths_and_of_floats(mask, floats, is_causal, rank):
    """Rows that may attend to nothing count for nobody."""
    allowed = mask & np.tril(np.ones((L, L), bool)) if is_causal else mask
    rows = np.broadcast_to(allowed, (B, H, L, L)).any(axis=-1).all(axis=1)
    given = np.where(mask, noise(*mask.shape), -1e4).astype(np.float32) if floats else mask
    node = attention(rank=rank, mask=given, is_causal=is_causal)
    have, want = node.run_plain()["out.0"], node.run()[0]
    if rank == 4:
        have, want = have.swapaxes(1, 2), want.swapaxes(1, 2)
    close(have, want, rows)


def test_a_mask_may_hold_one_row_for_all():
    """As ONNX has it; ONNX Runtime asks for all rows."""
    want = attention(mask=MASKS["right"]).run()[0]
    close(attention(mask=REAL[:, None, None]).run_plain()["out.0"], want)


@pytest.mark.parametrize("scale", [0.7, None])
@pytest.mark.parametrize("cap", [0.0, 2.0])
def test_scores_are_scaled_and_capped(scale, cap):
    given = {} if scale is None else {"scale": scale}
    attention(softcap=cap, **given).check()


def test_keys_and_values_are_given_on():
    node = attention(groups=2, outputs=3)
    have, want = node.run_plain(), node.run()
    for at in range(3):
        close(have[f"out.{at}"], want[at])


@pytest.mark.parametrize("keys", [3, 9])
def test_keys_of_another_length(keys):
    attention(keys=keys, mask=noise(L, keys)).check()


def test_lengths_of_keys():
    attention(lengths=LENGTHS).check()


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"past": noise(B, H, 2, W)}, "it reads past keys"),
        ({"lengths": LENGTHS, "is_causal": 1}, "taken from a cache"),
        ({"lengths": LENGTHS, "mask": MASKS["right"]}, "taken from a cache"),
        ({"mask": noise(L, L), "softcap": 2.0}, "before or after they add its mask"),
        ({"is_causal": 1, "softcap": 2.0}, "before or after they add its mask"),
        ({"mask": np.ones((L, L), np.int64)}, "neither of floats nor of truths"),
        ({"mask": np.ones((L, 1), bool)}, "one column"),
        ({"q_num_heads": 0}, "its 0 heads do not share 4"),
        ({"kv_num_heads": 3}, "its 4 heads do not share 3"),
        ({"left_window_size": 3}, "its attribute 'left_window_size' is not known"),
    ],
)
def test_what_is_more_than_attention_is_kept(given, reason):
    with pytest.raises(Kept, match=reason):
        taken_apart(attention(**given).node)


@pytest.mark.parametrize("shapes", [(None, 4, 4), ("heads", 4, 4), ("heads", "heads", "others")])
def test_heads_that_are_not_counted_are_kept(shapes):
    node = attention(rank=4).node
    for value, heads in zip(node.inputs[:3], shapes, strict=True):
        value.shape = ir.Shape([B, heads, L, W])
    with pytest.raises(Kept, match="how many heads it has"):
        taken_apart(node)


def test_heads_need_not_be_counted_where_there_are_as_many_keys():
    node = attention(rank=4).node
    for value in node.inputs[:3]:
        value.shape = ir.Shape([B, "heads", L, W])
    b, _ = taken_apart(node)
    assert "Gather" not in {made.op_type for made in b.nodes}


@pytest.mark.parametrize("steps", [("Cast",), ("Cast", "Unsqueeze"), ("Less", "And", "Unsqueeze")])
def test_a_mask_may_be_made_of_plain_nodes_that_do_not_say_its_type(steps):
    node = attention(mask=REAL[:, None, None]).node
    value = ir.val("mask", ir.DataType.INT64, [B, L])
    for step in steps:
        attributes = {"to": ir.DataType.BOOL.value} if step == "Cast" else {}
        value = ir.node(step, [value], attributes).outputs[0]
    node.replace_input_with(3, value)
    taken_apart(node)
