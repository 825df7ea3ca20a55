"""Where single rows run: how many of its rows a request runs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from onnx_memo.report.charts import Chart, Picture
from onnx_memo.report.evidence import Evidence, Request
from onnx_memo.report.numbers import count, percent, quantile, ratio
from onnx_memo.report.scales import Scale, scale

BINS = 20
SERIES = (("after", "reused", True), ("before", "ran whole", False))  # CSS class, label, whether they hit


def by_rows(evidence: Evidence) -> bool:
    """Whether the bundle runs single rows; then every request has its share of rows that ran."""
    return any(request.rows is not None for request in evidence.requests)


def share_of(request: Request) -> float:
    """The share of its rows that a request ran: all of them, where it is not known."""
    given = request.rows
    return 1.0 if given is None or math.isnan(given) else min(max(given, 0.0), 1.0)


def mean_share(evidence: Evidence) -> float:
    """The mean share of rows that ran; NaN without requests."""
    return ratio(sum(map(share_of, evidence.requests)), len(evidence.requests))


def rows_run(evidence: Evidence) -> Picture:
    """How many requests ran which share of their rows."""
    requests = evidence.requests
    note = _note(requests) if requests else "No request was measured."
    chart = Chart("rows", "Rows that a request runs", note)
    tallies = {hit: _tally([r for r in requests if r.hit == hit]) for _, _, hit in SERIES}
    x = Scale(0, 100, chart.left, chart.right)
    y = scale([*tallies[True], *tallies[False], 5], chart.bottom, chart.top)
    chart.y_axis(y, "requests")
    edges = [x.at(100 * at / BINS) for at in range(BINS + 1)]
    drawn = [one for one in SERIES if one[2] or any(tallies[False])]
    if requests:
        for kind, _, hit in drawn:
            chart.histogram(tallies[hit], edges, y, kind)
        middle = x.at(100 * quantile(list(map(share_of, requests)), 0.5))
        chart.line([(middle, chart.bottom), (middle, chart.top)], "middle after")
    chart.x_axis(x, "share of its rows that a request runs, %")
    keys = [(f"box {kind}", label) for kind, label, _ in drawn]
    return chart.picture((*keys, ("line middle", "median")))


def _note(requests: Sequence[Request]) -> str:
    shares = list(map(share_of, requests))
    whole = sum(not r.hit for r in requests)
    literal = sum(r.hit and share_of(r) == 0 for r in requests)
    note = (
        f"Half of the requests run {percent(quantile(shares, 0.5))} of their rows or less, "
        f"{percent(0.95)} run {percent(quantile(shares, 0.95))} or less."
    )
    if whole:
        note += f" {count(whole, 'request')} reused nothing and ran whole."
    if literal:
        note += f" {count(literal, 'request')} ran no row at all."
    return note


def _tally(requests: Sequence[Request]) -> list[int]:
    """How many requests ran which share of their rows."""
    counts = [0] * BINS
    for request in requests:
        counts[min(int(share_of(request) * BINS), BINS - 1)] += 1
    return counts
