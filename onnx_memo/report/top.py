"""The first lines of the page: what came out, what did the work, which decisions were kept, the bytes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from onnx_memo.proof.accuracy import Accuracy
from onnx_memo.proof.goal import WARNING
from onnx_memo.proof.measure import Kept
from onnx_memo.report.errors import DECISIONS, RANKINGS, metric_name, severity
from onnx_memo.report.evidence import Evidence, Group, Proof
from onnx_memo.report.numbers import (
    SPACE,
    count,
    escaped,
    figure,
    measured,
    most_outside,
    percent,
    quantile,
    ratio,
    size,
)
from onnx_memo.report.rows import by_rows, share_of
from onnx_memo.report.work import is_literal, kinds
from onnx_memo.timing import PLUS_MINUS

Cell = tuple[str, str, str]  # a name, a figure, and what is to be said of it


def all_of(evidence: Evidence) -> Group | None:
    """What all requests together take; None if none was measured."""
    return next((group for group in evidence.groups if group.name == "all"), None)


def headline(evidence: Evidence) -> str:
    """What came out, in plain words: `31 % less time than the original`."""
    group = all_of(evidence)
    change = math.nan if group is None else 1 - group.ratio.value
    if group is None or math.isnan(change):
        return "No held-out request was measured"
    if group.ratio.equals(1):
        return "The same time as the original, within the spread"
    return f"{percent(abs(change))} {'less' if change > 0 else 'more'} time than the original"


def top(evidence: Evidence) -> str:
    """The page's header as HTML."""
    return (
        f'<header><p class="eyebrow">{escaped(evidence.title, 120)} · onnx-memo report</p>'
        f"<h1>{headline(evidence)}</h1>{_work(evidence)}{_promise(evidence)}{_warnings(evidence)}"
        f"{_key_figures(evidence)}</header>"
    )


def _work(evidence: Evidence) -> str:
    """What did the work, in a sentence or two."""
    requests = evidence.requests
    if not requests:
        return ""
    hits = [r for r in requests if r.hit]
    if not hits:
        return '<p class="lead">No request was reused: all were computed.</p>'
    share, group = percent(len(hits) / len(requests)), all_of(evidence)
    literal = sum(map(is_literal, hits))
    if not literal:
        reuse = f"{share} of the requests are nearly stored: they {_how(evidence)}."
    elif literal == len(hits):
        reuse = f"{share} of the requests are stored word for word: they take the stored result."
    else:
        reuse = (
            f"{share} of the requests reuse what is stored: {percent(literal / len(requests))} are stored "
            f"word for word, {percent((len(hits) - literal) / len(requests))} nearly, and these "
            f"{_how(evidence)}."
        )
    time = f"The bundle takes {measured(group.ratio)} of the original's time. " if group else ""
    return f'<p class="lead">{time}{reuse} {_savers(evidence)}</p>'


def _how(evidence: Evidence) -> str:
    """What a request that is nearly stored still runs, and in which precision."""
    level = next((way.level for way in evidence.alternatives if way.name == evidence.chosen), None)
    named = f" (level: {escaped(level, 40)})" if level else ""
    near = [share_of(r) for r in evidence.requests if r.hit and not is_literal(r)]
    if by_rows(evidence):
        return f"run {percent(sum(near) / len(near))} of their rows{named}"
    return f"take a stored result for their own{named}"


def _savers(evidence: Evidence) -> str:
    """How much of the time saved is due to what is reused."""
    found = kinds(evidence)
    saved = sum(kind.saved for kind in found if kind.style != "miss")
    lost = sum(kind.saved for kind in found if kind.style == "miss")
    overall = all_of(evidence)
    if not found or overall is None or overall.ratio.value >= 1 or math.isnan(saved):
        return ""
    if any(group.name == "misses" and group.ratio.equals(1) for group in evidence.groups):
        return "All of the time saved is due to these; the others take as long as before."
    if lost < 0:
        back = percent(ratio(-lost, saved))
        return (
            f"All of the time saved is due to these; the others look up in vain and give {back} of it back."
        )
    return f"{percent(saved)} of the time saved is due to these." if lost > 0 else ""


def _listed(decisions: Sequence[Kept]) -> str:
    return ", ".join(escaped(str(kept), 120) for kept in decisions)


def _promise(evidence: Evidence) -> str:
    promise = evidence.promise
    most = most_outside(promise.held_out, promise.within, promise.confidence)
    allowed = "too few to prove the promise" if most is None else f"{most:,} allowed to keep the promise"
    failed, stay = _in_words(promise)
    sentence = f"{promise.outside:,} of {promise.held_out:,} held-out requests {failed} ({allowed})."
    if promise.metric in RANKINGS:
        sentence = f"Of {promise.held_out:,} held-out requests: {_listed(evidence.decisions)}."
    kind, outcome = "broken", "not proven" if most is None else "not kept"
    if promise.p_value <= 1 - promise.confidence + 1e-12:
        kind, outcome = "kept", "kept"
    return (
        f'<p class="promise"><strong class="{kind}">Promise {outcome}.</strong> {sentence}</p>'
        f'<p class="soft">The promise: with {percent(promise.confidence)} confidence, at least '
        f"{percent(promise.within)} of {stay}.</p>"
    )


