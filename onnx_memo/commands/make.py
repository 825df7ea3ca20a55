"""The commands that look at a model, make bundles of it, and clear up: inspect, advise, optimize, clean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnx_memo import tables
from onnx_memo.advice.page import advice_page
from onnx_memo.advice.run import advise as run_advise
from onnx_memo.commands.progress import show_progress
from onnx_memo.commands.shared import (
    AllowUnknown,
    Columns,
    DataPath,
    Decision,
    ExactMisses,
    File,
    ImageProcessor,
    Json,
    Labels,
    Mask,
    MaxLength,
    Output,
    Reference,
    Slack,
    Task,
    Tokenizer,
    app,
    check_place,
    show,
)
from onnx_memo.data.given import Data
from onnx_memo.errors import MemoError
from onnx_memo.files import write_file
from onnx_memo.inspection import inspect as run_inspect
from onnx_memo.levels.registry import LEVELS
from onnx_memo.pipeline import optimize as run_optimize
from onnx_memo.proof.metrics import DEFAULT_METRIC, METRICS
from onnx_memo.proof.scores import SCORE_METRICS
from onnx_memo.store.budget import parse_bytes
from onnx_memo.store.bundle import LAYOUTS, is_bundle, read_bundle
from onnx_memo.store.publish import clean as run_clean

METRIC_NAMES = ", ".join([*METRICS, *SCORE_METRICS])
LEVEL_NAMES = ", ".join(name for level in LEVELS for name in level.names)
LAYOUT_NAMES = " or ".join(LAYOUTS)


@app.command()
def inspect(
    model: Annotated[
        Path, typer.Argument(help="An ONNX model, a Hugging Face model directory, or a bundle.")
    ],
    file: File = None,
    task: Task = None,
    mask: Mask = None,
    as_json: Json = False,
) -> None:
    """Show the attention in a model, or check a bundle and show what it holds."""
    if is_bundle(model):
        manifest = read_bundle(model)
        show(as_json, manifest.as_json(), lambda: tables.bundle_tables(model, manifest))
        return
    inspection = run_inspect(model, file=file, task=task, mask=mask)
    show(as_json, inspection.as_json(), lambda: tables.inspection_tables(inspection))


@app.command()
def advise(
    model: Annotated[Path, typer.Argument(help="An ONNX model, or a Hugging Face model directory.")],
    data: DataPath,
    column: Columns = None,
    image_processor: ImageProcessor = None,
    max_length: MaxLength = None,
    file: File = None,
    task: Task = None,
    tokenizer: Tokenizer = None,
    decision: Decision = None,
    slack: Slack = None,
    output: Output = None,
    reference: Reference = None,
    exact_misses: ExactMisses = False,
    mask: Mask = None,
    allow_unknown: AllowUnknown = False,
    page: Annotated[Path | None, typer.Option(help="Also write it as a page, to this .html file.")] = None,
    as_json: Json = False,
) -> None:
    """Say what you would save at which promise, and recommend a command. Nothing is built."""
    check_place("--page", page, "HTML", ".html", ".htm")
    with show_progress() as progress:
        advice = run_advise(
            model,
            Data(data, column or (), image_processor, max_length),
            file=file,
            task=task,
            tokenizer=tokenizer,
            decision=decision,
            slack=slack,
            outputs=output or (),
            reference=reference,
            exact_misses=exact_misses,
            mask=mask,
            allow_unknown=allow_unknown,
            progress=progress,
        )
    if page is not None:
        write_file(page, advice_page(advice).encode(), replace=True)
    show(as_json, advice.to_dict(), lambda: tables.advice_tables(advice))


@app.command()
def optimize(
    model: Annotated[Path, typer.Argument(help="An ONNX model, or a Hugging Face model directory.")],
    data: DataPath,
    out_dir: Annotated[Path, typer.Option("-o", "--out", help="The bundle's directory.")],
    column: Columns = None,
    image_processor: ImageProcessor = None,
    max_length: MaxLength = None,
    file: File = None,
    task: Task = None,
    tokenizer: Tokenizer = None,
    tolerance: Annotated[
        float | None,
        typer.Option(help="How wrong an answer may be. Without it, only literal repeats are reused."),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help=f"How an error is measured: {METRIC_NAMES}; {DEFAULT_METRIC} by default."),
    ] = None,
    within: Annotated[
        float | None,
        typer.Option(help="Share of requests that stay within the tolerance; 0.95 by default."),
    ] = None,
    keep: Annotated[
        float | None,
        typer.Option(help="Instead of a tolerance: share of requests that must lead to the same decision."),
    ] = None,
    decision: Decision = None,
    slack: Slack = None,
    confidence: Annotated[
        float | None, typer.Option(help="How certain that promise is; 0.95 by default.")
    ] = None,
    output: Output = None,
    labels: Labels = None,
    reference: Reference = None,
    level: Annotated[str, typer.Option(help=f"What a hit reuses: auto, {LEVEL_NAMES}.")] = "auto",
    sites: Annotated[
        str | None, typer.Option(help="Which attention blocks may be guarded, as in 0,2-4.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Instead of a tolerance: the key distance up to which a stored input is reused."),
    ] = None,
    exact_misses: ExactMisses = False,
    max_bytes: Annotated[
        str | None, typer.Option(help="The most disk that the memo data may take, as in 500M or 2G.")
    ] = None,
    compact: Annotated[
        bool,
        typer.Option("--compact", help="Leave out the original's weights: all that runs, runs in 8 bits."),
    ] = False,
    mask: Mask = None,
    allow_unknown: AllowUnknown = False,
    layout: Annotated[
        str,
        typer.Option(help=f"Where the bundle's model stands: {LAYOUT_NAMES} (in a folder of that name)."),
    ] = "flat",
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that is already there.")] = False,
    show_inputs: Annotated[
        bool, typer.Option("--show-inputs", help="Show requests' texts in the report, not only their places.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a bundle: your model, and what it computed for your inputs, to be reused."""
    with show_progress() as progress:
        result = run_optimize(
            model,
            Data(data, column or (), image_processor, max_length),
            out_dir,
            file=file,
            task=task,
            tokenizer=tokenizer,
            tolerance=tolerance,
            metric=metric,
            keep=keep,
            decision=decision,
            slack=slack,
            within=within,
            confidence=confidence,
            outputs=output or (),
            labels=labels,
            reference=reference,
            level=level,
            sites=sites,
            threshold=threshold,
            exact_misses=exact_misses,
            max_bytes=None if max_bytes is None else parse_bytes(max_bytes),
            compact=compact,
            mask=mask,
            allow_unknown=allow_unknown,
            layout=layout,
            force=force,
            show_inputs=show_inputs,
            progress=progress,
        )
    show(as_json, result.to_dict(), lambda: tables.bundle_tables(out_dir, result.manifest))


@app.command()
def clean(
    folder: Annotated[Path, typer.Argument(help="The folder that bundles were written to.")],
    as_json: Json = False,
) -> None:
    """Remove what killed runs left, and put back bundles that they were replacing."""
    if not folder.is_dir():
        raise MemoError(f"'{folder}' is not a folder: name the one that bundles were written to")
    gone = [str(path) for path in run_clean(folder)]
    show(as_json, {"removed": gone}, lambda: [f"removed: {path}" for path in gone] or ["nothing was left"])
