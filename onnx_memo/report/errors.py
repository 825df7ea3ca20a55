"""The pictures of error: against the distance of what was reused or the rows run, and the strictness."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain

from onnx_memo.levels.base import StrictnessPoint
from onnx_memo.report.charts import Chart, Keys, Picture, dots_left_out, thinned
from onnx_memo.report.evidence import Evidence, Request
from onnx_memo.report.numbers import count, figure, percent
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
    "ranking": "pairs stay in order, and the tenth with the highest scores",
    "likelihood": "pairs stay in order, and the tenth with the highest likelihood",
}
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


def draw_tolerance(chart: Chart, y: Scale, tolerance: float) -> None:
    """A line across at the tolerance, with its label."""
    chart.line([(chart.left, y.at(tolerance)), (chart.right, y.at(tolerance))], "limit")
    chart.text(chart.right, y.at(tolerance) - 6, f"tolerance {tolerance:g}", "tick limit", "end")


def error_by_distance(evidence: Evidence) -> Picture:
    """What each held-out request's error was, against its distance from what was reused.

    Where single rows run, against the share of its rows that ran.
    """
    requests, tolerance, reach = evidence.requests, evidence.promise.tolerance, evidence.threshold
    rows = by_rows(evidence)
    across = [100 * share_of(r) if rows else r.distance for r in requests]
    note = _errors_note(evidence, lost=0 if rows else sum(not math.isfinite(r.distance) for r in requests))
    chart = Chart("error", "Error and tolerance", note, height=320)
    y = scale([*(r.error for r in requests), tolerance], chart.bottom, chart.top, log=True)
    x = scale([*across, *([] if reach is None else [reach])], chart.left + 6, chart.right)
    chart.y_axis(y, metric_name(evidence.promise.metric))
    placed = [(r, (x.at(at), y.at(r.error))) for r, at in zip(requests, across, strict=True)]
    chart.crosses(thinned([point for r, point in placed if not r.hit]), "miss")
    chart.dots(thinned([point for r, point in placed if r.hit and not is_outside(r, tolerance)]), "hit")
    draw_tolerance(chart, y, tolerance)
    if reach is not None:
        chart.line([(x.at(reach), chart.top), (x.at(reach), chart.bottom)], "reach")
    _draw_outside(chart, placed, tolerance)
    chart.x_axis(x, "share of the rows that ran, %" if rows else "distance between the keys")
    keys: Keys = (("dot hit", "reused"), ("x miss", "computed"), ("ring outside", "outside the tolerance"))
    keys += (("line reach", "threshold"),) if reach is not None else ()
    return chart.picture(keys)


def _errors_note(evidence: Evidence, lost: int) -> str:
    """What to see; `lost` requests found nothing to compare with."""
    requests, tolerance = evidence.requests, evidence.promise.tolerance
    outside = sum(is_outside(r, tolerance) for r in requests)
    misses = sum(not r.hit for r in requests)
    exact = sum(r.error <= 0 for r in requests)
    note = f"{outside:,} of {len(requests):,} requests outside the tolerance of {tolerance:g}."
    if exact:
        note += f" {percent(exact / len(requests))} have no error at all."
    if outside > MOST_RINGS:
        note += f" The {MOST_RINGS} worst of them are drawn."
    note += dots_left_out([len(requests) - misses - outside, misses])
    if lost:
        note += f" For {count(lost, 'request')} nothing was found to compare with."
    return note


def _draw_outside(chart: Chart, placed: Placed, tolerance: float) -> None:
    """Rings around the requests outside the tolerance, the worst of them; each says which it is."""
    outside = [place for place in placed if is_outside(place[0], tolerance)]
    outside.sort(key=lambda place: severity(place[0]), reverse=True)
    for request, point in outside[:MOST_RINGS]:
        note = f"error {figure(request.error)}: {(request.text or request.place)[:120]}"
        chart.ring(point, "outside", note, radius=3 if len(outside) > 40 else 4.5)


def strictness(evidence: Evidence) -> Picture:
    """Hit rate above, error below, over the values of `memo_strictness`."""
    steps = sorted(evidence.strictness, key=lambda step: step.strictness)
    tolerance, note = evidence.promise.tolerance, _strictness_note(steps)
    chart = Chart("strictness", "Hit rate and error by strictness", note, height=320)
    x = scale([0, 1], chart.left + 6, chart.right - 6)
    upper = Scale(0, 100, 110, chart.top)
    chart.y_axis(upper, "hit rate, %", wanted=2)
    curves = {
        "worst": [step.seen.worst for step in steps],
        "p95": [step.seen.p95 for step in steps],
        "mean": [step.seen.mean for step in steps],
    }
    y = scale([*chain(*curves.values()), tolerance], chart.bottom, 158, log=True)
    chart.y_axis(y, metric_name(evidence.promise.metric), wanted=3)
    chart.line([(chart.left, y.at(tolerance)), (chart.right, y.at(tolerance))], "limit")
    places = [x.at(step.strictness) for step in steps]
    rates = [upper.at(100 * step.seen.hit_rate) for step in steps]
    heights = {"after": rates} | {kind: list(map(y.at, errors)) for kind, errors in curves.items()}
    for kind, curve in heights.items() if steps else ():
        points = list(zip(places, curve, strict=True))
        chart.line(points, kind)
        chart.dots(points, f"{kind} solid")
    chart.x_axis(x, "memo_strictness: 0 never reuses, 1 is as calibrated")
    keys = (("line after", "hit rate"), ("line worst", "worst error"), ("line p95", "95th percentile"))
    return chart.picture((*keys, ("line mean", "mean"), ("line limit", "tolerance")))


def _strictness_note(steps: Sequence[StrictnessPoint]) -> str:
    if not steps:
        return "Not measured."
    note = "memo_strictness can be turned down at run time, without a new bundle."
    between = [step for step in steps if 0 < step.strictness < 1]
    if between:
        half = min(between, key=lambda step: abs(step.strictness - 0.5))
        note += (
            f" At {half.strictness:.3g} the hit rate is {percent(half.seen.hit_rate)} "
            f"and the worst error {figure(half.seen.worst, 2)}."
        )
    return note
