"""Tables and picture of `docs/rows.md` from what the study found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any

from tools.workloads import WORKLOADS

TOLERANCES = {"a": (0.01, 0.002), "b": (0.01, 0.002), "e": (0.03, 0.01)}  # of the 95th percentile
MEANS = {"a": (0.001, 0.0006), "b": (0.003, 0.001), "e": (0.008, 0.005)}  # of the mean
DEFAULT = "staged"
NONE, CORRECTED = "none", "changed rows"
COLORS = {  # by selector, on light pages and on dark ones
    "leftover": ("#2563eb", "#60a5fa"),
    "learned": ("#d97706", "#f59e0b"),
    "adaptive": ("#9333ea", "#c084fc"),
    DEFAULT: ("#dc2626", "#f87171"),
    "staged, every layer": ("#65a30d", "#a3e635"),
    "staged, limited starts": ("#059669", "#34d399"),
    "staged, plain starts": ("#db2777", "#f472b6"),
    "staged, not learned": ("#0891b2", "#22d3ee"),
    "oracle": ("#6b7280", "#9ca3af"),
}
STYLE = "text{font:12px sans-serif;fill:#1f2937}path{fill:none;stroke-width:1.6}line{stroke:#9ca3af}"
DARK = "text{fill:#e5e7eb}line{stroke:#4b5563}"

Curve = list[tuple[float, float, float]]  # share of row-layers, mean and 95th percentile of the error
MEAN, P95 = 1, 2  # places in a point


def needed(curve: Curve, place: int, tolerance: float) -> str:
    """The share of row-layers at which the error reaches the tolerance, interpolated."""
    cost, errors = [point[0] for point in curve], [math.log(max(point[place], 1e-9)) for point in curve]
    wanted = math.log(tolerance)
    if errors[0] <= wanted:
        return f"{cost[0]:.3f} or less"
    for n in range(1, len(curve)):
        if errors[n] <= wanted:
            part = (errors[n - 1] - wanted) / (errors[n - 1] - errors[n])
            return f"{cost[n - 1] + part * (cost[n] - cost[n - 1]):.3f}"
    return f"above {cost[-1]:.3f}"


def tables(results: dict[str, Any]) -> dict[str, str]:
    """The sections of the page by name."""
    parts = {
        "needed": _needed(results, TOLERANCES, P95),
        "needed by mean": _needed(results, MEANS, MEAN),
        "curves": _curves(results),
        "fits": _fits(results),
    }
    return {name: "\n".join(lines) + "\n" for name, lines in parts.items()}


def _needed(results: dict[str, Any], tolerances: Mapping[str, tuple[float, ...]], place: int) -> list[str]:
    wanted = [(name, tolerance) for name in results for tolerance in tolerances[name]]
    heads = " | ".join(f"({name}) {tolerance:g}" for name, tolerance in wanted)
    lines = [f"| selector | correction | {heads} |", "|---" * (len(wanted) + 2) + "|"]
    for title in COLORS:
        for correction in (NONE, CORRECTED):
            curves = {name: result["curves"][title][correction] for name, result in results.items()}
            cells = [needed(curves[name], place, tolerance) for name, tolerance in wanted]
            lines.append(f"| {title} | {correction} | {' | '.join(cells)} |")
    return lines


def _curves(results: dict[str, Any]) -> list[str]:
    lines = []
    for name, result in results.items():
        lines += [f"\n({name}) {WORKLOADS[name]().title}:\n"]
        lines += ["| selector | row-layers: mean, 95th percentile |", "|---|---|"]
        for title, by_correction in result["curves"].items():
            for correction, curve in by_correction.items():
                points = "; ".join(f"{cost:.3f}: {mean:.4f}, {p95:.4f}" for cost, mean, p95 in curve)
                lines.append(f"| {title}, {correction} | {points} |")
    return lines


def _fits(results: dict[str, Any]) -> list[str]:
    lines = []
    for name, result in results.items():
        lines += [f"\n({name}):\n", "| | bound 1 | bound 2 |", "|---|---|---|"]
        for how, values in result["fits"].items():
            lines.append(f"| {how} | {' | '.join(f'{value:.4f}' for value in values)} |")
    return lines


def picture(results: dict[str, Any]) -> str:
    """Error against row-layers, a panel for each workload, as SVG for light and dark pages."""
    drawn, wide = [], 300
    for number, (name, result) in enumerate(results.items()):
        drawn += _panel(name, result["curves"], 55 + (wide + 35) * number, wide)
    left = 55
    for number, title in enumerate(COLORS):
        drawn.append(f'<path class="c{number}" d="M{left} 22h18"/>')
        drawn.append(f'<text x="{left + 23}" y="26">{title}</text>')
        left += 36 + 6 * len(title)
    told = "across: share of row-layers run; up: 95th percentile of 1 - cosine; "
    told += f"with the correction, dotted: {DEFAULT} without"
    drawn.append(f'<text x="55" y="326">{told}</text>')
    width = max(left, 70 + (wide + 35) * len(results))
    size = f'viewBox="0 0 {width} 335" role="img" aria-label="Error against rows run"'
    light, dark = (
        "".join(f".c{number}{{stroke:{pair[at]}}}" for number, pair in enumerate(COLORS.values()))
        for at in (0, 1)
    )
    style = f"{STYLE}{light}@media(prefers-color-scheme:dark){{{DARK}{dark}}}"
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{style}</style>{"".join(drawn)}</svg>\n'


def _panel(name: str, curves: dict[str, dict[str, Curve]], left: int, wide: int) -> list[str]:
    high, low, top = 230, 2e-4, 0.05

    def y(value: float) -> float:
        return 290 - high * math.log(min(max(value, low), top) / low) / math.log(top / low)

    def path(curve: Curve) -> str:
        return "M" + "L".join(f"{left + wide * cost:.1f} {y(p95):.1f}" for cost, _, p95 in curve)

    drawn = [f'<text x="{left}" y="50" style="font-weight:600">({name}) ']
    drawn.append(f"{escape(WORKLOADS[name]().title)}</text>")
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        drawn.append(f'<text x="{left + wide * share}" y="306" text-anchor="middle">{share:g}</text>')
    for value in sorted({0.001, 0.01, *TOLERANCES[name]}):
        dashes = ' stroke-dasharray="5 4"' if value in TOLERANCES[name] else ""
        across = f'x1="{left}" x2="{left + wide}" y1="{y(value):.1f}" y2="{y(value):.1f}"'
        drawn.append(f"<line {across}{dashes}/>")
        drawn.append(f'<text x="{left - 5}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
    for number, title in enumerate(COLORS):
        heavy = ' style="stroke-width:2.6"' if title == DEFAULT else ""
        drawn.append(f'<path class="c{number}" d="{path(curves[title][CORRECTED])}"{heavy}/>')
        if title == DEFAULT:
            plain = path(curves[title][NONE])
            drawn.append(f'<path class="c{number}" d="{plain}" stroke-dasharray="3 4"/>')
    return drawn
