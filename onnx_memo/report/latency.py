"""The pictures of latency: its distribution, and against the length of the request."""

from __future__ import annotations

import math
import random
from typing import Any

from onnx_memo.report.charts import Chart, Picture, Scale, dots_left_out, scale, thinned
from onnx_memo.report.numbers import count, finite, median, percent, quantile, with_unit

Evidence = dict[str, Any]

FEW_LENGTHS = 3


def _timed(evidence: Evidence) -> list[dict[str, Any]]:
    return [r for r in evidence["requests"] if len(finite([r["original_ms"], r["bundle_ms"]])) == 2]


def _ceiling(values: list[float]) -> float:
    """Where to end an axis so that a few stragglers do not press the rest together."""
    most = max(values, default=1.0)
    usual = quantile(values, 0.98)
    return usual * 1.5 if most > 3 * usual > 0 else most


def _stragglers(number: int, top: float) -> str:
    if not number:
        return ""
    return f" Above {with_unit(top, 'ms')}, not drawn to scale: {count(number, 'measurement')}."


def latency(evidence: Evidence) -> Picture:
    """How many requests took how long, before and after."""
    timed = _timed(evidence)
    before, after = [r["original_ms"] for r in timed], [r["bundle_ms"] for r in timed]
    middle = (median(before), median(after))
    note = "No request was measured."
    if timed:
        note = (
            f"Half of the requests take {with_unit(middle[1], 'ms')} or less "
            f"(before: {with_unit(middle[0], 'ms')}), "
            f"{percent(0.95)} take {with_unit(quantile(after, 0.95), 'ms')} or less "
            f"(before: {with_unit(quantile(before, 0.95), 'ms')})."
        )
    chart = Chart("latency", "Latency before and after", note)
    top = _ceiling(before + after)
    shown = [min(value, top) for value in before + after]
    spread = max(shown, default=1.0) - min(shown, default=0.0)
    x = scale(shown, chart.left, chart.right, zero=spread > 0.5 * max(shown, default=1.0))
    bins = 8 if len(timed) < 20 else min(40, 8 + round(len(timed) ** 0.5))
    width = (x.end - x.start) / bins
    tallies = []
    for series in (before, after):
        tally = [0] * bins
        for value in series:
            tally[min(int((x.at(value) - x.start) / width), bins - 1)] += 1
        tallies.append(tally)
    y = scale([*tallies[0], *tallies[1], 5], chart.bottom, chart.top)
    chart.y_axis(y, "requests")
    edges = [x.start + width * at for at in range(bins + 1)]
    for kind, tally, mark in zip(("before", "after"), tallies, middle, strict=True):
        if timed:
            chart.histogram(tally, edges, y, kind)
            chart.line([(x.at(mark), chart.bottom), (x.at(mark), chart.top)], f"middle {kind}")
    chart.x_axis(x, "latency, ms")
    keys = (("box before", "original"), ("box after", "bundle"), ("line middle", "median"))
    return Picture(
        chart.title, chart.svg(), keys, note + _stragglers(sum(v > x.high for v in before + after), x.high)
    )


def latency_by_length(evidence: Evidence) -> Picture:
    """Latency against the number of tokens: a dot per request, medians as lines."""
    timed = sorted(_timed(evidence), key=lambda r: int(r["length"]))
    groups = _groups(timed)
    note = "No request was measured."
    if groups:
        short, long = groups[0], groups[-1]
        note = f"{_tokens(short)}: {_change(short)}."
        note += f" {_tokens(long)}: {_change(long)}." if len(groups) > 1 else ""
    chart = Chart("length", "Latency by length", note)
    times = [r[which] for r in timed for which in ("original_ms", "bundle_ms")]
    top = _ceiling(times)
    y = scale([min(value, top) for value in times], chart.bottom, chart.top)
    chart.y_axis(y, "ms")
    lengths = [int(r["length"]) for r in timed]
    few = len(set(lengths)) <= FEW_LENGTHS
    if few:
        _columns(chart, y, groups)
        keys: tuple[tuple[str, str], ...] = (("line level", "median"),)
        chart.x_axis(scale([0, 1], chart.left, chart.right), "length, tokens", ticks=False)
    else:
        x = scale(lengths, chart.left, chart.right, zero=min(lengths) < 0.4 * max(lengths))
        for kind, which in (("before", "original_ms"), ("after", "bundle_ms")):
            chart.dots(thinned([(x.at(r["length"]), y.at(r[which])) for r in timed]), kind)
        for kind, which in (("before", "original_ms"), ("after", "bundle_ms")):
            curve = [(x.at(_middle(group, "length")), y.at(_middle(group, which))) for group in groups]
            chart.line(curve, kind)
        chart.x_axis(x, "length, tokens")
        keys = (("line", "median"),)
    keys = (("dot before", "original"), ("dot after", "bundle"), *keys)
    return Picture(
        chart.title,
        chart.svg(),
        keys,
        note + _stragglers(sum(v > y.high for v in times), y.high) + dots_left_out([len(timed)] * 2),
    )


def _groups(timed: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Requests of like length, in groups of about one size; a length is never parted."""
    groups: list[list[dict[str, Any]]] = []
    wanted = 1 if len({r["length"] for r in timed}) <= FEW_LENGTHS else math.ceil(len(timed) / 10)
    for request in timed:
        same = groups and groups[-1][-1]["length"] == request["length"]
        if not groups or (len(groups[-1]) >= wanted and not same):
            groups.append([])
        groups[-1].append(request)
    return groups


def _middle(group: list[dict[str, Any]], which: str) -> float:
    return median([float(r[which]) for r in group])


def _tokens(group: list[dict[str, Any]]) -> str:
    first, last = group[0]["length"], group[-1]["length"]
    return count(last, "token") if first == last else f"{first} to {count(last, 'token')}"


def _change(group: list[dict[str, Any]]) -> str:
    after, before = (with_unit(_middle(group, which), "ms") for which in ("bundle_ms", "original_ms"))
    return f"{after} (before: {before})"


def _columns(chart: Chart, y: Scale, groups: list[list[dict[str, Any]]]) -> None:
    """For a few lengths: two columns of dots for each, with their medians."""
    chance = random.Random(0)
    room = (chart.right - chart.left) / max(len(groups), 1)
    half = min(room * 0.17, 54)
    for at, group in enumerate(groups):
        centre = chart.left + room * (at + 0.5)
        for side, kind, which in ((-1.25, "before", "original_ms"), (1.25, "after", "bundle_ms")):
            x = centre + side * half
            points = [(x + chance.uniform(-half, half) * 0.8, y.at(r[which])) for r in group]
            chart.dots(thinned(points), kind)
            level = y.at(_middle(group, which))
            chart.line([(x - half, level), (x + half, level)], "level")
        chart.text(centre, chart.bottom + 18, f"{group[0]['length']}", "tick", "middle")
