"""Which inputs a memo data file of limited size holds: those that cover the sample.

An input is covered by a stored one of its length, and the better the nearer that is. Near means the
distance of the segment means of the hidden states at the first site, which cost next to nothing: only
what comes before the first attention runs. Greedily, what most reduces the summed distance per byte is
stored next, until the budget is used (facility location; Nemhauser, Wolsey and Fisher, 1978). Gains only
fall while more is stored, so only the best are computed anew (Minoux, 1978).
"""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from onnx_memo.data.parts import Parts
from onnx_memo.data.samples import Samples
from onnx_memo.errors import MemoError
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.graph.prune import prune
from onnx_memo.graph.site import Site
from onnx_memo.graph.span import Span
from onnx_memo.keys.network import segment_means
from onnx_memo.operators.spec import SEGMENTS
from onnx_memo.progress import Progress, silent
from onnx_memo.runtime import session_options
from onnx_memo.sessions import open_session, real_length, run_model
from onnx_memo.store.layout import Footprint

FEATURES = 128  # random projections of the means: distances are kept to about 6 %
BLOCK = 512  # inputs of one length whose distances to all others are in memory at once
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}

Bools = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def most_tokens(samples: Samples, fixed: int | None) -> Integers:
    """How many tokens each sample has at most, i64[n]; without a mask those of the sites, if `fixed`.

    A picture's elements are no tokens.
    """
    own = (samples.lengths[at] or fixed or samples.extent(at) for at in range(len(samples)))
    return np.fromiter(own, np.int64, len(samples))


class Budget:
    """The inputs `samples`, of which a memo data file of at most `max_bytes` holds some.

    Attributes:
        lengths: tokens of each at the first site, i64[n].
        sizes: what each takes, in bytes, i64[n].
    """

    def __init__(
        self,
        opened: OpenedModel,
        samples: Samples,
        size: Footprint,
        max_bytes: int,
        progress: Progress = silent,
    ) -> None:
        """`size` is what inputs take; the model has a site, or a span."""
        advance = progress("comparing the inputs", len(samples))
        first = opened.findings.sites[0] if opened.findings.sites else opened.span  # which is searched
        assert first is not None, "there is something to store"
        means, self.lengths = input_means(opened, first, samples, advance)
        self.features = _features(means)
        self.fixed, self.sizes, self.max_bytes = size.fixed, size.each(self.lengths), max_bytes

    @property
    def whole(self) -> int:
        """What all inputs would take, in bytes."""
        return self.fixed + int(self.sizes.sum())

    def fill(self, weights: Integers, allowed: Bools, taken: Bools | None = None) -> Bools:
        """The inputs to store: of those `allowed`, what covers best, beside those `taken` already.

        Args:
            weights: how often each input occurs, i64[n].
            allowed: which may be stored, bool[n].
            taken: which are stored in any case.

        Raises:
            MemoError: not a single input fits.
        """
        chosen = np.zeros(len(self.sizes), np.bool_) if taken is None else taken.copy()
        left = self.max_bytes - self.fixed - int(self.sizes[chosen].sum())
        if not chosen.any() and left < self.sizes[allowed].min():
            least = self.fixed + int(self.sizes[allowed].min())
            raise MemoError(
                f"--max-bytes {self.max_bytes} does not hold a single input: give at least {least}"
            )
        chosen |= cover(self.features, self.lengths, weights, self.sizes, left, allowed & ~chosen, chosen)
        return chosen

    def note(self, stored: int) -> str:
        """Says how many of the inputs are stored and why."""
        return (
            f"{stored} of {len(self.sizes)} inputs are stored, chosen so that the sample's inputs lie near "
            f"a stored one of their length: --max-bytes is {self.max_bytes:,}, all could take "
            f"{self.whole:,}"
        )


def within(parts: Parts, budget: Budget, notes: list[str]) -> Parts:
    """The parts with just as many stored inputs as the memo data can hold.

    First what covers the store part, chosen without a look at the fit part, which judges by it. What then
    is left of the budget goes to the fit part, which joins the store in the end.

    Args:
        parts: of the sample.
        budget: for `parts.stored`.
        notes: gets a line if not all of them fit.

    Raises:
        MemoError: not a single input fits.
    """
    first = budget.fill(parts.counts[0], parts.in_store)
    kept = np.flatnonzero(budget.fill(parts.counts.sum(axis=0), ~parts.in_store, first))
    if len(kept) < len(parts.in_store):
        notes.append(budget.note(len(kept)))
    return replace(
        parts,
        stored=parts.stored.take(kept.tolist()),
        in_store=parts.in_store[kept],
        counts=parts.counts[:, kept],
    )


