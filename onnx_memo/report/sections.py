"""The words and tables of the page's parts: times, errors, what was reused, what was tried."""

from __future__ import annotations

import math

from onnx_memo.report.errors import DECISIONS, is_outside, severity
from onnx_memo.report.evidence import Evidence, Group
from onnx_memo.report.figures import Columns, Row, table
from onnx_memo.report.numbers import (
    NONE,
    SPACE,
    count,
    escaped,
    figure,
    measured,
    percent,
    quantile,
    ratio,
    with_unit,
)
from onnx_memo.report.rows import by_rows, share_of
from onnx_memo.timing import PLUS_MINUS, Measured, Times

MOST_WORST = 10
GROUPS = {"hits": "Hits", "misses": "Misses", "all": "All"}


def groups(evidence: Evidence) -> str:
    """The times of hits and misses apart, each with its spread."""
    if not evidence.groups:
        return '<p class="soft">No held-out request was measured.</p>'
    head = "".join(
        f'<th scope="col" class="{style}">{name}</th>'
        for name, style in (
            ("requests", ""),
            ("model", ""),
            ("p50, ms", "number"),
            ("p95, ms", "number"),
            ("p99, ms", "number"),
            ("time ratio", "number"),
        )
    )
    body = "".join(map(_group, evidence.groups))
    return (
        "<p>A hit reuses what is stored; a miss runs the whole model. The time ratio is "
        "the bundle's total time over the original's. p50 is what half of the requests stay within, p95 and "
        f"p99 what 95{SPACE}% and 99{SPACE}% stay within. After {PLUS_MINUS} stands the spread: half the "
        "range of what single rounds of the measurement gave. What differs by no more is called equal."
        '</p><table class="times"><caption>What held-out requests take</caption>'
        f"<thead><tr>{head}</tr></thead>{body}</table>"
    )


def _group(group: Group) -> str:
    name = (
        f"{GROUPS.get(group.name, escaped(group.name, 40))}<small>{count(group.requests, 'request')}</small>"
    )
    return (
        f'<tbody><tr><th scope="rowgroup" rowspan="2">{name}</th>{_times("original", group.original)}'
        f'<td rowspan="2" class="number ratio">{_ratio(group.ratio)}</td></tr>'
        f"<tr>{_times('bundle', group.bundle)}</tr></tbody>"
    )


def _times(model: str, times: Times) -> str:
    cells = "".join(f'<td class="number">{_spread(one)}</td>' for one in (times.p50, times.p95, times.p99))
    return f'<th scope="row" class="model">{model}</th>{cells}'


def _spread(value: Measured) -> str:
    """A figure, and its spread smaller."""
    text, _, spread = measured(value).partition(PLUS_MINUS)
    return f"{text.strip()} <small>{PLUS_MINUS}{spread}</small>" if spread else text


def _ratio(value: Measured) -> str:
    return f"equal <small>{value}</small>" if value.equals(1) else _spread(value)


def errors(evidence: Evidence) -> str:
    """The signal, the worst request, and errors of single tokens."""
    worst, tolerance = evidence.worst, evidence.promise.tolerance
    against = ratio(worst.error, tolerance)
    times = "" if math.isnan(against) else f", {figure(against, 2)} times the tolerance"
    sentence = (
        f"The worst request has an error of {figure(worst.error)}{times}, at {escaped(worst.place, 80)} of "
        f"the data, of length {worst.length:,}."
    )
    if evidence.promise.metric in DECISIONS:
        place = f"at {escaped(worst.place, 80)} of the data, of length {worst.length:,}"
        sentence = f"One of the requests that lead to another decision stands {place}."
    if worst.error == 0:
        sentence = f"No request is answered otherwise than by {escaped(evidence.promise.model, 120)}."
    quote = f"<blockquote>{escaped(worst.text, 600)}</blockquote>" if worst.text else ""
    return f"{_signal(evidence)}<p>{sentence}</p>{quote}{_tokens(evidence)}"


