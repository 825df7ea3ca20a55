"""What `bench` found: the figures, as typed fields, as JSON, and as tables and sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_memo.notebook import Part, Table, as_html
from onnx_memo.proof.accuracy import Accuracy
from onnx_memo.proof.measure import Kept
from onnx_memo.sessions import Raced
from onnx_memo.timing import Measured, Times, ratio_of, times_of
from onnx_memo.words import counted

FEWER = 0.1  # by how much the share of reused requests may lie below the one to expect without a word
MEASURES = {
    "relative": "relative L2 error",
    "spread": "in standard deviations",
    "order": "pairs that change order",
}


@dataclass(frozen=True)
class Figures:
    """Of an error or a cosine over the rows: the mean, and percentiles that occurred."""

    mean: float
    p95: float
    worst: float


@dataclass(frozen=True)
class Latency:
    """How long some requests take.

    Attributes:
        requests: how many there are.
        original, bundle: percentiles of their times.
        ratio: the bundle's total time over the original's.
    """

    requests: int
    original: Times
    bundle: Times
    ratio: Measured

    @property
    def equal(self) -> bool:
        """Whether no difference is seen: the ratio is no farther from 1 than single rounds differ."""
        return self.ratio.equals(1)


@dataclass(frozen=True)
class Comparison:
    """Original and bundle side by side.

    Attributes:
        baseline_ms, memo_ms: of the original and of the bundle, median over the requests, in milliseconds.
        ratio: the bundle's total time over the original's.
        noise: half the range of the ratios of single rounds; 0 of one round, which says nothing.
        hit_rate: share of (row, site) pairs that were reused.
        sites: name -> hit rate of that site.
        rows_run: at the level `rows` the mean share of their real rows that requests ran, 1 for what is not
            reused; None at other levels.
        outputs: name of each output of floats -> `relative` error and `cosine` (1 less its error), as in
            `onnx_memo.proof.metrics`, or of one number `relative`, `spread` and `order`, the latter against
            the original's answers to these requests (`onnx_memo.proof.scores`); over the rows, padding left
            out. An infinite error is 1e30 and a cosine of -1.
        requests, batch, rounds: so many requests of so many inputs, each timed so many times.
        threads: of each session, no more than there are cores.
        library: the operators that ran, `native` or `stock`.
        notes: what was left out of the data, cut off or not known.
        predicted, predicted_with: what `optimize` expected of traffic like its sample, one request at a time
            on one thread, and with which operators; None if it was not asked to.
        latency: of `all` requests, of the `hits` (all rows were reused at all sites) and of the `misses` (all
            others); those of which there are none are not there.
        kept: what stays of the decision that the outputs suggest (`onnx_memo.proof.choice`); none where they
            suggest none.
        accuracy: by true labels, on all inputs; None where none were given.
        reference: the file of the model whose answers count for errors, decisions and accuracy; None: the
            original's own do.
        compact: whether the original's weights are left out of the bundle.
    """

    baseline_ms: float
    memo_ms: float
    ratio: float
    noise: float
    hit_rate: float
    sites: Mapping[str, float]
    rows_run: float | None
    outputs: Mapping[str, Mapping[str, Figures]]
    requests: int
    batch: int
    threads: int
    library: str
    notes: Sequence[str]
    predicted: Mapping[str, float] | None
    predicted_with: str | None
    rounds: int
    latency: Mapping[str, Latency]
    kept: list[Kept]
    accuracy: Accuracy | None
    reference: str | None = None
    compact: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As one object of JSON: the fields by their names, in numbers, strings, lists and objects."""
        return asdict(self)

    def _repr_html_(self) -> str:
        """In a notebook: the tables that a terminal shows."""
        return as_html(self.parts())

    def parts(self) -> list[Part]:
        """Latency and hits, what is to be said of them, then the outputs' errors."""
        parts: list[Part] = [self._latency()]
        reused = f"hits: {self.hit_rate:.1%}"
        if self.rows_run is not None:
            reused += f"; rows run: {self.rows_run:.1%}"
        parts.append(reused)
        if len(self.sites) > 1:
            parts.append(
                "hits by site: " + "  ".join(f"{name} {rate:.1%}" for name, rate in self.sites.items())
            )
        if self.predicted is not None:
            parts.append(_against_prediction(self, self.predicted))
        if self.reference is not None:
            parts.append(compared_with(self.reference))
        parts += [str(kept) for kept in self.kept]
        if self.accuracy is not None:
            parts.append(str(self.accuracy))
        parts += [f"note: {note}" for note in [*self.notes, *self._cautions()]]
        return [*parts, self._errors()]

    def _latency(self) -> Table:
        rows = []
        for name, group in self.latency.items():
            rows.append([f"{name}: {group.requests}", "original", *_shown(group.original), "1"])
            rows.append(["", "bundle", *_shown(group.bundle), str(group.ratio)])
            if group.equal and self.rounds > 1:
                rows[-1][-1] += ", equal"
        requests, threads = counted(self.requests, "request"), counted(self.threads, "thread")
        title = f"{requests} of {self.batch}, {threads}, {self.library} operators"
        return Table(title, ["requests", "", "p50 ms", "p95 ms", "p99 ms", "ratio"], rows, words=2)

    def _cautions(self) -> list[str]:
        """What the times do not say."""
        few = [name for name, group in self.latency.items() if group.requests < 100]
        cautions = (
            [f"p99 of fewer than 100 requests is the slowest of them ({', '.join(few)})"] if few else []
        )
        if self.rounds == 1:
            cautions.append(
                "of one round no spread is known: whether times differ takes --rounds of 2 or more"
            )
        return cautions

    def _errors(self) -> Table:
        rows = []
        for name, measures in self.outputs.items():
            for measure, figures in measures.items():
                form = ".6f" if measure == "cosine" else ".2e"
                shown = [format(figure, form) for figure in (figures.mean, figures.p95, figures.worst)]
                rows.append([name, MEASURES.get(measure, measure), *shown])
        headings = ["output", "measure", "mean", "95th percentile", "worst"]
        whose = "the original's" if self.reference is None else f"those of the reference '{self.reference}'"
        return Table(f"Distance of the outputs from {whose}", headings, rows, words=2)


