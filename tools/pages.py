"""Tables and pictures of the benchmarks: Markdown between markers, and SVG for light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

STYLE = """text{font:13px sans-serif;fill:#1f2937}path{fill:none;stroke-width:2}line{stroke:#6b7280}
.s0{fill:#d97706}.s1{fill:#2563eb}.s2{fill:#059669}
.c0{stroke:#d97706}.c1{stroke:#2563eb}.c2{stroke:#059669}.c3{stroke:#9333ea}
@media(prefers-color-scheme:dark){text{fill:#e5e7eb}line{stroke:#9ca3af}.s0{fill:#f59e0b}.s1{fill:#60a5fa}
.s2{fill:#34d399}.c0{stroke:#f59e0b}.c1{stroke:#60a5fa}.c2{stroke:#34d399}.c3{stroke:#c084fc}}"""

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
    told: str,
    form: str,
    group: int = 90,
) -> str:
    """Up to three series of bars by label, and a dashed line at `limit`; None: no bar."""
    labels = list(next(iter(series.values())))
    values = [value for one in series.values() for value in one.values() if value is not None]
    top = max(limit, *values) * 1.15
    wide = (group - 18) // len(series)
    width = max(group * len(labels) + 40, 480)
    at = 250 - 180 * limit / top
    drawn = [f'<text x="20" y="22" style="font-weight:600">{escape(title)}</text>']
    for number, (name, one) in enumerate(series.items()):
        x = 20 + 110 * number
        drawn.append(f'<rect class="s{number}" x="{x}" y="34" width="12" height="12"/>')
        drawn.append(f'<text x="{x + 18}" y="45">{escape(name)}</text>')
        for place, label in enumerate(labels):
            value = one[label]
            if value is None:
                continue
            x, height = 30 + group * place + wide * number, 180 * value / top
            bar = f'x="{x}" y="{250 - height:.1f}" width="{wide - 4}" height="{height:.1f}"'
            drawn.append(f'<rect class="s{number}" {bar}/>')
            drawn.append(f'<text x="{x + wide / 2 - 2}" y="{246 - height:.1f}" text-anchor="middle" ')
            drawn.append(f'style="font-size:11px">{value:{form}}</text>')
    for place, label in enumerate(labels):
        middle = 30 + group * place + (group - 22) / 2
        drawn.append(f'<text x="{middle}" y="270" text-anchor="middle">{escape(label)}</text>')
    drawn.append(f'<line x1="20" x2="{width - 10}" y1="{at:.1f}" y2="{at:.1f}" stroke-dasharray="5 4"/>')
    drawn.append(f'<text x="{30 + 110 * len(series)}" y="45">- - - {escape(told)}</text>')
    return _svg(width, 285, title, drawn)


def curves(title: str, panels: dict[str, dict[str, Curve]], limit: float, across: str, up: str) -> str:
    """Curves of (x from 0 to 1.1, y on a logarithmic scale) by name, a panel for each key of `panels`."""
    wide, high, low, top, most = 300, 220, 1e-5, 0.3, 1.1
    drawn = [f'<text x="20" y="22" style="font-weight:600">{escape(title)}</text>']
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))

    def y(value: float) -> float:
        return 295 - high * math.log(min(max(value, low), top) / low) / math.log(top / low)

    for number, (heading, panel) in enumerate(panels.items()):
        left = 60 + (wide + 60) * number
        drawn.append(f'<text x="{left}" y="64">{escape(heading)}</text>')
        for x in (0.0, 0.25, 0.5, 0.75, 1.0):
            drawn.append(f'<text x="{left + wide * x / most:.1f}" y="312" text-anchor="middle">{x:g}</text>')
        for value in sorted({1e-5, 1e-4, 1e-3, 1e-2, 1e-1, limit}):
            dashes = ' stroke-dasharray="5 4"' if value == limit else ' stroke-opacity=".3"'
            ends = f'y1="{y(value):.1f}" y2="{y(value):.1f}"'
            drawn.append(f'<line x1="{left}" x2="{left + wide}" {ends}{dashes}/>')
            drawn.append(f'<text x="{left - 5}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
        for name, points in panel.items():
            at = "L".join(f"{left + wide * min(x, most) / most:.1f} {y(value):.1f}" for x, value in points)
            drawn.append(f'<path class="c{names.index(name)}" d="M{at}"/>')
    for number, name in enumerate(names):
        x = 20 + 110 * number
        drawn.append(
            f'<path class="c{number}" d="M{x} 40h18"/><text x="{x + 24}" y="45">{escape(name)}</text>'
        )
    drawn.append(f'<text x="20" y="334">across: {escape(across)}; up: {escape(up)}</text>')
    return _svg(max((wide + 60) * len(panels) + 40, 520), 345, title, drawn)


def _svg(width: int, height: int, title: str, drawn: Sequence[str]) -> str:
    size = f'viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{STYLE}</style>{"".join(drawn)}</svg>\n'
