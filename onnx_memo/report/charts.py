"""Charts as inline SVG: scales, axes, dots, crosses, lines, steps, bars.

Colours come from CSS classes (see `style`), so that a chart follows the page into the dark.
Lengths are in picture units; a picture is `WIDTH` wide and as wide as its column on the page.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from onnx_memo.report.numbers import MINUS, escaped, figure, finite, power_of_ten

WIDTH = 440
STRIP = 20  # room beside a scale for values that have no place on it
LABELLED_STRIP = 46  # the same below an axis, where a label needs the width
DECADES = 3
MOST_DOTS = 1500

Point = tuple[float, float]


@dataclass(frozen=True)
class Scale:
    """Where a value stands between `start` and `end`. Values beyond the ends stand at the ends.

    `below` is the place of values under `low` on a logarithmic scale, `cut` whether some of them are
    above zero; `beyond` is the place of infinite ones. Both places are None where there are none.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    below: float | None = None
    beyond: float | None = None
    cut: bool = False

    def at(self, value: float) -> float:
        """The place of a value, in picture units."""
        if self.beyond is not None and not math.isfinite(value):
            return self.beyond
        if self.below is not None and value < self.low:
            return self.below
        value = min(max(value, self.low), self.high)
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log10(value), math.log10(low), math.log10(high)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, wanted: int = 5) -> list[tuple[float, str]]:
        """Values to mark, about `wanted` of them, with their labels."""
        if not self.log:
            step = _step(self.high - self.low, wanted)
            first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
            decimals = max(0, -math.floor(math.log10(step) + 1e-9))
            even = [at * step for at in range(first, last + 1)]
            form = "" if decimals > 6 or abs(self.high) >= 1e7 else f",.{decimals}f"
            return [(mark, f"{mark:{form}}".replace("-", MINUS) if form else figure(mark)) for mark in even]
        first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
        powers = list(range(first, last + 1))
        if len(powers) < 2:
            marks = [m * 10.0**p for p in range(first - 1, last + 2) for m in (1, 2, 5)]
            return [(mark, figure(mark, 1)) for mark in marks if self.low <= mark <= self.high]
        every = math.ceil(len(powers) / (wanted + 1))
        return [(10.0**p, _decade(p)) for p in reversed(powers[::-every])]


def scale(
    values: Iterable[float], start: float, end: float, *, log: bool = False, zero: bool = True
) -> Scale:
    """A scale for the values, from `start` to `end`.

    1. Linear: round ends; from zero, unless `zero` is false.
    2. Logarithmic, if asked for and the values span more than a factor of 20: a little room at both
       ends, at most `DECADES` decades and a part, a strip for what is smaller and for zero.
    3. A strip at the far end for infinite values, if there are any.
    """
    given = list(values)
    numbers = finite(given) or [0.0]
    side = math.copysign(STRIP, end - start)
    far_side = LABELLED_STRIP if end > start else -STRIP
    beyond = end if len(finite(given)) < len(given) else None
    if beyond is not None:
        end -= far_side
    positive = [value for value in numbers if value > 0]
    if log and positive and max(positive) > 20 * min(positive):
        high = max(positive) * 2
        low = max(min(positive) / 1.5, 10.0 ** (math.floor(math.log10(high)) - DECADES))
        if min(numbers) < low:
            return Scale(low, high, start + side, end, True, start, beyond, min(positive) < low)
        return Scale(low, high, start, end, True, None, beyond)
    low, high = min(numbers), max(numbers)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high == low:
        low, high = (low - abs(low) * 0.1, high + abs(high) * 0.1) if high else (0.0, 1.0)
    step = _step(high - low, 5)
    low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    return Scale(low, high, start, end, beyond=beyond)


def _step(span: float, wanted: int) -> float:
    """A round step (1, 2 or 5 times a power of ten) that parts the span into about `wanted`."""
    power = 10.0 ** math.floor(math.log10(span / wanted))
    return next((m * power for m in (1, 2, 5) if m * power * wanted >= span * 0.999), 10 * power)


def _decade(power: int) -> str:
    return f"{10.0**power:.{max(-power, 0)}f}" if -4 <= power <= 3 else power_of_ten(power)


def thinned(points: Sequence[Point], most: int = MOST_DOTS) -> list[Point]:
    """At most `most` of the points, drawn without preference, the same ones every time."""
    return list(points) if len(points) <= most else random.Random(0).sample(list(points), most)


@dataclass(frozen=True)
class Picture:
    """A chart and what stands around it.

    Attributes:
        keys: the legend, (CSS classes of the swatch, label).
        note: what to see, in one or two sentences.
    """

    title: str
    svg: str
    keys: tuple[tuple[str, str], ...]
    note: str


