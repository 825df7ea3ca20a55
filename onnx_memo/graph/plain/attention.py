"""The attention operators of ONNX Runtime for encoders: Attention and MultiHeadAttention.

What they compute is said in docs/ContribOperators.md of ONNX Runtime; where that leaves it open (what is
added for what is shut out, say), as its CPU kernels do it (contrib_ops/cpu/bert).
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.graph.plain.biases import LOWEST, added, bias_of, causal, padding
from onnx_memo.graph.plain.heads import attend, merge_heads, split_heads
from onnx_memo.graph.plain.rule import (
    MICROSOFT,
    Kept,
    Rules,
    check_attributes,
    check_inputs,
    optional,
    rank_of,
    required,
    width_of,
)

HEADS = ("num_heads", "unidirectional", "scale", "mask_filter_value")
ATTENTION = (*HEADS, "qkv_hidden_sizes", "do_rotary", "rotary_embedding_dim", "past_present_share_buffer")
SHUT_OUT = -10000.0  # is added where a padding mask is 0, if nothing is said


def _attention(b: Builder, node: ir.Node) -> Sequence[ir.Value | None]:
    """Projections of one weight, and attention."""
    check_inputs(node, {4: "past keys and values", 6: "the length of past keys"}, known=7)
    check_attributes(node, ATTENTION)
    if node.attributes.get_int("do_rotary", 0):
        raise Kept("it rotates queries and keys without being given the angles")
    weight, bias = required(node, 1), optional(node, 2)
    total = width_of(weight)
    if total is None:
        raise Kept(f"the shape of its weight '{weight.name}' is not known")
    sizes = node.attributes.get_ints("qkv_hidden_sizes", ()) or [total // 3] * 3
    if len(sizes) != 3 or min(sizes) < 1 or sum(sizes) != total or sizes[0] != sizes[1]:
        raise Kept(f"its weight of {total} columns does not make parts of {list(sizes)}")
    projected = b.op("MatMul", required(node, 0), weight)
    if bias is not None:
        projected = b.op("Add", projected, bias)
    names = [f"{b.prefix}/{len(b.nodes)}/{part}" for part in ("query", "key", "value")]
    parts = b.ops("Split", projected, b.i64(*sizes), names=names, axis=-1)
    heads = node.attributes.get_int("num_heads", 0)
    query, key, value = (split_heads(b, part, heads, size) for part, size in zip(parts, sizes, strict=True))
    scores = _bias(b, node, optional(node, 3), optional(node, 5), query, key)
    context = attend(b, query, key, value, scale=_scale(node), width=sizes[0] // heads, bias=scores)
    return merge_heads(b, context, sizes[2]), None


def _multi_head_attention(b: Builder, node: ir.Node) -> Sequence[ir.Value | None]:
    """Attention between projections, whose biases may come with them."""
    check_inputs(node, {6: "past keys", 7: "past values", 8: "past keys", 9: "past beams"}, known=10)
    check_attributes(node, HEADS)
    if optional(node, 1) is None or optional(node, 2) is None:
        raise Kept("its queries, keys and values come in one, which ONNX Runtime does not run on a CPU")
    heads, parts = node.attributes.get_int("num_heads", 0), [required(node, at) for at in range(3)]
    in_heads = [at > 0 and rank_of(part) == 4 for at, part in enumerate(parts)]
    widths = [None if apart else width_of(part) for part, apart in zip(parts, in_heads, strict=True)]
    if (bias := optional(node, 3)) is not None:
        widths = _widths(bias, widths)
        parts = _with_biases(b, bias, parts, widths)
    query, key, value = (
        part if apart else split_heads(b, part, heads, width)
        for part, apart, width in zip(parts, in_heads, widths, strict=True)
    )
    scores = _bias(b, node, optional(node, 4), optional(node, 5), query, key)
    width = None if widths[0] is None else widths[0] // heads
    context = attend(b, query, key, value, scale=_scale(node), width=width, bias=scores)
    return merge_heads(b, context, widths[2]), key, value, None


def _scale(node: ir.Node) -> float | None:
    return node.attributes.get_float("scale", 0.0) or None


def _widths(bias: ir.Value, widths: Sequence[int | None]) -> list[int | None]:
    """The widths of queries, keys and values, as far as their biases [sum of the widths] tell them."""
    total, (query, _, value) = width_of(bias), widths
    if total is not None and query is not None:
        value = total - 2 * query
    elif total is not None and value is not None:
        query = (total - value) // 2
    if query is None or value is None:
        raise Kept(f"it is not known which parts of its bias '{bias.name}' are whose")
    return [query, query, value]


def _with_biases(
    b: Builder, bias: ir.Value, parts: Sequence[ir.Value], widths: Sequence[int | None]
) -> list[ir.Value]:
    begin, biased = 0, []
    for part, width in zip(parts, widths, strict=True):
        assert width is not None, "each bias has a width"
        own = b.op("Slice", bias, b.i64(begin), b.i64(begin + width), b.i64(0))
        own.shape, own.type = ir.Shape([width]), ir.TensorType(ir.DataType.FLOAT)
        biased.append(b.op("Add", part, own))
        begin += width
    return biased


def _bias(
    b: Builder,
    node: ir.Node,
    mask: ir.Value | None,
    bias: ir.Value | None,
    query: ir.Value,
    key: ir.Value,
) -> ir.Value | None:
    """What is added to scores: of the mask, the order of positions, and a bias of the caller."""
    biases = [] if bias is None else [bias]
    if mask is not None:
        shut_out = node.attributes.get_float("mask_filter_value", SHUT_OUT)
        biases.append(bias_of(b, padding(b, node, mask, query, key), shut_out))
    if node.attributes.get_int("unidirectional", 0):
        biases.append(bias_of(b, causal(b, query, key), LOWEST))
    return added(b, biases)


RULES: Rules = {
    (MICROSOFT, "Attention"): _attention,
    (MICROSOFT, "MultiHeadAttention"): _multi_head_attention,
}
