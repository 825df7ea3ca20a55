"""Tables and pictures of the benchmarks: Markdown between markers, and SVG for light and dark pages."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from onnx_memo.report.scales import Scale
from onnx_memo.report.svg import Drawing, element

STYLE = """text{font:13px sans-serif;fill:#1f2937}.title{font-weight:600}text.value{font-size:11px}
.line{fill:none;stroke-width:2}.line.rule,.line.limit{stroke:#6b7280;stroke-width:1}.rule{stroke-opacity:.3}
.limit{stroke-dasharray:5 4}.s0{fill:#d97706}.s1{fill:#2563eb}.s2{fill:#059669}
.c0{stroke:#d97706}.c1{stroke:#2563eb}.c2{stroke:#059669}.c3{stroke:#9333ea}
@media(prefers-color-scheme:dark){text{fill:#e5e7eb}.line.rule,.line.limit{stroke:#9ca3af}
.s0{fill:#f59e0b}.s1{fill:#60a5fa}.s2{fill:#34d399}
.c0{stroke:#f59e0b}.c1{stroke:#60a5fa}.c2{stroke:#34d399}.c3{stroke:#c084fc}}"""
LEGEND = 110  # room for a name

Column = tuple[str, str, str]  # heading, key of the figure, its format
Curve = Sequence[tuple[float, float]]


def table(columns: Sequence[Column], rows: Sequence[dict[str, Any]]) -> str:
    """A Markdown table; what a row does not have, or has as None, stays empty."""
    lines = [f"| {' | '.join(heading for heading, _, _ in columns)} |", "|---" * len(columns) + "|"]
    for row in rows:
        cells = ["" if row.get(key) is None else format(row[key], form) for _, key, form in columns]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write_section(path: Path, name: str, text: str) -> None:
    """Put `text` between the markers `<!-- name -->` and `<!-- /name -->`, at the end if there are none."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    old = path.read_text(encoding="utf-8") if path.is_file() else "# Benchmarks\n"
    if begin not in old:
        old = f"{old.rstrip()}\n\n## {name.capitalize()}\n\n{begin}\n{end}\n"
    before, _, rest = old.partition(begin)
    path.write_text(f"{before}{begin}\n{text}{end}{rest.partition(end)[2]}", encoding="utf-8")


def bars(
    title: str,
    series: dict[str, dict[str, float | None]],
    limit: float,
    limit_name: str,
    form: str,
    group: int = 90,
) -> str:
    """Up to three series of bars by label, and a dashed line at `limit`, as the text of an SVG file.

    Args:
        title: above the bars.
        series: values by name and label; all have the same labels. None: no bar.
        limit: where the line stands.
        limit_name: what it is.
        form: format of the values above their bars.
        group: room for the bars of a label.
    """
    labels = list(next(iter(series.values())))
    values = [value for one in series.values() for value in one.values() if value is not None]
    y = Scale(0, max(limit, *values) * 1.15, 250, 70)
    drawing = Drawing(max(group * len(labels) + 40, 480), 285)
    drawing.text(20, 22, title, "title")
    wide = (group - 18) // len(series)
    for number, (name, one) in enumerate(series.items()):
        kind, left = f"s{number}", 20 + LEGEND * number
        drawing.rect((left, 34), (12, 12), kind)
        drawing.text(left + 18, 45, name)
        for place, label in enumerate(labels):
            value = one[label]
            if value is not None:
                x, top = 30 + group * place + wide * number, y.at(value)
                drawing.rect((x, top), (wide - 4, y.start - top), kind)
                drawing.text(x + wide / 2 - 2, top - 4, f"{value:{form}}", "value", "middle")
    for place, label in enumerate(labels):
        drawing.text(30 + group * place + (group - 22) / 2, 270, label, anchor="middle")
    drawing.line([(20, y.at(limit)), (drawing.width - 10, y.at(limit))], "limit")
    drawing.text(30 + LEGEND * len(series), 45, f"- - - {limit_name}")
    return as_file(drawing, title, STYLE)


def curves(title: str, panels: dict[str, dict[str, Curve]], limit: float, across: str, up: str) -> str:
    """Curves by name, a panel for each key of `panels`, as the text of an SVG file.

    Args:
        title: above the panels.
        panels: the curves by name, as (x from 0 to 1.1, y on a logarithmic scale).
        limit: a value of y that a dashed line marks.
        across: what x is.
        up: what y is.
    """
    wide, gap = 300, 60
    drawing = Drawing(max((wide + gap) * len(panels) + 40, 520), 345)
    drawing.text(20, 22, title, "title")
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    for number, (heading, panel) in enumerate(panels.items()):
        left = gap + (wide + gap) * number
        x, y = Scale(0, 1.1, left, left + wide), Scale(1e-5, 0.3, 295, 75, log=True)
        drawing.text(left, 64, heading)
        draw_grid(drawing, x, y, (1e-5, 1e-4, 1e-3, 1e-2, 1e-1), [limit])
        for name, points in panel.items():
            drawing.line([(x.at(one), y.at(other)) for one, other in points], f"c{names.index(name)}")
    for number, name in enumerate(names):
        left = 20 + LEGEND * number
        drawing.line([(left, 40), (left + 18, 40)], f"c{number}")
        drawing.text(left + 24, 45, name)
    drawing.text(20, 334, f"across: {across}; up: {up}")
    return as_file(drawing, title, STYLE)


def draw_grid(
    drawing: Drawing, x: Scale, y: Scale, marks: Collection[float], limits: Collection[float]
) -> None:
    """Quarters along the bottom of a panel; lines across it at marks (`rule`) and limits (`limit`) of `y`."""
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        drawing.text(x.at(share), y.start + 17, f"{share:g}", anchor="middle")
    for value in sorted({*marks, *limits}):
        drawing.line([(x.start, y.at(value)), (x.end, y.at(value))], "limit" if value in limits else "rule")
        drawing.text(x.start - 5, y.at(value) + 4, f"{value:g}", anchor="end")


def as_file(drawing: Drawing, title: str, style: str) -> str:
    """The text of an SVG file: the drawing with a title for those who do not see it, and a style sheet."""
    return drawing.svg(element("style", style), role="img", aria_label=title) + "\n"
