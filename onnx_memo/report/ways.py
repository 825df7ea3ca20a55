"""Exactness against time: every way to guard that was tried on the user's own data."""

from __future__ import annotations

import math
from typing import Any

from onnx_memo.report.charts import Chart, Picture, Point, scale
from onnx_memo.report.errors import metric_name
from onnx_memo.report.numbers import count, figure, finite

Evidence = dict[str, Any]

# Known, in the order of the legend.
LEVELS = ("rows in int8", "rows in float", "output", "probs", "output and probs")


def ways(evidence: Evidence) -> Picture:
    """A dot for each way: its time, and the error that 95 % of the fit part's requests stay within."""
    drawn = [a for a in evidence["alternatives"] if a.get("error") is not None and math.isfinite(a["ratio"])]
    tolerance = float(evidence["promise"]["tolerance"])
    note = "No way has figures to draw."
    if drawn:
        note = f"{count(len(drawn), 'way')} tried on the fit part."
        for way in [way for way in drawn if way["chosen"]][:1]:
            note += (
                f" The one chosen, {way['name']}, takes {figure(way['ratio'])} of the original's time there."
            )
        note += _proven(evidence)
    chart = Chart("ways", "Exactness against time", note, height=320)
    y = scale([*(a["error"] for a in drawn), tolerance], chart.bottom, chart.top, log=True)
    x = scale([*finite([float(a["ratio"]) for a in drawn]), 1.0], chart.left + 6, chart.right)
    chart.y_axis(y, f"{metric_name(evidence['promise']['metric'])}, 95th percentile")
    chart.line([(chart.left, y.at(tolerance)), (chart.right, y.at(tolerance))], "limit")
    chart.text(chart.right, y.at(tolerance) - 6, f"tolerance {tolerance:g}", "tick limit", "end")
    chart.line([(x.at(1), chart.top), (x.at(1), chart.bottom)], "reach")
    keys: list[tuple[str, str]] = []
    for number, level in enumerate(LEVELS):
        points = sorted((x.at(a["ratio"]), y.at(a["error"])) for a in drawn if a.get("level") == level)
        if points:
            _series(chart, points, f"level{number}", joined=level.startswith("rows"))
            keys.append((f"dot level{number}", level))
    for way in drawn:
        if way["chosen"]:
            point = x.at(way["ratio"]), y.at(way["error"])
            text = f"{way['name']}: error {figure(way['error'])}, time {figure(way['ratio'])}"
            chart.ring(point, "chosen", text)
    chart.x_axis(x, "time, bundle over original")
    keys += [("ring chosen", "chosen")] if any(way["chosen"] for way in drawn) else []
    return Picture(chart.title, chart.svg(), (*keys, ("line reach", "the original")), note)


def _proven(evidence: Evidence) -> str:
    """What became of the chosen bound, at the level `rows`."""
    share = evidence.get("proven_share")
    if share is None or share == 1:
        return ""
    return f" The held-out part proves {figure(share, 2)} of its bound, which is what the bundle uses."


def _series(chart: Chart, points: list[Point], kind: str, *, joined: bool) -> None:
    if joined and len(points) > 1:
        chart.line(points, kind)
    chart.dots(points, kind)
