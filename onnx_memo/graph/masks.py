"""Whether an input is the padding mask of attention: it is tried what the input does.

Its name and its shape prove nothing: exporters call it as they like, and a fixed length may as well be the
number of heads, or a width. So scores and mask are taken for ones, and then one position of the mask is set
to 0: it must get no attention from any other, and what the others get must keep its proportions.

Some models count the ones of a mask, and take as many positions from the first on for tokens: there a 0
anywhere must shut out the last one. Such a mask is one where padding stands on the right.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.graph import flow
from onnx_memo.graph.constants import evaluate
from onnx_memo.graph.cost import PRODUCTS
from onnx_memo.graph.shapes import LENGTHS, Shape, ShapeTable, is_number

MOST_NUMBERS = 2**26  # of what is computed; more is not tried
ABOUT_0 = 1e-6
PROPORTION = 1e-3  # relative; half precision stays below


class Masks:
    """Knows the mask of a model's attention.

    Attributes:
        assumed: names of the inputs that were taken for the mask by their name.
        counted: names of the masks of which only the number of ones counts.
    """

    def __init__(self, model: ir.Model, table: ShapeTable, named: str | None) -> None:
        """`table` has the shapes of the model's values; `named` is what the user calls the mask, or None."""
        self.model, self.table, self.named = model, table, named
        self.assumed: set[str] = set()
        self.counted: set[str] = set()

    def why_none(
        self, value: ir.Value, hidden: ir.Value, probabilities: ir.Value, output: ir.Value
    ) -> str | None:
        """Why an input [B, L] is no mask of the attention between `hidden` and `output`; None: it is one.

        What it does decides. Where that cannot be told, the user does, or else its name where the length is
        free: a fixed one may stand for anything.
        """
        name = str(value.name)
        if self.named not in (None, name):
            return f"the mask is '{self.named}'"
        proven = self._proven(value, hidden, probabilities, output)
        if proven is None and self.named is None:
            free = value.shape is not None and not isinstance(value.shape[1], int)
            if not free or "mask" not in name.lower():
                return "if it is the padding mask, 1 for real tokens, say so with --mask"
            self.assumed.add(name)
        if proven is False:
            return "it is no padding mask, 1 for real tokens: a 0 in it does not just shut its position out"
        return None

    def by_name(self) -> ir.Value | None:
        """The input that the user, or else its name, calls the mask; None: there is none, or several.

        For attention that is not understood, where nothing can be tried.
        """
        given = [v for v in self.model.graph.inputs if not v.is_initializer() and is_number(v.dtype)]
        if self.named is None:
            given = [v for v in given if "mask" in str(v.name).lower()]
        else:
            given = [v for v in given if v.name == self.named]
        if len(given) != 1 or given[0].shape is None or len(given[0].shape) != 2:
            return None
        if self.named is None:
            self.assumed.add(str(given[0].name))
        return given[0]

    def _proven(
        self, mask: ir.Value, hidden: ir.Value, probabilities: ir.Value, output: ir.Value
    ) -> bool | None:
        """Whether `mask` does nothing but shut positions out between `hidden` and `output`.

        None: that cannot be told, since it is read for more than scores, or what it does cannot be tried.
        """
        below = flow.downstream(hidden)
        made = flow.downstream(mask) - below
        core = list(flow.leading_to(probabilities, below, PRODUCTS))
        readers = {
            n for n in flow.leading_to(output, below - {hidden}) if not made.isdisjoint(flow.inputs_of(n))
        }
        if not readers.issubset(core):
            return None
        return self._tried(mask, probabilities, _down(readers, core), below, self._shuts_out)

    def turns(self, mask: ir.Value, hidden: ir.Value, probabilities: ir.Value) -> bool:
        """Whether real tokens attend to each other in the same way wherever they stand, in a row."""
        below = flow.downstream(hidden)
        core = set(flow.leading_to(probabilities, below, PRODUCTS))
        return self._tried(mask, probabilities, core, below, _turns) is True

    def _tried(
        self,
        mask: ir.Value,
        probabilities: ir.Value,
        nodes: Collection[ir.Node],
        below: Collection[ir.Value],
        judge: Callable[[_Trial], bool | None],
    ) -> bool | None:
        """What `judge` says of attention, computed by `nodes` where all that they read of `below` is 1."""
        results = {value for node in nodes for value in node.outputs}
        scores = {v for node in nodes for v in flow.inputs_of(node) if v in below} - results
        for length in LENGTHS:
            shapes = dict(self.table.at(length, follow=True))
            full = [
                shape for value in results if (shape := shapes.get(str(value.name))) and None not in shape
            ]
            for value in scores:
                shapes[str(value.name)] = _completed(shapes.get(str(value.name), (None,)), full)
            given = self._ones(mask, scores, shapes)
            told = None if given is None else judge(_Trial(self.model, mask, probabilities, shapes, given))
            if told is not None:
                return told
        return None

    def _ones(
        self, mask: ir.Value, scores: Collection[ir.Value], shapes: Mapping[str, Shape]
    ) -> dict[ir.Value, npt.NDArray[Any]] | None:
        """Ones for scores and masks; None where their shapes or types are not known."""
        # Inputs of the same form may be other masks.
        masks = [v for v in self.model.graph.inputs if shapes.get(str(v.name)) == shapes[str(mask.name)]]
        given: dict[ir.Value, npt.NDArray[Any]] = {}
        for value in (*masks, *scores):
            if not is_number(value.dtype or ir.DataType.FLOAT):
                return None
            size = [dim for dim in shapes[str(value.name)] if dim is not None]
            if len(size) < len(shapes[str(value.name)]):
                return None
            given[value] = np.ones(size, (value.dtype or ir.DataType.FLOAT).numpy())
        return given

    def _shuts_out(self, trial: _Trial) -> bool | None:
        before, last = trial.attention(range(trial.length)), trial.length - 1
        if before is None:
            return None

        def told(zeros: Sequence[int], out: Sequence[int], counted: bool = False) -> bool | None:
            after = trial.attention(np.delete(np.arange(trial.length), zeros))
            return None if after is None else _are_shut_out(before, after, out, counted)

        own = told([0], [0])
        if own is not False:
            return own and told([last], [last])
        tried = ([0], [0, 1], [last - 1, last])
        counts = all(told(zeros, range(last + 1 - len(zeros), last + 1), counted=True) for zeros in tried)
        if counts:
            self.counted.add(trial.mask)
        return counts


