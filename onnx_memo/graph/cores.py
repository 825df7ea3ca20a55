"""Where rows meet: one layer's attention.

A core reaches from the product of queries and keys, through scale, bias and softmax, to the product with the
values. `MemoAttention` computes it for the rows that run, so it takes what this allows and refuses the rest.
What is refused may still be run as it is, for whole sequences: a mixing. Where each row that asks needs no
other that does (`onnx_memo.graph.asking`), so may some of its rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnx_memo.graph import flow
from onnx_memo.graph.asking import Asking, find_asking
from onnx_memo.graph.constants import Constants
from onnx_memo.graph.rowwise import Refused, RowRules, Rows
from onnx_memo.graph.scores import Bias, check_probabilities, scores_before
from onnx_memo.graph.site import Site


@dataclass(frozen=True)
class Meeting(ABC):
    """One layer's attention. H heads, dk and dv the widths of a head."""

    probabilities: ir.Value  # [B, H, L, L], or [B * H, L, L]
    context: ir.Value  # [B, H, L, dv], or [B * H, L, dv]
    heads: int
    value_width: int

    @property
    @abstractmethod
    def reads(self) -> Sequence[ir.Value]:
        """What it reads that is made of rows."""

    @property
    @abstractmethod
    def beside(self) -> Sequence[ir.Value]:
        """What else it reads."""


@dataclass(frozen=True)
class Core(Meeting):
    """Attention between its two products."""

    query: ir.Value  # [B, H, L, dk], or [B * H, L, dk]
    key: ir.Value  # [B, H, dk, L], or [B * H, dk, L]
    value: ir.Value  # like `context`
    scale: float  # of the scores
    bias: Bias  # added to the scaled scores
    key_width: int

    @property
    def reads(self) -> Sequence[ir.Value]:
        """Queries, keys and values."""
        return self.query, self.key, self.value

    @property
    def beside(self) -> Sequence[ir.Value]:
        """What the bias is made of."""
        return self.bias.values


@dataclass(frozen=True)
class Mixing(Meeting):
    """Attention of another kind, as the model has it.

    Attributes:
        nodes: all from what it reads to the context, in order.
        rows: what it reads that is made of rows.
        others: what else it reads.
        why: it is no core.
        asking: how some rows ask all others; None: they cannot be run without the others that ask,
        why_no_rows: for that reason.
    """

    nodes: tuple[ir.Node, ...]
    rows: tuple[ir.Value, ...]
    others: tuple[ir.Value, ...]
    why: str
    asking: Asking | None
    why_no_rows: str | None

    @property
    def reads(self) -> Sequence[ir.Value]:
        """As of any attention."""
        return self.rows

    @property
    def beside(self) -> Sequence[ir.Value]:
        """As of any attention."""
        return self.others


class MeetingFinder:
    """Finds the attention of one model's sites."""

    def __init__(
        self,
        graph: ir.Graph,
        rules: RowRules,
        constants: Constants,
        forms: Mapping[ir.Value, Rows],
        below: Collection[ir.Value],
    ) -> None:
        """`forms` are those of values made of rows, as far as they are known; `below`, what rows lead to."""
        self.rules, self.constants, self.forms, self.below = rules, constants, forms, below
        self.place = {node: at for at, node in enumerate(graph)}
        self.constant = flow.constant_nodes(graph)

    def meeting(self, site: Site) -> Meeting:
        """The attention of a site. Raises Refused where it is made of more than rows."""
        try:
            return self._core(site)
        except Refused as refused:
            return self._mixing(site, str(refused))

    def _core(self, site: Site) -> Core:
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

    def _mixing(self, site: Site, why: str) -> Mixing:
        touched = _Touched(self.forms)
        asking, stuck = None, None
        try:
            asking = find_asking(site.context, self.rules, self.forms, touched, self.place, self.constant)
            nodes, rows = asking.nodes, (*asking.asking, *asking.kept)
        except Refused as refused:
            stuck = f"{site.name}: {refused}"
            nodes, rows = self._between(site.context, touched)
        ordered = sorted(nodes, key=self.place.__getitem__)
        read = dict.fromkeys(value for node in ordered for value in flow.inputs_of(node))
        others = [value for value in read if value not in rows and value.producer() not in nodes]
        shape, batch = self.rules.shape(site.context), self.rules.batch
        apart = all(self.forms[value].axis is not None and not self.forms[value].merged for value in rows)
        in_heads = shape[:-2] in ((batch, site.heads), (batch * site.heads,))
        branches = any(a.type == ir.AttributeType.GRAPH for node in nodes for a in node.attributes.values())
        if branches or not (apart and in_heads) or any(touched(value) for value in others):
            raise Refused(why)
        return Mixing(
            probabilities=site.softmax.outputs[0],
            context=site.context,
            heads=site.heads,
            value_width=shape[-1],
            nodes=tuple(ordered),
            rows=tuple(dict.fromkeys(rows)),
            others=tuple(others),
            why=f"{site.name}: {why}",
            asking=asking,
            why_no_rows=stuck,
        )

    def _between(self, context: ir.Value, touched: _Touched) -> tuple[set[ir.Node], tuple[ir.Value, ...]]:
        """The nodes between values made of rows and a context, and these values."""
        nodes, rows = set[ir.Node](), dict[ir.Value, None]()
        todo = [context]
        while todo:
            value = todo.pop()
            node = value.producer()
            if value in self.forms:
                rows[value] = None
            elif node is not None and node not in nodes and touched(value):
                nodes.add(node)
                todo += flow.inputs_of(node)
        return nodes, tuple(rows)


class _Touched:
    """Whether values depend on those made of rows, or on sizes of what does.

    The sizes of rows themselves are known without them (`onnx_memo.graph.shape_reads`).
    """

    def __init__(self, forms: Collection[ir.Value]) -> None:
        self.forms = forms
        self.known: dict[ir.Value, bool] = {}

    def __call__(self, value: ir.Value) -> bool:
        todo = [value]
        while todo:
            current = todo[-1]
            node = current.producer()
            if current in self.forms or node is None or current in self.known:
                self.known.setdefault(current, current in self.forms)
                todo.pop()
                continue
            if node.op_type in flow.SHAPE_READERS and node.inputs[0] in self.forms:
                self.known[current] = False
                continue
            fresh = [before for before in flow.inputs_of(node) if before not in self.known]
            if not fresh:
                self.known[current] = any(self.known[before] for before in flow.inputs_of(node))
            todo += fresh
        return self.known[value]


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
