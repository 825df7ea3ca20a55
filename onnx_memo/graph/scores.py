"""What becomes of attention scores between the product of queries and keys and the softmax.

Whatever models do to them, scaling, masks, positions, is taken if it comes to `scale * scores + bias`, with a
bias that no row has a part in. A bias is seldom one value of the graph: a mask and a table of relative
positions are added one after the other, and what is to be shut out is replaced by the lowest number there is.
So it is kept as steps, which whoever needs it writes into the graph.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.graph.constants import Constants
from onnx_memo.graph.rowwise import Refused

# A number of floats that swallows any score that is added to it. So replacing a score by it and adding it to
# the score are the same, even where nothing else is left of a row.
SHUTS_OUT = -1e30


@dataclass(frozen=True)
class Added:
    """Something is added."""

    value: ir.Value

    def written(self, b: Builder, bias: ir.Value | None) -> ir.Value:
        """The bias after it; `bias` is the one before, None: zero."""
        return self.value if bias is None else b.op("Add", bias, self.value)


@dataclass(frozen=True)
class Scaled:
    """All is multiplied with a fixed number."""

    factor: float

    def written(self, b: Builder, bias: ir.Value | None) -> ir.Value | None:
        """As of `Added`."""
        return None if bias is None else b.op("Mul", bias, b.const(self.factor, np.float32))


@dataclass(frozen=True)
class ShutOut:
    """Where `condition`, as truths, is `truth`, scores are replaced by a number below `SHUTS_OUT`."""

    condition: ir.Value
    truth: bool
    number: float

    def written(self, b: Builder, bias: ir.Value | None) -> ir.Value:
        """As of `Added`."""
        kept = b.const(0, np.float32) if bias is None else bias
        number = b.const(self.number, np.float32)
        condition = b.op("Cast", self.condition, to=ir.DataType.BOOL.value)
        return b.op("Where", condition, *((number, kept) if self.truth else (kept, number)))


@dataclass(frozen=True)
class Bias:
    """What is added to scaled scores, [B or 1, H or 1, L or 1, L or 1]: what the steps make of zero."""

    steps: tuple[Added | Scaled | ShutOut, ...] = ()

    @property
    def values(self) -> list[ir.Value]:
        """What it is made of; none: it is zero."""
        added = [step.value for step in self.steps if isinstance(step, Added)]
        return added + [step.condition for step in self.steps if isinstance(step, ShutOut)]

    def written(self, b: Builder) -> ir.Value | None:
        """Its value, of as many axes as it has; None: zero."""
        bias: ir.Value | None = None
        for step in self.steps:
            bias = step.written(b, bias)
        return bias


@dataclass(frozen=True)
class Scores:
    """Scores as the softmax reads them.

    Attributes:
        product: of queries and keys.
        scale: what it is multiplied with.
        bias: what is added then.
    """

    product: ir.Node
    scale: float
    bias: Bias


def scores_before(softmax: ir.Node, below: Collection[ir.Value], constants: Constants) -> Scores:
    """What a softmax reads.

    Args:
        softmax: the node.
        below: all values that rows have a part in.
        constants: of the model.

    Raises:
        Refused: it is not of this form.
    """
    nodes = [_maker(softmax.inputs[0])]
    while nodes[-1].op_type != "MatMul":
        nodes.append(_maker(_scores(nodes[-1], below)))
    found = Scores(nodes.pop(), 1.0, Bias())
    for node in reversed(nodes):
        step = _step(node, _scores(node, below), constants)
        if isinstance(step, Scaled):
            found = replace(found, scale=found.scale * step.factor)
            _check_shut_out(found.bias, step, node)
        # What comes before all that is added only scales the scores.
        if step is not None and (found.bias.steps or not isinstance(step, Scaled)):
            found = replace(found, bias=Bias((*found.bias.steps, step)))
    return found


def check_probabilities(softmax: ir.Node, product: ir.Node, constants: Constants) -> None:
    """Raises Refused where what is multiplied with values is not what the softmax makes of the scores.

    Zeros may take the place of what is not a number.
    """
    value, made = product.inputs[0], softmax.outputs[0]
    while value is not made:
        node = value.producer() if value is not None else None
        if node is None or value is product.inputs[1]:
            raise Refused("its values stand left of the probabilities")
        if node.op_type == "Where":
            value = _without_nan(node, constants)
        elif node.op_type in ("Cast", "Identity", "Dropout", "Reshape"):
            value = node.inputs[0]
        else:
            raise Refused(f"its probabilities go through '{node.name}' ({node.op_type})")


def _maker(value: ir.Value | None) -> ir.Node:
    node = value.producer() if value is not None else None
    if node is None:
        raise Refused("its scores are not a product of queries and keys")
    return node


def _scores(node: ir.Node, below: Collection[ir.Value]) -> ir.Value:
    """The scores that a node between product and softmax reads, the only input that rows have a part in."""
    rows = [value for value in node.inputs if value is not None and value in below]
    if len(rows) != 1 or node.op_type not in ("Add", "Mul", "Div", "Where", "Cast", "Identity"):
        raise Refused(f"its scores go through '{node.name}' ({node.op_type})")
    return rows[0]


def _step(node: ir.Node, scores: ir.Value, constants: Constants) -> Added | Scaled | ShutOut | None:
    """What a node does to scores; None: nothing."""
    if node.op_type in ("Cast", "Identity"):
        return None
    if node.op_type == "Where":
        return _shut_out(node, scores, constants)
    beside = next(value for value in node.inputs if value is not None and value is not scores)
    if node.op_type == "Add":
        return Added(_as_it_was(beside))
    numbers = constants.numbers(beside)
    if numbers is None or len(numbers) != 1 or node.inputs[0] is not scores:
        raise Refused(f"its scores are scaled by no fixed number in '{node.name}'")
    return Scaled(numbers[0] if node.op_type == "Mul" else 1 / numbers[0])


def _shut_out(node: ir.Node, scores: ir.Value, constants: Constants) -> ShutOut:
    condition, chosen, other = node.inputs
    assert condition is not None and chosen is not None and other is not None, "Where reads all three"
    if condition is scores:
        raise Refused(f"its scores decide in '{node.name}' ({node.op_type})")
    truth = other is scores
    numbers = constants.numbers(chosen if truth else other)
    if numbers is None or len(numbers) != 1 or not numbers[0] <= SHUTS_OUT:
        raise Refused(f"its scores are replaced in '{node.name}' (Where) by what does not shut out for sure")
    return ShutOut(_as_it_was(condition), truth, numbers[0])


def _as_it_was(beside: ir.Value) -> ir.Value:
    """What stands beside scores, before it was repeated to their shape, and truths were made of it.

    `Add` and `Where` repeat it themselves. That its size was read from scores does not matter then.
    """
    node = beside.producer()
    if node is None or node.op_type not in ("Expand", "Cast") or node.inputs[0] is None:
        return beside
    is_truth = node.attributes.get_int("to", 0) == ir.DataType.BOOL.value
    return _as_it_was(node.inputs[0]) if node.op_type == "Expand" or is_truth else beside


def _check_shut_out(bias: Bias, scaled: Scaled, node: ir.Node) -> None:
    """Raises Refused where what was shut out may be there again after it is scaled."""
    numbers = [step.number for step in bias.steps if isinstance(step, ShutOut)]
    if any(not number * scaled.factor <= SHUTS_OUT for number in numbers):
        raise Refused(f"what its scores shut out is scaled by {scaled.factor:g} in '{node.name}'")


def _without_nan(node: ir.Node, constants: Constants) -> ir.Value:
    """What a `Where` passes on but for zeros in place of what is not a number."""
    condition, chosen, other = node.inputs
    asks = condition.producer() if condition is not None else None
    of_other = asks is not None and asks.op_type == "IsNaN" and asks.inputs[0] is other
    if of_other and other is not None and chosen is not None and constants.numbers(chosen) == [0.0]:
        return other
    raise Refused(f"its probabilities go through '{node.name}' (Where)")
