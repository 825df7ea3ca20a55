"""The pictures of latency, hits and misses apart: its distribution, and against the length of the request."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from itertools import chain

from onnx_memo.report.charts import Chart, Keys, Picture, dots_left_out, thinned
from onnx_memo.report.evidence import Evidence, Request
from onnx_memo.report.numbers import count, finite, median, quantile, with_unit
from onnx_memo.report.scales import Scale, scale

FEW_LENGTHS = 3
HEIGHT = 240
HITS, MISSES = "Hits", "Misses"


def _before(request: Request) -> float:
    return request.original_ms


def _after(request: Request) -> float:
    return request.bundle_ms


SERIES: tuple[tuple[str, Callable[[Request], float]], ...] = (("before", _before), ("after", _after))


def timed(requests: Sequence[Request]) -> list[Request]:
    """The requests that both models' times are known of."""
    return [r for r in requests if len(finite([r.original_ms, r.bundle_ms])) == 2]


def _apart(evidence: Evidence) -> dict[str, list[Request]]:
    """The timed requests that are reused and those that are not; without any of a kind, or of both."""
    requests = timed(evidence.requests)
    parts = {HITS: [r for r in requests if r.hit], MISSES: [r for r in requests if not r.hit]}
    return {name: some for name, some in parts.items() if some} or {"": []}


def _ceiling(values: Sequence[float]) -> float:
    """Where to end an axis so that a few stragglers do not press the rest together."""
    most = max(values, default=1.0)
    usual = quantile(values, 0.98)
    return usual * 1.5 if most > 3 * usual > 0 else most


def _stragglers(values: Sequence[float], top: float) -> str:
    """A sentence on the values above the end of their axis; nothing if there are none."""
    number = sum(value > top for value in values)
    if not number:
        return ""
    return f" Above {with_unit(top, 'ms')}, not drawn to scale: {count(number, 'measurement')}."


def _times(requests: Sequence[Request]) -> list[float]:
    return [time(r) for r in requests for _, time in SERIES]


def _title(name: str, heading: str) -> str:
    return f"{name}: {heading.lower()}" if heading else name


def latency(evidence: Evidence) -> Picture:
    """How many requests took how long, before and after."""
    parts, title = _apart(evidence), "Latency before and after"
    times = [value for some in parts.values() for value in _times(some)]
    panels, note, top = [], "No request was measured.", 1.0
    for heading, requests in parts.items():
        summary = f"How many of {count(len(requests), 'request')} took how long, in milliseconds."
        chart = Chart(_name("latency", heading), _title(title, heading), summary, height=HEIGHT)
        x = _time_axis(chart, times)
        top = x.high
        _draw_histograms(chart, x, requests)
        panels.append(chart.panel(heading))
    if times:
        note = f"A request's time is its median over the rounds.{_own_scale(parts)}{_stragglers(times, top)}"
    keys = (("box before", "original"), ("box after", "bundle"), ("line middle", "median"))
    return Picture(title, panels, keys, note)


def _name(name: str, heading: str) -> str:
    return f"{name}-{heading.lower()}" if heading else name


def _own_scale(parts: dict[str, list[Request]]) -> str:
    return " Hits and misses are counted on scales of their own." if len(parts) > 1 else ""


def _draw_histograms(chart: Chart, x: Scale, requests: Sequence[Request]) -> None:
    bins = 8 if len(requests) < 20 else min(40, 8 + round(len(requests) ** 0.5))
    width = (x.end - x.start) / bins
    series = {kind: list(map(time, requests)) for kind, time in SERIES}
    tallies = {kind: _tally([(x.at(v) - x.start) / width for v in series[kind]], bins) for kind in series}
    y = scale([*chain(*tallies.values()), 5], chart.bottom, chart.top)
    chart.y_axis(y, "requests")
    edges = [x.start + width * at for at in range(bins + 1)]
    for kind, tally in tallies.items() if requests else ():
        middle = x.at(median(series[kind]))
        chart.histogram(tally, edges, y, kind)
        chart.line([(middle, chart.bottom), (middle, chart.top)], f"middle {kind}")
    chart.x_axis(x, "latency, ms")


