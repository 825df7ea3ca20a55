"""From what a traced run gave to how the request was served, and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnx_memo.served import explanation as say
from onnx_memo.served.explanation import Lookup, Row, RowsRun, Stage
from onnx_memo.served.trace import LookupTrace, Results, RowsTrace
from onnx_memo.words import counted

# What is told where products of bytes are not exact: how it is served, and why.
NOT_EXACT = (
    say.INEXACT,
    "products of bytes are not exact here without the native library: the original runs",
)


@dataclass(frozen=True)
class Seen:
    """How a request was served."""

    outcome: str
    reason: str
    lookups: tuple[Lookup, ...]
    rows: RowsRun | None = None


def read_lookup(trace: LookupTrace, results: Results) -> Lookup:
    """What a lookup found for a batch of one."""
    nearest = int(trace.value(results, "nearest")[0])
    gap = trace.value(results, "query")[0].astype(np.float64) - trace.value(results, "key")[:, 0]
    found = nearest >= 0
    return Lookup(
        trace.guard.name,
        trace.guard.level,
        nearest if found else None,
        float(np.sqrt(gap @ gap)) if found else None,
        float(trace.value(results, "threshold").item()),
        int(trace.value(results, "entry")[0]) >= 0 if trace.by_lookup else bool(trace.value(results, "hit")),
    )


def seen_at_sites(
    traces: Sequence[LookupTrace], results: Results, mask: npt.NDArray[np.bool_] | None
) -> Seen:
    """At the levels of single attention blocks: each lookup decides for the blocks that share it."""
    lookups = tuple(read_lookup(trace, results) for trace in traces)
    hits = sum(lookup.reused for lookup in lookups)
    if not hits and (traces[0].by_lookup or lookups[0].nearest is None):
        outcome, reason = _nothing_found(traces[0], lookups[0], results, mask)
    elif not hits:
        outcome = say.NO_REPEAT
        reason = (
            "only literal repeats are reused, and not all rows are as in the nearest stored input of its "
            f"length, entry {lookups[0].nearest}: the original runs"
        )
    elif hits == len(lookups):
        outcome, reason = say.REUSED, "every guarded attention block is taken from the store"
    else:
        outcome = say.PARTLY
        reason = f"{hits} of {len(lookups)} lookups found an entry to reuse: the blocks of the others run"
    return Seen(outcome, reason, lookups)


def seen_at_spans(
    traces: Sequence[LookupTrace], results: Results, mask: npt.NDArray[np.bool_] | None
) -> Seen:
    """At the level `rows`, where several spans are looked up, each by itself."""
    lookups = tuple(read_lookup(trace, results) for trace in traces)
    hits = sum(lookup.reused for lookup in lookups)
    if hits == len(lookups):
        return Seen(
            say.REPEAT, "what goes into each span is that of a stored input: none of them runs", lookups
        )
    if hits:
        told = f"{hits} of {len(lookups)} spans repeat a stored input: the others run"
        return Seen(say.PARTLY, told, lookups)
    if lookups[0].nearest is None:
        return Seen(*_nothing_found(traces[0], lookups[0], results, mask), lookups)
    told = "only literal repeats are reused, and what goes into no span is stored: the original runs"
    return Seen(say.NO_REPEAT, told, lookups)


def seen_in_8_bits(ran: bool) -> Seen:
    """At the level `int8`: there is no lookup. `ran`: whether the guarded layers ran in 8 bits."""
    if ran:
        return Seen(say.ROUNDED, "nothing is reused: the guarded layers run with products in 8 bits", ())
    return Seen(*NOT_EXACT, ())


def seen_at_rows(
    lookup: LookupTrace,
    trace: RowsTrace,
    results: Results,
    mask: npt.NDArray[np.bool_] | None,
    name_of: Callable[[int], str],
    literal: bool,
    in_bytes: bool,
) -> Seen:
    """At the level `rows`.

    Args:
        lookup, trace: of the model.
        results: of a run of a batch of one.
        mask: the request's, bool[L]; None where the model has none.
        name_of: the text of a token, from its place.
        literal: whether only literal repeats are reused.
        in_bytes: whether what reuses nothing runs in 8 bits.
    """
    found = read_lookup(lookup, results)
    hit = found.reused
    if found.nearest is None:
        return Seen(*_missed(_nothing_found(lookup, found, results, mask), in_bytes), (found,))
    length = int(lookup.value(results, "length")[0])
    rows = _rows(trace, results, length, hit, name_of)
    if hit and not rows.ran:
        told = say.REPEAT, f"it is entry {found.nearest}: nothing of the encoder runs"
    elif hit:
        told = say.SOME_ROWS, _some(rows, found)
    elif int(lookup.value(results, "entry")[0]) < 0:
        told = _nothing_found(lookup, found, results, mask)
    elif literal:
        told = (
            say.NO_REPEAT,
            f"only literal repeats are reused, and {_of(rows.changed, length)} not as in the "
            f"nearest stored input of its length, entry {found.nearest}: the original runs",
        )
    elif not rows.limit:  # set to 0 where this is so
        told = NOT_EXACT
    else:
        told = (
            say.TOO_MANY,
            f"already before the first layer {rows.ran} of {length} rows would run against the nearest "
            f"entry, {found.nearest}; up to a share of {rows.limit:.3g} that is worth it: the original runs",
        )
    return Seen(*(told if hit else _missed(told, in_bytes)), (found,), rows)


def _missed(told: tuple[str, str], in_bytes: bool) -> tuple[str, str]:
    """What is told of a request that reuses nothing, whatever of it runs in 8 bits.

    Where padding counts, a padded one runs the original, and where products are not exact, any does.
    """
    outcome, reason = told
    if in_bytes and outcome not in (say.PADDED, say.INEXACT):
        reason = reason.replace("the original runs", "all of it runs, in 8 bits")
    return outcome, reason


def _of(changed: int, length: int) -> str:
    return f"{changed} of {counted(length, 'row')} {'is' if changed == 1 else 'are'}"


def _some(rows: RowsRun, found: Lookup) -> str:
    joined = rows.ran - rows.changed
    runs, move = ("it runs", "it moves") if rows.changed == 1 else ("these run", "they move")
    moved = f", and {joined} that {move} beyond the bound" if joined else ""
    return (
        f"{_of(rows.changed, len(rows.rows))} not as in entry {found.nearest}: "
        f"{runs}{moved}; all others are taken from it"
    )


def _nothing_found(
    trace: LookupTrace, lookup: Lookup, results: Results, mask: npt.NDArray[np.bool_] | None
) -> tuple[str, str]:
    """Why a lookup gave no entry."""
    length = int(trace.value(results, "length")[0])
    if length < 0 and mask is not None and np.array_equal(mask, np.arange(len(mask)) < mask.sum()):
        return say.PADDED, "padding counts in this model, and the request is padded: the original runs"
    if length < 0:
        return say.MASKED, "its mask is not ones followed by zeros: the original runs"
    if length == 0:
        return say.EMPTY, "its mask is all zeros: the original runs"
    if lookup.nearest is None:
        return say.OTHER_LENGTH, f"no stored input has {counted(length, 'row')}: the original runs"
    return (
        say.TOO_FAR,
        f"the nearest stored input of its length, entry {lookup.nearest}, is at a distance of "
        f"{lookup.distance:.3g}, and up to {lookup.threshold:.3g} it would be taken: the original runs",
    )


def _rows(
    trace: RowsTrace, results: Results, length: int, hit: bool, name_of: Callable[[int], str]
) -> RowsRun:
    names = [f"rows.{stage}" for stage in range(len(trace.firsts))] if hit else ["would"]
    ran = [trace.value(results, name) for name in names]
    if hit and not len(ran[0]):  # the branch that lets rows join did not run either
        names, ran = names[:1], ran[:1]
    predicted = [trace.value(results, f"predicted.{stage}")[0] for stage in range(len(names))]
    change = trace.value(results, "change")[0]
    joined: dict[int, int] = {}
    for stage, tokens in enumerate(ran):
        for token in tokens.tolist():
            joined.setdefault(token, stage)
    rows = tuple(
        Row(
            name_of(at),
            float(change[at]),
            float(predicted[joined.get(at, -1)][at]),
            trace.firsts[joined[at]] if at in joined else None,
            say.CHANGED if change[at] else say.MOVED if at in joined else say.KEPT,
        )
        for at in range(length)
    )
    ends = [*trace.firsts[1 : len(ran)], max(trace.layers, 1)]
    stages = tuple(
        Stage(first, end - 1, len(tokens))
        for first, end, tokens in zip(trace.firsts, ends, ran, strict=False)
    )
    share = sum(s.ran * (s.last - s.first + 1) for s in stages) / (ends[-1] * length)
    one = {name: float(trace.value(results, name).item()) for name in ("epsilon", "bound", "limit")}
    return RowsRun(hit, rows, stages, one["epsilon"], one["bound"], one["limit"], share)
