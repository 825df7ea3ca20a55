"""The user's inputs as the package handles them, and what a model takes. `readers` reads them from files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_memo.errors import MemoError
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.graph.shapes import is_number

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class ModelInput:
    """One required input of the model.

    Attributes:
        name: of the graph's input.
        dtype: of its numbers.
        shape: its axes, the batch first; None: free.
        rows: of the table that its numbers are looked up in, so they lie below; None: in none that is known.
        mask: whether it says which tokens are real, [batch, length]: 1, and 0 for padding.
        positions: whether it says where tokens stand, [batch, length]: 0, 1, 2, ..., whatever in padding.
        beside: whether it is of another sequence than the one whose tokens the mask tells,
        own_mask: and if so, the name of the input that tells those of its own; None: no input does.
        longest: the most tokens for which the model has positions, where its graph tells.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]
    rows: int | None = None
    mask: bool = False
    positions: bool = False
    beside: bool = False
    own_mask: str | None = None
    longest: int | None = None

    def beyond(self, array: npt.NDArray[Any]) -> int | None:
        """A number of `array` that the model does not know, if there is one."""
        if self.rows is None or not array.size:
            return None
        for number in (array.max(), array.min()):
            if not -self.rows <= number < self.rows:
                return int(number)
        return None

    def __str__(self) -> str:
        dims = ", ".join("?" if dim is None else str(dim) for dim in self.shape)
        return f"{self.name} {self.dtype}[{dims}]"


@dataclass(frozen=True)
class Labels:
    """True labels of samples: the number of the class of each, and the column of the data they are from."""

    column: str
    classes: list[int]

    def take(self, which: Iterable[int]) -> Labels:
        """Those of the samples with these numbers, in this order."""
        return Labels(self.column, [self.classes[at] for at in which])


@dataclass(frozen=True)
class Samples:
    """Inputs one by one: a batch of one each, without padding.

    Attributes:
        arrays: for each sample its arrays by input name, first axis 1.
        lengths: real tokens of each sample; 0 where the model has no mask to tell.
        mask: the name of the mask among the inputs, or None.
        notes: what people should know: what was left out, cut off or not known, and where.
        texts: what the samples were made from, where that was text.
        numbers: of the lines, or of the arrays' rows, that the samples stand in, from 1; None: 1, 2, 3, ...
        labels: what the answers ought to be, where the user says that; no model is given them.
        unit: what is numbered, as messages name it; None: lines of text, inputs of arrays.
    """

    arrays: list[Arrays]
    lengths: list[int]
    mask: str | None
    notes: Sequence[str] = ()
    texts: list[str] | None = None
    numbers: list[int] | None = None
    labels: Labels | None = None
    unit: str | None = None

    def __len__(self) -> int:
        return len(self.arrays)

    def take(self, which: Iterable[int]) -> Samples:
        """The samples with these numbers, in this order."""
        order = list(which)
        texts = [self.texts[i] for i in order] if self.texts is not None else None
        return Samples(
            [self.arrays[i] for i in order],
            [self.lengths[i] for i in order],
            self.mask,
            texts=texts,
            numbers=[self.number(i) for i in order],
            labels=self.labels and self.labels.take(order),
            unit=self.unit,
        )

    def real(self, at: int) -> npt.NDArray[np.bool_] | None:
        """Which tokens of a sample are real, bool[L]; None where the model has no mask to tell."""
        return None if self.mask is None else self.arrays[at][self.mask][0] != 0

    def text(self, at: int) -> str | None:
        """What a sample was made from, where that was text."""
        return self.texts[at] if self.texts is not None else None

    def place(self, at: int) -> str:
        """Where in its file a sample stands, as messages name it: `line 3`, or `input 3` of arrays."""
        return f"{self.unit or ('input' if self.texts is None else 'line')} {self.number(at)}"

    def number(self, at: int) -> int:
        """Of the line or row that a sample stands in, from 1."""
        return at + 1 if self.numbers is None else self.numbers[at]

    def extent(self, at: int) -> int:
        """How large a sample is: its real tokens, or without a mask the elements of its largest array.

        The store's order, shares by length, and what the report calls a request's length rest on it.
        """
        return self.lengths[at] or max(array.size for array in self.arrays[at].values())

    def batch(self, first: int, size: int) -> Arrays:
        """Samples `first` to `first + size - 1` as one batch, padded with zeros on the right.

        Raises:
            MemoError: they differ in length and the model has no mask to say so.
        """
        chosen = self.arrays[first : first + size]
        if len(chosen) == 1:
            return chosen[0]
        merged: Arrays = {}
        for name, array in chosen[0].items():
            rows = [sample[name] for sample in chosen]
            shape = [max(dims) for dims in zip(*(row.shape for row in rows), strict=True)]
            if self.mask is None and any(list(row.shape) != shape for row in rows):
                raise MemoError(
                    f"inputs of different size in '{name}' cannot form a batch: the model has no mask; "
                    "use --batch 1"
                )
            merged[name] = np.zeros([len(rows), *shape[1:]], array.dtype)
            for at, row in enumerate(rows):
                place: tuple[Any, ...] = (at, *(slice(dim) for dim in row.shape[1:]))
                merged[name][place] = row[0]
        return merged


def model_inputs(opened: OpenedModel) -> list[ModelInput]:
    """The inputs that a caller has to give: those that no initializer stands in for.

    Raises:
        MemoError: one of them is no tensor of numbers with a batch axis.
    """
    required = [value for value in opened.model.graph.inputs if not value.is_initializer()]
    mask, positions = opened.findings.mask, opened.findings.positions
    beside = opened.sequences.inputs_beside(mask)
    found = []
    for value in required:
        name = str(value.name)
        if value.dtype is None or not value.shape:
            raise MemoError(f"the model's input '{name}' is no tensor with a batch axis: not supported")
        if not is_number(value.dtype):
            raise MemoError(f"the model's input '{name}' is of type {value.dtype.name}: not supported")
        shape = tuple(dim if isinstance(dim, int) else None for dim in value.shape)
        dtype = np.dtype(value.dtype.numpy())
        known = name == mask, name == positions, name in beside, beside.get(name)
        longest = opened.longest if dtype.kind in "iu" and len(shape) == 2 else None
        found.append(ModelInput(name, dtype, shape, opened.rows.get(name), *known, longest))
    return found


def mask_name(inputs: Sequence[ModelInput]) -> str | None:
    """The name of the padding mask among the inputs; None if there is none."""
    return next((i.name for i in inputs if i.mask), None)
