"""Where rows meet: one layer's attention between its two products.

A core reaches from the product of queries and keys, through scale, bias and softmax, to the product with the
values. `MemoAttention` computes it for the rows that run, so it takes what this allows and refuses the rest.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnx_memo.graph.constants import Constants
from onnx_memo.graph.rowwise import Refused, RowRules, Rows
from onnx_memo.graph.scores import Bias, check_probabilities, scores_before
from onnx_memo.graph.site import Site


@dataclass(frozen=True)
class Core:
    """One layer's attention between its two products. H heads, dk and dv the widths of a head."""

    query: ir.Value  # [B, H, L, dk], or [B * H, L, dk]
    key: ir.Value  # [B, H, dk, L], or [B * H, dk, L]
    value: ir.Value  # [B, H, L, dv], or [B * H, L, dv]
    probabilities: ir.Value  # [B, H, L, L], or [B * H, L, L]
    context: ir.Value  # like `value`
    scale: float  # of the scores
    bias: Bias  # added to the scaled scores
    heads: int
    key_width: int
    value_width: int


class CoreFinder:
    """Finds the cores of one model's sites."""

    def __init__(
        self,
        rules: RowRules,
        constants: Constants,
        forms: Mapping[ir.Value, Rows],
        below: Collection[ir.Value],
    ) -> None:
        """`forms` are those of values made of rows, as far as they are known; `below`, what rows lead to."""
        self.rules, self.constants, self.forms, self.below = rules, constants, forms, below

    def core(self, site: Site) -> Core:
        """The core of a site. Raises Refused where there is none."""
        product = site.context.producer()
        assert product is not None and product.inputs[1] is not None
        value = product.inputs[1]
        check_probabilities(site.softmax, product, self.constants)
        scores = scores_before(site.softmax, self.below, self.constants)
        query, key = scores.product.inputs[0], scores.product.inputs[1]
        assert query is not None and key is not None
        shape = self.rules.shape(query)
        rank = len(shape)
        for part, axis in ((query, rank - 2), (key, rank - 1), (value, rank - 2)):
            if part not in self.forms or self.forms[part] != Rows(axis):
                raise Refused(f"'{part.name}' is not made row by row")
        if scores.bias.values and rank != 4:
            first = scores.bias.values[0]
            raise Refused(f"its heads are folded into the batch, where its bias '{first.name}' has no place")
        return Core(
            query=query,
            key=key,
            value=value,
            probabilities=site.softmax.outputs[0],
            context=product.outputs[0],
            scale=scores.scale,
            bias=scores.bias,
            heads=site.heads,
            key_width=shape[-1],
            value_width=self.rules.shape(value)[-1],
        )


def inner_nodes(sites: Sequence[Site], below: Collection[ir.Value]) -> set[ir.Node]:
    """The nodes of all cores: from the scores to the product with the values, without the latter."""
    inner: set[ir.Node] = set()
    for site in sites:
        product = site.context.producer()
        assert product is not None, "the context is computed"
        todo = [value for value in product.inputs[:1] if value is not None]
        while todo:
            node = todo.pop().producer()
            if node is None or node in inner:
                continue
            inner.add(node)
            if node.op_type != "MatMul":
                todo += [value for value in node.inputs if value is not None and value in below]
    return inner
