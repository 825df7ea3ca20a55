"""Explanations for the terminal. Marks around tokens say the same as their colours."""

from __future__ import annotations

import math

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from onnx_memo.levels.literal import RADIUS
from onnx_memo.served.explanation import (
    CHANGED,
    KEPT,
    MOVED,
    Decided,
    Difference,
    Explanation,
    Row,
    RowsRun,
    Worst,
)
from onnx_memo.store.manifest import Promised
from onnx_memo.tables import printable
from onnx_memo.words import counted

STYLES = {CHANGED: "bold red", MOVED: "yellow", KEPT: ""}
MARKS = {
    CHANGED: (
        "\N{LEFT-POINTING DOUBLE ANGLE QUOTATION MARK}",
        "\N{RIGHT-POINTING DOUBLE ANGLE QUOTATION MARK}",
    )
}
MARKS |= {
    MOVED: ("\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}", "\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK}")
}
MOST_TOKENS, MOST_SITES = 512, 100  # that are shown


def explanation_tables(one: Explanation) -> list[RenderableType]:
    """One request: how it is served, what the lookups found, its tokens, the stages, the answer."""
    heading = f"{printable(one.place)}: {one.outcome}"
    parts: list[RenderableType] = [Text(heading, style="bold"), one.reason]
    if one.lookups:
        parts.append(_lookups(one))
    if len(one.lookups) > MOST_SITES:
        parts.append(f"and {len(one.lookups) - MOST_SITES} more")
    if one.entry_text is not None:
        parts.append(f"the nearest stored input: {printable(one.entry_text)}")
    if one.rows is not None:
        parts += [Text(), _tokens(one.rows), _legend(one.rows), *_stages(one.rows)]
    parts += [_difference(difference, one.promised) for difference in one.differences]
    if one.decided is not None:
        parts += _decision(one.decided)
    if one.promised is not None:
        parts.append(str(one.promised))
    return [*parts, *(f"note: {printable(note)}" for note in one.notes)]


def worst_tables(worst: Worst, bundle: str, data: str) -> list[RenderableType]:
    """The requests of a file that are served worst, and how many there are of each outcome."""
    counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(worst.outcomes.items()))
    parts: list[RenderableType] = [f"{counted(worst.requests, 'request')}: {counts}"]
    if worst.reused:
        table = _table("Reused, the largest error first", "request", "outcome", "error", "rows run", "entry")
        for one in worst.reused:
            share = f"{one.rows.share:.1%}" if one.rows else ""
            table.add_row(one.place, one.outcome, f"{one.error:.2e}", share, _entry(one))
        parts.append(table)
    if worst.rounded:
        table = _table("", "request", "error")
        for one in worst.rounded:
            table.add_row(one.place, f"{one.error:.2e}")
        parts += [f"{worst.rounded[0].reason}; the largest error first", table]
    if worst.missed:
        table = _table("Nothing reused: the original ran", "request", "why")
        for one in worst.missed:
            table.add_row(one.place, one.reason)
        parts.append(table)
    left = worst.requests - len(worst.reused) - len(worst.rounded) - len(worst.missed)
    if left:
        parts.append(f"{left} more are not listed")
    parts += [f"note: {printable(note)}" for note in worst.notes]
    parts.append(f"more of one: onnx-memo explain {printable(bundle)} --data {printable(data)} --line N")
    return parts


def row_note(row: Row, rows: RowsRun) -> str:
    """Why one row runs, or not, in words."""
    if row.why == CHANGED:
        return f"{row.token}: changed by {row.change:.3g}"
    side = "above" if row.layer is not None else "within"
    since = f", runs from layer {row.layer}" if row.layer else ""
    return (
        f"{row.token}: predicted to change by {row.predicted:.3g}, {side} the bound {rows.bound:.3g}{since}"
    )


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        right = column in ("error", "rows run", "entry", "distance", "taken up to")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    return table


def _lookups(one: Explanation) -> Table:
    table = _table("What is nearest", "site", "level", "entry", "distance", "taken up to", "reused")
    for lookup in one.lookups[:MOST_SITES]:
        near = "" if lookup.distance is None else f"{lookup.distance:.3g}"
        entry = "none" if lookup.nearest is None else str(lookup.nearest)
        most = "any" if lookup.threshold >= RADIUS else f"{lookup.threshold:.3g}"
        reused = "yes" if lookup.reused else "no"
        table.add_row(printable(lookup.site), lookup.level, entry, near, most, reused)
    return table


def _entry(one: Explanation) -> str:
    nearest = one.lookups[0].nearest
    return "" if nearest is None else str(nearest)


def _tokens(rows: RowsRun) -> Text:
    text = Text()
    for row in rows.rows[:MOST_TOKENS]:
        before, after = MARKS.get(row.why, ("", ""))
        since = str(row.layer) if row.why == MOVED and row.layer else ""
        text.append(f"{before}{printable(row.token)}{after}{since}", style=STYLES[row.why])
        text.append(" ")
    if len(rows.rows) > MOST_TOKENS:
        text.append(f"and {len(rows.rows) - MOST_TOKENS} more")
    return text


def _legend(rows: RowsRun) -> Text:
    """What the marks mean, of those that occur."""
    runs = "runs" if rows.happened else "would run"
    meanings = {
        CHANGED: f"its state changed by more than {rows.epsilon:.3g}, so it {runs}",
        MOVED: f"predicted to move by more than {rows.bound:.3g}, so it {runs}, from the layer after it on",
    }
    text = Text()
    for why, meaning in meanings.items():
        if any(row.why == why for row in rows.rows):
            before, after = MARKS[why]
            text.append(f"{before}{why}{after}", style=STYLES[why])
            text.append(f" {meaning}; ")
    return text.append("all others are as stored" if text else "all are as stored")


def _stages(rows: RowsRun) -> list[RenderableType]:
    count = len(rows.rows)
    if not rows.happened:
        would = f"before the first layer {rows.ran} of {count} rows would run"
        return [f"{would}; what would join later is not known, since the original ran instead"]
    lines: list[RenderableType] = [
        f"layers {stage.first} to {stage.last}: {stage.ran} of {count} rows ran" for stage in rows.stages
    ]
    left = [row.predicted for row in rows.rows if row.why == KEPT]
    if rows.ran and left and math.isfinite(rows.bound):
        lines.append(f"the most that is predicted of a row that did not run: {max(left):.3g}")
    return [*lines, f"{rows.share:.1%} of the rows ran, the mean over the layers"]


def _difference(difference: Difference, promised: Promised | None) -> str:
    measure = "1 - cosine" if difference.measure == "cosine" else "relative"
    if not difference.error and not difference.worst_token:
        return f"output {printable(difference.output)}: as the original's"
    text = f"output {printable(difference.output)}: off by {difference.error:.2e} ({measure})"
    about = None if promised is None or promised.reference is not None else promised  # the original's answers
    if about is not None and about.tolerance is not None and about.metric == difference.measure:
        within = "within" if difference.error <= about.tolerance else "beyond"
        text += f", {within} the tolerance {about.tolerance:g}"
    if difference.worst_token is not None:
        text += f", its worst row by {difference.worst_token:.2e}"
    return text


def _decision(decided: Decided) -> list[str]:
    stays = {True: " is the same", False: " is another", None: ""}[decided.stays]
    lines = (
        f"the decision ({decided.decision}, by {decided.by}){stays}",
        f"  with the original: {decided.before}",
        f"  with the bundle: {decided.after}",
    )
    return list(map(printable, lines))
