"""What notebooks show: results as tables and sentences in HTML, and how far long work has come.

`tables` and `commands` have the same for terminals.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from onnx_memo.progress import Step, silent
from onnx_memo.report.numbers import escaped

# Colours are the notebook's own, light or dark; grey lines are seen on both.
_CELL = "padding:0.2em 0.8em;border-bottom:1px solid rgba(128,128,128,0.35);text-align:"
_TABLE = "border-collapse:collapse;margin:0.6em 0;font-variant-numeric:tabular-nums"


@dataclass(frozen=True)
class Table:
    """A table of plain text, which may come from anywhere: whoever shows it makes it safe to show.

    Attributes:
        title: what it is about.
        headings: one for each column.
        rows: as many cells each as there are headings.
        words: how many columns, from the left, hold words; the others hold figures.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.headings) for row in self.rows), "as many cells as headings"


Part = Table | str


def as_html(parts: Sequence[Part]) -> str:
    """Tables and sentences as HTML, for `_repr_html_`: all text is escaped, and no colours are set."""
    return "\n".join(_table(part) if isinstance(part, Table) else f"<p>{escaped(part)}</p>" for part in parts)


def _table(table: Table) -> str:
    head = _row("th", table.headings, table.words)
    body = "".join(_row("td", row, table.words) for row in table.rows)
    title = f'<caption style="text-align:left">{escaped(table.title)}</caption>'
    return f'<table style="{_TABLE}">{title}<thead>{head}</thead><tbody>{body}</tbody></table>'


def _row(tag: str, cells: Sequence[str], words: int) -> str:
    sides = ["left" if column < words else "right" for column in range(len(cells))]
    made = [
        f'<{tag} style="{_CELL}{side}">{escaped(cell)}</{tag}>'
        for side, cell in zip(sides, cells, strict=True)
    ]
    return f"<tr>{''.join(made)}</tr>"


EVERY = 0.5  # seconds from one picture of a bar to the next
GONE = {"text/plain": ""}

_bars: list[Any] = []  # those that stand in the notebook


def notebook_bar(step: str, parts: int) -> Callable[[], None]:
    """A `Progress`: a bar with the time left in a notebook, elsewhere nothing.

    It is gone when its step has ended or the next one begins: some end before all of their parts are done.
    Python's functions have it by default. It needs no widgets.
    """
    module = sys.modules.get("IPython")  # a notebook has loaded it
    if module is None or not hasattr(module.get_ipython(), "kernel"):
        return silent(step, parts)
    from IPython.display import display

    while _bars:
        _bars.pop().update(GONE, raw=True)
    now = Step(step, parts)
    handle = display(_bar(now), raw=True, display_id=True)
    _bars.append(handle)
    shown = time.monotonic()

    def advance() -> None:
        nonlocal shown
        now.done += 1
        if now.done >= now.parts:
            handle.update(GONE, raw=True)
        elif time.monotonic() - shown >= EVERY:
            shown = time.monotonic()
            handle.update(_bar(now), raw=True)

    return advance


def _bar(step: Step) -> dict[str, str]:
    """A step in the forms that notebooks choose from."""
    bar = f'<progress value="{step.done}" max="{step.parts}"></progress> {escaped(str(step))}'
    return {"text/html": bar, "text/plain": str(step)}
