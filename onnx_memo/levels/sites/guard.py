"""Make regions conditional: look the input up, and compute only on a miss.

Requires: sites of this very model, found on its present graph. Ensures: the model's inputs and
outputs keep their names and order; on a miss exactly the original nodes run. For every guard

1. the key network and `MemoLookup` go before the region, unless the guard shares the entry that the
   guard before it found;
2. `If(every row hit)` takes the place of the region's result, and its name;
3. the then-branch holds the fetch (a branch cannot return an outer value without a copy);
4. the else-branch holds the region's nodes, moved, not copied.

All thresholds are scaled by the optional input `memo_strictness`: 1 (the default) as calibrated, 0 never
reuses, anything between is stricter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnx_memo.graph import flow
from onnx_memo.graph.build import Builder
from onnx_memo.graph.sites import Site
from onnx_memo.keys import fixed as keys
from onnx_memo.operators.bodies import operator_functions
from onnx_memo.operators.spec import DOMAIN, VERSION

FUNCTIONS_SINCE_IR = 8


@dataclass(frozen=True)
class Lookup:
    """What finds an entry, as tensors named after their place in the memo data."""

    reduction: ir.TensorProtocol  # f32[d, r], of the key network, like the next two
    projection: ir.TensorProtocol  # f32[SEGMENTS * r, k]
    bias: ir.TensorProtocol  # f32[k]
    keys: ir.TensorProtocol  # f32[k, N]
    index: ir.TensorProtocol  # u8[S]
    threshold: ir.TensorProtocol  # f32 scalar


@dataclass(frozen=True)
class Guard:
    """A site, the level at which it is guarded, and what it reads."""

    site: Site
    level: str
    payload: ir.TensorProtocol  # f16
    offsets: ir.TensorProtocol  # i64[N], shared by the guards of one level
    lengths: ir.TensorProtocol  # i64[N], shared by all guards
    lookup: Lookup | None  # None: the entry is the one that the guard before it found


STRICTNESS = "memo_strictness"


def entry_name(site_name: str) -> str:
    """The name of the value that holds the entries, int64 [B], which the lookup at a site found."""
    return f"memo/{site_name}/entry"


def insert_guards(model: ir.Model, guards: Sequence[Guard]) -> None:
    """Guard every site of `guards` (in the model's order, the first with a lookup); `model` is changed."""
    Inserter(model).insert(guards)
    add_operators(model)


def add_operators(model: ir.Model) -> None:
    """Give the model the standard bodies of our operators."""
    for function in operator_functions(model.opset_imports[""]):
        model.functions[function.identifier()] = function
    model.opset_imports[DOMAIN] = VERSION
    if model.ir_version < FUNCTIONS_SINCE_IR:
        model.ir_version = FUNCTIONS_SINCE_IR


class Inserter:
    """Inserts guards one by one. What it asks to find the entry, `find`, a trial may override."""

    def __init__(self, model: ir.Model) -> None:
        self.graph = model.graph
        self.opset = model.opset_imports[""]
        self.constant = flow.constant_nodes(model.graph)
        self.initializers: dict[str, ir.Value] = {}
        # Lengths and segment weights, by mask: the same for all its sites.
        self.requests: dict[ir.Value | None, tuple[ir.Value, ir.Value]] = {}
        self.scale: ir.Value | None = None
        self.found: tuple[ir.Value, ir.Value] | None = None  # entry and hit of the newest lookup

    def insert(self, guards: Sequence[Guard]) -> None:
        """Guard the sites, in the model's order."""
        for guard in guards:
            self._insert(guard)

    def _insert(self, guard: Guard) -> None:
        site = guard.site
        if guard.level == "output":
            result, boundary = site.output, [site.hidden]
        else:
            assert site.merged_context is not None and site.values is not None, "checked by Site.levels"
            result, boundary = site.merged_context, [site.hidden, site.values]
        region = flow.region(self.graph, result, boundary, self.constant)
        b = Builder(f"memo/{site.name}", self.opset)
        entry, hit = self.find(b, guard)
        self.make_conditional(b, region, result, hit, self._reuse_branch(guard, entry))

    def make_conditional(
        self, b: Builder, region: Sequence[ir.Node], result: ir.Value, hit: ir.Value, reuse: ir.Graph
    ) -> None:
        """Put the nodes of `b` and `If(hit) { reuse } else { region }` where `region` stood."""
        chosen = ir.val(result.name, ir.DataType.FLOAT, [None, None, _width(reuse)])
        condition = ir.Node(
            "",
            "If",
            [hit],
            [ir.AttrGraph("then_branch", reuse), ir.AttrGraph("else_branch", _empty_branch())],
            outputs=[chosen],
            name=f"{b.prefix}/if",
        )
        self.graph.insert_before(region[-1], [*b.nodes, condition])
        result.replace_all_uses_with(chosen, replace_graph_outputs=True)
        result.name = f"{result.name}/computed"
        self.graph.remove(region)
        compute = condition.attributes["else_branch"].as_graph()
        compute.extend(region)
        compute.outputs.append(result)

    def find(self, b: Builder, guard: Guard) -> tuple[ir.Value, ir.Value]:
        """The entries [B] to reuse at a site, and whether to reuse them."""
        if guard.lookup is not None:
            site = guard.site
            threshold = b.op("Mul", self.initializer(guard.lookup.threshold), self.strictness(b))
            lengths, weights = self.request(b, site.mask, site.hidden)
            query = self.query(b, guard.lookup, weights, site.hidden)
            self.found = self.look_up(b, guard.lookup, query, lengths, guard.lengths, threshold)
        assert self.found is not None, "the first guard looks up"
        return self.found

    def request(self, b: Builder, mask: ir.Value | None, hidden: ir.Value) -> tuple[ir.Value, ir.Value]:
        """The lengths [B] and segment weights of a request, computed once for all sites that share a mask."""
        if mask not in self.requests:
            shared = Builder(f"memo/request.{len(self.requests)}", self.opset)
            self.requests[mask] = keys.emit_segments(shared, mask, hidden)
            b.nodes.extend(shared.nodes)
        return self.requests[mask]

    def query(self, b: Builder, lookup: Lookup, weights: ir.Value, hidden: ir.Value) -> ir.Value:
        """The keys [B, k] of hidden states [B, L, d]."""
        network = (lookup.reduction, lookup.projection, lookup.bias)
        return keys.emit_key(b, weights, hidden, *(self.initializer(part) for part in network))

    def look_up(
        self,
        b: Builder,
        lookup: Lookup,
        query: ir.Value,
        lengths: ir.Value,
        stored: ir.TensorProtocol,
        threshold: ir.Value,
    ) -> tuple[ir.Value, ir.Value]:
        """The nearest entries [B] of the store with lengths `stored`, and whether all rows hit."""
        where = b.prefix.removeprefix("memo/")
        entry, hit = b.ops(
            "MemoLookup",
            query,
            lengths,
            self.initializer(lookup.keys),
            self.initializer(stored),
            threshold,
            self.initializer(lookup.index),
            domain=DOMAIN,
            names=(entry_name(where), f"memo/{where}/hit"),
        )
        return entry, hit

    def strictness(self, b: Builder) -> ir.Value:
        """What thresholds are multiplied with: at most 1, and minus infinity for 0 and below (or NaN)."""
        if self.scale is None:
            given = ir.Value(
                name=STRICTNESS,
                shape=ir.Shape([]),
                type=ir.TensorType(ir.DataType.FLOAT),
                const_value=ir.tensor(np.float32(1), name=STRICTNESS),
            )
            # An input with an initializer is optional for the caller.
            self.graph.inputs.append(given)
            self.graph.register_initializer(given)
            positive = b.op("Greater", given, b.const(0, np.float32))
            capped = b.op("Min", given, b.const(1, np.float32))
            self.scale = b.op("Where", positive, capped, b.const(-np.inf, np.float32))
        return self.scale

    def _reuse_branch(self, guard: Guard, entry: ir.Value) -> ir.Graph:
        site = guard.site
        b = Builder(f"memo/{site.name}/reuse", self.opset)
        stored = [self.initializer(tensor) for tensor in (guard.payload, guard.offsets, guard.lengths)]
        if guard.level == "output":
            fetched = b.op("MemoFetch", entry, *stored, b.dim(site.hidden, 1), domain=DOMAIN)
            width = site.output_width
        else:
            assert site.values is not None and site.merged_context is not None
            fetched = b.op("MemoContext", entry, site.values, *stored, domain=DOMAIN)
            width = site.context_width
        fetched.type = ir.TensorType(ir.DataType.FLOAT)
        fetched.shape = ir.Shape([None, None, width])
        return ir.Graph([], [fetched], nodes=b.nodes, name=f"memo/{site.name}/reuse")

    def initializer(self, tensor: ir.TensorProtocol) -> ir.Value:
        """The initializer of the main graph that holds `tensor`; branches capture it by name."""
        name = str(tensor.name)
        if name not in self.initializers:
            value = ir.Value(
                name=name,
                shape=ir.Shape(tensor.shape.numpy()),
                type=ir.TensorType(tensor.dtype),
                const_value=tensor,
            )
            self.graph.register_initializer(value)
            self.initializers[name] = value
        return self.initializers[name]


def _empty_branch() -> ir.Graph:
    return ir.Graph([], [], nodes=[], name="compute")


def _width(branch: ir.Graph) -> int:
    shape = branch.outputs[0].shape
    assert shape is not None
    return int(shape[2])  # type: ignore[arg-type]