def dots_left_out(counts: Sequence[int], most: int = MOST_DOTS) -> str:
    """A sentence that says so where `thinned` leaves points out of a picture; else nothing."""
    if max(counts, default=0) <= most:
        return ""
    shown = sum(min(number, most) for number in counts)
    return f" {shown:,} of {sum(counts):,} dots are drawn."


class Chart:
    """One picture. Its methods draw; `svg` gives the result.

    Attributes:
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
    ):
        self.name, self.title, self.summary, self.height = name, title, summary, height
        self.left, self.right, self.top, self.bottom = left, WIDTH - 14.0, 30.0, height - bottom
        self._parts: list[str] = []

    def svg(self) -> str:
        """The picture as an SVG element that names and describes itself."""
        name = self.name
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" id="{name}" role="img" '
            f'viewBox="0 0 {WIDTH} {_n(self.height)}" aria-labelledby="{name}-t {name}-d">'
            f'<title id="{name}-t">{escaped(self.title)}</title>'
            f'<desc id="{name}-d">{escaped(self.summary, 2000)}</desc>{"".join(self._parts)}</svg>'
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
        low = f"< {_decade(round(math.log10(axis.low)))}" if axis.cut else "0"
        marks += [(axis.below, low)] if axis.below is not None else []
        marks += [(axis.beyond, "∞")] if axis.beyond is not None else []
        for at, text in marks:
            self.line([(self.left, at), (self.right, at)], "grid")
            self.text(self.left - 8, at + 4, text, "tick", "end")
        self.text(2, min(axis.end, axis.beyond or axis.end) - 15, label, "label", "start")

    def text(self, x: float, y: float, text: str, kind: str, anchor: str) -> None:
        """One line of text; `anchor` is start, middle or end."""
        self._parts.append(
            f'<text x="{_n(x)}" y="{_n(y)}" class="{kind}" text-anchor="{anchor}">{escaped(text, 60)}</text>'
        )

    def dots(self, points: Iterable[Point], kind: str) -> None:
        """Round, half transparent dots."""
        points = list(points)
        kind += " solid" if len(points) < 20 else " dense" if len(points) > 500 else ""
        circles = "".join(f'<circle cx="{_n(x)}" cy="{_n(y)}" r="2.4"/>' for x, y in points)
        self._parts.append(f'<g class="dots {kind}">{circles}</g>')

    def crosses(self, points: Iterable[Point], kind: str) -> None:
        """Small crosses."""
        path = "".join(f"M{_n(x - 2.2)} {_n(y - 2.2)}l4.4 4.4m0-4.4l-4.4 4.4" for x, y in points)
        self._parts.append(f'<path class="cross {kind}" d="{path or "M0 0"}"/>')

    def ring(self, point: Point, kind: str, note: str, *, small: bool = False) -> None:
        """A ring with a note that shows when it is pointed at."""
        place = f'cx="{_n(point[0])}" cy="{_n(point[1])}" r="{3 if small else 4.5}"'
        self._parts.append(f'<circle class="ring {kind}" {place}><title>{escaped(note)}</title></circle>')

    def line(self, points: Sequence[Point], kind: str) -> None:
        """A line through the points."""
        path = "L".join(f"{_n(x)} {_n(y)}" for x, y in points)
        self._parts.append(f'<path class="line {kind}" d="M{path}"/>')

    def area(self, points: Sequence[Point], kind: str) -> None:
        """A line through the points, the space between it and the first point's height filled."""
        path = "L".join(f"{_n(x)} {_n(y)}" for x, y in points)
        self._parts.append(f'<path class="area {kind}" d="M{path}"/>')

    def bar(self, start: float, end: float, y: float, thickness: float, kind: str, note: str) -> None:
        """A bar from `start` to `end`, either way round, with a note that shows when pointed at."""
        place = f'x="{_n(min(start, end))}" y="{_n(y)}" rx="1.5"'
        extent = f'width="{_n(max(abs(end - start), 1))}" height="{_n(thickness)}"'
        self._parts.append(f'<rect class="bar {kind}" {place} {extent}><title>{escaped(note)}</title></rect>')

    def histogram(self, counts: Sequence[int], edges: Sequence[float], y: Scale, kind: str) -> None:
        """Counts between edges (one more, in picture units) as filled steps."""
        points = [(edges[0], y.at(0))]
        for number, left, right in zip(counts, edges, edges[1:], strict=False):
            points += [(left, y.at(number)), (right, y.at(number))]
        self.area([*points, (edges[-1], y.at(0))], kind)


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
