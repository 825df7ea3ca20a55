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
    bias: ir.Value | None  # added to the scaled scores, [B or 1, H or 1, L or 1, L or 1]
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
        if product.inputs[0] is not site.probabilities and site.softmax not in _leading_to(
            product.inputs[0], product.inputs[1]
        ):
            raise Refused("its values stand left of the probabilities")
        value = product.inputs[1]
        scores, scale, bias = self._scores(site.softmax)
        query, key = scores.inputs[0], scores.inputs[1]
        assert query is not None and key is not None
        shape = self.rules.shape(query)
        rank = len(shape)
        for part, axis in ((query, rank - 2), (key, rank - 1), (value, rank - 2)):
            if part not in self.forms or self.forms[part] != Rows(axis):
                raise Refused(f"'{part.name}' is not made row by row")
        if bias is not None and rank != 4:
            raise Refused(f"its heads are folded into the batch, where its bias '{bias.name}' has no place")
        return Core(
            query=query,
            key=key,
            value=value,
            probabilities=site.softmax.outputs[0],
            context=product.outputs[0],
            scale=scale,
            bias=bias,
            heads=site.heads,
            key_width=shape[-1],
            value_width=self.rules.shape(value)[-1],
        )

    def _scores(self, softmax: ir.Node) -> tuple[ir.Node, float, ir.Value | None]:
        """Back from the softmax to the product of queries and keys: that product, the scale and the bias."""
        scale, bias = 1.0, None
        node = self._maker(softmax.inputs[0])
        while node.op_type != "MatMul":
            rows, beside = self._inputs(node)
            if node.op_type == "Add":
                if bias is not None or scale != 1.0:
                    raise Refused(f"its scores get a second bias, or one that is scaled, in '{node.name}'")
                bias = beside[0]
            elif node.op_type in ("Mul", "Div"):
                scale *= self._factor(node, rows, beside[0])
            node = self._maker(rows)
        return node, scale, bias

    def _maker(self, value: ir.Value | None) -> ir.Node:
        node = value.producer() if value is not None else None
        if node is None:
            raise Refused("its scores are not a product of queries and keys")
        return node

    def _inputs(self, node: ir.Node) -> tuple[ir.Value, Sequence[ir.Value]]:
        """What a node between product and softmax reads: the scores, and what stands beside them."""
        rows = [value for value in node.inputs if value is not None and value in self.below]
        beside = [value for value in node.inputs if value is not None and value not in self.below]
        if len(rows) != 1 or node.op_type not in ("Add", "Mul", "Div", "Cast", "Identity"):
            raise Refused(f"its scores go through '{node.name}' ({node.op_type})")
        return rows[0], beside

    def _factor(self, node: ir.Node, rows: ir.Value, beside: ir.Value) -> float:
        """What a `Mul` or `Div` multiplies the scores with."""
        numbers = self.constants.numbers(beside)
        if numbers is None or len(numbers) != 1 or node.inputs[0] is not rows:
            raise Refused(f"its scores are scaled by no fixed number in '{node.name}'")
        return numbers[0] if node.op_type == "Mul" else 1 / numbers[0]


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


def _leading_to(value: ir.Value | None, stop: ir.Value) -> set[ir.Node]:
    """The few nodes that lead to `value`, up to the first product."""
    found: set[ir.Node] = set()
    todo = [value] if value is not None else []
    while todo:
        node = todo.pop().producer()
        if node is None or node in found or node.op_type == "MatMul":
            continue
        found.add(node)
        todo += [v for v in node.inputs if v is not None and v is not stop]
    return found
