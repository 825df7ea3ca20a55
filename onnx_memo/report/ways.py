"""Exactness against time: every way to guard that was tried on the user's own data."""

from __future__ import annotations

import math
from collections.abc import Sequence

from onnx_memo.levels.ways import Alternative
from onnx_memo.report.charts import Chart, Keys, Panel, Picture
from onnx_memo.report.errors import draw_tolerance, metric_name
from onnx_memo.report.evidence import Evidence
from onnx_memo.report.numbers import count, figure
from onnx_memo.report.scales import scale

HEIGHT = 240


def ways(evidence: Evidence) -> Picture:
    """A dot for each way: its time, and the error that 95 % of the fit part's requests stay within.

    A panel for each level, all on the same axes.
    """
    drawn = [way for way in evidence.alternatives if math.isfinite(way.ratio) and not math.isnan(way.error)]
    chosen = [way for way in drawn if way.name == evidence.chosen]
    levels = list(dict.fromkeys(way.level for way in drawn))
    title, note = "Exactness against time, by level", _note(evidence, drawn, chosen)
    panels = [
        _level(evidence, f"ways-{number}", level, drawn, chosen)
        for number, level in enumerate(levels or [""])
    ]
    keys: Keys = (("dot after", "a way to guard"),)
    keys += (("ring chosen", "chosen"),) if chosen else ()
    return Picture(title, panels, (*keys, ("line limit", "tolerance"), ("line reach", "the original")), note)


def _level(
    evidence: Evidence, name: str, level: str, drawn: Sequence[Alternative], chosen: Sequence[Alternative]
) -> Panel:
    series = [way for way in drawn if way.level == level]
    summary = f"{count(len(series), 'way')} at the level {level[:80]}: error against time."
    chart = Chart(name, f"Exactness against time: {level[:80]}", summary, height=HEIGHT)
    tolerance = evidence.promise.tolerance
    y = scale([*(way.error for way in drawn), tolerance], chart.bottom, chart.top, log=True)
    x = scale([*(way.ratio for way in drawn), 1.0], chart.left + 6, chart.right)
    chart.y_axis(y, f"{metric_name(evidence.promise.metric)}, 95th percentile")
    draw_tolerance(chart, y, tolerance, at_end=True)
    chart.line([(x.at(1), chart.top), (x.at(1), chart.bottom)], "reach")
    points = sorted((x.at(way.ratio), y.at(way.error)) for way in series)
    if len(points) > 1 and _differ_in_a_setting(series):
        chart.line(points, "joined")
    chart.dots(points, "after", radius=3.4)
    for way in chosen if chosen and chosen[0].level == level else ():
        text = f"{way.name}: error {figure(way.error)}, time {figure(way.ratio)}"
        chart.ring((x.at(way.ratio), y.at(way.error)), "chosen", text, radius=6)
    chart.x_axis(x, "time, bundle over original")
    return chart.panel(level)


def _note(evidence: Evidence, drawn: Sequence[Alternative], chosen: Sequence[Alternative]) -> str:
    if not drawn:
        return "No way has figures to draw."
    note = f"{count(len(drawn), 'way')} tried on the fit part."
    for way in chosen[:1]:
        note += f" The one chosen, {way.name}, takes {figure(way.ratio)} of the original's time there."
    share = evidence.proven_share
    if share is not None and share != 1:
        note += f" On the held-out part {figure(share, 2)} times its bound is proven, which the bundle uses."
    return note


def _differ_in_a_setting(series: Sequence[Alternative]) -> bool:
    """Whether a line may join the ways of a level: each is named after the level and a setting of it."""
    return all(f"{way.name}, ".startswith(f"{way.level}, ") for way in series)