def _time_axis(chart: Chart, times: Sequence[float]) -> Scale:
    """A scale of milliseconds, from zero where the times spread widely."""
    top = _ceiling(times)
    shown = [min(value, top) for value in times]
    most = max(shown, default=1.0)
    spread = most - min(shown, default=0.0)
    return scale(shown, chart.left, chart.right, zero=spread > 0.5 * most)


def _tally(places: Sequence[float], bins: int) -> list[int]:
    """How many places, in widths of a bin, lie in each; the last bin takes those beyond."""
    counts = [0] * bins
    for place in places:
        counts[min(int(place), bins - 1)] += 1
    return counts


def latency_by_length(evidence: Evidence) -> Picture:
    """Latency against the number of tokens: a dot per request, medians as lines."""
    parts, title = _apart(evidence), "Latency by length"
    every = [r for some in parts.values() for r in some]
    times, lengths = _times(every), [r.length for r in every]
    top = _ceiling(times)
    few = len(set(lengths)) <= FEW_LENGTHS
    panels, high = [], 1.0
    for heading, some in parts.items():
        summary = f"The times of {count(len(some), 'request')}, in milliseconds, against their lengths."
        chart = Chart(_name("length", heading), _title(title, heading), summary, height=HEIGHT)
        y = scale([min(value, top) for value in times], chart.bottom, chart.top)
        high = y.high
        chart.y_axis(y, "ms")
        groups = _groups(sorted(some, key=lambda r: r.length), few)
        draw = _draw_columns if few else _draw_lengths
        draw(chart, y, groups, lengths)
        panels.append(chart.panel(heading))
    note = "A dot is a request; length is counted in tokens." if every else "No request was measured."
    note += _stragglers(times, high) + dots_left_out([len(some) for some in parts.values()] * 2)
    medians: Keys = (("line level" if few else "line", "median"),)
    return Picture(title, panels, (("dot before", "original"), ("dot after", "bundle"), *medians), note)


def _groups(requests: Sequence[Request], few: bool) -> list[list[Request]]:
    """Requests of like length, in groups of about one size; requests of one length stay together."""
    groups: list[list[Request]] = []
    wanted = 1 if few else math.ceil(len(requests) / 10)
    for request in requests:
        same = groups and groups[-1][-1].length == request.length
        if not groups or (len(groups[-1]) >= wanted and not same):
            groups.append([])
        groups[-1].append(request)
    return groups


def _draw_lengths(
    chart: Chart, y: Scale, groups: Sequence[Sequence[Request]], lengths: Sequence[int]
) -> None:
    """A dot for each request over its length, and a line through the groups' medians."""
    requests = [r for group in groups for r in group]
    x = scale(lengths, chart.left, chart.right, zero=min(lengths) < 0.4 * max(lengths))
    for kind, time in SERIES:
        chart.dots(thinned([(x.at(r.length), y.at(time(r))) for r in requests]), kind)
    middles = [x.at(median([r.length for r in group])) for group in groups]
    for kind, time in SERIES:
        levels = [y.at(median(list(map(time, group)))) for group in groups]
        chart.line(list(zip(middles, levels, strict=True)), kind)
    chart.x_axis(x, "length, tokens")


def _draw_columns(
    chart: Chart, y: Scale, groups: Sequence[Sequence[Request]], lengths: Sequence[int]
) -> None:
    """For a few lengths: two columns of dots for each, with their medians."""
    del lengths
    chance = random.Random(0)
    room = (chart.right - chart.left) / max(len(groups), 1)
    half = min(room * 0.17, 54)
    for at, group in enumerate(groups):
        centre = chart.left + room * (at + 0.5)
        for side, (kind, time) in zip((-1.25, 1.25), SERIES, strict=True):
            x = centre + side * half
            points = [(x + chance.uniform(-half, half) * 0.8, y.at(time(r))) for r in group]
            chart.dots(thinned(points), kind)
            level = y.at(median(list(map(time, group))))
            chart.line([(x - half, level), (x + half, level)], "level")
        chart.text(centre, chart.bottom + 18, f"{group[0].length}", "tick", "middle")
    chart.x_axis(scale([0, 1], chart.left, chart.right), "length, tokens", ticks=False)
