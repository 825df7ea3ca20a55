"""Charts as inline SVG: axes, bars and histograms, and the legend and note that go with a chart.

A chart is `WIDTH` picture units wide, and as wide as its column on the page.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from onnx_memo.report.numbers import escaped
from onnx_memo.report.scales import Scale, decade
from onnx_memo.report.svg import Drawing, Point, element

WIDTH = 440
MOST_DOTS = 1500

Keys = tuple[tuple[str, str], ...]  # a legend: CSS classes of the swatch, and its label


def thinned(points: Sequence[Point], most: int = MOST_DOTS) -> list[Point]:
    """At most `most` of the points, chosen at random, the same ones every time."""
    return list(points) if len(points) <= most else random.Random(0).sample(list(points), most)


def thinned_evenly(points: Sequence[Point], most: int = MOST_DOTS) -> list[Point]:
    """At most about `most` of the points of a line, evenly; the last one stays."""
    every = math.ceil(len(points) / most) or 1
    return [*points[:-1:every], *points[-1:]]


@dataclass(frozen=True)
class Panel:
    """One of several charts of a kind that stand side by side, with what sets it apart."""

    heading: str
    svg: str


@dataclass(frozen=True)
class Picture:
    """One chart, or several panels, with a legend and a note.

    Attributes:
        keys: the legend.
        note: what to see, in one or two sentences.
    """

    title: str
    panels: Sequence[Panel]
    keys: Keys
    note: str


def dots_left_out(counts: Sequence[int], most: int = MOST_DOTS) -> str:
    """A sentence that says so where `thinned` leaves points out of a picture; else nothing."""
    if max(counts, default=0) <= most:
        return ""
    shown = sum(min(number, most) for number in counts)
    return f" {shown:,} of {sum(counts):,} dots are drawn."


class Chart(Drawing):
    """A picture with a plot area between axes.

    Attributes:
        name: its id on the page.
        title, summary: what it is called and what it shows, for those who do not see it.
        left, right, top, bottom: the ends of the plot area.
    """

    def __init__(
        self,
        name: str,
        title: str,
        summary: str,
        *,
        height: float = 280,
        left: float = 54,
        bottom: float = 46,
    ) -> None:
        super().__init__(WIDTH, height)
        self.name, self.title, self.summary = name, title, summary
        self.left, self.right, self.top, self.bottom = left, WIDTH - 14.0, 30.0, height - bottom

    def picture(self, keys: Keys, note: str | None = None) -> Picture:
        """The chart alone with its legend; the note is the summary, if no other is given."""
        return Picture(self.title, [self.panel("")], keys, self.summary if note is None else note)

    def panel(self, heading: str) -> Panel:
        """The chart as one of several."""
        return Panel(heading, self._named_svg())

    def _named_svg(self) -> str:
        """The picture as an SVG element that names and describes itself."""
        name = self.name
        title = element("title", escaped(self.title), id=f"{name}-t")
        summary = element("desc", escaped(self.summary, 2000), id=f"{name}-d")
        return self.svg(
            title + summary, class_="chart", id=name, role="img", aria_labelledby=f"{name}-t {name}-d"
        )

    def x_axis(self, axis: Scale, label: str, *, ticks: bool = True) -> None:
        """Marks and their labels along the bottom; infinite values stand over `none`."""
        self.line([(self.left, self.bottom), (self.right, self.bottom)], "axis")
        for value, text in axis.ticks() if ticks else []:
            at = axis.at(value)
            self.line([(at, self.bottom), (at, self.bottom + 4)], "axis")
            self.text(at, self.bottom + 18, text, "tick", "middle")
        if ticks and axis.below is not None:
            self.text(axis.below, self.bottom + 18, "0", "tick", "middle")
        if axis.beyond is not None:
            self.text(axis.beyond, self.bottom + 18, "none", "tick", "middle")
        self.text((self.left + self.right) / 2, self.bottom + 38, label, "label", "middle")

    def y_axis(self, axis: Scale, label: str, *, wanted: int = 5) -> None:
        """Faint lines across with their labels; the axis' own label stands above them."""
        marks = [(axis.at(value), text) for value, text in axis.ticks(wanted)]
        low = f"< {decade(round(math.log10(axis.low)))}" if axis.cut else "0"
        marks += [(axis.below, low)] if axis.below is not None else []
        marks += [(axis.beyond, "∞")] if axis.beyond is not None else []
        for at, text in marks:
            self.line([(self.left, at), (self.right, at)], "grid")
            self.text(self.left - 8, at + 4, text, "tick", "end")
        self.text(2, min(axis.end, axis.beyond or axis.end) - 15, label, "label", "start")

    def bar(self, start: float, end: float, y: float, thickness: float, kind: str, note: str) -> None:
        """A bar from `start` to `end`, either way round, with a note that shows when it is pointed at."""
        size = max(abs(end - start), 1), thickness
        self.rect((min(start, end), y), size, f"bar {kind}", note, round_by=1.5)

    def histogram(self, counts: Sequence[int], edges: Sequence[float], y: Scale, kind: str) -> None:
        """Counts between edges (one more, in picture units) as filled steps."""
        points = [(edges[0], y.at(0))]
        for number, left, right in zip(counts, edges, edges[1:], strict=False):
            points += [(left, y.at(number)), (right, y.at(number))]
        self.area([*points, (edges[-1], y.at(0))], kind)
