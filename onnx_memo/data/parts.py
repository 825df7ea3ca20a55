"""The parts of the sample: what is stored, what the decision is fitted to, and what proves it."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_memo.data.samples import Samples
from onnx_memo.proof.goal import Split, split_samples
from onnx_memo.proof.promise import Promise
from onnx_memo.store.budget import Budget

FIT_LIMIT = 150  # requests of the fit part that are run
CLASSES = 4  # of lengths, of about as many requests each

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Parts:
    """The sample, split at random (`onnx_memo.proof.goal`).

    Attributes:
        stored: the distinct inputs of store and fit part, shortest first: what the bundle will hold.
        in_store: which of them are in the store part, bool[n]: what may be reused while fitting.
        counts: how often each occurs in the store part and the fit part, i64[2, n].
        fit: the requests of the fit part, or the first of them.
        held_out: the requests that prove the decision. Nothing else sees them.
    """

    split: Split
    stored: Samples = field(repr=False)
    in_store: npt.NDArray[np.bool_] = field(repr=False)
    counts: npt.NDArray[np.int64] = field(repr=False)
    fit: Samples = field(repr=False)
    held_out: Samples = field(repr=False)

    @functools.cached_property
    def known(self) -> npt.NDArray[np.bool_]:
        """Which held-out requests are stored literally, bool[n]."""
        stored = {content(arrays) for arrays in self.stored.arrays}
        return np.asarray([content(arrays) in stored for arrays in self.held_out.arrays], np.bool_)

    @property
    def repeats(self) -> float:
        """The share of requests that are stored literally, to expect of traffic like the sample."""
        return float((self.known * self.weights).mean())

    @functools.cached_property
    def weights(self) -> Floats:
        """What each held-out request counts, f64[n], of mean 1, for figures of traffic like the sample.

        Time depends on a request's length, and on whether it is stored literally. How often both occur, the
        whole sample tells better than the held-out part: a request of store and fit part, left out, is in
        what remains if it occurs twice (so estimate Good, 1953, and Turing what was never seen). Held-out
        requests are weighted so that each length class has its share, of repeats and of others
        (post-stratification). Where not all of store and fit part is stored, they count the same.
        """
        counts, size = self.counts.sum(axis=0), len(self.held_out)
        if counts.sum() < len(self.split.store) + len(self.split.fit):
            return np.ones(size)
        repeated = np.concatenate([np.repeat(counts > 1, counts), self.known])
        lengths = [self.stored.size(at) for at in range(len(counts))]
        lengths = [*np.repeat(lengths, counts), *(self.held_out.size(at) for at in range(size))]
        classes = np.searchsorted(np.quantile(lengths, np.arange(1, CLASSES) / CLASSES), lengths)
        cells = CLASSES * repeated + classes
        shares, own = (np.bincount(some, minlength=2 * CLASSES) for some in (cells, cells[-size:]))
        weights: Floats = shares[cells[-size:]] / own[cells[-size:]]
        return np.asarray(weights / weights.mean())

    def within(self, budget: Budget, notes: list[str]) -> Parts:
        """The same with just as many stored inputs as the memo data can hold.

        First what covers the store part, chosen without a look at the fit part, which judges by it. What then
        is left of the budget goes to the fit part, which joins the store in the end.

        Raises:
            MemoError: not a single input fits.
        """
        first = budget.fill(self.counts[0], self.in_store)
        kept = np.flatnonzero(budget.fill(self.counts.sum(axis=0), ~self.in_store, first))
        if len(kept) < len(self.in_store):
            notes.append(budget.note(len(kept)))
        return Parts(
            self.split,
            self.stored.take(kept.tolist()),
            self.in_store[kept],
            self.counts[:, kept],
            self.fit,
            self.held_out,
        )


def make_parts(samples: Samples, promise: Promise) -> Parts:
    """Split the sample.

    Raises:
        MemoError: it is too small for the promise.
    """
    split = split_samples(len(samples), promise)
    first: dict[tuple[bytes, ...], int] = {}
    for at in [*split.store, *split.fit]:
        first.setdefault(content(samples.arrays[at]), int(at))
    order = sorted(first.values(), key=samples.size)
    place = {content(samples.arrays[at]): number for number, at in enumerate(order)}
    counts = np.zeros((2, len(order)), np.int64)
    for part, numbers in enumerate((split.store, split.fit)):
        np.add.at(counts[part], [place[content(samples.arrays[at])] for at in numbers], 1)
    return Parts(
        split,
        samples.take(order),
        counts[0] > 0,
        counts,
        samples.take(split.fit[:FIT_LIMIT].tolist()),
        samples.take(split.held_out.tolist()),
    )


def content(arrays: dict[str, npt.NDArray[Any]]) -> tuple[bytes, ...]:
    """What makes two inputs the same."""
    return tuple(array.tobytes() for array in arrays.values())
