"""The pictures of error: against tolerance and signal, and over the strictness."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain

from onnx_memo.levels.base import StrictnessPoint
from onnx_memo.report.charts import Chart, Keys, Panel, Picture, dots_left_out, thinned, thinned_evenly
from onnx_memo.report.evidence import Evidence, Request, Signal
from onnx_memo.report.numbers import figure, percent
from onnx_memo.report.rows import by_rows, share_of
from onnx_memo.report.scales import Scale, scale
from onnx_memo.report.svg import Point

_METRICS = {
    "cosine": "1 \N{MINUS SIGN} cosine",
    "relative": "relative L2 error",
    "argmax": "share of positions changed",
    "spread": "difference in standard deviations",
    "order": "share of pairs that change order",
    "neighbours": "nearest neighbour changed",
    "ten-neighbours": "one of ten nearest neighbours changed",
    "ranking": "share of pairs that change order",
    "likelihood": "share of pairs that change order",
    "label": "label changed",
}
DECISIONS = {
    "neighbours": "the nearest neighbour stays",
    "ten-neighbours": "the ten nearest neighbours stay",
    "label": "the label stays",
    "ranking": "the pairs of requests like these stay in order, and as much of the top tenth stays in it",
    "likelihood": "the pairs of requests like these stay in order, and as much of the likeliest tenth",
}
RANKINGS = ("ranking", "likelihood")  # decisions about many requests at once
MOST_RINGS = 600

Placed = Sequence[tuple[Request, Point]]


def metric_name(metric: str) -> str:
    """What a metric measures, for people."""
    return _METRICS.get(metric, metric[:40])


def is_outside(request: Request, tolerance: float) -> bool:
    """Whether the error is not within the tolerance; NaN never is."""
    return not request.error <= tolerance


def severity(request: Request) -> float:
    """The error as a key to sort by; NaN counts as the worst."""
    return math.inf if math.isnan(request.error) else request.error


def draw_tolerance(chart: Chart, y: Scale, tolerance: float, *, at_end: bool = False) -> None:
    """A line across at the tolerance, with its label at the left, or the right end."""
    chart.line([(chart.left, y.at(tolerance)), (chart.right, y.at(tolerance))], "limit")
    place, anchor = (chart.right - 4, "end") if at_end else (chart.left + 4, "start")
    chart.text(place, y.at(tolerance) - 6, f"tolerance {tolerance:g}", "tick limit", anchor)


def _draw_signal(chart: Chart, y: Scale, signal: Signal | None) -> None:
    """Lines across at the distance to the nearest other input, their labels at the right."""
    if signal is None:
        return
    for value, label, below in ((signal.median, "median", False), (signal.low, "5th percentile", True)):
        at, text = y.at(value), f"signal, {label} {figure(value, 2)}"
        chart.line([(chart.left, at), (chart.right, at)], "signal")
        chart.text(chart.right - 4, at + (13 if below else -5), text, "tick mark", "end")


def errors(evidence: Evidence) -> Picture:
    """The errors of what is reused, against tolerance and signal: by how far off it was, and sorted."""
    tolerance, signal = evidence.promise.tolerance, evidence.signal
    lines = [tolerance] if signal is None else [tolerance, signal.median, signal.low]
    title, note = f"Errors against tolerance{' and signal' if signal else ''}", _errors_note(evidence)
    hits = [r for r in evidence.requests if r.hit]
    panels = []
    for name, heading, draw, summary in (
        ("error", "By rows run" if by_rows(evidence) else "By distance", _draw_by_distance, note),
        ("sorted", "All requests, sorted", _draw_sorted, "The errors, from the smallest to the largest."),
    ):
        chart = Chart(name, f"{title}: {heading.lower()}", summary, height=320)
        y = scale([*(r.error for r in hits), *lines], chart.bottom, chart.top, log=True)
        chart.y_axis(y, metric_name(evidence.promise.metric))
        draw(chart, y, evidence)
        panels.append(chart.panel(heading))
    keys: Keys = (("dot hit", "reused"), ("ring outside", "outside the tolerance"))
    keys += (("line limit", "tolerance"),)
    keys += (("line signal", "signal: the nearest other input"),) if signal is not None else ()
    keys += (("line reach", "promised share" if evidence.threshold is None else "threshold, promised share"),)
    return Picture(title, panels, keys, note)


def _draw_by_distance(chart: Chart, y: Scale, evidence: Evidence) -> None:
    """A dot for each request that is reused, over the share of its rows that ran, or its distance."""
    tolerance, reach, rows = evidence.promise.tolerance, evidence.threshold, by_rows(evidence)
    hits = [r for r in evidence.requests if r.hit]
    across = [100 * share_of(r) if rows else r.distance for r in hits]
    x = scale([*across, *([] if reach is None else [reach])], chart.left + 6, chart.right)
    placed = [(r, (x.at(at), y.at(r.error))) for r, at in zip(hits, across, strict=True)]
    _draw_signal(chart, y, evidence.signal)
    draw_tolerance(chart, y, tolerance)
    chart.dots(thinned([point for r, point in placed if not is_outside(r, tolerance)]), "hit")
    if reach is not None:
        chart.line([(x.at(reach), chart.top), (x.at(reach), chart.bottom)], "reach")
    _draw_outside(chart, placed, tolerance)
    chart.x_axis(x, "share of the rows that ran, %" if rows else "distance between the keys")


def _draw_sorted(chart: Chart, y: Scale, evidence: Evidence) -> None:
    """The errors of all requests, from the smallest; where the promise ends, a line upwards."""
    x = Scale(0, 100, chart.left, chart.right)
    ordered = sorted(map(severity, evidence.requests))
    steps = thinned_evenly([(x.at(100 * (at + 1) / len(ordered)), y.at(e)) for at, e in enumerate(ordered)])
    _draw_signal(chart, y, evidence.signal)
    draw_tolerance(chart, y, evidence.promise.tolerance)
    within = x.at(100 * evidence.promise.within)
    chart.line([(within, chart.top), (within, chart.bottom)], "reach")
    if steps:
        chart.line(steps, "after")
    chart.x_axis(x, "share of all requests, %")


def _errors_note(evidence: Evidence) -> str:
    requests, tolerance = evidence.requests, evidence.promise.tolerance
    outside = sum(is_outside(r, tolerance) for r in requests)
    hits = [r for r in requests if r.hit]
    exact = sum(r.error <= 0 for r in requests)
    note = f"{outside:,} of {len(requests):,} requests outside the tolerance of {tolerance:g}."
    if exact:
        note += f" {percent(exact / len(requests))} have no error at all."
    if evidence.signal is not None:
        note += (
            " The signal is how far an input is from the nearest other: errors well below it leave"
            " rankings as they are."
        )
    if outside > MOST_RINGS:
        note += f" The {MOST_RINGS} worst of them are drawn."
    return note + dots_left_out([len(hits) - outside])


def _draw_outside(chart: Chart, placed: Placed, tolerance: float) -> None:
    """Rings around the requests outside the tolerance, the worst of them; each says which it is."""
    outside = [place for place in placed if is_outside(place[0], tolerance)]
    outside.sort(key=lambda place: severity(place[0]), reverse=True)
    for request, point in outside[:MOST_RINGS]:
        note = f"error {figure(request.error)}: {(request.text or request.place)[:120]}"
        chart.ring(point, "outside", note, radius=3 if len(outside) > 40 else 4.5)


def strictness(evidence: Evidence) -> Picture:
    """Hit rate and errors over the values of `memo_strictness`."""
    steps = sorted(evidence.strictness, key=lambda step: step.strictness)
    title, note = "Hit rate and error by strictness", _strictness_note(steps)
    panels = [_hits_by_strictness(steps, title), _errors_by_strictness(evidence, steps, title)]
    keys = (("line after", "hit rate"), ("line worst", "worst error"), ("line p95", "95th percentile"))
    return Picture(title, panels, (*keys, ("line mean", "mean"), ("line limit", "tolerance")), note)


def _hits_by_strictness(steps: Sequence[StrictnessPoint], title: str) -> Panel:
    chart = Chart(
        "strictness-hits", f"{title}: hit rate", "The share of requests that is reused.", height=240
    )
    y = Scale(0, 100, chart.bottom, chart.top)
    chart.y_axis(y, "hit rate, %")
    rates = [y.at(100 * step.seen.hit_rate) for step in steps]
    _draw_steps(chart, steps, {"after": rates})
    return chart.panel("Hit rate")


def _errors_by_strictness(evidence: Evidence, steps: Sequence[StrictnessPoint], title: str) -> Panel:
    tolerance = evidence.promise.tolerance
    summary = "Mean, 95th percentile and worst error of the requests."
    chart = Chart("strictness-errors", f"{title}: error", summary, height=240)
    curves = {
        "worst": [step.seen.worst for step in steps],
        "p95": [step.seen.p95 for step in steps],
        "mean": [step.seen.mean for step in steps],
    }
    y = scale([*chain(*curves.values()), tolerance], chart.bottom, chart.top, log=True)
    chart.y_axis(y, metric_name(evidence.promise.metric))
    draw_tolerance(chart, y, tolerance)
    _draw_steps(chart, steps, {kind: list(map(y.at, curve)) for kind, curve in curves.items()})
    return chart.panel("Error")


def _draw_steps(
    chart: Chart, steps: Sequence[StrictnessPoint], curves: Mapping[str, Sequence[float]]
) -> None:
    """Curves over the strictness, a dot where it was measured."""
    x = scale([0, 1], chart.left + 6, chart.right - 6)
    places = [x.at(step.strictness) for step in steps]
    for kind, curve in curves.items() if steps else ():
        points = list(zip(places, curve, strict=True))
        chart.line(points, kind)
        chart.dots(points, f"{kind} solid")
    chart.x_axis(x, "memo_strictness")


def _strictness_note(steps: Sequence[StrictnessPoint]) -> str:
    if not steps:
        return "Not measured."
    note = (
        "memo_strictness is an input of the model: 1 is as calibrated, 0 never reuses. It can be turned down "
        "at run time, without a new bundle."
    )
    between = [step for step in steps if 0 < step.strictness < 1]
    if between:
        half = min(between, key=lambda step: abs(step.strictness - 0.5))
        note += (
            f" At {half.strictness:.3g} the hit rate is {percent(half.seen.hit_rate)} "
            f"and the worst error {figure(half.seen.worst, 2)}."
        )
    return note
