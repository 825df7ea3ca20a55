"""Inputs that repeat others: which are distinct, and how often each occurs."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import numpy as np
import numpy.typing as npt

from onnx_memo.data.samples import Arrays, Samples


def content(arrays: Arrays) -> Hashable:
    """What makes two inputs of a model the same, a key for sets and dicts: types, shapes and numbers."""
    return tuple((array.dtype.str, array.shape, array.tobytes()) for array in arrays.values())


def distinct(samples: Samples, *groups: Iterable[int]) -> tuple[list[int], npt.NDArray[np.int64]]:
    """Each distinct sample of some groups once, and how often it occurs in each of them.

    Args:
        samples: all of them.
        groups: numbers of samples, a group for each count that is wanted.

    Returns:
        The number of each distinct sample where it occurs first, going through the groups in order; shortest
        first (the store's order), those of equal extent in the order of their first occurrence. And the
        counts, i64[groups, n].
    """
    known: dict[Hashable, int] = {}  # content -> its place in `first`
    first: list[int] = []
    places: list[list[int]] = []
    for group in groups:
        places.append([])
        for at in group:
            place = known.setdefault(content(samples.arrays[at]), len(first))
            if place == len(first):
                first.append(int(at))
            places[-1].append(place)
    order = sorted(range(len(first)), key=lambda place: samples.extent(first[place]))
    counts = [np.bincount(np.asarray(own, np.int64), minlength=len(first))[order] for own in places]
    return [first[place] for place in order], np.asarray(counts, np.int64)
