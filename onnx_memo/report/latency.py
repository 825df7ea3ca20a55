"""The pictures of latency: its distribution, and against the length of the request."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from itertools import chain

from onnx_memo.report.charts import Chart, Keys, Picture, dots_left_out, thinned
from onnx_memo.report.evidence import Evidence, Request
from onnx_memo.report.numbers import count, finite, median, percent, quantile, with_unit
from onnx_memo.report.scales import Scale, scale

FEW_LENGTHS = 3


def _before(request: Request) -> float:
    return request.original_ms


def _after(request: Request) -> float:
    return request.bundle_ms


SERIES: tuple[tuple[str, Callable[[Request], float]], ...] = (("before", _before), ("after", _after))


def timed(requests: Sequence[Request]) -> list[Request]:
    """The requests that both models' times are known of."""
    return [r for r in requests if len(finite([r.original_ms, r.bundle_ms])) == 2]


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


def latency(evidence: Evidence) -> Picture:
    """How many requests took how long, before and after."""
    requests = timed(evidence.requests)
    series = {kind: list(map(time, requests)) for kind, time in SERIES}
    times = [*series["before"], *series["after"]]
    note = _latency_note(**series) if requests else "No request was measured."
    chart = Chart("latency", "Latency before and after", note)
    x = _time_axis(chart, times)
    bins = 8 if len(requests) < 20 else min(40, 8 + round(len(requests) ** 0.5))
    width = (x.end - x.start) / bins
    tallies = {kind: _tally([(x.at(v) - x.start) / width for v in series[kind]], bins) for kind in series}
    y = scale([*chain(*tallies.values()), 5], chart.bottom, chart.top)
    chart.y_axis(y, "requests")
    edges = [x.start + width * at for at in range(bins + 1)]
    for kind, tally in tallies.items() if requests else ():
        middle = x.at(median(series[kind]))
        chart.histogram(tally, edges, y, kind)
        chart.line([(middle, chart.bottom), (middle, chart.top)], f"middle {kind}")
    chart.x_axis(x, "latency, ms")
    keys = (("box before", "original"), ("box after", "bundle"), ("line middle", "median"))
    return chart.picture(keys, note + _stragglers(times, x.high))


def _latency_note(before: Sequence[float], after: Sequence[float]) -> str:
    return (
        f"Half of the requests take {with_unit(median(after), 'ms')} or less "
        f"(before: {with_unit(median(before), 'ms')}), "
        f"{percent(0.95)} take {with_unit(quantile(after, 0.95), 'ms')} or less "
        f"(before: {with_unit(quantile(before, 0.95), 'ms')})."
    )


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
    requests = sorted(timed(evidence.requests), key=lambda r: r.length)
    groups = _groups(requests)
    note = _length_note(groups) if groups else "No request was measured."
    chart = Chart("length", "Latency by length", note)
    times = [time(r) for r in requests for _, time in SERIES]
    top = _ceiling(times)
    y = scale([min(value, top) for value in times], chart.bottom, chart.top)
    chart.y_axis(y, "ms")
    few = len({r.length for r in requests}) <= FEW_LENGTHS
    draw = _draw_columns if few else _draw_lengths
    draw(chart, y, groups)
    medians: Keys = (("line level" if few else "line", "median"),)
    keys = (("dot before", "original"), ("dot after", "bundle"), *medians)
    note += _stragglers(times, y.high) + dots_left_out([len(requests)] * 2)
    return chart.picture(keys, note)


def _length_note(groups: Sequence[Sequence[Request]]) -> str:
    ends = (groups[0], groups[-1]) if len(groups) > 1 else groups
    return " ".join(f"{_tokens(group)}: {_change(group)}." for group in ends)


def _groups(requests: Sequence[Request]) -> list[list[Request]]:
    """Requests of like length, in groups of about one size; requests of one length stay together."""
    groups: list[list[Request]] = []
    wanted = 1 if len({r.length for r in requests}) <= FEW_LENGTHS else math.ceil(len(requests) / 10)
    for request in requests:
        same = groups and groups[-1][-1].length == request.length
        if not groups or (len(groups[-1]) >= wanted and not same):
            groups.append([])
        groups[-1].append(request)
    return groups


def _tokens(group: Sequence[Request]) -> str:
    first, last = group[0].length, group[-1].length
    return count(last, "token") if first == last else f"{first} to {count(last, 'token')}"


def _change(group: Sequence[Request]) -> str:
    before, after = (with_unit(median(list(map(time, group))), "ms") for _, time in SERIES)
    return f"{after} (before: {before})"


def _draw_lengths(chart: Chart, y: Scale, groups: Sequence[Sequence[Request]]) -> None:
    """A dot for each request over its length, and a line through the groups' medians."""
    requests = [r for group in groups for r in group]
    lengths = [r.length for r in requests]
    x = scale(lengths, chart.left, chart.right, zero=min(lengths) < 0.4 * max(lengths))
    for kind, time in SERIES:
        chart.dots(thinned([(x.at(r.length), y.at(time(r))) for r in requests]), kind)
    middles = [x.at(median([r.length for r in group])) for group in groups]
    for kind, time in SERIES:
        levels = [y.at(median(list(map(time, group)))) for group in groups]
        chart.line(list(zip(middles, levels, strict=True)), kind)
    chart.x_axis(x, "length, tokens")


def _draw_columns(chart: Chart, y: Scale, groups: Sequence[Sequence[Request]]) -> None:
    """For a few lengths: two columns of dots for each, with their medians."""
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
