"""Make a region conditional: look the input up, and compute only on a miss.

What all levels share of inserting guards. Requires: a region of this very model, found on its present graph.
Ensures: the model's inputs and outputs keep their names and order; on a miss exactly the original nodes run.

1. The key network and `MemoLookup` go before the region.
2. `If(hit)` takes the place of the region's result, and its name.
3. The then-branch holds what reuses (a branch cannot return an outer value without a copy).
4. The else-branch holds the region's nodes, moved, not copied.

Thresholds and bounds are scaled by the optional input `memo_strictness`: 1 (the default) as calibrated, 0
never reuses, anything between is stricter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from onnx_memo.errors import MemoError
from onnx_memo.graph import flow
from onnx_memo.graph.build import Builder, register
from onnx_memo.graph.by_sequence import Reads, reads_by_sequence
from onnx_memo.graph.encoder import Encoder
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.graph.plain.floats import HALVES
from onnx_memo.graph.quantizers import take_in_dequantized
from onnx_memo.graph.scores import Bias
from onnx_memo.graph.shape_reads import read_shapes_at
from onnx_memo.graph.shapes import Shape
from onnx_memo.graph.versions import lower_versions
from onnx_memo.keys.nodes import emit_key, emit_segments
from onnx_memo.levels.apart import Apart, AsAWhole
from onnx_memo.levels.lookup import Lookup
from onnx_memo.operators.bodies import operator_functions
from onnx_memo.operators.spec import DOMAIN, NO_ENTRY, VERSION

STRICTNESS = "memo_strictness"
LITERAL = 1e-9  # a strictness at which only what is stored literally is reused


def entry_name(site_name: str) -> str:
    """The name of the value that holds the entries, int64 [B], which the lookup at a site found."""
    return f"memo/{site_name}/entry"


def check_original(opened: OpenedModel) -> None:
    """Raises MemoError if a model is guarded already."""
    # Not by the operators' domain: ONNX Runtime, saving a model, names all domains that it knows.
    if any(value.name == STRICTNESS for value in opened.model.graph.inputs):
        raise MemoError(f"'{opened.path}' is the model of a bundle, guarded already: name the original model")


def mask_of(model: ir.Model) -> str | None:
    """The name of the input that a guarded model reads as its padding mask; None if there is none.

    None as well where there are several: then the user named none, and they are found as they were.
    """
    masks = masks_of(model)
    return masks[0] if len(masks) == 1 else None


def masks_of(model: ir.Model) -> list[str]:
    """The names of the inputs that a guarded model reads as padding masks: several spans may have several."""
    found: dict[str, None] = {}
    for node in model.graph:
        if node.op_type == "MemoSegments" and node.inputs[0] is not None:
            found.update((str(value.name), None) for value in flow.sources(node.inputs[0], ()))
    return list(found)


def add_operators(model: ir.Model) -> None:
    """Give the model the standard bodies of the operators of ours that it uses, and state its versions."""
    used = {node.op_type for node in model.graph.all_nodes() if node.domain == DOMAIN}
    for function in operator_functions(model.opset_imports[""], used):
        model.functions[function.identifier()] = function
    model.opset_imports[DOMAIN] = VERSION
    lower_versions(model)


def to_be_guarded(model: ir.Model, encoder: Encoder) -> Encoder:
    """The encoder of a model in which sizes are read at its input from now on; `model` is changed."""
    replaced = read_shapes_at(model, encoder.input, encoder.forms, encoder.shapes, encoder.batch)
    constants = {replaced.get(value, value): array for value, array in encoder.constants.items()}
    boundary = tuple(replaced.get(value, value) for value in encoder.boundary)
    return replace(encoder, constants=constants, boundary=boundary)


def four_axes(b: Builder, bias: Bias) -> ir.Value:
    """What is added to a core's scores, of four axes, whatever it had; zero where nothing is."""
    added = bias.written(b)
    if added is None:
        return b.const(np.zeros((1, 1, 1, 1)), np.float32)
    return b.op("Expand", added, b.i64(1, 1, 1, 1))


