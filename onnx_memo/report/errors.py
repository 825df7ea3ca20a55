"""The pictures of error: against the distance of what was reused or the rows run, and the strictness."""

from __future__ import annotations

import math
from typing import Any

from onnx_memo.report.charts import Chart, Picture, Point, Scale, dots_left_out, scale, thinned
from onnx_memo.report.numbers import count, figure, percent
from onnx_memo.report.rows import by_rows, share_of

Evidence = dict[str, Any]
Keys = tuple[tuple[str, str], ...]

_METRICS = {
    "cosine": "1 \N{MINUS SIGN} cosine",
    "relative": "relative L2 error",
    "argmax": "share of positions changed",
}
MOST_RINGS = 600


def metric_name(metric: str) -> str:
    """What a metric measures, for people."""
    return _METRICS.get(metric, metric[:40])


def outside(request: dict[str, Any], tolerance: float) -> bool:
    """Whether the error is not within the tolerance; no number is not."""
    return not request["error"] <= tolerance


def error_by_distance(evidence: Evidence) -> Picture:
    """What each held-out request's error was, against its distance from what was reused.

    At the level `rows`, against the share of its rows that ran.
    """
    requests, promise = evidence["requests"], evidence["promise"]
    tolerance, rows = float(promise["tolerance"]), by_rows(evidence)
    places_of = [100 * share_of(r) if rows else float(r["distance"]) for r in requests]
    out = [r for r in requests if outside(r, tolerance)]
    reach = evidence.get("threshold")
    note = f"{len(out):,} of {len(requests):,} requests outside the tolerance of {tolerance:g}."
    exact = sum(r["error"] <= 0 for r in requests)
    note += f" {percent(exact / len(requests))} have no error at all." if exact else ""
    if len(out) > MOST_RINGS:
        note += f" The {MOST_RINGS} worst of them are drawn."
    note += dots_left_out([sum(r["hit"] for r in requests) - len(out), sum(not r["hit"] for r in requests)])
    lost = 0 if rows else sum(not math.isfinite(distance) for distance in places_of)
    note += f" For {count(lost, 'request')} nothing was found to compare with." if lost else ""
    chart = Chart("error", "Error and tolerance", note, height=320)
    y = scale([*(r["error"] for r in requests), tolerance], chart.bottom, chart.top, log=True)
    x = scale([*places_of, *([] if reach is None else [reach])], chart.left + 6, chart.right)
    chart.y_axis(y, metric_name(promise["metric"]))
    places: list[tuple[dict[str, Any], Point]] = [
        (r, (x.at(place), y.at(r["error"]))) for r, place in zip(requests, places_of, strict=True)
    ]
    chart.crosses(thinned([point for r, point in places if not r["hit"]]), "miss")
    chart.dots(thinned([p for r, p in places if r["hit"] and not outside(r, tolerance)]), "hit")
    chart.line([(chart.left, y.at(tolerance)), (chart.right, y.at(tolerance))], "limit")
    chart.text(chart.right, y.at(tolerance) - 6, f"tolerance {tolerance:g}", "tick limit", "end")
    if reach is not None:
        chart.line([(x.at(reach), chart.top), (x.at(reach), chart.bottom)], "reach")
    far = [place for place in places if outside(place[0], tolerance)]
    for request, point in sorted(far, key=lambda place: -rank(place[0]["error"]))[:MOST_RINGS]:
        text = str(request["text"] or "no text")[:120]
        chart.ring(point, "outside", f"error {figure(request['error'])}: {text}", small=len(far) > 40)
    chart.x_axis(x, "share of the rows that ran, %" if rows else "distance between the keys")
    keys: Keys = (("dot hit", "reused"), ("x miss", "computed"), ("ring outside", "outside the tolerance"))
    keys += (("line reach", "threshold"),) if reach is not None else ()
    return Picture(chart.title, chart.svg(), keys, note)


def rank(error: float) -> float:
    """The error as a key to sort by; no number counts as the worst."""
    return math.inf if math.isnan(error) else error


def strictness(evidence: Evidence) -> Picture:
    """Hit rate above, error below, over the values of `memo_strictness`."""
    steps = sorted(evidence["strictness"], key=lambda step: float(step["strictness"]))
    promise = evidence["promise"]
    tolerance = float(promise["tolerance"])
    note = "Not measured."
    if steps:
        note = "memo_strictness can be turned down at run time, without a new bundle."
        between = [step for step in steps if 0 < step["strictness"] < 1]
        if between:
            half = min(between, key=lambda step: abs(step["strictness"] - 0.5))
            note += (
                f" At {half['strictness']:.3g} the hit rate is {percent(half['hit_rate'])} "
                f"and the worst error {figure(half['worst'], 2)}."
            )
    chart = Chart("strictness", "Hit rate and error by strictness", note, height=320)
    x = scale([0, 1], chart.left + 6, chart.right - 6)
    upper = Scale(0, 1, 110, chart.top)
    chart.y_axis(Scale(0, 100, 110, chart.top), "hit rate, %", wanted=2)
    rates = [(x.at(s["strictness"]), upper.at(s["hit_rate"])) for s in steps]
    names = ("worst", "p95", "mean")
    errors = [float(step[name]) for step in steps for name in names]
    y = scale([*errors, tolerance], chart.bottom, 158, log=True)
    chart.y_axis(y, metric_name(promise["metric"]), wanted=3)
    chart.line([(chart.left, y.at(tolerance)), (chart.right, y.at(tolerance))], "limit")
    if steps:
        chart.line(rates, "after")
        chart.dots(rates, "after solid")
        for name in names:
            curve = [(x.at(s["strictness"]), y.at(float(s[name]))) for s in steps]
            chart.line(curve, name)
            chart.dots(curve, f"{name} solid")
    chart.x_axis(x, "memo_strictness: 0 never reuses, 1 is as calibrated")
    keys = (("line after", "hit rate"), ("line worst", "worst error"), ("line p95", "95th percentile"))
    return Picture(
        chart.title, chart.svg(), (*keys, ("line mean", "mean"), ("line limit", "tolerance")), note
    )
