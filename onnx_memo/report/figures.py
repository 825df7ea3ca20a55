"""Pictures, tables and lists as HTML."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_memo.report.charts import Picture
from onnx_memo.report.numbers import escaped
from onnx_memo.report.svg import Drawing

Columns = tuple[tuple[str, str], ...]
Row = tuple[str, tuple[str, ...]]


def section(name: str, title: str, *parts: str) -> str:
    """A part of the page under a heading that names it."""
    return (
        f'<section aria-labelledby="{name}"><h2 id="{name}">{escaped(title)}</h2>{"".join(parts)}</section>'
    )


def pictures(drawn: Sequence[Picture]) -> str:
    """Pictures in columns; one of several panels takes a row of its own."""
    return f'<div class="pictures">{"".join(map(_figure, drawn))}</div>'


def _figure(picture: Picture) -> str:
    keys = "".join(f"<li>{_swatch(kind)}{escaped(label)}</li>" for kind, label in picture.keys)
    keys = f'<ul class="keys">{keys}</ul>' if keys else ""
    several = len(picture.panels) > 1
    kind = "one" if not several else "several three" if len(picture.panels) > 2 else "several"
    panels = "".join(
        f'<div class="panel"><h4>{escaped(panel.heading, 80)}</h4>{panel.svg}</div>' if several else panel.svg
        for panel in picture.panels
    )
    return (
        f'<figure class="{kind}"><h3>{escaped(picture.title)}</h3>{keys}'
        f'<div class="panels">{panels}</div><figcaption>{escaped(picture.note, 1000)}</figcaption></figure>'
    )


def _swatch(kind: str) -> str:
    """The mark of a legend entry, drawn like the marks of the chart."""
    shape, _, style = kind.partition(" ")
    drawing = Drawing(12, 12)
    if shape == "box":
        drawing.rect((0, 1), (12, 10), f"bar area {style}", round_by=1.5)
    elif shape == "dot":
        drawing.dots([(6, 6)], style, radius=4)
    elif shape == "ring":
        drawing.ring((6, 6), style, radius=4)
    else:
        drawing.line([(-1, 6), (13, 6)], style)
    return drawing.svg(class_="key", aria_hidden="true")


def table(caption: str, columns: Columns, rows: Sequence[Row], kind: str = "wide") -> str:
    """A table whose first column names the rows; a `wide` one turns into a list on a narrow screen.

    Args:
        caption: what the table shows, as HTML.
        columns: (heading, CSS class: name, number, word, reason or empty).
        rows: (CSS class, cells as HTML).
        kind: the table's CSS class.
    """
    head = "".join(f'<th scope="col" class="{style}">{name}</th>' for name, style in columns)
    body = ""
    for row_style, (first, *cells) in rows:
        row = f'<th scope="row" class="{columns[0][1]}" data-label="{columns[0][0]}">{first}</th>'
        row += "".join(
            f'<td class="{style}" data-label="{name}">{cell}</td>'
            for (name, style), cell in zip(columns[1:], cells, strict=True)
        )
        body += f'<tr class="{row_style}">{row}</tr>'
    return (
        f'<table class="{kind}"><caption>{caption}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


def facts(listed: Sequence[tuple[str, object]]) -> str:
    """Names and what they stand for."""
    rows = "".join(f"<dt>{escaped(name)}</dt><dd>{escaped(value, 200)}</dd>" for name, value in listed)
    return f'<dl class="facts">{rows}</dl>'