def _signal(evidence: Evidence) -> str:
    """The tolerance in terms of how far inputs are apart."""
    signal = evidence.signal
    if signal is None:
        return ""
    return (
        f"<p>The signal: of {count(signal.inputs, 'input')} of the sample the nearest other is "
        f"{figure(signal.median, 2)} away (the median; for one in 20 no more than {figure(signal.low, 2)}). "
        f"The tolerance of {evidence.promise.tolerance:g} is "
        f"{figure(ratio(evidence.promise.tolerance, signal.median), 2)} times the median: the smaller, the "
        "better what is nearest stays nearest.</p>"
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


def outside(evidence: Evidence) -> str:
    """The requests outside the tolerance, worst first."""
    found = [r for r in evidence.requests if is_outside(r, evidence.promise.tolerance)]
    if not found:
        return ""
    found.sort(key=severity, reverse=True)
    rows_ran = by_rows(evidence)
    columns: Columns = (
        ("request", "name"),
        ("error", "number"),
        ("rows run" if rows_ran else "distance", "number"),
        ("length", "number"),
    )
    rows: list[Row] = [
        (
            "",
            (
                escaped(r.text or r.place, 200),
                figure(r.error),
                percent(share_of(r)) if rows_ran else figure(r.distance),
                f"{r.length:,}",
            ),
        )
        for r in found[:MOST_WORST]
    ]
    more = f", the first {MOST_WORST}" if len(found) > MOST_WORST else ""
    return (
        f"<details><summary>Requests outside the tolerance: {len(found):,}{more}</summary>"
        f"{table('Requests outside the tolerance', columns, rows)}</details>"
    )


def reused(evidence: Evidence) -> str:
    """How a request is answered from the store, in words."""
    if by_rows(evidence):
        return (
            "<p>The encoder is guarded as a whole: a request runs the rows (tokens) that differ from the "
            "nearest stored input and those that they move, and takes the others from the store.</p>"
        )
    return (
        "<p>Attention blocks are guarded one by one: where a stored input is near enough, its result is "
        "taken for the request's.</p>"
    )


def by_site(evidence: Evidence) -> str:
    """Each attention block: at which level it is guarded, and why. None where the encoder is the only one."""
    if by_rows(evidence):
        return ""
    columns: Columns = (
        ("attention block", "name"),
        ("level", "word"),
        ("hit rate", "number"),
        ("saving", "number"),
    )
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
    if not rows:
        return '<p class="soft">The model has no attention blocks.</p>'
    return table(
        "Attention blocks<small>Means per request; net is saving less overhead. They come from a profile, "
        "and their spread is not known.</small>",
        columns,
        rows,
    )


def strictness(evidence: Evidence) -> str:
    """What each strictness gives, in numbers."""
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
    return f"<details><summary>{title}</summary>{table(title, columns, rows)}</details>"


def tried(evidence: Evidence) -> str:
    """What is compared there, in words."""
    return (
        f"<p>Ways to reuse were run on a part of the sample, the fit part, and the fastest that "
        f"{'keeps the decisions' if evidence.promise.metric in DECISIONS else 'stays within the tolerance'} "
        "was taken. A level is what a hit reuses; a bound or threshold says how near is near enough.</p>"
    )


def alternatives(evidence: Evidence) -> str:
    """Every way to guard that was measured, and why it was taken or not."""
    columns: Columns = (
        ("way", "name"),
        ("ratio", "number"),
        ("hit rate", "number"),
        ("error, 95 %", "number"),
        ("why", "reason"),
    )
    rows: list[Row] = []
    for way in evidence.alternatives:
        chosen = way.name == evidence.chosen
        name = escaped(way.name, 120) + (" (chosen)" if chosen else "")
        figures = figure(way.ratio), percent(way.hit_rate), figure(way.error)
        rows.append(("chosen" if chosen else "", (name, *figures, escaped(way.reason))))
    if not rows:
        return '<p class="soft">No other way was measured.</p>'
    caption = (
        "Ways that were compared<small>The ratio of time served to choose, and its spread is not known here."
        "</small>"
    )
    return table(caption, columns, rows)


def prediction(evidence: Evidence) -> str:
    """What the fit part predicted, the held-out part measured, and traffic like the sample may expect."""
    requests, expected = evidence.requests, evidence.predicted
    rate = ratio(sum(r.hit for r in requests), len(requests))
    chosen = next((way for way in evidence.alternatives if way.name == evidence.chosen), None)
    fit = (NONE, NONE) if chosen is None else (figure(chosen.ratio), percent(chosen.hit_rate))
    overall = next((group.ratio for group in evidence.groups if group.name == "all"), None)
    spread = Measured(expected.ratio, expected.noise)
    rows: list[Row] = [
        ("", ("time, bundle over original", fit[0], measured(overall), measured(spread))),
        ("", ("requests reused", fit[1], percent(rate), percent(expected.hit_rate))),
    ]
    columns: Columns = (("figure", "name"), ("predicted by the fit part", "number"))
    columns += (("measured on the held-out part", "number"), ("to expect", "number"))
    note = (
        "To expect is what was measured, weighted by the lengths and repeats of the whole sample. The fit "
        "part was predicted with less in the store: the store part alone."
    )
    return f'{table("What to expect of such traffic", columns, rows)}<p class="soft">{note}</p>'
