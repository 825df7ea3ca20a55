"""Advice as a page of its own: what to run, a picture of time against decisions kept, the whole ladder."""

from __future__ import annotations

from onnx_memo.advice.run import Advice
from onnx_memo.notebook import Table
from onnx_memo.report.figures import section, table
from onnx_memo.report.numbers import escaped
from onnx_memo.report.style import STYLE
from onnx_memo.report.svg import Drawing, element

WIDTH, ROW, LABEL = 440, 22, 102
BAR = 220  # the longest


def advice_page(advice: Advice) -> str:
    """The whole page as HTML."""
    title = escaped(f"{advice.model}: onnx-memo advice", 200)
    command = f"<p><code>{escaped(advice.command, 400)}</code></p>" if advice.command else ""
    notes = "".join(f"<li>{escaped(note, 600)}</li>" for note in advice.notes)
    said = "".join(f"<p>{escaped(one, 400)}</p>" for one in advice.legend())
    body = section("ladder", "Time, and what stays", said, _picture(advice), _ladder(advice))
    body += section("notes", "Notes", f"<ul>{notes}</ul>" if notes else "<p>None.</p>")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<header>"
        f'<p class="eyebrow">{escaped(advice.data, 120)} · onnx-memo advice</p>'
        f'<h1>{_headline(advice)}</h1><p class="lead">{escaped(advice.why, 600)}.</p>{command}</header>\n'
        f"<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def ladder_drawing(advice: Advice) -> Drawing:
    """A bar for each promise, as long as its time; beside it the decisions that stay."""
    drawing = Drawing(WIDTH, 20 + ROW * (len(advice.rungs) + 1))
    unit = BAR / max(1.0, *(rung.ratio.value for rung in advice.rungs)) if advice.rungs else BAR
    drawing.text(LABEL, 11, "time: the original's is 1", "tick")
    drawing.text(WIDTH, 11, "kept, %", "tick", "end")
    drawing.text(LABEL - 8, 29, "original", "tick", "end")
    drawing.rect((LABEL, 20), (unit, 12), "bar area before")
    for number, rung in enumerate(advice.rungs, start=1):
        y = 20 + ROW * number
        long = unit * rung.ratio.value
        drawing.text(LABEL - 8, y + 9.5, rung.name.removeprefix("--"), "tick", "end")
        drawing.rect((LABEL, y), (long, 12), "bar area after", f"{rung.name}: {rung.ratio} of the time")
        drawing.text(LABEL + long + 8, y + 9.5, f"{rung.ratio.value:.2f}", "tick")
        kept = " / ".join(f"{100 * one.share:.0f}" for one in rung.kept)
        drawing.text(WIDTH, y + 9.5, kept or "not known", "tick", "end")
    return drawing


def _headline(advice: Advice) -> str:
    return "Reuse pays on this traffic" if advice.command else "Reuse does not pay on this traffic"


def _picture(advice: Advice) -> str:
    said = "Time of each promise as a share of the original's, and the decisions that stay"
    drawn = ladder_drawing(advice).svg(element("title", said), class_="chart", role="img", aria_label=said)
    return f'<figure class="one">{drawn}</figure>'


def _ladder(advice: Advice) -> str:
    shown = next(part for part in advice.parts() if isinstance(part, Table))
    styles = ["name", *["number"] * (len(shown.headings) - 1)]
    columns = tuple(zip(map(escaped, shown.headings), styles, strict=True))
    return table(escaped(shown.title), columns, [("", tuple(map(escaped, row))) for row in shown.rows])
