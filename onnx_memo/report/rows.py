"""The level `rows`: how many of its rows a request runs."""

from __future__ import annotations

import math
from typing import Any

from onnx_memo.report.charts import Chart, Picture, Scale, scale
from onnx_memo.report.numbers import count, percent, quantile, ratio

Evidence = dict[str, Any]

BINS = 20


def by_rows(evidence: Evidence) -> bool:
    """Whether the bundle runs single rows; then every request has its share of rows that ran."""
    return any(request.get("rows") is not None for request in evidence["requests"])


def share_of(request: dict[str, Any]) -> float:
    """The share of its rows that a request ran: all, where nothing says otherwise."""
    given = request.get("rows")
    return 1.0 if given is None or math.isnan(given) else min(max(float(given), 0.0), 1.0)


def mean_share(evidence: Evidence) -> float:
    """The mean share of rows that ran; NaN without requests."""
    requests = evidence["requests"]
    return ratio(sum(map(share_of, requests)), len(requests))


def rows_run(evidence: Evidence) -> Picture:
    """How many requests ran which share of their rows."""
    requests = evidence["requests"]
    shares = [share_of(r) for r in requests]
    whole = sum(not r["hit"] for r in requests)
    note = "No request was measured."
    if requests:
        note = (
            f"Half of the requests run {percent(quantile(shares, 0.5))} of their rows or less, "
            f"{percent(0.95)} run {percent(quantile(shares, 0.95))} or less."
        )
        note += f" {count(whole, 'request')} reused nothing and ran whole." if whole else ""
        literal = sum(r["hit"] and share_of(r) == 0 for r in requests)
        note += f" {count(literal, 'request')} ran no row at all." if literal else ""
    chart = Chart("rows", "Rows that a request runs", note)
    tallies = {True: [0] * BINS, False: [0] * BINS}
    for request, share in zip(requests, shares, strict=True):
        tallies[bool(request["hit"])][min(int(share * BINS), BINS - 1)] += 1
    x = Scale(0, 100, chart.left, chart.right)
    y = scale([*tallies[True], *tallies[False], 5], chart.bottom, chart.top)
    chart.y_axis(y, "requests")
    edges = [x.at(100 * at / BINS) for at in range(BINS + 1)]
    kinds = [("after", True)] + ([("before", False)] if whole else [])
    for kind, hit in kinds:
        if requests:
            chart.histogram(tallies[hit], edges, y, kind)
    if requests:
        middle = x.at(100 * quantile(shares, 0.5))
        chart.line([(middle, chart.bottom), (middle, chart.top)], "middle after")
    chart.x_axis(x, "share of its rows that a request runs, %")
    names = {"after": "reused", "before": "ran whole"}
    keys = [(f"box {kind}", names[kind]) for kind, _ in kinds]
    return Picture(chart.title, chart.svg(), (*keys, ("line middle", "median")), note)
