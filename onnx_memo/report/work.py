"""What did the work: the kinds of requests, what each runs, and how much of the time saved is theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onnx_memo.report.charts import Chart, Picture
from onnx_memo.report.evidence import Evidence, Request
from onnx_memo.report.latency import timed
from onnx_memo.report.numbers import figure, percent, ratio
from onnx_memo.report.scales import scale

BAR = 52  # thickness, in picture units


@dataclass(frozen=True)
class Kind:
    """Requests that are answered in the same way.

    Attributes:
        style: the CSS class of its mark.
        requests: of this kind, at least one.
        saved: its part of the time that all requests are spared; below 0 where it takes longer than the
            original. NaN where nothing was saved.
    """

    name: str
    style: str
    requests: Sequence[Request]
    saved: float

    def mean_ms(self, bundle: bool, of: int) -> float:
        """The time of its requests, shared out over `of` requests, in milliseconds."""
        return sum(r.bundle_ms if bundle else r.original_ms for r in self.requests) / of


def is_literal(request: Request) -> bool:
    """Whether it is reused, and is stored word for word."""
    return request.hit and request.stored


def kinds(evidence: Evidence) -> list[Kind]:
    """The held-out requests by how they are answered; kinds without any are left out."""
    requests = timed(evidence.requests)
    total = sum(r.original_ms - r.bundle_ms for r in requests)
    parts = (
        ("stored word for word", "literal", [r for r in requests if is_literal(r)]),
        ("nearly stored", "near", [r for r in requests if r.hit and not is_literal(r)]),
        ("not reused: computed", "miss", [r for r in requests if not r.hit]),
    )
    return [
        Kind(name, style, some, ratio(sum(r.original_ms - r.bundle_ms for r in some), total))
        for name, style, some in parts
        if some
    ]


def work(evidence: Evidence) -> Picture:
    """Two bars, original and bundle: the mean time of a request, by the kinds of requests."""
    found, number = kinds(evidence), len(timed(evidence.requests))
    note = _note(found) if found else "No request was measured."
    chart = Chart("bars", "Where the time goes", note, height=46 + 2 * (BAR + 14), left=64)
    chart.top = 4
    totals = [sum(kind.mean_ms(bundle, number) for kind in found) for bundle in (False, True)]
    x = scale(totals, chart.left, chart.right)
    for line, (label, bundle) in enumerate((("original", False), ("bundle", True))):
        y, before = chart.top + 6 + line * (BAR + 10), 0.0
        chart.text(chart.left - 10, y + BAR / 2 + 4, label, "tick", "end")
        for kind in found:
            after = before + kind.mean_ms(bundle, number)
            pointed_at = f"{label}, {kind.name}: {figure(after - before)} ms"
            chart.bar(x.at(before), x.at(after), y, BAR, kind.style, pointed_at)
            before = after
    chart.x_axis(x, "mean of all requests, ms")
    return chart.picture(tuple((f"box {kind.style}", kind.name) for kind in found))


def _note(found: Sequence[Kind]) -> str:
    """Which kinds save how much of all that is saved."""
    note = "Mean times; the table below has their spread."
    savers = [kind for kind in found if kind.style != "miss" and kind.saved > 0]
    if len(savers) < 2:
        return note
    shares = " and ".join(f"{percent(kind.saved)} is saved by those {kind.name}" for kind in savers)
    return f"{note} Of the time saved, {shares}."
