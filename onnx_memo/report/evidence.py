"""What a decision rests on: everything that was measured, for the manifest, the report and machines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from onnx_memo.levels.base import SiteFigures, StrictnessPoint
from onnx_memo.levels.ways import Alternative
from onnx_memo.proof.accuracy import Accuracy
from onnx_memo.proof.measure import Kept
from onnx_memo.timing import Measured, Times

INFINITY = 1e30  # in JSON, which has no infinity


@dataclass(frozen=True)
class Names:
    """What people call the bundle (`title`) and the files that it was made of; `reference`, if any."""

    title: str
    model: str
    data: str
    reference: str | None = None


@dataclass(frozen=True)
class Machine:
    """Where the figures were measured.

    Attributes:
        onnxruntime: its version.
        library: `native` where the operators' kernels were loaded, or `stock`.
    """

    processor: str
    cores: int
    onnxruntime: str
    library: str


@dataclass(frozen=True)
class Proof:
    """What was promised, and what the held-out part shows of it.

    Attributes:
        metric: a name of `onnx_memo.proof.metrics`.
        tolerance: the largest error allowed, in terms of the metric.
        within: the share of requests that stays within the tolerance.
        confidence: of that statement.
        held_out: requests that were tested.
        outside: those of them outside the tolerance.
        p_value: the promise is kept if it is at most 1 - confidence.
        reference: the file of the model whose answers count; None: the original's own.
    """

    metric: str
    tolerance: float
    within: float
    confidence: float
    held_out: int
    outside: int
    p_value: float
    reference: str | None = None

    @property
    def model(self) -> str:
        """Whose answers count, for people."""
        return "the original model" if self.reference is None else f"the reference, {self.reference}"


@dataclass(frozen=True)
class SplitSizes:
    """How many requests of the sample went to each part.

    Attributes:
        repeats: the share of requests like the sample's that are stored literally.
        how: a sentence.
    """

    store: int
    fit: int
    held_out: int
    repeats: float
    how: str


@dataclass(frozen=True)
class Request:
    """A held-out request, as calibrated.

    Attributes:
        place: where it stands in the data file.
        length: in tokens.
        original_ms, bundle_ms: milliseconds that it takes.
        hit: whether it is reused.
        stored: whether it is stored word for word.
        distance: from what is reused; infinite where nothing is comparable.
        error: in terms of the metric.
        token_error: cosine token by token.
        rows: the share of its rows that ran; None at levels that run no single rows.
        text: None where it is not to be shown, or the sample holds arrays.
    """

    place: str
    length: int
    original_ms: float
    bundle_ms: float
    hit: bool
    stored: bool
    distance: float
    error: float
    token_error: float
    rows: float | None
    text: str | None


@dataclass(frozen=True)
class Predicted:
    """What to expect of traffic like the sample.

    Attributes:
        ratio: the bundle's time over the original's.
        hit_rate: the share of requests that are reused.
        hit_ratio, miss_ratio: as `ratio`, of the requests that are reused and of the others alone.
        noise: half the range of the ratios that single rounds of the measurement gave.
    """

    ratio: float
    hit_rate: float
    hit_ratio: float
    miss_ratio: float
    noise: float


@dataclass(frozen=True)
class Group:
    """What some of the held-out requests take, as measured.

    Attributes:
        name: `hits`, `misses` or `all`.
        requests: how many, at least one.
        original, bundle: milliseconds.
        ratio: the bundle's total time over the original's.
    """

    name: str
    requests: int
    original: Times
    bundle: Times
    ratio: Measured


@dataclass(frozen=True)
class Signal:
    """How far inputs of the sample are from the nearest other, by the original's answers: 1 - cosine.

    Attributes:
        median: over the inputs.
        low: the 5th percentile.
        inputs: that were compared, each with all others.
    """

    median: float
    low: float
    inputs: int


@dataclass(frozen=True)
class Worst:
    """The held-out request with the largest error, as in `Request`."""

    error: float
    place: str
    length: int
    text: str | None


@dataclass(frozen=True)
class Evidence:
    """The figures of a decision. Infinity stays infinity here; only JSON has none.

    Attributes:
        version: of this package.
        requests: the held-out part.
        groups: those that are reused, those that are not, and all of them; none is empty.
        decisions: how often they stay as they are with the original, of the held-out part.
        accuracy: by true labels, of the held-out part; None where there are none.
        signal: None where it is not known, or errors are no cosines.
        sites: each site that could be guarded.
        strictness: what each value of `memo_strictness` gives on the held-out part.
        alternatives: the ways to guard that were tried on the fit part.
        chosen: the name of the alternative that was taken.
        bytes: size of the memo data.
        entries: inputs that it holds.
        notes: sentences for people.
        threshold: the distance up to which entries are reused, if it is one.
        proven_share: what the held-out part proves of the bound that was chosen on the fit part; None at
            levels that run no single rows.
    """

    title: str
    model: str
    data: str
    version: str
    machine: Machine
    promise: Proof
    split: SplitSizes
    requests: Sequence[Request]
    groups: Sequence[Group]
    decisions: Sequence[Kept]
    accuracy: Accuracy | None
    signal: Signal | None
    sites: Sequence[SiteFigures]
    strictness: Sequence[StrictnessPoint]
    predicted: Predicted
    alternatives: Sequence[Alternative]
    chosen: str
    worst: Worst
    bytes: int
    entries: int
    notes: Sequence[str]
    threshold: float | None
    proven_share: float | None

    def as_json(self) -> dict[str, Any]:
        """As one JSON object; 1e30 stands for what is not finite.

        Each alternative says whether it was `chosen`, and each point of `strictness` is flat. `threshold`,
        `proven_share`, `signal`, `accuracy` and the promise's `reference` are left out where there is none.
        """
        found = asdict(self)
        chosen = found.pop("chosen")
        found["alternatives"] = [way | {"chosen": way["name"] == chosen} for way in found["alternatives"]]
        found["strictness"] = [
            {"strictness": point.strictness, **asdict(point.seen)} for point in self.strictness
        ]
        for optional in ("threshold", "proven_share", "signal", "accuracy"):
            if found[optional] is None:
                del found[optional]
        if found["promise"]["reference"] is None:
            del found["promise"]["reference"]
        plain: dict[str, Any] = _plain(found)
        return plain


def _plain(value: Any) -> Any:
    """The same value in lists, and with finite numbers alone."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return INFINITY
    return value
