"""The report's page: headline, pictures, decisions, the split, the machine, the versions."""

from __future__ import annotations

import math
from collections import Counter

from onnx_memo.report import errors, latency, sections, sites, ways
from onnx_memo.report import rows as rows_of
from onnx_memo.report.charts import Picture
from onnx_memo.report.errors import DECISIONS, metric_name
from onnx_memo.report.evidence import Evidence, Proof
from onnx_memo.report.numbers import (
    count,
    escaped,
    figure,
    finite,
    median,
    most_outside,
    percent,
    size,
    with_unit,
)
from onnx_memo.report.style import STYLE
from onnx_memo.report.svg import Drawing


def page(evidence: Evidence) -> str:
    """The whole page as HTML."""
    title = escaped(f"{evidence.title}: onnx-memo report", 200)
    body = "".join(part(evidence) for part in (_top, _pictures, *sections.SECTIONS))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def headline(evidence: Evidence) -> str:
    """What came out, in plain words: `31 % lower latency at a 94 % hit rate`."""
    requests = evidence.requests
    measured = sections.total_ratio(requests)
    if math.isnan(measured):
        return "No held-out request was measured"
    change = 1 - measured
    hits = percent(sum(r.hit for r in requests) / len(requests))
    reuse = f"at a {hits} hit rate"
    if rows_of.by_rows(evidence):
        reuse = f"with {percent(rows_of.mean_share(evidence))} of the rows run"
    if abs(change) < 0.005:
        return f"The same latency, {reuse}"
    return f"{percent(abs(change))} {'lower' if change > 0 else 'higher'} latency {reuse}"


def _top(evidence: Evidence) -> str:
    promise = evidence.promise
    most = most_outside(promise.held_out, promise.within, promise.confidence)
    allowed = "too few to prove the promise" if most is None else f"{most:,} allowed to keep the promise"
    failed, stay = _in_words(promise)
    sentence = f"{promise.outside:,} of {promise.held_out:,} held-out requests {failed} ({allowed})."
    kind, outcome = "broken", "not proven" if most is None else "not kept"
    if promise.p_value <= 1 - promise.confidence + 1e-12:
        kind, outcome = "kept", "kept"
    verdict = f'<span class="verdict {kind}">Promise {outcome}.</span>'
    return (
        f'<header><p class="eyebrow">{escaped(evidence.title, 120)} · onnx-memo report</p>'
        f'<h1>{headline(evidence)}</h1><p class="lead">{verdict} {sentence}</p>'
        f'<p class="soft">The promise: with {percent(promise.confidence)} confidence, at least '
        f"{percent(promise.within)} of requests like these {stay}.</p>"
        f"{_key_figures(evidence)}</header>"
    )


def _in_words(promise: Proof) -> tuple[str, str]:
    """What requests do that break the promise, and that keep it."""
    one = promise.outside == 1
    if promise.metric in DECISIONS:
        failed = f"{'leads' if one else 'lead'} to another decision"
        return failed, f"lead to the same decision as with the original model: {DECISIONS[promise.metric]}"
    metric = escaped(metric_name(promise.metric))
    failed = f"{'is' if one else 'are'} outside the tolerance"
    return failed, f"stay within {promise.tolerance:g} of the original model's outputs ({metric})"


def _key_figures(evidence: Evidence) -> str:
    requests = evidence.requests
    before, after = (median(finite(list(map(time, requests)))) for _, time in latency.SERIES)
    ratio = figure(sections.total_ratio(requests))
    cells = (
        ("Median latency", with_unit(after, "ms"), f"original {with_unit(before, 'ms')}"),
        ("Latency ratio", ratio, _uncertain(evidence)),
        _extent(evidence),
        ("Memo data", size(evidence.bytes), count(evidence.entries, "stored request")),
    )
    listed = "".join(
        f"<div><dt>{name}</dt><dd>{value}<small>{under}</small></dd></div>" for name, value, under in cells
    )
    return f'<dl class="figures">{listed}</dl>'


def _uncertain(evidence: Evidence) -> str:
    """How far the ratio can be trusted: the range of its rounds, and what was predicted of it."""
    fit = sections.fit_ratio(evidence)
    predicted = "" if fit is None else f"; the fit part said {figure(fit)}"
    return f"\N{PLUS-MINUS SIGN} {figure(evidence.predicted.noise, 2)}{predicted}"


def _extent(evidence: Evidence) -> tuple[str, str, str]:
    """How much is reused: the rows that run, or the sites that are guarded."""
    if rows_of.by_rows(evidence):
        hits = percent(sum(r.hit for r in evidence.requests) / len(evidence.requests))
        return "Rows run", percent(rows_of.mean_share(evidence)), f"{hits} of the requests reuse an entry"
    levels = Counter(site.level for site in evidence.sites if site.level is not None)
    named = ", ".join(f"{number} at {escaped(level, 20)}" for level, number in sorted(levels.items()))
    return "Sites guarded", f"{levels.total()} of {len(evidence.sites)}", named or "none pays"


def _pictures(evidence: Evidence) -> str:
    by_strictness, compared = errors.strictness(evidence), ways.ways(evidence)
    by_site = sites.hits_by_site(evidence), sites.saving_by_site(evidence)
    drawn = [
        latency.latency(evidence),
        latency.latency_by_length(evidence),
        errors.error_by_distance(evidence),
    ]
    if rows_of.by_rows(evidence):
        drawn += [rows_of.rows_run(evidence), compared, by_strictness, *by_site]
    else:
        drawn += [by_strictness, *by_site, compared]
    return f'<section class="pictures" aria-label="Pictures">{"".join(map(_figure, drawn))}</section>'


def _figure(picture: Picture) -> str:
    keys = "".join(f"<li>{_swatch(kind)}{escaped(label)}</li>" for kind, label in picture.keys)
    return (
        f'<figure><h3>{escaped(picture.title)}</h3><ul class="keys">{keys}</ul>{picture.svg}'
        f"<figcaption>{escaped(picture.note, 1000)}</figcaption></figure>"
    )


def _swatch(kind: str) -> str:
    """The mark of a legend entry, drawn like the marks of the chart."""
    shape, _, style = kind.partition(" ")
    drawing = Drawing(12, 12)
    if shape == "box":
        drawing.rect((0, 1), (12, 10), f"bar area {style}", round_by=1.5)
    elif shape == "dot":
        drawing.dots([(6, 6)], style, radius=4)
    elif shape == "ring":
        drawing.ring((6, 6), style, radius=4)
    elif shape == "x":
        drawing.crosses([(6, 6)], style, size=7)
    else:
        drawing.line([(-1, 6), (13, 6)], style)
    return drawing.svg(class_="key", aria_hidden="true")
