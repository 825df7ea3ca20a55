"""What all commands share: the application, common options, how results are shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

import onnx_memo
from onnx_memo.errors import MemoError
from onnx_memo.proof.choice import DECISIONS
from onnx_memo.proof.decisions import SLACK

app = typer.Typer(
    name="onnx-memo",
    help=onnx_memo.__doc__,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
out = Console(markup=False)  # names and reasons hold brackets

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
Tokenizer = Annotated[
    Path | None, typer.Option(help="The tokenizer.json for text, if it is not the model's own.")
]
AllowUnknown = Annotated[
    bool, typer.Option("--allow-unknown", help="Take text of which over a tenth is unknown to the tokenizer.")
]
Mask = Annotated[
    str | None,
    typer.Option(help="The input that tells real tokens (1) from padding (0), where that is not seen."),
]
File = Annotated[
    str | None,
    typer.Option("--file", help="Of a model directory: the ONNX file to take, as in onnx/model.onnx."),
]
Task = Annotated[
    str | None, typer.Option("--task", help="Of a model directory: what optimum shall export it for.")
]
Threads = Annotated[int, typer.Option(min=1, help="Threads of each session.")]
Rounds = Annotated[int, typer.Option(min=1, help="How many times each request is timed.")]
Stock = Annotated[bool, typer.Option("--stock", help="Run without the native library.")]
Labels = Annotated[
    str | None,
    typer.Option(
        help="The column of the inputs that holds true labels, class names or numbers: then the accuracy of "
        "both is told."
    ),
]
KINDS = (
    ".txt, .log, .csv, .tsv, .jsonl, .parquet, .arrow, .fasta or .npz, perhaps with .gz or .zst behind it, a "
    "folder of images, or - for standard input"
)
DataPath = Annotated[Path, typer.Option("--data", help=f"Inputs: {KINDS}.")]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        help="The column of the inputs that holds the texts; given twice, the two texts of a pair. By "
        "default 'text', and 'text_pair' where it is there.",
    ),
]
ImageProcessor = Annotated[
    Path | None,
    typer.Option(
        help="The preprocessor_config.json that says how images become pixels, if it is not the model's own."
    ),
]
MaxLength = Annotated[
    int | None,
    typer.Option(min=1, help="The most tokens of a text; by default what tokenizer and model allow."),
]

Decision = Annotated[
    str | None,
    typer.Option(
        help=f"What people do with answers: {', '.join(DECISIONS)}; by default what the outputs suggest."
    ),
]
Slack = Annotated[
    float | None,
    typer.Option(
        help=f"Up to which multiple of the nearest's distance another is as near; {SLACK} by default."
    ),
]
Output = Annotated[
    list[str] | None, typer.Option(help="Judge this output only (may be given several times).")
]

Reference = Annotated[
    Path | None,
    typer.Option(help="The ONNX file of a model whose answers count in place of the model's own."),
]
ExactMisses = Annotated[
    bool,
    typer.Option(
        "--exact-misses", help="What reuses nothing runs the original, bit for bit, never in 8 bits."
    ),
]


@app.callback(invoke_without_command=True)
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Options of every command."""
    if version:
        out.print(onnx_memo.__version__)
        raise typer.Exit


def show(as_json: bool, content: dict[str, Any], renderables: Callable[[], list[Any]]) -> None:
    """Print a result: one JSON object, or tables."""
    if as_json:
        print(json.dumps(content))
        return
    for renderable in renderables():
        out.print(renderable)


def check_place(option: str, file: Path | None, what: str, *suffixes: str) -> None:
    """Refuse a place where a picture or page could not be written, before the work is done.

    Raises:
        MemoError: `file` ends in none of the suffixes, or its folder is not there.
    """
    if file is None:
        return
    if file.suffix.lower() not in suffixes:
        raise MemoError(f"{option} writes {what}: name a file that ends in {suffixes[0]}, not '{file}'")
    if not file.parent.is_dir():
        raise MemoError(f"{option} '{file}': there is no folder '{file.parent}'; make it, or name another")
