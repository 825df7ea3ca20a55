"""ONNX Runtime's attention operators for encoders compute the same in plain operators."""

from __future__ import annotations

import itertools

import numpy as np
import onnx_ir as ir
import pytest
from support_plain import OneNode, close, noise, taken_apart

from onnx_memo.graph.plain.rule import Kept

B, L, H, W = 3, 7, 4, 8
D = H * W
NAMED = {B: "batch", L: "length"}
LENGTHS = np.array([4, 7, 1], np.int32)
REAL = np.arange(L) < LENGTHS[:, None]
HOLES = REAL * np.array([1, 0, 1, 1, 0, 1, 1])
BEGIN = np.array([1, 2, 0], np.int32)  # of sequences that are padded on the left
MASKS = {
    "none": None,
    "lengths": LENGTHS,
    "ends and starts": np.concatenate([np.maximum(LENGTHS, 3), BEGIN]),
    "raw": REAL.astype(np.int32),
    "holes": HOLES.astype(np.int32),
    "left padding": (np.arange(L) >= BEGIN[:, None]).astype(np.int32),
    "numbers": (REAL * 3 - ~REAL).astype(np.int32),
    "three axes": (REAL[:, None] & np.tril(np.ones((L, L), bool), 2)).astype(np.int32),
    "one column": np.ones((B, 1), np.int32),
}


def attending(mask: np.ndarray | None) -> np.ndarray | None:
    """The rows that may attend to something, where not all may: of others only rounding is left."""
    left = mask is not None and any(mask is MASKS[name] for name in ("ends and starts", "left padding"))
    return np.arange(L) >= BEGIN[:, None] if left else None


def attention(
    *,
    mask: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    attention_bias: np.ndarray | None = None,
    sizes: tuple[int, int, int] = (D, D, D),
    hidden: int = 24,
    past: np.ndarray | None = None,
    free: dict[int, str] = NAMED,
    **attributes: object,
) -> OneNode:
    weight = noise(hidden, sum(sizes), seed=1, scale=0.3)
    given = {} if sizes == (D, D, D) else {"qkv_hidden_sizes": sizes}
    inputs = [noise(B, L, hidden), weight, bias, mask, past, attention_bias]
    return OneNode(
        "Attention", inputs, constants=(1, 2), free=free, **{"num_heads": H, **given, **attributes}
    )


def heads(
    parts: list[np.ndarray | None],
    *,
    mask: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    attention_bias: np.ndarray | None = None,
    outputs: int = 1,
    **attributes: object,
) -> OneNode:
    inputs = [*parts, bias, mask, attention_bias]
    return OneNode(
        "MultiHeadAttention",
        inputs,
        constants=(3,),
        free=NAMED,
        outputs=outputs,
        num_heads=H,
        **attributes,
    )


def parts(width: int = D, values: int = D, keys: int = L) -> list[np.ndarray]:
    return [noise(B, L, width), noise(B, keys, width, seed=1), noise(B, keys, values, seed=2)]


# ---- Attention


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("unidirectional", [0, 1])
@pytest.mark.parametrize("attention_bias", [None, noise(1, H, L, L, seed=3)])
def test_attention_with_every_form_of_mask(mask, unidirectional, attention_bias):
    free = {} if mask is not None and mask.shape == (2 * B,) else NAMED
    attention(
        mask=mask,
        unidirectional=unidirectional,
        attention_bias=attention_bias,
        bias=noise(3 * D),
        free=free,
    ).check(attending(mask))


def test_a_fixed_batch_tells_what_a_mask_holds():
    attention(mask=LENGTHS, free={}).check()
    with pytest.raises(Kept, match="has one axis"):
        taken_apart(attention(mask=MASKS["ends and starts"]).node)


@pytest.mark.parametrize("bias", [noise(3 * D), None])
@pytest.mark.parametrize("scale", [0.7, None])
@pytest.mark.parametrize("shape", [(B, H, L, L), (1, H, L, L), (B, 1, L, L), (1, 1, L, L)])
def test_attention_with_every_bias(bias, scale, shape):
    given = {} if scale is None else {"scale": scale}
    attention(bias=bias, attention_bias=noise(*shape, seed=3), mask=MASKS["raw"], **given).check()


@pytest.mark.parametrize("values", [D, 2 * D, H])
def test_values_may_have_another_width(values):
    attention(sizes=(D, D, values), bias=noise(2 * D + values), mask=LENGTHS).check()


@pytest.mark.parametrize("shut_out", [-10000.0, -3.0])
@pytest.mark.parametrize("mask", ["lengths", "raw"])
def test_what_a_mask_adds_is_the_operators(shut_out, mask):
    attention(mask=MASKS[mask], mask_filter_value=shut_out).check()


def test_the_scores_get_one_bias():
    """What is searched has one: masks and biases are added to each other first."""
    node = attention(mask=LENGTHS, unidirectional=1, attention_bias=noise(1, H, L, L)).node
    b, _ = taken_apart(node)
    (softmax,) = (made for made in b.nodes if made.op_type == "Softmax")
    add = softmax.inputs[0].producer()
    scaled = add.inputs[0].producer()
    assert (add.op_type, scaled.op_type) == ("Add", "Mul")
    assert scaled.inputs[0].producer().op_type == "MatMul"


