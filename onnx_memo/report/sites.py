"""The pictures with a row per site: how often it reuses, what that saves and what it costs."""

from __future__ import annotations

import math
from typing import Any

from onnx_memo.report.charts import Chart, Picture, Scale, scale
from onnx_memo.report.numbers import count, finite, percent, with_unit

Evidence = dict[str, Any]

MOST_SITES = 32
ROW = 26  # height of a row, in picture units


def hits_by_site(evidence: Evidence) -> Picture:
    """A bar per site."""
    sites = evidence["sites"]
    guarded = [site for site in sites if site["level"] is not None]
    note = f"{len(guarded)} of {count(len(sites), 'site')} guarded." + _cut_note(sites)
    if guarded:
        rates = sorted(float(site["hit_rate"]) for site in guarded)
        span = (
            percent(rates[0])
            if percent(rates[0]) == percent(rates[-1])
            else f"{percent(rates[0])} to {percent(rates[-1])}"
        )
        note = f"{len(guarded)} of {count(len(sites), 'site')} guarded, hit rate {span}." + _cut_note(sites)
    if _one_encoder(sites):
        note = f"The encoder is guarded as a whole: {percent(sites[0]['hit_rate'])} of the requests hit."
    chart = _rows("site-hits", "Hit rate by site", note, sites)
    x = Scale(0, 100, chart.left, chart.right - 40)
    _grid(chart, x)
    for site, y in _placed(chart, sites):
        kind = "saving" if site["level"] is not None else "idle"
        value = float(site["hit_rate"]) * 100
        text = percent(value / 100)
        if math.isfinite(value):
            chart.bar(x.start, x.at(value), y + 6, ROW - 12, kind, f"{site['name']}: {text}")
        chart.text(
            (x.at(value) if math.isfinite(value) else x.start) + 6, y + ROW / 2 + 4, text, "tick", "start"
        )
    chart.x_axis(x, "hit rate, %")
    return Picture(chart.title, chart.svg(), _site_keys(sites, (("box saving", "guarded"),)), note)


def saving_by_site(evidence: Evidence) -> Picture:
    """Two bars per site: to the right what reuse saves, to the left what looking up costs."""
    sites = evidence["sites"]
    guarded = [site for site in sites if site["level"] is not None]
    saved, cost = (sum(finite([float(s[key]) for s in guarded])) for key in ("saving_us", "overhead_us"))
    note = (
        f"The guarded sites save {with_unit(saved, 'µs', 2)} per request and cost {with_unit(cost, 'µs', 2)}."
        if guarded
        else "No site is guarded."
    )
    if _one_encoder(sites):
        note = (
            f"A mean request is spared {with_unit(saved, 'µs', 2)} of the encoder's time; keys, lookup and "
            f"the rows that run cost {with_unit(cost, 'µs', 2)}."
        )
    chart = _rows("site-saving", "Saving and overhead by site", note, sites)
    values = [v for s in sites for v in (s["saving_us"], -s["overhead_us"])]
    x = scale(finite(values), chart.left, chart.right)
    _grid(chart, x)
    for site, y in _placed(chart, sites):
        idle = " idle" if site["level"] is None else ""
        for key, sign, kind in (("saving_us", 1, "saving"), ("overhead_us", -1, "overhead")):
            value = float(site[key])
            if math.isfinite(value):
                note_of = f"{site['name']}: {kind} {with_unit(value, 'µs', 2)}"
                chart.bar(x.at(0), x.at(sign * value), y + 6, ROW - 12, kind + idle, note_of)
    chart.line([(x.at(0), chart.top), (x.at(0), chart.bottom)], "axis")
    chart.x_axis(x, "mean per request, µs")
    keys = (("box overhead", "overhead"), ("box saving", "saving"))
    return Picture(chart.title, chart.svg(), _site_keys(sites, keys), note + _cut_note(sites))


def _one_encoder(sites: list[dict[str, Any]]) -> bool:
    return [site["level"] for site in sites] == ["rows"]


def _site_keys(sites: list[dict[str, Any]], keys: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    idle = any(site["level"] is None for site in sites)
    return (*keys, ("box idle", "not guarded")) if idle else keys


def _cut_note(sites: list[dict[str, Any]]) -> str:
    return (
        f" The first {MOST_SITES} are drawn; all stand in the table below." if len(sites) > MOST_SITES else ""
    )


def _rows(name: str, title: str, note: str, sites: list[dict[str, Any]]) -> Chart:
    """A chart with a row per site and the sites' names at the left."""
    shown = sites[:MOST_SITES]
    longest = max((min(len(site["name"]), 16) for site in shown), default=4)
    height = 12 + max(len(shown), 1) * ROW + 46
    chart = Chart(name, title, note, height=height, left=18 + longest * 7.2)
    chart.top = 8
    return chart


def _placed(chart: Chart, sites: list[dict[str, Any]]) -> list[tuple[dict[str, Any], float]]:
    """Every site shown and the upper edge of its row; writes the names."""
    rows = [(site, chart.top + 4 + at * ROW) for at, site in enumerate(sites[:MOST_SITES])]
    for site, y in rows:
        name = site["name"]
        name = name if len(name) <= 16 else f"…{name[-15:]}"
        chart.text(chart.left - 10, y + ROW / 2 + 4, name, "tick", "end")
    return rows


def _grid(chart: Chart, x: Scale) -> None:
    for value, _ in x.ticks():
        chart.line([(x.at(value), chart.top), (x.at(value), chart.bottom)], "grid")
