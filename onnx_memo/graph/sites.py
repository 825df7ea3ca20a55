"""Find the attention blocks of a model.

A site is found by its cuts. The anchor is the softmax; from there

1. forward, through whatever keeps the shape, to the product with the values: the context;
2. forward again, through whatever only moves data or works on single rows, to the product with
   a constant weight: the projected output, cut before its bias (the bias fuses with what follows);
3. backward from the values to the product with a constant weight: its other operand, in the form
   [batch, length, width], is the hidden states;
4. the proof: the projected output depends on nothing but the hidden states, constants, shapes, one
   padding mask, and positions of tokens. What depends on more is not taken, and the reason is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from functools import cached_property

import onnx_ir as ir

from onnx_memo.graph import flow
from onnx_memo.graph.anchors import anchors
from onnx_memo.graph.between import MOVES, ROW_WISE, is_float, products_after, readers_of, why_no_level
from onnx_memo.graph.constants import Constants
from onnx_memo.graph.cost import PRODUCTS, Work
from onnx_memo.graph.masks import Masks
from onnx_memo.graph.positions import Positions
from onnx_memo.graph.rowwise import RowRules
from onnx_memo.graph.shapes import LENGTHS, Shape, ShapeTable, batch_of, lost_at
from onnx_memo.graph.site import Findings, Refusal, Site


class _Refused(Exception):
    """Carries the reason from the step that sees it to `find_sites`."""


def find_sites(model: ir.Model, shapes: ShapeTable | None = None, mask: str | None = None) -> Findings:
    """Every softmax or attention operator becomes a site or a refusal.

    Args:
        model: the model.
        shapes: of its values.
        mask: the input that the user calls the padding mask; None: what does what a mask does.
    """
    shapes, best = shapes or ShapeTable(model), None
    # Beside axes of 1, ONNX's inference alone knows little; following sizes takes longer.
    for follow in (True,) if batch_of(model) == 1 else (False, True):
        for length in LENGTHS:
            found = _Finder(model, shapes, length, follow, mask).run()
            if best is None or not best.sites or len(found.sites) > len(best.sites):
                best = found
            if not found.refusals:
                return found
    assert best is not None, "there are lengths"
    return best


class _Finder:
    def __init__(
        self, model: ir.Model, table: ShapeTable, length: int, follow: bool, mask: str | None
    ) -> None:
        self.graph = model.graph
        self.length, self.batch = length, batch_of(model)
        self.table = table
        self.shapes = table.at(length, follow=follow)
        self.masks = Masks(model, table, mask)
        self.followed, constants = table.at(length, follow=True), Constants(model, table, length)
        rules = RowRules(self.followed, constants.numbers, self.batch)
        self.positions = Positions(self.graph, self.followed, rules, length)
        self.given: set[ir.Value] = set()  # inputs that give positions to a site
        self.constant = flow.constant_nodes(self.graph)
        self.why_no_level = why_no_level(self.graph, self.batch, self.constant)

    @cached_property
    def work(self) -> Work:
        """What the model multiplies; sizes are followed for it, which takes a while."""
        return Work(self.graph, self.table)

    def run(self) -> Findings:
        sites, contexts = list[Site](), set[ir.Value]()
        found, refusals = anchors(self.graph)
        for softmax, name in found.items():
            try:
                sites.append(self._site(softmax, f"attention.{len(sites)}"))
            except _Refused as refused:
                contexts.update(self._contexts(softmax))
                lost = lost_at(softmax.outputs[0], self.shapes)
                where = f"; sizes are not known after '{lost.name}' ({lost.op_type})" if lost else ""
                refusals.append(Refusal(name, f"{refused}{where}", softmax))
        called_mask = None if sites else self.masks.by_name()
        notes = [
            f"'{name}' is taken for the padding mask for its name: what it does could not be tried"
            for name in sorted(self.masks.assumed)
        ]
        notes += [
            f"the model counts the ones of its mask '{name}': requests with a 0 before a 1 run the original"
            for name in sorted(self.masks.counted)
        ]
        notes += [
            f"positions are given by '{value.name}': reused are requests where they count the tokens, 0, 1, "
            "..."
            for value in self.given
        ]
        return Findings(sites, refusals, notes, bool(self.masks.counted), called_mask, frozenset(contexts))

    def _contexts(self, softmax: ir.Node) -> list[ir.Value]:
        """The hidden states that the values of an attention are made of, whatever else it is refused for."""
        try:
            return [self._hidden(self._values_apart(*self._product_with_values(softmax)))[0]]
        except _Refused:
            return []

    def _site(self, softmax: ir.Node, name: str) -> Site:
        self._check_scores(softmax)
        probabilities, product = self._product_with_values(softmax)
        context = product.outputs[0]
        output, merged = self._projected(context)
        hidden, values = self._hidden(self._values_apart(probabilities, product))
        if self._dim(hidden, 1) != self._dim(probabilities, -1):
            raise _Refused(f"its scores are not between the positions of its hidden states '{hidden.name}'")
        mask, positions = self._proven(output, hidden, probabilities, context)
        region = flow.region(self.graph, output, (hidden,), self.constant)
        if softmax not in region:
            raise _Refused(f"its results are also used outside the block that ends in '{output.name}'")
        heads = self._heads(probabilities)
        width = self._dim(hidden, 2)
        return Site(
            name=name,
            softmax=softmax,
            hidden=hidden,
            probabilities=probabilities,
            context=context,
            output=output,
            mask=mask,
            positions=positions,
            turns=mask is not None
            and positions is not None
            and self.masks.turns(mask, hidden, probabilities),
            heads=heads,
            why_no_level=self.why_no_level,
            length=length if (length := self._dim(hidden, 1)) != self.length else None,
            width=width,
            output_width=self._dim(output, 2),
            context_width=self._dim(merged, 2) if merged is not None else 0,
            values=values,
            merged_context=merged,
            region=tuple(region),
            share=self.work.share(region),
            why_no_probs=self._why_no_probs(
                product, probabilities, values, merged, hidden, heads, {mask, positions}
            ),
        )

    # 1. softmax -> probabilities -> product with the values

    def _product_with_values(self, softmax: ir.Node) -> tuple[ir.Value, ir.Node]:
        """The probabilities, and the one product that they enter."""
        products = products_after(softmax.outputs[0])
        if len(products) != 1:
            raise _Refused(
                "its result is not multiplied with values (a classifier's softmax?)"
                if not products
                else f"its result is multiplied {len(products)} times"
            )
        return products[0]

    def _values_apart(self, probabilities: ir.Value, product: ir.Node) -> ir.Value:
        """The other operand of that product."""
        (values,) = (value for value in product.inputs if value not in (None, probabilities))
        assert values is not None
        return values

    def _check_scores(self, softmax: ir.Node) -> None:
        """The softmax must run over the last axis of square scores."""
        shape = self._shape(softmax.outputs[0])
        if len(shape) < 3:
            raise _Refused(
                f"it runs over a tensor of shape {_text(shape)}, not [batch, heads, rows, columns]"
            )
        axis = softmax.attributes.get_int("axis", -1)
        if axis not in (-1, len(shape) - 1):
            raise _Refused(f"it runs over axis {axis}, not over the last one")
        if None in shape[-2:]:
            raise _Refused(f"its scores of shape {_text(shape)} are not known to be square")
        if shape[-1] != shape[-2]:
            raise _Refused(
                f"its scores are {shape[-2]} x {shape[-1]}: queries and keys are not the same positions "
                "(cross-attention, cached keys or class probabilities)"
            )

    # 2. context -> projected output

    def _projected(self, context: ir.Value) -> tuple[ir.Value, ir.Value | None]:
        """The projected output [B, L, d'], and the context as [B, L, H * dv] where it takes that form."""
        value, merged = context, None
        while True:
            if merged is None and self._is_rows(value):
                merged = value
            readers = readers_of(value)
            if len(readers) != 1:
                raise _Refused(
                    f"its context '{value.name}' is read by {len(readers)} nodes, not by one projection"
                )
            (reader,) = readers
            if reader.op_type in PRODUCTS:
                if not any(flow.is_constant(operand, self.constant) for operand in flow.inputs_of(reader)):
                    raise _Refused(f"its context meets no constant weight in '{reader.name}'")
                return self._fused_with(reader, self._rows_after(reader.outputs[0])), merged
            if reader.op_type not in MOVES | ROW_WISE:
                raise _Refused(f"its context goes through '{reader.op_type}' before it is projected")
            value = reader.outputs[0]

    def _rows_after(self, value: ir.Value) -> ir.Value:
        """From a projection's raw result on to the value [B, L, d'] in floats, before a bias if it can be."""
        while not self._is_rows(value) or not is_float(value):
            readers = readers_of(value)
            passes = len(readers) == 1 and (
                readers[0].op_type in MOVES | {"Mul"} or self._adds_bias(readers[0])
            )
            if not passes:
                raise _Refused(
                    f"its projected output '{value.name}' does not take the form [batch, length, width]"
                )
            value = readers[0].outputs[0]
        return value

    def _adds_bias(self, node: ir.Node) -> bool:
        return node.op_type == "Add" and any(flow.is_constant(v, self.constant) for v in flow.inputs_of(node))

    def _fused_with(self, projection: ir.Node, output: ir.Value) -> ir.Value:
        """The projected output with its bias, where ONNX Runtime fuses it with the product, or else without.

        It does where it dequantizes the weight in the product (`MatMulNBits`).
        """
        makers = (value.producer() for value in flow.inputs_of(projection))
        readers = readers_of(output)
        dequantizes = any(maker is not None and maker.op_type == "DequantizeLinear" for maker in makers)
        if dequantizes and len(readers) == 1 and self._adds_bias(readers[0]):
            return readers[0].outputs[0]
        return output

    # 3. values -> hidden states

    def _hidden(self, value: ir.Value) -> tuple[ir.Value, ir.Value | None]:
        """The hidden states [B, L, d], and the values as [B, L, H * dv] where they have that form."""
        values = None
        while True:
            if values is None and self._is_rows(value):
                values = value
            producer = value.producer()
            if producer is None:
                raise _Refused("its values are not made from hidden states by a constant weight")
            dynamic = [v for v in flow.inputs_of(producer) if not flow.is_constant(v, self.constant)]
            if producer.op_type in PRODUCTS:
                if len(dynamic) == len(list(flow.inputs_of(producer))):
                    raise _Refused(f"its values are a product without a constant weight, '{producer.name}'")
                return self._rows_before(dynamic[0]), values
            if producer.op_type not in MOVES | ROW_WISE or not dynamic:
                raise _Refused(f"its values come out of '{producer.op_type}', not out of a projection")
            value = dynamic[0]

    def _rows_before(self, value: ir.Value) -> ir.Value:
        """Back from a projection's operand to the value [B, L, d] in floats that it is made of."""
        while not self._is_rows(value) or not is_float(value):
            producer = value.producer()
            if producer is None or producer.op_type not in MOVES | ROW_WISE:
                raise _Refused(
                    f"its hidden states '{value.name}' do not take the form [batch, length, width]"
                )
            value = next(iter(flow.inputs_of(producer)))
        return value

    # 4. the proof

    def _proven(
        self, output: ir.Value, hidden: ir.Value, probabilities: ir.Value, context: ir.Value
    ) -> tuple[ir.Value | None, ir.Value | None]:
        """Mask and positions, after the proof that the block depends on nothing else past hidden states."""
        form = (self.batch, self._dim(hidden, 1))
        masks, positions = [], []
        for value in sorted(flow.sources(output, (hidden,)), key=lambda value: str(value.name)):
            why: str | None = "cross-attention?"
            if self.shapes.get(str(value.name)) == form:
                no_mask = self.masks.why_none(value, hidden, probabilities, output)
                if no_mask is None:
                    masks.append(value)
                    continue
                no_positions = self.positions.why_none(value, hidden, probabilities, context, output)
                why = no_positions and f"{no_mask}; as positions: {no_positions}"
            if why is not None:
                states = hidden.name
                raise _Refused(
                    f"it depends on the input '{value.name}' past its hidden states '{states}' ({why})"
                )
            positions.append(value)
        if len(masks) > 1:
            raise _Refused("it depends on two masks: " + ", ".join(f"'{mask.name}'" for mask in masks))
        if len(self.given.union(positions)) > 1:
            names = ", ".join(sorted(f"'{value.name}'" for value in self.given.union(positions)))
            raise _Refused(f"positions are given to the model twice: {names}")
        self.given.update(positions)
        return masks[0] if masks else None, positions[0] if positions else None

    # What the level `probs` asks for

    def _why_no_probs(
        self,
        product: ir.Node,
        probabilities: ir.Value,
        values: ir.Value | None,
        merged: ir.Value | None,
        hidden: ir.Value,
        heads: int,
        given: Set[ir.Value | None],
    ) -> str | None:
        if product.inputs[0] is not probabilities:
            return "the values stand left of the probabilities"
        if values is None or merged is None:
            return "values or context never take the form [batch, length, heads x width]"
        if values is hidden or self._dim(values, 2) != self._dim(merged, 2) or self._dim(merged, 2) % heads:
            return "heads share their values (grouped queries)"
        if not flow.sources(merged, (hidden, values)) <= given:
            return "the context depends on more than hidden states and values"
        return None

    # Shapes

    def _shape(self, value: ir.Value) -> Shape:
        shape = self.shapes.get(value.name or "")
        if shape is None:
            raise _Refused(f"the shape of '{value.name}' cannot be inferred")
        return shape

    def _dim(self, value: ir.Value, axis: int) -> int:
        dim = self._shape(value)[axis]
        if dim is None:
            raise _Refused(f"axis {axis} of '{value.name}' has no fixed size")
        return dim

    def _is_rows(self, value: ir.Value) -> bool:
        """Whether `value` has the form [batch, length, fixed width]."""
        shape = self.shapes.get(value.name or "", ())
        return len(shape) == 3 and shape[0] == self.batch and shape[1] is not None and shape[2] is not None

    def _heads(self, probabilities: ir.Value) -> int:
        shape = self.followed.get(probabilities.name or "", self._shape(probabilities))
        leading = 1
        for dim in shape[:-2]:
            if dim is None:
                raise _Refused(f"the number of heads of '{probabilities.name}' cannot be inferred")
            leading *= dim
        if leading % self.batch:
            raise _Refused(f"the heads of '{probabilities.name}' are not counted by the batch")
        return leading // self.batch


def _text(shape: Iterable[int | None]) -> str:
    return "[" + ", ".join("?" if dim is None else str(dim) for dim in shape) + "]"