def test_past_keys_are_kept():
    past = noise(2, B, H, 2, W)
    with pytest.raises(Kept, match="it reads past keys and values"):
        taken_apart(attention(past=past).node)


def test_rotation_is_kept():
    with pytest.raises(Kept, match="rotates"):
        taken_apart(attention(do_rotary=1).node)


def test_heads_that_do_not_fit_are_kept():
    with pytest.raises(Kept, match="its width of 32 is not that of 5 heads"):
        taken_apart(attention(num_heads=5).node)


@pytest.mark.parametrize("sizes", [(D, D, -D), (D, D), (D, 2 * D, D), (D, D, 2 * D)])
def test_sizes_that_cannot_be_are_kept(sizes):
    node = attention().node
    node.attributes["qkv_hidden_sizes"] = ir.AttrInt64s("qkv_hidden_sizes", sizes)
    with pytest.raises(Kept, match="does not make parts of"):
        taken_apart(node)


def test_a_newer_attribute_is_kept():
    node = attention().node
    node.attributes["sparse"] = ir.AttrInt64s("sparse", (1,))
    with pytest.raises(Kept, match="its attribute 'sparse' is not known"):
        taken_apart(node)


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (np.zeros(3 * B + 2, np.int32), "has one axis"),
        (np.ones((B, 1, L, L), np.int32), "has 4 axes"),
    ],
)
def test_masks_that_no_cpu_kernel_takes_are_kept(mask, reason):
    with pytest.raises(Kept, match=reason):
        taken_apart(attention(mask=mask).node)


@pytest.mark.parametrize("shape", [None, [None], ["length"]])
def test_a_mask_of_which_it_is_not_known_what_it_holds_is_kept(shape):
    """Its numbers could be ends and starts, which would make another size at run time."""
    node = attention(mask=LENGTHS).node
    node.inputs[3].shape = None if shape is None else ir.Shape(shape)
    with pytest.raises(Kept, match=r"its mask 'in\.3' has"):
        taken_apart(node)


# ---- MultiHeadAttention


@pytest.mark.parametrize("mask", ["none", "lengths", "raw", "holes", "left padding", "three axes"])
@pytest.mark.parametrize("unidirectional", [0, 1])
@pytest.mark.parametrize("attention_bias", [None, noise(B, H, L, L, seed=3)])
def test_heads_with_every_form_of_mask(mask, unidirectional, attention_bias):
    node = heads(parts(), mask=MASKS[mask], unidirectional=unidirectional, attention_bias=attention_bias)
    node.check(attending(MASKS[mask]))


@pytest.mark.parametrize(("scale", "values"), list(itertools.product([None, 0.4], [D, 2 * D])))
def test_heads_with_biases_of_their_own(scale, values):
    given = {} if scale is None else {"scale": scale}
    heads(parts(values=values), bias=noise(2 * D + values), mask=LENGTHS, **given).check()


@pytest.mark.parametrize("keys", [4, 9])
def test_keys_of_another_length(keys):
    """Cross-attention is plain too; the search refuses it by itself."""
    mask = (np.arange(keys) < np.array([[2], [4], [3]])).astype(np.int32)
    heads(parts(keys=keys), mask=mask, attention_bias=noise(1, 1, L, keys)).check()


@pytest.mark.parametrize("keys", [L, 9])
def test_keys_and_values_may_come_with_their_heads_apart(keys):
    apart = [noise(B, L, D), noise(B, H, keys, W, seed=1), noise(B, H, keys, W, seed=2)]
    heads(apart).check()


def test_keys_and_values_are_given_on():
    heads(parts(), bias=noise(3 * D), outputs=3).check(made=3)


def test_widths_need_not_be_known():
    node = heads(parts(), mask=LENGTHS)
    want = node.run()[0]
    for value in node.proto.graph.input[:3]:
        value.type.tensor_type.shape.dim[2].dim_param = "width"
    close(node.run_plain()["out.0"], want)


@pytest.mark.parametrize("known", [0, 2])
def test_one_width_tells_whose_a_bias_is(known):
    node = heads(parts(values=2 * D), bias=noise(4 * D))
    want = node.run()[0]
    for at, value in enumerate(node.proto.graph.input[:3]):
        if at != known:
            value.type.tensor_type.shape.dim[2].dim_param = f"width.{at}"
    close(node.run_plain()["out.0"], want)


def test_a_bias_of_which_it_is_not_known_whose_it_is_is_kept():
    node = heads(parts(), bias=noise(3 * D)).node
    for at in (0, 1, 2):
        node.inputs[at].shape = None
    with pytest.raises(Kept, match="which parts of its bias"):
        taken_apart(node)


@pytest.mark.parametrize("packed", [[noise(B, L, H, 3, W), None], [noise(B, L, D), noise(B, L, H, 2, W)]])
def test_packed_parts_are_kept(packed):
    """ONNX Runtime has no CPU kernel for them: no model with them can be opened."""
    node = heads([*packed, None])
    with pytest.raises(Exception, match="not implemented for CPU"):
        node.run()
    with pytest.raises(Kept, match="come in one"):
        taken_apart(node.node)
