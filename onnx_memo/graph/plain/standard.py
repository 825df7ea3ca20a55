"""ONNX's own Attention, of opsets 23 and 24, where no keys are cached."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.graph.plain.biases import LOWEST, added, before, bias_of, both, causal
from onnx_memo.graph.plain.heads import attend, merge_heads, repeat_heads, split_heads
from onnx_memo.graph.plain.rule import (
    Kept,
    Rules,
    check_attributes,
    check_inputs,
    optional,
    rank_of,
    required,
    type_of,
    width_of,
)

OWN = ("is_causal", "scale", "softcap", "q_num_heads", "kv_num_heads")
ATTRIBUTES = (*OWN, "qk_matmul_output_mode", "softmax_precision")


def _attention(b: Builder, node: ir.Node) -> Sequence[ir.Value | None]:
    check_inputs(node, {4: "past keys", 5: "past values"}, known=7)
    check_attributes(node, ATTRIBUTES)
    parts = [required(node, at) for at in range(3)]
    heads, groups = _heads(node, parts)
    if rank_of(parts[0]) == 4:
        query, key, value = parts
        each = [width_of(part) for part in parts]
    else:
        counts, widths = (heads, groups, groups), [width_of(part) for part in parts]
        query, key, value = (
            split_heads(b, part, count, width)
            for part, count, width in zip(parts, counts, widths, strict=True)
        )
        each = [
            None if width is None else width // count for count, width in zip(counts, widths, strict=True)
        ]
    cap, bias = node.attributes.get_float("softcap", 0.0), _bias(b, node, query, key)
    if cap and bias is not None:
        raise Kept("it caps scores, which versions of ONNX Runtime do before or after they add its mask")
    context = attend(
        b,
        query,
        repeat_heads(b, key, groups, heads // groups),
        repeat_heads(b, value, groups, heads // groups),
        scale=node.attributes.get_float("scale", 0.0) if "scale" in node.attributes else None,
        width=each[0],
        bias=bias,
        cap=cap,
    )
    if rank_of(parts[0]) != 4:
        context = merge_heads(b, context, None if each[2] is None else heads * each[2])
    return context, key, value, None


def _heads(node: ir.Node, parts: Sequence[ir.Value]) -> tuple[int, int]:
    """The numbers of heads of queries, and of keys and values."""
    if rank_of(parts[0]) == 4:
        sizes = [part.shape[1] if part.shape is not None else None for part in parts]
        if sizes[0] is not None and sizes[0] == sizes[1] == sizes[2] and sizes[0] != ir.SymbolicDim(None):
            return 1, 1  # as many, whatever the number: none is repeated
    else:
        sizes = [node.attributes.get_int(name, 0) for name in ("q_num_heads", "kv_num_heads")]
    heads, groups = sizes[:2]
    if not isinstance(heads, int) or not isinstance(groups, int):
        raise Kept("it is not known how many heads it has")
    if groups < 1 or heads < groups or heads % groups:
        raise Kept(f"its {heads} heads do not share {groups}")
    return heads, groups


def _bias(b: Builder, node: ir.Node, query: ir.Value, key: ir.Value) -> ir.Value | None:
    """What is added to scores; rows that may attend to nothing at all get it for all, and so attend to all.

    ONNX has them make zeros instead. They are rows of padding, whose results nobody may read.
    """
    mask, lengths = optional(node, 3), optional(node, 6)
    is_causal = bool(node.attributes.get_int("is_causal", 0))
    if lengths is not None and (mask is not None or is_causal):
        raise Kept("its keys are taken from a cache, as its 'nonpad_kv_seqlen' beside a mask or order says")
    allowed: list[ir.Value] = []
    biases: list[ir.Value] = []
    if mask is not None and width_of(mask) == 1:
        raise Kept(f"its mask '{mask.name}' has one column, for all keys or for the first alone")
    if mask is not None:
        match type_of(mask):
            case ir.DataType.BOOL:
                allowed.append(mask)
            case ir.DataType.FLOAT:
                nothing = b.const(np.zeros((1, 1, 1, 1)), np.float32)  # gives it its rank
                biases.append(mask if rank_of(mask) == 4 else b.op("Add", mask, nothing))
            case kind:
                raise Kept(f"its mask '{mask.name}' is neither of floats nor of truths, but {kind}")
    if is_causal:
        allowed.append(causal(b, query, key))
    if lengths is not None:
        allowed.append(before(b, lengths, key))
    if allowed:
        biases.append(bias_of(b, both(b, allowed), LOWEST))
    return added(b, biases)


RULES: Rules = {("", "Attention"): _attention}
