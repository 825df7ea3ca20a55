"""ONNX Runtime's GroupQueryAttention, where no keys are cached.

What it computes is said in docs/ContribOperators.md of ONNX Runtime; where that leaves it open, as its CPU
kernel does it (contrib_ops/cpu/bert/gqa_attention_base.h).
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.graph.plain.biases import LOWEST, added, bias_of, both, causal, up_to
from onnx_memo.graph.plain.heads import attend, merge_heads, repeat_heads, split_heads
from onnx_memo.graph.plain.rotary import of_first_rows, pairs_of, rotated
from onnx_memo.graph.plain.rule import (
    MICROSOFT,
    Kept,
    Rules,
    check_attributes,
    check_inputs,
    optional,
    required,
    width_of,
)

OTHERS = {
    3: "past keys",
    4: "past values",
    9: "positions",
    11: "sinks of its heads",
    12: "scales of quantized keys",
    13: "scales of quantized values",
    14: "scales of normalized queries",
    15: "scales of normalized keys",
    16: "lengths of queries",
}
# Attributes that make it something else, but for this value; and those of what the other inputs are for.
PLAIN = {
    "smooth_softmax": (0, -1),
    "qk_output": (0,),
    "sliding_window_cache": (0,),
    "local_window_size": (-1,),
}
OWN = ("num_heads", "kv_num_heads", "scale", "softcap", "do_rotary", "rotary_interleaved", "causal")
UNUSED = (
    "k_norm_epsilon",
    "q_norm_epsilon",
    "qk_norm_epsilon",
    "kv_cache_bit_width",
    "k_quant_type",
    "v_quant_type",
)


def _grouped(b: Builder, node: ir.Node) -> Sequence[ir.Value | None]:
    check_inputs(node, OTHERS, known=17)
    check_attributes(node, (*OWN, *PLAIN, *UNUSED))
    for name, plain in PLAIN.items():
        if (given := node.attributes.get_int(name, plain[0])) not in plain:
            versions = ", which versions of ONNX Runtime count apart" if name == "local_window_size" else ""
            raise Kept(f"its '{name}' is {given}{versions}")
    heads, groups = (node.attributes.get_int(name, 0) for name in ("num_heads", "kv_num_heads"))
    if groups < 1 or heads < groups or heads % groups:
        raise Kept(f"its {heads} heads do not share {groups}")
    parts, each = _parts(b, node, heads, groups)
    query, key, value = (
        split_heads(b, part, count, None if each is None else count * each)
        for part, count in zip(parts, (heads, groups, groups), strict=True)
    )
    if node.attributes.get_int("do_rotary", 0):
        query, key = _turned(b, node, query, key, each)
    key, value = (repeat_heads(b, part, groups, heads // groups) for part in (key, value))
    allowed = [up_to(b, required(node, 5), key)]
    if node.attributes.get_int("causal", 1):
        allowed.append(causal(b, query, key))
    biases = [bias_of(b, both(b, allowed), LOWEST)]
    if (bias := optional(node, 10)) is not None:
        biases.append(bias)
    context = attend(
        b,
        query,
        key,
        value,
        scale=node.attributes.get_float("scale", 0.0) or None,
        width=each,
        bias=added(b, biases),
        cap=node.attributes.get_float("softcap", 0.0),
    )
    # What is cached behind the last token of a sequence is not said, so keys and values are not given on.
    return merge_heads(b, context, None if each is None else heads * each), None, None, None


def _parts(b: Builder, node: ir.Node, heads: int, groups: int) -> tuple[Sequence[ir.Value], int | None]:
    """Queries, keys and values [B, L, ..], and the width of a head if it is known."""
    query, key, value = required(node, 0), optional(node, 1), optional(node, 2)
    width = width_of(query)
    if key is not None and value is not None:
        return (query, key, value), None if width is None else width // heads
    if width is None:
        raise Kept(f"the width of '{query.name}' is not known, which holds queries, keys and values")
    each = width // (heads + 2 * groups)
    sizes = b.i64(heads * each, groups * each, groups * each)
    names = [f"{b.prefix}/{len(b.nodes)}/{part}" for part in ("query", "key", "value")]
    return b.ops("Split", query, sizes, names=names, axis=-1), each


def _turned(
    b: Builder, node: ir.Node, query: ir.Value, key: ir.Value, each: int | None
) -> tuple[ir.Value, ir.Value]:
    """Queries and keys with their positions, which begin with 0 where no keys are cached."""
    tables = required(node, 7), required(node, 8)
    half = pairs_of(tables[0])
    cos, sin = (of_first_rows(b, table, b.dim(query, 2)) for table in tables)
    interleaved = bool(node.attributes.get_int("rotary_interleaved", 0))
    turned = [
        rotated(b, part, cos, sin, half, interleaved=interleaved, whole=each == 2 * half)
        for part in (query, key)
    ]
    return turned[0], turned[1]


RULES: Rules = {(MICROSOFT, "GroupQueryAttention"): _grouped}
