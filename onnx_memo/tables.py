"""Results as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import RenderableType
from rich.table import Table

from onnx_memo import notebook
from onnx_memo.comparison import Comparison
from onnx_memo.inspection import Inspection
from onnx_memo.notebook import Part
from onnx_memo.result import bundle_parts, share
from onnx_memo.store.manifest import Manifest

MOST_LETTERS = 500  # of a text that are shown


def inspection_tables(inspection: Inspection) -> list[RenderableType]:
    """The sites of a model, its encoder, and below every softmax or attention operator that is no site."""
    parts: list[RenderableType] = []
    table = Table(title=f"Attention in {inspection.model}", title_justify="left")
    for column in ("", "site"):
        table.add_column(column)
    for column in ("heads", "width", "nodes", "multiply-adds"):
        table.add_column(column, justify="right")
    table.add_column("levels")
    for number, site in enumerate(inspection.sites):
        levels = ", ".join(site.levels) or "none"
        if site.why_no_probs:
            levels += f" (not probs: {site.why_no_probs})"
        table.add_row(
            str(number),
            site.name,
            str(site.heads),
            str(site.width),
            str(site.nodes),
            share(site.share),
            levels,
        )
    parts.append(table if inspection.sites else f"No attention found in {inspection.model}.")
    if inspection.sites:
        if inspection.sites[0].why_no_level:
            parts.append(f"levels output and probs: not possible: {inspection.sites[0].why_no_level}")
        parts += [_encoder(inspection), _mask(inspection)]
        parts += [f"note: {note}" for note in inspection.notes]
    if inspection.refusals:
        refused = Table(title="Not taken", title_justify="left")
        refused.add_column("operator", overflow="fold")
        refused.add_column("why", overflow="fold")
        for name, reason in inspection.refusals.items():
            refused.add_row(name, reason)
        parts.append(refused)
    return parts


def _encoder(inspection: Inspection) -> str:
    """The span that the level `rows` takes, or why there is none."""
    encoder = inspection.encoder
    if encoder is None:
        return f"level rows: not possible: {inspection.why_no_rows}"
    return (
        f"level rows: possible, from '{encoder.input}' to '{encoder.output}': {encoder.layers} layers of "
        f"width {encoder.width}, {share(encoder.share)} of the multiply-adds"
    )


def _mask(inspection: Inspection) -> str:
    """Which input says what is padding."""
    masks = sorted({site.mask for site in inspection.sites if site.mask is not None})
    if not masks:
        return "padding mask: none, every token counts as real"
    return "padding mask: " + ", ".join(f"'{printable(mask)}'" for mask in masks)


def printable(text: str) -> str:
    """Text of a file from anywhere for a terminal: no control characters, and not too much of it."""
    shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    return shown if len(shown) <= MOST_LETTERS else f"{shown[:MOST_LETTERS]}..."


def bundle_tables(path: Path, manifest: Manifest) -> list[RenderableType]:
    """What a bundle holds."""
    return shown(bundle_parts(path, manifest))


def bench_tables(comparison: Comparison) -> list[RenderableType]:
    """Latency and hits, then the outputs' errors."""
    return shown(comparison.parts())


def shown(parts: Sequence[Part]) -> list[RenderableType]:
    """Tables and sentences for a terminal."""
    return [printable(part) if isinstance(part, str) else _rich(part) for part in parts]


def _rich(table: notebook.Table) -> Table:
    made = Table(title=printable(table.title), title_justify="left")
    for number, heading in enumerate(table.headings):
        made.add_column(printable(heading), justify="left" if number < table.words else "right")
    for row in table.rows:
        made.add_row(*map(printable, row))
    return made
