"""Scales: where values stand along an axis, and which of them are marked."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from onnx_memo.report.numbers import MINUS, figure, finite, power_of_ten

STRIP = 20  # room beside a scale for values that have no place on it
LABELLED_STRIP = 46  # the same below an axis, where a label needs the width
DECADES = 3


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
        return self._powers(wanted) if self.log else self._even(wanted)

    def _even(self, wanted: int) -> list[tuple[float, str]]:
        step = _step(self.high - self.low, wanted)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        marks = [at * step for at in range(first, last + 1)]
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        if decimals > 6 or abs(self.high) >= 1e7:
            return [(mark, figure(mark)) for mark in marks]
        return [(mark, f"{mark:,.{decimals}f}".replace("-", MINUS)) for mark in marks]

    def _powers(self, wanted: int) -> list[tuple[float, str]]:
        """Powers of ten; where there are not two of them, 1, 2 and 5 times such."""
        first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
        if last <= first:
            marks = [m * 10.0**p for p in range(first - 1, last + 2) for m in (1, 2, 5)]
            return [(mark, figure(mark, 1)) for mark in marks if self.low <= mark <= self.high]
        powers = range(first, last + 1)
        every = math.ceil(len(powers) / (wanted + 1))
        return [(10.0**p, decade(p)) for p in reversed(powers[::-every])]


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
    beyond = None
    if len(finite(given)) < len(given):
        beyond, end = end, end - (LABELLED_STRIP if end > start else -STRIP)
    positive = [value for value in numbers if value > 0]
    if log and positive and max(positive) > 20 * min(positive):
        made = _logarithmic(min(positive), max(positive), min(numbers), start, end)
    else:
        made = _linear(min(numbers), max(numbers), start, end, zero)
    return replace(made, beyond=beyond)


def _logarithmic(least: float, most: float, lowest: float, start: float, end: float) -> Scale:
    """For positive values from `least` to `most`, and others from `lowest`, which need not be positive."""
    high = most * 2
    low = max(least / 1.5, 10.0 ** (math.floor(math.log10(high)) - DECADES))
    if lowest >= low:
        return Scale(low, high, start, end, log=True)
    strip = math.copysign(STRIP, end - start)
    return Scale(low, high, start + strip, end, log=True, below=start, cut=least < low)


def _linear(low: float, high: float, start: float, end: float, zero: bool) -> Scale:
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high == low:
        low, high = (low - abs(low) * 0.1, high + abs(high) * 0.1) if high else (0.0, 1.0)
    step = _step(high - low, 5)
    return Scale(math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step, start, end)


def _step(span: float, wanted: int) -> float:
    """A round step, 1, 2 or 5 times a power of ten, of which about `wanted` make up the span."""
    power = 10.0 ** math.floor(math.log10(span / wanted))
    return next((m * power for m in (1, 2, 5) if m * power * wanted >= span * 0.999), 10 * power)


def decade(power: int) -> str:
    """A power of ten, for people: `0.01`, `10⁻⁵`."""
    return f"{10.0**power:.{max(-power, 0)}f}" if -4 <= power <= 3 else power_of_ten(power)
