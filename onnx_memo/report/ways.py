"""Exactness against time: every way to guard that was tried on the user's own data."""

from __future__ import annotations

import math
from collections.abc import Sequence

from onnx_memo.levels.base import Alternative
from onnx_memo.report.charts import Chart, Keys, Picture
from onnx_memo.report.errors import draw_tolerance, metric_name
from onnx_memo.report.evidence import Evidence
from onnx_memo.report.numbers import count, figure
from onnx_memo.report.scales import scale

COLOURS = 6  # CSS classes `level0` and on


def ways(evidence: Evidence) -> Picture:
    """A dot for each way: its time, and the error that 95 % of the fit part's requests stay within."""
    drawn = [way for way in evidence.alternatives if math.isfinite(way.ratio) and not math.isnan(way.error)]
    chosen = [way for way in drawn if way.name == evidence.chosen]
    tolerance, note = evidence.promise.tolerance, _note(evidence, drawn, chosen)
    chart = Chart("ways", "Exactness against time", note, height=320)
    y = scale([*(way.error for way in drawn), tolerance], chart.bottom, chart.top, log=True)
    x = scale([*(way.ratio for way in drawn), 1.0], chart.left + 6, chart.right)
    chart.y_axis(y, f"{metric_name(evidence.promise.metric)}, 95th percentile")
    draw_tolerance(chart, y, tolerance)
    chart.line([(x.at(1), chart.top), (x.at(1), chart.bottom)], "reach")
    keys: Keys = ()
    for number, level in enumerate(dict.fromkeys(way.level for way in drawn)):
        series, kind = [way for way in drawn if way.level == level], f"level{number % COLOURS}"
        points = sorted((x.at(way.ratio), y.at(way.error)) for way in series)
        if len(points) > 1 and _differ_in_a_setting(series):
            chart.line(points, kind)
        chart.dots(points, kind)
        keys += ((f"dot {kind}", level),)
    for way in chosen:
        text = f"{way.name}: error {figure(way.error)}, time {figure(way.ratio)}"
        chart.ring((x.at(way.ratio), y.at(way.error)), "chosen", text)
    chart.x_axis(x, "time, bundle over original")
    keys += (("ring chosen", "chosen"),) if chosen else ()
    return chart.picture((*keys, ("line reach", "the original")))


def _note(evidence: Evidence, drawn: Sequence[Alternative], chosen: Sequence[Alternative]) -> str:
    if not drawn:
        return "No way has figures to draw."
    note = f"{count(len(drawn), 'way')} tried on the fit part."
    for way in chosen[:1]:
        note += f" The one chosen, {way.name}, takes {figure(way.ratio)} of the original's time there."
    share = evidence.proven_share
    if share is not None and share != 1:
        note += f" The held-out part proves {figure(share, 2)} of its bound, which is what the bundle uses."
    return note


def _differ_in_a_setting(series: Sequence[Alternative]) -> bool:
    """Whether a line may join the ways of a level: each is named after the level and a setting of it."""
    return all(f"{way.name}, ".startswith(f"{way.level}, ") for way in series)