def _in_words(promise: Proof) -> tuple[str, str]:
    """What requests do that break the promise, and that keep it."""
    one, these, model = promise.outside == 1, "requests like these", escaped(promise.model, 120)
    if promise.metric in RANKINGS:
        return "", DECISIONS[promise.metric]
    if promise.metric in DECISIONS:
        failed = f"{'leads' if one else 'lead'} to another decision"
        return (
            failed,
            f"{these} lead to the same decision as with {model}: {DECISIONS[promise.metric]}",
        )
    metric = escaped(metric_name(promise.metric))
    failed = f"{'is' if one else 'are'} outside the tolerance"
    return failed, f"{these} stay within {promise.tolerance:g} of the outputs of {model} ({metric})"


def is_warning(note: str) -> bool:
    """Whether a note is one that should not be overlooked."""
    return note.startswith(WARNING)


def _warnings(evidence: Evidence) -> str:
    found = [note for note in evidence.notes if is_warning(note)]
    return "".join(
        f'<p class="warning"><strong>Warning</strong>{escaped(note.removeprefix(WARNING), 600)}</p>'
        for note in found
    )


def _key_figures(evidence: Evidence) -> str:
    cells = [_time(evidence), _reused(evidence), *map(_kept, evidence.decisions)]
    told = [decision.what for decision in evidence.decisions]
    if DECISIONS.get(evidence.promise.metric) not in told:
        cells.append(_error(evidence))
    if evidence.accuracy is not None:
        cells.append(_accuracy(evidence.accuracy, evidence.promise))
    cells.append(("Memo data", size(evidence.bytes), count(evidence.entries, "stored input")))
    listed = "".join(
        f"<div><dt>{name}</dt><dd>{value}<small>{under}</small></dd></div>" for name, value, under in cells
    )
    return f'<dl class="figures">{listed}</dl>'


def _time(evidence: Evidence) -> Cell:
    """The ratio with its spread, and what the fit part predicted of it."""
    group = all_of(evidence)
    fit = fit_ratio(evidence)
    predicted = "" if fit is None else f"; predicted was {figure(fit)}"
    text, plus_minus, spread = measured(None if group is None else group.ratio).partition(PLUS_MINUS)
    return "Time", text.strip(), f"{plus_minus}{spread} of the original's{predicted}"


def fit_ratio(evidence: Evidence) -> float | None:
    """The ratio that the fit part predicted of what was chosen, before the held-out part was looked at."""
    return next((way.ratio for way in evidence.alternatives if way.name == evidence.chosen), None)


def _reused(evidence: Evidence) -> Cell:
    """How many requests are reused, and how much of the model that spares."""
    requests = evidence.requests
    hits = percent(ratio(sum(r.hit for r in requests), len(requests)))
    if by_rows(evidence):
        mean = percent(ratio(sum(map(share_of, requests)), len(requests)))
        return "Requests reused", hits, f"all requests together run {mean} of their rows"
    levels = Counter(site.level for site in evidence.sites if site.level is not None)
    named = ", ".join(f"{number} at {escaped(level, 20)}" for level, number in sorted(levels.items()))
    blocks = f"{levels.total()} of {count(len(evidence.sites), 'attention block')} guarded"
    return "Requests reused", hits, f"{blocks}: {named}" if named else blocks


def _kept(decision: Kept) -> Cell:
    share = percent(ratio(decision.kept, decision.of))
    return "Decisions kept", share, f"{escaped(decision.what, 80)}: {decision.kept:,} of {decision.of:,}"


def _accuracy(accuracy: Accuracy, promise: Proof) -> Cell:
    """That of the bundle, beside that of the model whose answers count."""
    before, after = (f"{100 * share.value:.1f}{SPACE}%" for share in (accuracy.before, accuracy.after))
    model = "the original" if promise.reference is None else "the reference"
    return "Accuracy", after, f"{model}: {before}; {accuracy.verdict}"


def _error(evidence: Evidence) -> Cell:
    """The error that 95 % stay within, beside the tolerance and the signal."""
    worst = quantile(list(map(severity, evidence.requests)), 0.95)
    promise, signal = evidence.promise, evidence.signal
    if promise.metric in DECISIONS and promise.metric not in RANKINGS:
        return "Decisions changed", f"{promise.outside:,}", f"of {count(promise.held_out, 'request')}"
    against = metric_name(promise.metric)
    if promise.metric not in RANKINGS:
        against = f"tolerance {promise.tolerance:g}"
    if signal is not None:
        against += f"; the nearest other input is {figure(signal.median, 2)} away"
    return "Error, 95th percentile", figure(worst), against


def plain_notes(notes: Sequence[str]) -> list[str]:
    """The notes that are no warnings: those stand at the top."""
    return [note for note in notes if not is_warning(note)]
