"""What stands below the pictures: decisions, accuracy, the split, the machine, the versions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from onnx_memo.report.errors import is_outside, severity
from onnx_memo.report.evidence import Evidence, Request
from onnx_memo.report.latency import timed
from onnx_memo.report.numbers import (
    escaped,
    figure,
    percent,
    quantile,
    ratio,
    with_unit,
)
from onnx_memo.report.rows import by_rows, share_of

Columns = tuple[tuple[str, str], ...]
Row = tuple[str, tuple[str, ...]]

MOST_WORST = 10
LIBRARIES = {
    "native": "native library",
    "stock": "stock ONNX Runtime, no native library",
}


def total_ratio(requests: Sequence[Request]) -> float:
    """The bundle's total time over the original's; NaN if there is none."""
    both = timed(requests)
    return ratio(sum(r.bundle_ms for r in both), sum(r.original_ms for r in both))


def _table(columns: Columns, rows: list[Row], kind: str = "wide") -> str:
    """A table; a `wide` one turns into a list on a narrow screen.

    Args:
        columns: (heading, CSS class: name, number, word, reason or empty).
        rows: (CSS class, cells as HTML).
        kind: the table's CSS class.
    """
    head = "".join(f'<th scope="col" class="{style}">{name}</th>' for name, style in columns)
    body = ""
    for row_style, cells in rows:
        row = "".join(
            f'<td class="{style}" data-label="{name}">{cell}</td>'
            for (name, style), cell in zip(columns, cells, strict=True)
        )
        body += f'<tr class="{row_style}">{row}</tr>'
    return f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _decisions(evidence: Evidence) -> str:
    guarded = "Which sites are guarded, at which level, and why."
    if by_rows(evidence):
        guarded = (
            "The encoder is guarded as a whole: a request runs the rows that differ from the nearest stored "
            "input and those that they move, and takes the others from the store."
        )
    return (
        f"<section><h2>Decisions</h2><p>{guarded} Times are means per "
        f"request on this machine; net is saving less overhead.</p>{_by_site(evidence)}"
        f'<div class="block">{_alternatives(evidence)}</div>'
        f'<div class="block">{_prediction(evidence)}</div></section>'
    )


def _by_site(evidence: Evidence) -> str:
    columns: Columns = (("site", "name"), ("level", "word"), ("hit rate", "number"), ("saving", "number"))
    columns += (("overhead", "number"), ("net", "number"), ("why", "reason"))
    rows: list[Row] = []
    for site in evidence.sites:
        saving, overhead = site.saving_us, site.overhead_us
        cells = (
            escaped(site.name, 80),
            escaped(site.level or "not guarded", 20),
            percent(site.hit_rate),
            *(with_unit(value, "µs", 2) for value in (saving, overhead, saving - overhead)),
            escaped(site.reason),
        )
        rows.append(("idle" if site.level is None else "", cells))
    return _table(columns, rows) if rows else '<p class="soft">The model has no sites.</p>'


def _alternatives(evidence: Evidence) -> str:
    columns: Columns = (
        ("way to guard", "name"),
        ("ratio", "number"),
        ("hit rate", "number"),
        ("95 % within", "number"),
        ("why", "reason"),
    )
    rows: list[Row] = []
    for way in evidence.alternatives:
        chosen = way.name == evidence.chosen
        name = escaped(way.name, 120) + (" (chosen)" if chosen else "")
        figures = figure(way.ratio), percent(way.hit_rate), figure(way.error)
        rows.append(("chosen" if chosen else "", (name, *figures, escaped(way.reason))))
    listed = _table(columns, rows) if rows else '<p class="soft">No other way was measured.</p>'
    return f"<h3>Ways that were compared</h3>{listed}"


def fit_ratio(evidence: Evidence) -> float | None:
    """The ratio that the fit part predicted of what was chosen, before the held-out part was looked at."""
    return next((way.ratio for way in evidence.alternatives if way.name == evidence.chosen), None)


def _prediction(evidence: Evidence) -> str:
    requests, expected = evidence.requests, evidence.predicted
    hit = [r for r in requests if r.hit]
    missed = [r for r in requests if not r.hit]
    rate = ratio(len(hit), len(requests))
    chosen = next((way for way in evidence.alternatives if way.name == evidence.chosen), None)
    fit = ("", "") if chosen is None else (figure(chosen.ratio), percent(chosen.hit_rate))
    cells = (
        ("time, bundle over original", fit[0], figure(total_ratio(requests)), figure(expected.ratio)),
        ("hit rate", fit[1], percent(rate), percent(expected.hit_rate)),
        ("time, hits alone", "", figure(total_ratio(hit)), figure(expected.hit_ratio)),
        ("time, misses alone", "", figure(total_ratio(missed)), figure(expected.miss_ratio)),
    )
    rows: list[Row] = [("", row) for row in cells]
    columns: Columns = (
        ("", "name"),
        ("predicted: fit part", "number"),
        ("measured: held-out part", "number"),
    )
    columns += (("to expect", "number"),)
    note = (
        "To expect is what was measured, weighted by the lengths and repeats of the whole sample. Single "
        f"rounds of the measurement differ by \N{PLUS-MINUS SIGN} {figure(expected.noise, 2)} in the ratio. "
        "The fit part reuses the store part alone."
    )
    return f'<h3>What to expect</h3>{_table(columns, rows)}<p class="soft">{note}</p>'


def _accuracy(evidence: Evidence) -> str:
    worst = evidence.worst
    tolerance = evidence.promise.tolerance
    against = ratio(worst.error, tolerance)
    times = "" if math.isnan(against) else f", {figure(against, 2)} times the tolerance"
    sentence = (
        f"Error {figure(worst.error)}{times}, at {worst.place} of the data, of length {worst.length:,}."
    )
    if worst.error == 0:
        sentence = "No request differs from the original."
    quote = f"<blockquote>{escaped(worst.text, 600)}</blockquote>" if worst.text else ""
    return (
        f"<section><h2>The worst request</h2><p>{sentence}</p>{quote}{_tokens(evidence)}"
        f"{_outside(evidence, tolerance)}{_strictness(evidence)}</section>"
    )


def _tokens(evidence: Evidence) -> str:
    given = [r.token_error for r in evidence.requests]
    if not given:
        return ""
    return (
        '<p class="soft">Token by token, where the tolerance does not apply: '
        f"half of the requests are within {figure(quantile(given, 0.5), 2)}, {percent(0.95)} within "
        f"{figure(quantile(given, 0.95), 2)}, the worst is {figure(quantile(given, 1), 2)}.</p>"
    )


def _outside(evidence: Evidence, tolerance: float) -> str:
    """The requests outside the tolerance, worst first."""
    found = [r for r in evidence.requests if is_outside(r, tolerance)]
    if not found:
        return ""
    found.sort(key=severity, reverse=True)
    rows_ran = by_rows(evidence)
    columns: Columns = (
        ("error", "number"),
        ("rows run" if rows_ran else "distance", "number"),
        ("length", "number"),
        ("request", "reason"),
    )
    rows: list[Row] = [
        (
            "",
            (
                figure(r.error),
                percent(share_of(r)) if rows_ran else figure(r.distance),
                f"{r.length:,}",
                escaped(r.text or r.place, 200),
            ),
        )
        for r in found[:MOST_WORST]
    ]
    more = f", the first {MOST_WORST}" if len(found) > MOST_WORST else ""
    return (
        f"<details><summary>Requests outside the tolerance: {len(found):,}{more}</summary>"
        f"{_table(columns, rows)}</details>"
    )


def _strictness(evidence: Evidence) -> str:
    steps = sorted(evidence.strictness, key=lambda step: step.strictness)
    if not steps:
        return ""
    columns: Columns = (("strictness", "name"), ("hit rate", "number"), ("mean error", "number"))
    columns += (("95th percentile", "number"), ("worst", "number"), ("outside", "number"))
    rows: list[Row] = [
        (
            "",
            (
                f"{step.strictness:.3g}",
                percent(step.seen.hit_rate),
                *(figure(error) for error in (step.seen.mean, step.seen.p95, step.seen.worst)),
                percent(step.seen.outside),
            ),
        )
        for step in steps
    ]
    title = "Hit rate and error by strictness, in numbers"
    return f"<details><summary>{title}</summary>{_table(columns, rows)}</details>"


def _split(evidence: Evidence) -> str:
    split = evidence.split
    parts = (
        ("store", "stored", split.store),
        ("fit", "fitted and calibrated on", split.fit),
        ("held", "held out", split.held_out),
    )
    bars = "".join(f'<span class="{kind}" style="flex-grow:{number}"></span>' for kind, _, number in parts)
    named = "".join(f'<li><i class="{kind}"></i>{number:,} {name}</li>' for kind, name, number in parts)
    return (
        f"<section><h2>The split</h2><p>{escaped(split.how, 600)}</p>"
        f'<div class="parts" aria-hidden="true">{bars}</div><ul class="keys">{named}</ul>'
        f'<p class="soft">{percent(split.repeats)} of such requests are stored word for word: '
        "so much of the traffic repeats itself.</p></section>"
    )


def _setting(evidence: Evidence) -> str:
    machine = evidence.machine
    facts = (
        ("Processor", machine.processor),
        ("Cores", f"{machine.cores:,}"),
        ("Operators", LIBRARIES.get(machine.library, machine.library)),
    )
    versions = (
        ("onnx-memo", evidence.version),
        ("ONNX Runtime", machine.onnxruntime),
        ("Model", evidence.model),
        ("Data", evidence.data),
    )
    notes = "".join(f"<li>{escaped(note, 600)}</li>" for note in evidence.notes)
    listed = f'<div class="block"><h2>Notes</h2><ul class="notes">{notes}</ul></div>' if notes else ""
    return (
        f'<section><div class="pair"><div><h2>The machine</h2>{_facts(facts)}</div>'
        f"<div><h2>Versions and sources</h2>{_facts(versions)}</div></div>{listed}</section>"
    )


def _facts(facts: tuple[tuple[str, object], ...]) -> str:
    rows = "".join(f"<dt>{escaped(name)}</dt><dd>{escaped(value, 200)}</dd>" for name, value in facts)
    return f'<dl class="facts">{rows}</dl>'


SECTIONS = (_decisions, _accuracy, _split, _setting)
