"""What a level stores, as a list of tensors: their sizes before there is anything, and their contents.

A level writes its list once. How many bytes some inputs would take, which `--max-bytes` and a check of the
disk ask for, and what is written in the end both come from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_memo.store.data import ALIGNMENT, StoredTensor

Integers = npt.NDArray[np.int64]

# From the lengths of the entries, i64[N], how much of an axis each of them takes, i64[N].
Count = Callable[[Integers], Integers]


def entries(lengths: Integers) -> Integers:
    """One for each entry: N."""
    return np.ones_like(lengths)


def tokens(lengths: Integers) -> Integers:
    """One for each token: T."""
    return lengths


def pairs(lengths: Integers) -> Integers:
    """One for each pair of an entry's tokens: Q."""
    return np.square(lengths)


@dataclass(frozen=True)
class TensorSpec:
    """A tensor to be stored.

    Attributes:
        name: in the memo data.
        dtype: of its numbers.
        axes: sizes of its axes; at most one of them depends on the entries.
        at_most: the size of axis 0 is an upper bound.
    """

    name: str
    dtype: npt.DTypeLike
    axes: tuple[int | Count, ...]
    at_most: bool = False

    def shape(self, lengths: Integers) -> tuple[int, ...]:
        """Its shape for entries of these lengths."""
        return tuple(axis if isinstance(axis, int) else int(axis(lengths).sum()) for axis in self.axes)

    @property
    def fixed(self) -> int:
        """Its bytes, if they do not depend on the entries, else 0."""
        return self._unit if all(isinstance(axis, int) for axis in self.axes) else 0

    def each(self, lengths: Integers) -> Integers:
        """The bytes that each entry takes, i64[N]; 0 if they do not depend on the entries."""
        counts = [axis for axis in self.axes if not isinstance(axis, int)]
        assert len(counts) <= 1, "an entry is counted along one axis"
        return self._unit * counts[0](lengths) if counts else np.zeros_like(lengths)

    @property
    def _unit(self) -> int:
        """Bytes of one step along the axis that depends on the entries, or of all where none does."""
        sizes = (axis for axis in self.axes if isinstance(axis, int))
        return math.prod(sizes) * np.dtype(self.dtype).itemsize

    def holding(self, content: npt.NDArray[Any] | Path, lengths: Integers) -> StoredTensor:
        """The tensor with its content, an array or a file, for entries of these lengths."""
        shape = self.shape(lengths)
        if isinstance(content, Path):
            tensor = StoredTensor(self.name, np.dtype(self.dtype), shape, content)
            size = content.stat().st_size
            assert size == tensor.nbytes, f"'{content}' of {size} bytes does not hold {shape} of {self.dtype}"
            return tensor
        fits = content.shape[0] <= shape[0] if self.at_most else content.shape == shape
        assert fits and content.dtype == self.dtype, f"'{self.name}': {content.dtype}{list(content.shape)}"
        return StoredTensor.of(self.name, content)


@dataclass(frozen=True)
class Footprint:
    """An upper bound of a layout's size in bytes.

    Attributes:
        fixed: whatever is stored.
        each: from the lengths of inputs, i64[n], what each of them takes beyond that, i64[n].
    """

    fixed: int
    each: Callable[[Integers], Integers]

    def total(self, lengths: Integers) -> int:
        """What inputs of these lengths take, in bytes."""
        return self.fixed + int(self.each(lengths).sum())


@dataclass(frozen=True)
class Layout:
    """The tensors that a level stores, in their order in the memo data."""

    specs: Sequence[TensorSpec]

    def footprint(self) -> Footprint:
        """What they take; each begins at a multiple of `ALIGNMENT`, and so does the file's end."""
        padding = ALIGNMENT * (len(self.specs) + 1)

        def each(lengths: Integers) -> Integers:
            total: Integers = np.sum([spec.each(lengths) for spec in self.specs], axis=0, dtype=np.int64)
            return total

        return Footprint(sum(spec.fixed for spec in self.specs) + padding, each)

    def holding(
        self, contents: Mapping[str, npt.NDArray[Any] | Path], lengths: Integers
    ) -> list[StoredTensor]:
        """The tensors with their `contents`, by name, for entries of these lengths."""
        return [spec.holding(contents[spec.name], lengths) for spec in self.specs]
