"""What is said of one request, and of many."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from onnx_memo.store.manifest import Promised

# How a request can be served. The first four reuse something; those after the fifth run the original.
REPEAT = "repeat"  # a stored input: nothing runs
SOME_ROWS = "some rows"  # near a stored input: the rows that changed run, and those that they move
REUSED = "reused"  # at every guarded attention block
PARTLY = "partly reused"  # at some of the guarded attention blocks
ROUNDED = "in 8 bits"  # nothing is stored, and products run in 8 bits
INEXACT = "no exact products in 8 bits"
OTHER_LENGTH = "no stored input of its length"
TOO_FAR = "too far from every stored input"
TOO_MANY = "too many rows would run"
NO_REPEAT = "no literal repeat"
MASKED = "irregular mask"
EMPTY = "no tokens"
PADDED = "padded"
OUTCOMES = (
    REPEAT,
    SOME_ROWS,
    REUSED,
    PARTLY,
    ROUNDED,
    INEXACT,
    OTHER_LENGTH,
    TOO_FAR,
    TOO_MANY,
    NO_REPEAT,
    MASKED,
    EMPTY,
    PADDED,
)

# Why a row runs, or not.
CHANGED, MOVED, KEPT = "changed", "moved", "kept"


@dataclass(frozen=True)
class Lookup:
    """What the lookup of a guard found.

    Attributes:
        site: the guard's name.
        level: what a hit reuses there.
        nearest: the nearest entry of the request's length, from 0; None: there is none.
        distance: of its key, about 1 between two inputs of the sample; None: there is no such entry.
        threshold: the distance up to which it is taken.
        reused: whether the guard reused it.
    """

    site: str
    level: str
    nearest: int | None
    distance: float | None
    threshold: float
    reused: bool


@dataclass(frozen=True)
class Row:
    """One row of the encoder: a token, or a patch.

    Attributes:
        token: its text, or its number in the request.
        change: relative change of its state at the encoder's input against the entry's, at most 8; 0 where
            that is no more than `RowsRun.epsilon`.
        predicted: the relative change that was predicted for it when it joined, or if it did not, last;
            it joins above `RowsRun.bound`.
        layer: from which layer on it runs, from 0; None: not at all.
        why: `changed`, `moved` (by those that changed), or `kept` (taken from the entry).
    """

    token: str
    change: float
    predicted: float
    layer: int | None
    why: str


@dataclass(frozen=True)
class Stage:
    """Some layers that run the same rows.

    Attributes:
        first, last: of the layers, from 0.
        ran: how many rows run there.
    """

    first: int
    last: int
    ran: int


@dataclass(frozen=True)
class RowsRun:
    """Which rows run, against the nearest entry.

    Attributes:
        happened: true if only these ran; false if they would have, and the original ran instead.
        rows: of the real tokens, in their order.
        stages: all that happened; of what would have, the first one alone, since the others are not known.
        epsilon: relative change above which a row has changed.
        bound: predicted relative change above which a row runs.
        limit: the largest share of the request's rows, padding included, up to which they alone are run.
        share: the mean share of its real rows that ran over the layers; for what would have run, in the
            first stage.
    """

    happened: bool
    rows: tuple[Row, ...]
    stages: tuple[Stage, ...]
    epsilon: float
    bound: float
    limit: float
    share: float

    @property
    def changed(self) -> int:
        """How many rows changed."""
        return sum(row.why == CHANGED for row in self.rows)

    @property
    def ran(self) -> int:
        """How many rows run in the end."""
        return sum(row.layer is not None for row in self.rows)


@dataclass(frozen=True)
class Difference:
    """What an output of floats differs by from the original's.

    Attributes:
        output: its name.
        measure: of `error`: `cosine` (1 - cosine, after averaging over tokens), or `relative` (L2) for
            outputs of one number.
        error: by that measure (`onnx_memo.proof.metrics`).
        worst_token: the largest `cosine` error of a single token; None where the output has none.
    """

    output: str
    measure: str
    error: float
    worst_token: float | None = None


@dataclass(frozen=True)
class Decided:
    """What people do with the answer, as a bundle promises it or the outputs suggest (`proof.choice`).

    Attributes:
        decision: its name, as in `--decision`.
        by: what it rests on, as in "output 'logits'".
        before, after: what the original's answer says, and the bundle's.
        stays: whether that is the same decision; None: one answer alone does not tell.
    """

    decision: str
    by: str
    before: str
    after: str
    stays: bool | None


@dataclass(frozen=True)
class Explanation:
    """How one request is served.

    Attributes:
        place: which request it is.
        level: the bundle's.
        outcome: one of `OUTCOMES`.
        reason: that in a sentence.
        lookups: of the guards that look up, in the model's order.
        rows: at the level `rows`, if there is an entry of its length; None otherwise.
        differences: of the outputs of floats.
        promised: what the bundle was proven to keep; None: nothing, it reuses literal repeats alone, or what
            lies within a threshold.
        decided: what is decided with the answer; None: nothing that one answer tells, or no output suits.
        entry_text: the text of the nearest entry, where a sample was given and holds it.
        notes: what is not known, or was lost on the way to tokens.
    """

    place: str
    level: str
    outcome: str
    reason: str
    lookups: tuple[Lookup, ...]
    rows: RowsRun | None
    differences: tuple[Difference, ...]
    promised: Promised | None = None
    decided: Decided | None = None
    entry_text: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def error(self) -> float:
        """The worst over the outputs, 0 where there are none of floats."""
        return max((difference.error for difference in self.differences), default=0.0)

    @property
    def reused(self) -> bool:
        """Whether anything was reused."""
        return self.outcome in OUTCOMES[:4]

    def to_dict(self) -> dict[str, Any]:
        """As one object for JSON, which has no infinity: that is null."""
        plain: dict[str, Any] = _plain(asdict(self) | {"error": self.error})
        return plain


@dataclass(frozen=True)
class Worst:
    """Which requests of a file are served worst.

    Attributes:
        requests: how many were run.
        outcomes: how many of each outcome.
        reused: those that reused something, with the largest error first.
        missed: those that reused nothing, in the file's order.
        notes: of the file as a whole.
        rounded: those whose products ran in 8 bits, with the largest error first.
    """

    requests: int
    outcomes: Mapping[str, int]
    reused: tuple[Explanation, ...]
    missed: tuple[Explanation, ...]
    notes: tuple[str, ...] = ()
    rounded: tuple[Explanation, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As one object for JSON; requests as `Explanation.to_dict` has them."""
        return {
            "requests": self.requests,
            "outcomes": dict(self.outcomes),
            "reused": [one.to_dict() for one in self.reused],
            "rounded": [one.to_dict() for one in self.rounded],
            "missed": [one.to_dict() for one in self.missed],
            "notes": list(self.notes),
        }


def _plain(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _plain(part) for key, part in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(part) for part in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
