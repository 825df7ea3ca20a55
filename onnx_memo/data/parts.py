"""The parts of the sample: what is stored, what the decision is fitted to, and what proves it."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from onnx_memo.data.distinct import content, distinct
from onnx_memo.data.samples import Samples
from onnx_memo.errors import MemoError
from onnx_memo.proof.promise import Promise, requests_needed
from onnx_memo.words import counted

STORE, FIT, HELD_OUT = 0.5, 0.2, 0.3  # of the sample
FIT_LIMIT = 150  # requests of the fit part that are run
RANKED_LIMIT = 600  # where they are ranked: few of them are near the border of the top
CLASSES = 4  # of lengths, of about as many requests each

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Split:
    """The numbers of the samples in each part, i64[part], in random order."""

    store: npt.NDArray[np.int64]
    fit: npt.NDArray[np.int64]
    held_out: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Parts:
    """The sample, split at random.

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

    @functools.cached_property
    def fit_known(self) -> npt.NDArray[np.bool_]:
        """Which requests of the fit part are literally in the store part, bool[n]."""
        stored = {content(self.stored.arrays[at]) for at in np.flatnonzero(self.in_store)}
        return np.asarray([content(arrays) in stored for arrays in self.fit.arrays], np.bool_)

    def store_part(self) -> Parts:
        """The same where the store part alone is stored."""
        which = np.flatnonzero(self.in_store).tolist()
        return replace(
            self,
            stored=self.stored.take(which),
            in_store=np.ones(len(which), np.bool_),
            counts=self.counts[:, which],
        )

    def to_rank(self, samples: Samples) -> Parts:
        """The same with more of the fit part, of all `samples`, for a judgement of many requests at once."""
        return replace(self, fit=samples.take(self.split.fit[:RANKED_LIMIT].tolist()))

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
        lengths = [self.stored.extent(at) for at in range(len(counts))]
        lengths = [*np.repeat(lengths, counts), *(self.held_out.extent(at) for at in range(size))]
        classes = np.searchsorted(np.quantile(lengths, np.arange(1, CLASSES) / CLASSES), lengths)
        cells = CLASSES * repeated + classes
        shares, own = (np.bincount(some, minlength=2 * CLASSES) for some in (cells, cells[-size:]))
        weights: Floats = shares[cells[-size:]] / own[cells[-size:]]
        return np.asarray(weights / weights.mean())


def split_samples(count: int, promise: Promise, seed: int = 0) -> Split:
    """Split `count` samples at random.

    Raises:
        MemoError: the held-out part would be too small to prove the promise.
    """
    held = int(np.ceil(HELD_OUT * count))
    needed = requests_needed(promise)
    if held < needed:
        raise MemoError(
            f"{counted(count, 'input is', 'inputs are')} too few for this promise: {needed} must be held out "
            f"({HELD_OUT:.0%}); give at least {int(np.ceil(needed / HELD_OUT))}, or ask for less with "
            "--within or --confidence"
        )
    order = np.random.default_rng(seed).permutation(count)
    stored = int(STORE / (STORE + FIT) * (count - held))
    return Split(order[held:][:stored], order[held:][stored:], order[:held])


def make_parts(samples: Samples, promise: Promise) -> Parts:
    """Split the sample.

    Raises:
        MemoError: it is too small for the promise.
    """
    split = split_samples(len(samples), promise)
    numbers, counts = distinct(samples, split.store, split.fit)
    return Parts(
        split,
        samples.take(numbers),
        counts[0] > 0,
        counts,
        samples.take(split.fit[:FIT_LIMIT].tolist()),
        samples.take(split.held_out.tolist()),
    )