def compared_with(reference: str) -> str:
    """Says what counts where the answers of a reference, the name of its file, are right."""
    return f"answers are compared with those of the reference '{reference}', times with the original's"


def latency_of(raced: Raced, hits: npt.NDArray[np.bool_]) -> dict[str, Latency]:
    """The times of all requests, and of hits and misses, from a race of the original and the bundle.

    Args:
        raced: of these two, in this order.
        hits: which requests were reused in whole, bool[requests].
    """
    groups = {"all": np.ones_like(hits), "hits": hits, "misses": ~hits}
    return {name: _latency(raced.among(which)) for name, which in groups.items() if which.any()}


def _latency(raced: Raced) -> Latency:
    return Latency(raced.seconds.shape[1], times_of(raced, 0), times_of(raced, 1), ratio_of(raced, 1))


def _shown(times: Times) -> list[str]:
    return [str(times.p50), str(times.p95), str(times.p99)]


def _against_prediction(made: Comparison, predicted: Mapping[str, float]) -> str:
    """The ratio beside the one to expect, where both are of the same way to run."""
    expected = f"to expect was a ratio of {predicted['ratio']:.3f}"
    if (made.batch, made.threads, made.library) != (1, 1, made.predicted_with):
        return (
            f"{expected}, with {made.predicted_with} operators, one request at a time on one thread: "
            "not comparable with this run"
        )
    told = f"{expected}: off by {made.ratio - predicted['ratio']:+.3f}"
    if made.hit_rate < predicted["hit_rate"] - FEWER:
        told += (
            f"; {made.hit_rate:.1%} are reused, where {predicted['hit_rate']:.1%} of traffic like the sample "
            "were"
        )
        if not made.compact:
            told += ": 'onnx-memo explain BUNDLE --data FILE' says why the others are not"
    return told
