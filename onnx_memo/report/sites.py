"""The pictures with a row per site: how often it reuses, what that saves and what it costs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from onnx_memo.levels.base import SiteFigures
from onnx_memo.report.charts import Chart, Keys, Panel, Picture
from onnx_memo.report.evidence import Evidence
from onnx_memo.report.numbers import count, finite, percent, with_unit
from onnx_memo.report.scales import Scale, scale

MOST_SITES = 32
ROW = 26  # height of a row, in picture units
LONGEST_NAME = 16


def guarded_of(sites: Sequence[SiteFigures]) -> list[SiteFigures]:
    """The sites that are guarded."""
    return [site for site in sites if site.level is not None]


def by_site(evidence: Evidence) -> Picture:
    """A row per site: its hit rate; what it saves and costs."""
    sites = evidence.sites
    panels = [_hits(sites), _saving(sites)]
    keys: Keys = (("box saving", "saving, hits"), ("box overhead", "overhead"))
    if len(guarded_of(sites)) < len(sites):
        keys += (("box idle", "not guarded"),)
    return Picture("By attention block", panels, keys, f"{_hits_note(sites)} {_saving_note(sites)}")


def _hits(sites: Sequence[SiteFigures]) -> Panel:
    """A bar per site."""
    chart = _rows("site-hits", "By attention block: hit rate", _hits_note(sites), sites)
    x = Scale(0, 100, chart.left, chart.right - 40)
    _grid(chart, x)
    for site, y in _placed(chart, sites):
        kind = "saving" if site.level is not None else "idle"
        text, end = percent(site.hit_rate), x.start
        if math.isfinite(site.hit_rate):
            end = x.at(100 * site.hit_rate)
            chart.bar(x.start, end, y + 6, ROW - 12, kind, f"{site.name}: {text}")
        chart.text(end + 6, y + ROW / 2 + 4, text, "tick", "start")
    chart.x_axis(x, "hit rate, %")
    return chart.panel("Hit rate")


def _hits_note(sites: Sequence[SiteFigures]) -> str:
    rates = sorted(site.hit_rate for site in guarded_of(sites))
    span = ""
    if rates:
        least, most = percent(rates[0]), percent(rates[-1])
        span = f", hit rate {least}" if least == most else f", hit rate {least} to {most}"
    return f"{len(rates)} of {count(len(sites), 'site')} guarded{span}.{_cut_note(sites)}"


def _saving(sites: Sequence[SiteFigures]) -> Panel:
    """Two bars per site: to the right what reuse saves, to the left what looking up costs."""
    chart = _rows("site-saving", "By attention block: saving and overhead", _saving_note(sites), sites)
    ends = [end for site in sites for end in (site.saving_us, -site.overhead_us)]
    x = scale(finite(ends), chart.left, chart.right)
    _grid(chart, x)
    for site, y in _placed(chart, sites):
        idle = " idle" if site.level is None else ""
        for kind, sign, value in (("saving", 1, site.saving_us), ("overhead", -1, site.overhead_us)):
            if math.isfinite(value):
                pointed_at = f"{site.name}: {kind} {with_unit(value, 'µs', 2)}"
                chart.bar(x.at(0), x.at(sign * value), y + 6, ROW - 12, kind + idle, pointed_at)
    chart.line([(x.at(0), chart.top), (x.at(0), chart.bottom)], "axis")
    chart.x_axis(x, "mean per request, µs")
    return chart.panel("Saving and overhead")


def _saving_note(sites: Sequence[SiteFigures]) -> str:
    guarded = guarded_of(sites)
    if not guarded:
        return "No site is guarded."
    saved = with_unit(sum(finite([site.saving_us for site in guarded])), "µs", 2)
    cost = with_unit(sum(finite([site.overhead_us for site in guarded])), "µs", 2)
    return f"The guarded sites save {saved} per request and cost {cost}."


def _cut_note(sites: Sequence[SiteFigures]) -> str:
    if len(sites) <= MOST_SITES:
        return ""
    return f" The first {MOST_SITES} are drawn; all stand in the table below."


def _rows(name: str, title: str, note: str, sites: Sequence[SiteFigures]) -> Chart:
    """A chart with a row per site and room for the sites' names at the left."""
    shown = sites[:MOST_SITES]
    longest = max((min(len(site.name), LONGEST_NAME) for site in shown), default=4)
    height = 12 + max(len(shown), 1) * ROW + 46
    chart = Chart(name, title, note, height=height, left=18 + longest * 7.2)
    chart.top = 8
    return chart


def _placed(chart: Chart, sites: Sequence[SiteFigures]) -> list[tuple[SiteFigures, float]]:
    """Every site shown and the upper edge of its row; writes the names."""
    rows = [(site, chart.top + 4 + at * ROW) for at, site in enumerate(sites[:MOST_SITES])]
    for site, y in rows:
        name = site.name
        name = name if len(name) <= LONGEST_NAME else f"…{name[1 - LONGEST_NAME :]}"
        chart.text(chart.left - 10, y + ROW / 2 + 4, name, "tick", "end")
    return rows


def _grid(chart: Chart, x: Scale) -> None:
    for value, _ in x.ticks():
        chart.line([(x.at(value), chart.top), (x.at(value), chart.bottom)], "grid")