class _Trial:
    """Tries what becomes of attention by a mask.

    Attributes:
        mask: its name.
        length: of its sequences.
    """

    def __init__(
        self,
        model: ir.Model,
        mask: ir.Value,
        probabilities: ir.Value,
        shapes: Mapping[str, Shape],
        given: dict[ir.Value, npt.NDArray[Any]],
    ) -> None:
        self.model, self.probabilities, self.shapes, self.given = model, probabilities, shapes, given
        self.mask, self.length, self._value = str(mask.name), given[mask].shape[1], mask

    def attention(self, real: Sequence[int] | npt.NDArray[np.int64]) -> npt.NDArray[np.float64] | None:
        """The probabilities where these places of the mask are 1 and all others 0; None: not to tell."""
        self.given[self._value] = np.zeros_like(self.given[self._value])
        self.given[self._value][:, real] = 1
        with np.errstate(all="ignore"):
            made = evaluate(self.model, self.probabilities, self.shapes, self.given, MOST_NUMBERS)
        if made is None or made.ndim < 3 or made.shape[-1] != made.shape[-2]:
            return None
        return made.astype(np.float64)


def _turns(trial: _Trial) -> bool | None:
    """Whether what real tokens attend to is the same from other places on."""

    def among(begin: int, end: int) -> npt.NDArray[np.float64] | None:
        made = trial.attention(range(begin, end))
        return None if made is None else made[..., begin:end, begin:end]

    length = trial.length
    for begin, end in ((2, length - 1), (length // 2, length)):
        moved, first = among(begin, end), among(0, end - begin)
        if moved is None or first is None:
            return None
        if not np.allclose(moved, first, PROPORTION, ABOUT_0):
            return False
    return True


def _are_shut_out(
    before: npt.NDArray[np.float64], after: npt.NDArray[np.float64], positions: Sequence[int], counted: bool
) -> bool | None:
    """Whether only they themselves attend to positions any more, and nothing else moved; None: not to tell.

    What positions that are shut out attend to does not matter: it may be nothing at all. Only where the ones
    of a mask are `counted`, and none but the positions attended to them before (each row attends to what
    comes before it), they must not either: else nothing shows that the mask does anything.
    """
    out = list(positions)
    others = np.delete(np.arange(before.shape[-1]), out)
    to_out, still = before[..., out] > ABOUT_0, after[..., out] > ABOUT_0
    followed = to_out[..., others, :].any()
    if still[..., others, :].any():
        return False
    # The first position has followers even where each attends only to what comes before.
    if not followed and (0 in out or (counted and (still.any() or not to_out.any()))):
        return False
    before, after = before[..., others, :], after[..., others, :]
    if not (np.isfinite(before).all() and np.isfinite(after).all()):
        return None
    rest, kept = (
        part[..., others] / np.maximum(part[..., others].sum(-1, keepdims=True), ABOUT_0)
        for part in (before, after)
    )
    return np.allclose(rest, kept, rtol=PROPORTION, atol=ABOUT_0)


def _completed(shape: Shape, full: Collection[Shape]) -> Shape:
    """A shape of which some axes are not known, with those of another one of as many axes.

    What is done to scores on their way to the probabilities leaves their shape as it is.
    """
    same = next((other for other in full if len(other) == len(shape)), shape)
    return tuple(known if own is None else own for own, known in zip(shape, same, strict=True))


def _down(start: Collection[ir.Node], among: Collection[ir.Node]) -> set[ir.Node]:
    """The nodes of `start`, and those of `among` that read what they make."""
    found, todo = set(start), list(start)
    while todo:
        readers = {node for value in todo.pop().outputs for node, _ in value.uses()} & set(among)
        todo += readers - found
        found |= readers
    return found
