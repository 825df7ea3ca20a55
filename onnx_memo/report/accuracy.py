"""The accuracy by true labels, as a table of the page."""

from __future__ import annotations

from onnx_memo.proof.accuracy import Accuracy, Estimate
from onnx_memo.report.figures import Columns, table
from onnx_memo.report.numbers import MINUS, SPACE, count, escaped


def accuracy(found: Accuracy | None, before: str = "original") -> str:
    """Before and after, and the difference, each with its interval; nothing where there are no labels.

    `before` is what people call the model whose answers count.
    """
    if found is None:
        return ""
    columns: Columns = (("model", "name"), ("share right", "number"), ("95 % interval", "number"))
    rows = [
        ("", (before, *_cells(found.before))),
        ("", ("bundle", *_cells(found.after))),
        ("", ("difference, in points", *_cells(found.difference, signed=True))),
    ]
    caption = f"Accuracy by the true labels in {escaped(found.column, 80)}"
    moved = (
        f"Of {count(found.requests, 'held-out request')} the {before} alone is right on {found.lost:,}, the "
        f"bundle alone on {found.gained:,}: {found.verdict}."
    )
    note = (
        "The accuracy is told, not promised. The intervals are Wilson's, and of the difference, which is of "
        "the same requests, Newcombe's."
    )
    return f'{table(caption, columns, rows)}<p>{moved}</p><p class="soft">{note}</p>'


def _cells(estimate: Estimate, signed: bool = False) -> tuple[str, str]:
    form, unit = ("+.1f", "") if signed else (".1f", f"{SPACE}%")
    value, low, high = (
        f"{format(100 * one, form)}{unit}".replace("-", MINUS)
        for one in (estimate.value, estimate.low, estimate.high)
    )
    return value, f"{low} to {high}"
