"""The commands that measure bundles against their original: bench, compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnx_memo import tables
from onnx_memo.commands.progress import show_progress
from onnx_memo.commands.shared import (
    AllowUnknown,
    Columns,
    DataPath,
    ImageProcessor,
    Json,
    Labels,
    MaxLength,
    Reference,
    Rounds,
    Stock,
    Threads,
    Tokenizer,
    app,
    show,
)
from onnx_memo.compare import bench as run_bench
from onnx_memo.data.given import Data
from onnx_memo.side_by_side import compare_bundles


@app.command()
def bench(
    model: Annotated[Path, typer.Argument(help="The original model.")],
    bundle: Annotated[Path, typer.Argument(help="The bundle made from it.")],
    data: DataPath,
    column: Columns = None,
    image_processor: ImageProcessor = None,
    max_length: MaxLength = None,
    tokenizer: Tokenizer = None,
    threads: Threads = 1,
    batch: Annotated[int, typer.Option(min=1, help="How many inputs a request has.")] = 1,
    rounds: Rounds = 5,
    labels: Labels = None,
    reference: Reference = None,
    allow_unknown: AllowUnknown = False,
    stock: Stock = False,
    as_json: Json = False,
) -> None:
    """Compare a bundle with its original: latency, hits, errors."""
    with show_progress() as progress:
        comparison = run_bench(
            model,
            bundle,
            Data(data, column or (), image_processor, max_length),
            tokenizer=tokenizer,
            threads=threads,
            batch=batch,
            rounds=rounds,
            native=not stock,
            allow_unknown=allow_unknown,
            labels=labels,
            reference=reference,
            progress=progress,
        )
    show(as_json, comparison.to_dict(), lambda: tables.bench_tables(comparison))


@app.command()
def compare(
    model: Annotated[Path, typer.Argument(help="The original model.")],
    bundles: Annotated[list[Path], typer.Argument(help="Bundles made from it.")],
    data: DataPath,
    column: Columns = None,
    image_processor: ImageProcessor = None,
    max_length: MaxLength = None,
    tokenizer: Tokenizer = None,
    threads: Threads = 1,
    rounds: Rounds = 5,
    reference: Reference = None,
    allow_unknown: AllowUnknown = False,
    stock: Stock = False,
    as_json: Json = False,
) -> None:
    """Put bundles of one model side by side: time, hits, errors, decisions kept, bytes."""
    with show_progress() as progress:
        found = compare_bundles(
            model,
            bundles,
            Data(data, column or (), image_processor, max_length),
            tokenizer=tokenizer,
            threads=threads,
            rounds=rounds,
            native=not stock,
            allow_unknown=allow_unknown,
            reference=reference,
            progress=progress,
        )
    show(as_json, found.as_json(), lambda: tables.side_by_side_tables(found))
