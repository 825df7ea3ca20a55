"""Results as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import RenderableType
from rich.table import Table

from onnx_memo import notebook
from onnx_memo.advice.run import Advice
from onnx_memo.comparison import Comparison, Figures, compared_with
from onnx_memo.inspection import EncoderReport, Inspection
from onnx_memo.notebook import Part
from onnx_memo.result import bundle_parts, share
from onnx_memo.side_by_side import Compared, SideBySide
from onnx_memo.store.manifest import Manifest
from onnx_memo.timing import Measured
from onnx_memo.words import counted

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
        parts += [_encoder(inspection), *map(_span, inspection.spans), _mask(inspection)]
    elif inspection.repeats:
        parts.append(_encoder(inspection))
    if inspection.sites or inspection.repeats:
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
        possible = "for literal repeats alone" if inspection.repeats else "not possible"
        if inspection.spans:
            possible += f", of {len(inspection.spans)} spans, each by itself"
        return f"level rows: {possible}: {inspection.why_no_rows}"
    return f"level rows: possible, {_span(encoder)}"


def _span(span: EncoderReport) -> str:
    """From where to where, and how much that is."""
    return (
        f"from '{span.input}' to '{span.output}': {counted(span.layers, 'layer')} of width {span.width}, "
        f"{share(span.share)} of the multiply-adds"
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


def advice_tables(advice: Advice) -> list[RenderableType]:
    """The ladder, what it says, notes, and what to run."""
    ladder, *said = advice.parts()
    return shown([ladder, *(f"note: {note}" for note in advice.notes), *said])


def side_by_side_tables(found: SideBySide) -> list[RenderableType]:
    """A column for the original and each bundle; below, who is fastest."""
    requests, threads = counted(found.requests, "request"), counted(found.threads, "thread")
    title = f"{requests} of 1, {threads}, {found.library} operators"
    table = Table(title=title, title_justify="left")
    names = _names([one.path for one in found.bundles])
    table.add_column("", no_wrap=True)
    for name in ("original", *names):
        table.add_column(name, justify="right", overflow="fold")
    columns = [_figures(one, found) for one in found.bundles]
    times = (found.original.p50, found.original.p95, found.original.p99)
    labels = ["p50, ms", "p95, ms", "p99, ms", "of the original's time", "of the fastest's time", "hits"]
    labels += ["rows run", *(f"{found.metric} error, {part}" for part in ("mean", "95 %", "worst"))]
    labels += [kept.what for kept in found.bundles[0].kept] + ["memo data"]
    first = [*map(str, times), "1", "" if found.fastest else "fastest", "", ""]
    first += _errors(found.original_errors) + [f"{kept.share:.1%}" for kept in found.original_kept]
    first += [""] * (len(labels) - len(first))
    for label, *cells in zip(labels, first, *columns, strict=True):
        if any(cells):
            table.add_row(label, *cells)
    notes = [f"note: {printable(note)}" for note in found.notes]
    against = [] if found.reference is None else [printable(compared_with(found.reference))]
    return [table, _fastest(found, names), *against, *notes]


def _names(paths: Sequence[str]) -> list[str]:
    """The bundles' folders; the whole paths where two have the same."""
    folders = [Path(path).resolve().name for path in paths]
    return [printable(name) for name in (folders if len(set(folders)) == len(folders) else paths)]


def _figures(one: Compared, found: SideBySide) -> list[str]:
    return [
        *map(str, (one.times.p50, one.times.p95, one.times.p99)),
        _against(one.ratio),
        "fastest" if one.path == found.fastest else _against(one.against_fastest),
        f"{one.hit_rate:.1%}",
        "" if one.rows_run is None else f"{one.rows_run:.1%}",
        *_errors(one.errors),
        *(f"{kept.share:.1%}" for kept in one.kept),
        f"{one.memo_bytes / 2**20:,.1f} MiB",
    ]


def _errors(errors: Figures | None) -> list[str]:
    """Mean, 95th percentile and worst, if they are known."""
    return [""] * 3 if errors is None else [f"{e:.2e}" for e in (errors.mean, errors.p95, errors.worst)]


def _against(ratio: Measured) -> str:
    """A ratio of times; where the difference is within its spread, that there is none."""
    return "equal" if ratio.equals(1) else str(ratio)


def _fastest(found: SideBySide, names: Sequence[str]) -> str:
    """Who is fastest, and who is as fast within the spread."""
    paths = [one.path for one in found.bundles]
    first = "the original" if found.fastest is None else names[paths.index(found.fastest)]
    if found.rounds == 1:
        return f"fastest: {first}; one round shows no spread: take --rounds 3 or more to see what is equal"
    equal = [names[paths.index(path)] for path in found.equal if path != found.fastest]
    return f"fastest: {first}; as fast, within the spread: {', '.join(equal) or 'none'}"


def shown(parts: Sequence[Part]) -> list[RenderableType]:
    """Tables and sentences for a terminal."""
    return [printable(part) if isinstance(part, str) else _rich(part) for part in parts]


def _rich(table: notebook.Table) -> Table:
    # Without rules between columns, eight of them fit into 80 characters.
    made = Table(title=printable(table.title), title_justify="left", box=box.SIMPLE_HEAD)
    made.pad_edge, made.collapse_padding = False, True
    for number, heading in enumerate(table.headings):
        made.add_column(printable(heading), justify="left" if number < table.words else "right")
    for row in table.rows:
        made.add_row(*map(printable, row))
    return made
