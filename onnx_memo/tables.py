"""Results as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from onnx_memo.inspection import Inspection
from onnx_memo.levels.registry import level_of
from onnx_memo.proof.goal import WARNING
from onnx_memo.side_by_side import Compared, SideBySide
from onnx_memo.store.bundle import REPORT
from onnx_memo.store.manifest import Manifest
from onnx_memo.timing import Measured

MEASURES = {
    "relative": "relative L2 error",
    "spread": "in standard deviations",
    "order": "pairs that change order",
}
MOST_LINES, MOST_LETTERS = 200, 500  # of a bundle that are shown


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
            _share(site.share),
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
        f"width {encoder.width}, {_share(encoder.share)} of the multiply-adds"
    )


def _share(share: float | None) -> str:
    return "an unknown share" if share is None else f"{share:.1%}"


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
    size = sum(int(file["bytes"]) for file in manifest.files.values())
    table = Table(
        title=f"{path}: {manifest.entries} inputs of {printable(manifest.source)} stored, "
        f"{size / 2**20:,.1f} MiB",
        title_justify="left",
    )
    for column in ("site", "level"):
        table.add_column(column)
    level = level_of(manifest.sites)
    for column in (level.setting, "heads", "width", "multiply-adds guarded"):
        table.add_column(column, justify="right")
    for site in manifest.sites[:MOST_LINES]:
        table.add_row(
            printable(site.name),
            site.level,
            f"{site.threshold:.3g}",
            str(site.heads),
            str(site.width),
            _share(site.share),
        )
    notes = [printable(note) for note in manifest.notes[:MOST_LINES]]
    warnings = [note for note in notes if note.startswith(WARNING)]
    parts: list[RenderableType] = [*warnings, table, *level.describe(manifest.sites)]
    parts += [f"note: {note}" for note in notes if note not in warnings]
    for what, count in (("sites", len(manifest.sites)), ("notes", len(manifest.notes))):
        if count > MOST_LINES:
            parts.append(f"and {count - MOST_LINES} more {what}")
    parts.append("keep it as private as your inputs: they can be recovered from it (SECURITY.md)")
    if manifest.checked is not None:
        parts.append(_checked(manifest.checked))
    if manifest.predicted is not None:
        parts.append(
            f"to expect on such traffic: {manifest.predicted['ratio']:.3f} of the original's time, as "
            f"measured on the held-out part, {manifest.predicted['hit_rate']:.1%} of the requests reused; "
            f"see {path / REPORT}"
        )
    return parts


def _checked(checked: dict[str, Any]) -> str:
    """What `onnx_memo.verify` found right."""
    libraries = checked.get("libraries")
    named = " and ".join(map(printable, libraries)) if isinstance(libraries, list) else "?"
    text = f"checked on {checked.get('requests')} requests ({named}): with nothing reused, identical"
    error = checked.get("stored_error")
    return f"{text}; stored inputs off by at most {error:.1g}" if isinstance(error, float) else text


def bench_tables(report: dict[str, Any]) -> list[RenderableType]:
    """Latency and hits, then the outputs' errors."""
    title = (
        f"{report['requests']} requests of {report['batch']}, {report['threads']} thread(s), "
        f"{report['library']} operators"
    )
    latency = Table(title=title, title_justify="left")
    figures = {
        "original ms": f"{report['baseline_ms']:.2f}",
        "bundle ms": f"{report['memo_ms']:.2f}",
        "ratio": f"{report['ratio']:.3f} \N{PLUS-MINUS SIGN} {report['noise']:.3f}",
        "hits": f"{report['hit_rate']:.1%}",
    }
    if report["rows_run"] is not None:
        figures["rows run"] = f"{report['rows_run']:.1%}"
    for column in figures:
        latency.add_column(column, justify="right")
    latency.add_row(*figures.values())
    sites = "  ".join(f"{name} {rate:.1%}" for name, rate in report["sites"].items())
    errors = Table(title="Distance of the outputs from the original's", title_justify="left")
    errors.add_column("output")
    errors.add_column("measure")
    for column in ("mean", "95th percentile", "worst"):
        errors.add_column(column, justify="right")
    for name, measures in report["outputs"].items():
        for measure, figures in measures.items():
            form = ".6f" if measure == "cosine" else ".2e"
            row = [format(figures[key], form) for key in ("mean", "p95", "worst")]
            errors.add_row(name, MEASURES.get(measure, measure), *row)
    parts: list[RenderableType] = [latency]
    if len(report["sites"]) > 1:
        parts.append(f"hits by site: {sites}")
    if report["predicted"] is not None:
        parts.append(_against_prediction(report))
    return [*parts, *(f"note: {printable(note)}" for note in report["notes"]), errors]


def _against_prediction(report: dict[str, Any]) -> str:
    """The ratio beside the one to expect, where both are of the same way to run."""
    predicted, library = report["predicted"], report["predicted_with"]
    expected = f"to expect was a ratio of {predicted['ratio']:.3f}"
    if (report["batch"], report["threads"], report["library"]) != (1, 1, library):
        return (
            f"{expected}, with {printable(str(library))} operators, one request at a time on one thread: "
            "not comparable with this run"
        )
    return f"{expected}: off by {report['ratio'] - predicted['ratio']:+.3f}"


def side_by_side_tables(found: SideBySide) -> list[RenderableType]:
    """A column for the original and each bundle; below, who is fastest."""
    title = f"{found.requests} requests of 1, {found.threads} thread(s), {found.library} operators"
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
    first = [*map(str, times), "1", "" if found.fastest else "fastest"]
    first += [""] * (len(labels) - len(first))
    for label, *cells in zip(labels, first, *columns, strict=True):
        if any(cells):
            table.add_row(label, *cells)
    notes = [f"note: {printable(note)}" for note in found.notes]
    return [table, _fastest(found, names), *notes]


def _names(paths: Sequence[str]) -> list[str]:
    """The bundles' folders; the whole paths where two have the same."""
    folders = [Path(path).resolve().name for path in paths]
    return [printable(name) for name in (folders if len(set(folders)) == len(folders) else paths)]


def _figures(one: Compared, found: SideBySide) -> list[str]:
    errors = one.errors
    return [
        *map(str, (one.times.p50, one.times.p95, one.times.p99)),
        _against(one.ratio),
        "fastest" if one.path == found.fastest else _against(one.against_fastest),
        f"{one.hit_rate:.1%}",
        "" if one.rows_run is None else f"{one.rows_run:.1%}",
        *([""] * 3 if errors is None else (f"{e:.2e}" for e in (errors.mean, errors.p95, errors.worst))),
        *(f"{kept.share:.1%}" for kept in one.kept),
        f"{one.memo_bytes / 2**20:,.1f} MiB",
    ]


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
