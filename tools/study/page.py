"""Tables and picture of `docs/rows.md` from what the study found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from onnx_memo.report.scales import Scale
from onnx_memo.report.svg import Drawing
from tools.pages import as_file, draw_grid
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
STYLE = """text{font:12px sans-serif;fill:#1f2937}.title{font-weight:600}.line{fill:none;stroke-width:1.6}
.line.rule,.line.limit{stroke:#9ca3af;stroke-width:1}.limit{stroke-dasharray:5 4}
.line.heavy{stroke-width:2.6}.dotted{stroke-dasharray:3 4}"""
DARK = "text{fill:#e5e7eb}.line.rule,.line.limit{stroke:#4b5563}"

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
    """Error against row-layers, a panel for each workload, as the text of an SVG file."""
    wide, gap, first = 300, 35, 55
    steps = [36 + 6 * len(title) for title in COLORS]
    drawing = Drawing(max(first + sum(steps), 70 + (wide + gap) * len(results)), 335)
    for number, (name, result) in enumerate(results.items()):
        left = first + (wide + gap) * number
        _draw_panel(drawing, name, result["curves"], Scale(0, 1, left, left + wide))
    for number, title in enumerate(COLORS):
        left = first + sum(steps[:number])
        drawing.line([(left, 22), (left + 18, 22)], f"c{number}")
        drawing.text(left + 23, 26, title)
    caption = "across: share of row-layers run; up: 95th percentile of 1 - cosine; "
    caption += f"with the correction, dotted: {DEFAULT} without"
    drawing.text(first, 326, caption)
    light, dark = (
        "".join(f".c{number}{{stroke:{pair[at]}}}" for number, pair in enumerate(COLORS.values()))
        for at in (0, 1)
    )
    style = f"{STYLE}{light}@media(prefers-color-scheme:dark){{{DARK}{dark}}}"
    return as_file(drawing, "Error against rows run", style)


def _draw_panel(drawing: Drawing, name: str, curves: dict[str, dict[str, Curve]], x: Scale) -> None:
    y = Scale(2e-4, 0.05, 290, 60, log=True)

    def draw(curve: Curve, kind: str) -> None:
        drawing.line([(x.at(cost), y.at(p95)) for cost, _, p95 in curve], kind)

    drawing.text(x.start, 50, f"({name}) {WORKLOADS[name]().title}", "title")
    draw_grid(drawing, x, y, (0.001, 0.01), TOLERANCES[name])
    for number, title in enumerate(COLORS):
        default = title == DEFAULT
        draw(curves[title][CORRECTED], f"c{number} heavy" if default else f"c{number}")
        if default:
            draw(curves[title][NONE], f"c{number} dotted")
