"""An explanation as a picture: tokens coloured by what ran, a block of lines for each stage."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len

from onnx_memo.report.svg import Drawing, element
from onnx_memo.served.explanation import CHANGED, KEPT, Explanation, RowsRun
from onnx_memo.served.show import row_note

WIDTH, MARGIN, LETTER, LINE, GAP = 960, 16, 7.4, 24, 5
MOST_LETTERS = 40  # of a token that are drawn
STYLE = """
text { font: 12px ui-monospace, "DejaVu Sans Mono", monospace; fill: #1c2127; }
.head { font-weight: bold; }
.page { fill: #fcfcfa; } .kept { fill: #e2e4e3; } .moved { fill: #f3d08a; } .changed { fill: #f2a68a; }
@media (prefers-color-scheme: dark) {
  text { fill: #e5e8ea; }
  .page { fill: #14171a; } .kept { fill: #2b3136; } .moved { fill: #7a5a10; } .changed { fill: #8f3a15; }
}
"""
Box = tuple[str, str, str]  # what it says, its class, its note


def picture(one: Explanation) -> str:
    """An SVG file."""
    blocks = _blocks(one)
    lines = [(head, _wrapped(boxes)) for head, boxes in blocks]
    height = 2 * MARGIN + LINE * sum(2 + len(wrapped) for _, wrapped in lines)
    drawing = Drawing(WIDTH, height)
    drawing.rect((0, 0), (WIDTH, height), "page")
    y = float(MARGIN)
    for head, wrapped in lines:
        drawing.text(MARGIN, y + 14, head, "head")
        y += LINE
        for boxes in wrapped:
            x = float(MARGIN)
            for text, kind, note in boxes:
                drawing.rect((x, y), (_width(text), LINE - GAP), kind, note, round_by=3)
                drawing.text(x + GAP, y + 14, text)
                x += _width(text) + GAP
            y += LINE
        y += LINE
    return drawing.svg(element("style", STYLE), width=WIDTH, height=height)


def _blocks(one: Explanation) -> list[tuple[str, list[Box]]]:
    legend: list[Box] = [(why, why, "") for why in ("changed", "moved", "kept")]
    blocks = [(f"{one.place}: {one.outcome}", legend), (one.reason, [])]
    if one.rows is None:
        sites = [
            (lookup.site, KEPT if lookup.reused else CHANGED, f"distance {lookup.distance}")
            for lookup in one.lookups
        ]
        return [blocks[1], (f"{one.place}: {one.outcome}; grey is reused, red runs", sites)]
    for stage in one.rows.stages:
        runs = "ran" if one.rows.happened else "would run"
        head = f"layers {stage.first} to {stage.last}: {stage.ran} of {len(one.rows.rows)} rows {runs}"
        blocks.append((head, _boxes(one.rows, stage.first)))
    return blocks


def _boxes(rows: RowsRun, layer: int) -> list[Box]:
    """The tokens, as they run at a layer."""
    return [
        (
            row.token[:MOST_LETTERS],
            row.why if row.layer is not None and row.layer <= layer else KEPT,
            row_note(row, rows),
        )
        for row in rows.rows
    ]


def _wrapped(boxes: Sequence[Box]) -> list[list[Box]]:
    """In lines that are no wider than the picture."""
    lines: list[list[Box]] = []
    room = 0.0
    for box in boxes:
        if not lines or room < _width(box[0]):
            lines.append([])
            room = WIDTH - 2 * MARGIN
        lines[-1].append(box)
        room -= _width(box[0]) + GAP
    return lines


def _width(text: str) -> float:
    return LETTER * max(cell_len(text), 1) + 2 * GAP
