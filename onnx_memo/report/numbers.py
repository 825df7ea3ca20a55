"""Figures as people read them: rounded, with their unit, and small statistics without NumPy."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence

from onnx_memo.proof.binomial import most_failures
from onnx_memo.proof.percentile import percentile
from onnx_memo.timing import Measured
from onnx_memo.words import counted

SPACE = "\N{NO-BREAK SPACE}"
TIMES = "\N{MULTIPLICATION SIGN}"
MINUS = "\N{MINUS SIGN}"
NONE = "\N{EN DASH}"
_JOINS = f"{SPACE}\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def figure(value: float, digits: int = 3) -> str:
    """A number with about `digits` significant digits: `1,240`, `12.3`, `0.00081`, `3.1 x 10⁻⁵`, `∞`."""
    if math.isnan(value):
        return NONE
    sign = MINUS if value < 0 else ""
    size = abs(value)
    if math.isinf(size):
        return f"{sign}∞"
    if size == 0:
        return "0"
    power = math.floor(math.log10(size))
    if not -4 <= power < 7:
        return f"{sign}{size / 10.0**power:.{max(digits - 2, 0)}f}{SPACE}{TIMES}{SPACE}{power_of_ten(power)}"
    return f"{sign}{size:,.{max(digits - 1 - power, 0)}f}"


def power_of_ten(power: int) -> str:
    """`10⁻⁵`."""
    return f"10{str(power).translate(_RAISED)}"


def measured(value: Measured | None) -> str:
    """A figure with its spread, which no line break separates; a dash where there is none."""
    return NONE if value is None else str(value).replace(" ", SPACE)


def with_unit(value: float, unit: str, digits: int = 3) -> str:
    """A number and its unit, which no line break separates; for NaN a dash alone."""
    text = figure(value, digits)
    return text if text == NONE else f"{text}{SPACE}{unit}"


def percent(share: float) -> str:
    """A share in percent, with a tenth only near 0 and 100; `0 %` and `100 %` stand for exactly that."""
    if not math.isfinite(share):
        return NONE
    value = share * 100
    near = min(abs(value), abs(100 - value))
    if near in (0, 100) or near >= 1.5:
        text = f"{value:,.0f}"
    elif near < 0.05:
        text = ("under" if value < 50 else "over") + SPACE + ("0.1" if value < 50 else "99.9")
    else:
        text = f"{value:.1f}"
    return f"{text.replace('-', MINUS)}{SPACE}%"


def size(count: int) -> str:
    """Bytes in KiB, MiB or GiB."""
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if count >= 2**power:
            return with_unit(count / 2**power, unit)
    return f"{count}{SPACE}bytes"


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 request`, `1,200 requests`, which no line break separates."""
    return counted(number, one, many).replace(" ", SPACE, 1)


def escaped(text: object, limit: int = 400) -> str:
    """Text for HTML and SVG: on one line, cut to `limit` characters, without characters XML forbids."""
    head = str(text)[: limit * 4]
    line = re.sub(" +", " ", "".join(map(_printable, head))).strip(" ")
    if len(line) > limit or len(str(text)) > len(head):
        line = line[:limit].rstrip() + "…"
    return html.escape(line)


def _printable(character: str) -> str:
    if character.isprintable() or character in _JOINS:
        return character
    return " " if character.isspace() else "\N{REPLACEMENT CHARACTER}"


def finite(values: Sequence[float]) -> list[float]:
    """The values without infinities and NaN."""
    return [value for value in values if math.isfinite(value)]


def quantile(values: Sequence[float], share: float) -> float:
    """The `percentile` for a share: at least that many of the values do not exceed it. NaN is left out.

    NaN if there is no value.
    """
    known = [value for value in values if not math.isnan(value)]
    return percentile(known, 100 * share) if known else math.nan


def median(values: Sequence[float]) -> float:
    """The middle value; NaN of nothing."""
    return quantile(values, 0.5)


def ratio(over: float, under: float) -> float:
    """over / under; NaN where that has no meaning."""
    return over / under if under > 0 and math.isfinite(over) and math.isfinite(under) else math.nan


def most_outside(held_out: int, within: float, confidence: float) -> int | None:
    """How many of `held_out` requests may be outside before the promise can no longer be proven.

    None if the promise cannot be proven even without one, that is, if the requests are too few.
    """
    if not 0 < within < 1:
        return None if within >= 1 else held_out
    return most_failures(held_out, 1 - within, 1 - confidence)