class Inserter:
    """Makes regions of one model conditional. The model is changed.

    Args:
        model: the model.
        shapes: of its values by their names, as far as they are known; None: a batch is never taken apart.
    """

    def __init__(self, model: ir.Model, shapes: Mapping[str, Shape] | None = None) -> None:
        self.graph, self.shapes = model.graph, shapes
        self.opset = model.opset_imports[""]
        self.constant = flow.constant_nodes(model.graph)
        self.initializers: dict[str, ir.Value] = {}
        # Lengths and segment weights, by mask and positions: the same for all their sites.
        self.requests: dict[tuple[ir.Value | None, ir.Value | None], tuple[ir.Value, ir.Value]] = {}
        self.scale: ir.Value | None = None

    def reads(self, region: Sequence[ir.Node], begin: Sequence[ir.Value]) -> Reads | None:
        """As of `reads_by_sequence`; None as well where a batch is never taken apart."""
        if self.shapes is None:
            return None
        return reads_by_sequence(self.graph, region, begin, self.constant, self.shapes)

    def make_conditional(
        self,
        b: Builder,
        region: Sequence[ir.Node],
        result: ir.Value,
        hit: ir.Value,
        reuse: ir.Graph,
        instead: ir.Graph | None = None,
        apart: Apart | AsAWhole | None = None,
    ) -> ir.Value:
        """Put the nodes of `b` and `If(hit) { reuse } else { region }` where `region` stood; give its result.

        If a branch is given `instead` of the region, that is gone. Branches make floats; where the region
        gives half precision, so do they. With `apart` some sequences of a batch are reused where others run.
        """
        dtype = result.dtype if result.dtype in HALVES else ir.DataType.FLOAT
        for branch in (reuse, instead):
            if branch is not None and dtype in HALVES:
                self._round(branch, dtype)
        chosen = ir.val(result.name, dtype, [None, None, _width(reuse)])
        condition = ir.Node(
            "",
            "If",
            [hit],
            [ir.AttrGraph("then_branch", reuse), ir.AttrGraph("else_branch", instead or _empty_branch())],
            outputs=[chosen],
            name=f"{b.prefix}/if",
        )
        self.graph.insert_before(region[-1], [*b.nodes, condition])
        result.replace_all_uses_with(chosen, replace_graph_outputs=True)
        result.name = f"{result.name}/computed"
        self.graph.remove(region, safe=instead is not None)  # then it no longer counts as a reader
        if instead is not None:
            return chosen
        nodes = region
        if apart is not None:
            nodes, result = apart.run(b.prefix, self.opset, region, result)
        compute = condition.attributes["else_branch"].as_graph()
        compute.extend(nodes)
        compute.outputs.append(result)
        take_in_dequantized(compute, self.graph, b.prefix)
        return chosen

    def _round(self, branch: ir.Graph, half: ir.DataType) -> None:
        """Let a branch give its result in half precision."""
        (made,) = branch.outputs
        b = Builder(f"{branch.name}/half", self.opset)
        rounded = b.op("Cast", made, to=half.value)
        rounded.type, rounded.shape = ir.TensorType(half), made.shape
        branch.extend(b.nodes)
        branch.outputs[:] = [rounded]

    def request(
        self, b: Builder, mask: ir.Value | None, positions: ir.Value | None, hidden: ir.Value
    ) -> tuple[ir.Value, ir.Value]:
        """The lengths [B] and segment weights of a request, once for all sites with this mask and positions.

        What is stored was computed with positions that count from 0: a sequence with others has no entry.
        """
        if (mask, positions) not in self.requests:
            shared = Builder(f"memo/request.{len(self.requests)}", self.opset)
            lengths, weights = emit_segments(shared, mask, hidden)
            if positions is not None:
                lengths = _where_counted(shared, lengths, positions)
            self.requests[mask, positions] = lengths, weights
            b.nodes.extend(shared.nodes)
        return self.requests[mask, positions]

    def query(self, b: Builder, lookup: Lookup, weights: ir.Value, hidden: ir.Value) -> ir.Value:
        """The keys [B, k] of hidden states [B, L, d]."""
        network = (lookup.reduction, lookup.projection, lookup.bias)
        return emit_key(b, weights, hidden, *(self.initializer(part) for part in network))

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

    def initializer(self, tensor: ir.TensorProtocol) -> ir.Value:
        """The initializer of the main graph that holds `tensor`; branches capture it by name."""
        name = str(tensor.name)
        if name not in self.initializers:
            self.initializers[name] = register(self.graph, tensor)
        return self.initializers[name]


def _where_counted(b: Builder, lengths: ir.Value, positions: ir.Value) -> ir.Value:
    """The lengths [B], but no entry's for sequences of which `positions` [B, L] do not count their tokens."""
    end = b.op("Squeeze", b.dim(positions, 1))
    count = b.op("Range", b.const(0, np.int64), end, b.const(1, np.int64))
    given = b.op("Cast", positions, to=ir.DataType.INT64.value)
    beyond = b.op("Not", b.op("Less", count, b.op("Unsqueeze", lengths, b.i64(1))))
    right = b.op("Cast", b.op("Or", b.op("Equal", given, count), beyond), to=ir.DataType.INT32.value)
    all_right = b.op("Cast", b.reduce("ReduceMin", right, 1), to=ir.DataType.BOOL.value)
    return b.op("Where", all_right, lengths, b.i64(NO_ENTRY))


def _empty_branch() -> ir.Graph:
    return ir.Graph([], [], nodes=[], name="compute")


def _width(branch: ir.Graph) -> int:
    shape = branch.outputs[0].shape
    assert shape is not None
    return int(shape[2])  # type: ignore[arg-type]
