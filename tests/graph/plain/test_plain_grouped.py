"""GroupQueryAttention without a cache computes the same in plain operators."""

from __future__ import annotations

import numpy as np
import pytest
from support_plain import OneNode, close, noise, taken_apart

from onnx_memo.graph.plain.rule import Kept

B, L, W = 3, 7, 16
LENGTHS = np.array([4, 7, 1])
REAL = np.arange(L) < LENGTHS[:, None]
FAR = 12


def grouped(
    heads: int = 4,
    groups: int = 2,
    *,
    lengths: np.ndarray = LENGTHS,
    packed: bool = False,
    tables: list[np.ndarray] | None = None,
    bias: np.ndarray | None = None,
    past: np.ndarray | None = None,
    sinks: np.ndarray | None = None,
    **attributes: object,
) -> OneNode:
    widths = [min(count, 64) * W for count in (heads, groups, groups)]
    parts = [noise(B, L, width, seed=at) for at, width in enumerate(widths)]
    inputs = [
        *([np.concatenate(parts, axis=2), None, None] if packed else parts),
        *(past, past),
        (lengths - 1).astype(np.int32),
        np.array(L, np.int32),
        *(tables or [None, None]),
        *(None, bias, sinks),
    ]
    return OneNode(
        "GroupQueryAttention",
        inputs,
        constants=(7, 8),
        outputs=3,
        num_heads=heads,
        kv_num_heads=groups,
        **attributes,
    )


def angles(half: int) -> list[np.ndarray]:
    turns = np.outer(np.arange(FAR), 0.5 ** np.arange(half)).astype(np.float32)
    return [np.cos(turns), np.sin(turns)]


def check(node: OneNode, rows: np.ndarray = REAL) -> None:
    """Rows of padding come out as they may."""
    have, (want, *_) = node.run_plain(), node.run()
    assert list(have) == ["out.0"]
    close(have["out.0"], want, rows)


@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (4, 2), (4, 1), (6, 3)])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("lengths", [LENGTHS, np.full(B, L)], ids=["padded", "full"])
def test_groups_of_heads(heads, groups, packed, lengths):
    check(grouped(heads, groups, packed=packed, lengths=lengths), np.arange(L) < lengths[:, None])


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("half", [8])
@pytest.mark.parametrize("packed", [False, True])
def test_queries_and_keys_turn_with_their_positions(interleaved, half, packed):
    check(
        grouped(tables=angles(half), packed=packed, do_rotary=1, rotary_interleaved=interleaved),
    )


@pytest.mark.parametrize("scale", [0.7, 0.0])
@pytest.mark.parametrize("cap", [0.0, 2.0])
@pytest.mark.parametrize("bias", [None, noise(1, 4, L, L, seed=5), noise(B, 1, L, L, seed=6)])
def test_scores_are_scaled_capped_and_biased(scale, cap, bias):
    check(grouped(scale=scale, softcap=cap, bias=bias))


def test_attention_may_go_both_ways():
    node = grouped(causal=0)
    try:
        node.run()
    except Exception:
        pytest.skip("this version of ONNX Runtime does not know it")
    check(node)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"past": noise(B, 2, 3, W)}, "it reads past keys"),
        ({"sinks": noise(4)}, "it reads sinks of its heads"),
        ({"local_window_size": 3}, "its 'local_window_size' is 3, which versions"),
        ({"smooth_softmax": 1}, "its 'smooth_softmax' is 1"),
        ({"groups": 3}, "its 4 heads do not share 3"),
        ({"groups": 0}, "its 4 heads do not share 0"),
        ({"heads": 2**40, "groups": 2**20, "packed": True}, "it has 1099511627776 heads"),
        ({"chunked": 1}, "its attribute 'chunked' is not known"),
    ],
)
def test_what_is_more_than_attention_is_kept(given, reason):
    with pytest.raises(Kept, match=reason):
        taken_apart(grouped(**given).node)


def test_packed_parts_of_unknown_width_are_kept():
    node = grouped(packed=True).node
    node.inputs[0].shape = None
    with pytest.raises(Kept, match=r"the width of 'in\.0' is not known"):
        taken_apart(node)