def cover(
    features: Floats,
    lengths: Integers,
    weights: npt.NDArray[np.int64] | Floats,
    sizes: Integers,
    budget: int,
    allowed: Bools,
    taken: Bools,
) -> Bools:
    """Which of the `allowed` inputs to store within `budget` bytes, beside those `taken`: bool[n].

    Args:
        features: [n, f]; their Euclidean distance says how near two inputs are.
        lengths: i64[n]; only inputs of one length cover each other.
        weights: what each input's distance counts, [n].
        sizes: in bytes, i64[n].
        budget: bytes for what is chosen.
        allowed: bool[n].
        taken: bool[n]; what they cover is covered.
    """
    chosen = np.zeros(len(sizes), np.bool_)
    if sizes[allowed].sum() <= budget:
        return allowed.copy()
    unique, group_of = np.unique(lengths, return_inverse=True)
    members = [np.flatnonzero(group_of == number) for number in range(len(unique))]
    # What has no stored input of its length, or none nearer than this, is not covered at all.
    far = _far(features, members)
    groups = [_Group(features[group], weights[group].astype(np.float32), far) for group in members]
    place = np.zeros(len(sizes), np.int64)
    heap: list[tuple[float, int]] = []
    for group, numbers in zip(groups, members, strict=True):
        place[numbers] = np.arange(len(numbers))
        for at in np.flatnonzero(taken[numbers]).tolist():
            group.store(at)
        wanted = np.flatnonzero(allowed[numbers])
        rates = -group.gains(wanted) / sizes[numbers[wanted]]
        heap += zip(rates.tolist(), numbers[wanted].tolist(), strict=True)
    heapq.heapify(heap)
    left, least = budget, int(sizes[allowed].min())
    while heap and left >= least:
        _, at = heapq.heappop(heap)
        size, group, own = int(sizes[at]), groups[int(group_of[at])], int(place[at])
        if size > left:
            continue
        rate = -float(group.gains(np.asarray([own]))[0]) / size
        if heap and (rate, at) > heap[0]:
            heapq.heappush(heap, (rate, at))
            continue
        group.store(own)
        chosen[at] = True
        left -= size
    return chosen


class _Group:
    """The inputs of one length, and the distance of each to the nearest stored one."""

    def __init__(self, features: Floats, weights: npt.NDArray[np.float32], far: float) -> None:
        self.points = (features - features.mean(axis=0)).astype(np.float32)
        self.squares = np.square(self.points).sum(axis=1)
        self.weights, self.gaps = weights, np.full(len(features), far, np.float32)

    def gains(self, numbers: Integers) -> npt.NDArray[np.float32]:
        """By how much storing each of these would reduce the weighted sum of distances."""
        gains = [
            self.weights @ np.maximum(self.gaps[:, None] - self._distances(numbers[first : first + BLOCK]), 0)
            for first in range(0, len(numbers), BLOCK)
        ]
        return np.concatenate([np.zeros(0, np.float32), *gains])

    def store(self, number: int) -> None:
        """The input of this number is stored."""
        self.gaps = np.minimum(self.gaps, self._distances(np.asarray([number]))[:, 0])

    def _distances(self, numbers: Integers) -> npt.NDArray[np.float32]:
        """Of all to these: [group, numbers]; 0 of each to itself."""
        products = self.points @ self.points[numbers].T
        squared = self.squares[:, None] + self.squares[numbers] - 2 * products
        squared[numbers, np.arange(len(numbers))] = 0
        distances: npt.NDArray[np.float32] = np.sqrt(np.maximum(squared, 0))
        return distances


def _far(features: Floats, groups: Iterable[Integers]) -> float:
    """Twice the usual distance (root mean square) of two inputs of one length."""
    squares, count = 0.0, 0
    for group in groups:
        if len(group) > 1:
            squares += 2 * float(np.square(features[group] - features[group].mean(axis=0)).sum())
            count += len(group) - 1
    return 2 * math.sqrt(squares / count) if squares > 0 else 1.0


def _features(means: npt.NDArray[np.float32], seed: int = 0) -> Floats:
    """Few numbers an input whose distances are those of the means, about (Johnson and Lindenstrauss)."""
    directions = np.random.default_rng(seed).standard_normal((means.shape[1], FEATURES)) / FEATURES**0.5
    features: Floats = (means - means.mean(axis=0)).astype(np.float64) @ directions
    return features


def input_means(
    opened: OpenedModel, site: Site | Span, samples: Samples, advance: Callable[[], None]
) -> tuple[npt.NDArray[np.float32], Integers]:
    """Segment means [n, SEGMENTS * d] and lengths i64[n] at a site of the model, or at the input of a span.

    Only what leads there runs: all else is removed from the model.
    """
    copy = opened.copy()
    twin = copy.twin(site)
    copy.model.graph.outputs[:] = [twin.input if isinstance(twin, Span) else twin.hidden]
    prune(copy.model)
    session = open_session(copy.model, opened.folder, session_options(native=False, threads=1))
    taken = {value.name for value in session.get_inputs()}
    means = np.empty((len(samples), SEGMENTS * site.width), np.float32)
    lengths = np.empty(len(samples), np.int64)
    for at, feeds in enumerate(samples.arrays):
        states = run_model(session, {name: feeds[name] for name in feeds if name in taken}, at)[0]
        lengths[at] = n = real_length(feeds, site.mask, states)
        means[at] = segment_means(states[0, :n])
        advance()
    return means, lengths


def parse_bytes(text: str) -> int:
    """A number of bytes, as in "2000000", "500M" or "1.5G" (K, M, G, T are powers of 1,024).

    Raises:
        MemoError: it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not found:
        raise MemoError(f"--max-bytes {text} is no size: write for example 500M, 2G or 2000000")
    return int(float(found[1]) * UNITS[found[2].upper()])
