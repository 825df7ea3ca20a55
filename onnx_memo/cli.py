"""The command line: parses, calls, prints."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import onnx_memo
from onnx_memo import interrupts, tables
from onnx_memo.compare import bench as run_bench
from onnx_memo.errors import MemoError
from onnx_memo.inspection import inspect as run_inspect
from onnx_memo.levels.base import NothingPays
from onnx_memo.levels.registry import LEVELS
from onnx_memo.pipeline import optimize as run_optimize
from onnx_memo.proof.decisions import DECISIONS, SLACK
from onnx_memo.proof.metrics import DEFAULT_METRIC, METRICS
from onnx_memo.proof.scores import SCORE_METRICS
from onnx_memo.store.budget import parse_bytes
from onnx_memo.store.bundle import is_bundle, read_bundle
from onnx_memo.store.publish import clean as run_clean

app = typer.Typer(
    name="onnx-memo",
    help=onnx_memo.__doc__,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
out = Console(markup=False)  # names and reasons hold brackets
err = Console(stderr=True)

METRIC_NAMES = ", ".join([*METRICS, *SCORE_METRICS])
LEVEL_NAMES = ", ".join(name for level in LEVELS for name in level.names)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
Tokenizer = Annotated[Path | None, typer.Option(help="The model's tokenizer.json, for text.")]
AllowUnknown = Annotated[
    bool, typer.Option("--allow-unknown", help="Take text of which over a tenth is unknown to the tokenizer.")
]
Mask = Annotated[
    str | None,
    typer.Option(help="The input that tells real tokens (1) from padding (0), where that is not seen."),
]
Data = Annotated[Path, typer.Option(help="Inputs: .txt, .jsonl (field 'text') or .npz.")]


@app.callback(invoke_without_command=True)
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Options of every command."""
    if version:
        out.print(onnx_memo.__version__)
        raise typer.Exit


@app.command()
def inspect(
    model: Annotated[Path, typer.Argument(help="An ONNX model, or a bundle.")],
    mask: Mask = None,
    as_json: Json = False,
) -> None:
    """Show the attention in a model, or check a bundle and show what it holds."""
    if is_bundle(model):
        manifest = read_bundle(model)
        show(as_json, manifest.as_json(), lambda: tables.bundle_tables(model, manifest))
        return
    inspection = run_inspect(model, mask=mask)
    show(as_json, inspection.as_json(), lambda: tables.inspection_tables(inspection))


@app.command()
def optimize(
    model: Annotated[Path, typer.Argument(help="An ONNX model, or a Hugging Face model directory.")],
    data: Data,
    out_dir: Annotated[Path, typer.Option("-o", "--out", help="The bundle's directory.")],
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
    decision: Annotated[
        str | None,
        typer.Option(help=f"What --keep keeps: {', '.join(DECISIONS)}; by default what the outputs suggest."),
    ] = None,
    slack: Annotated[
        float | None,
        typer.Option(
            help=f"Up to which multiple of the nearest's distance another is as near; {SLACK} by default."
        ),
    ] = None,
    confidence: Annotated[
        float | None, typer.Option(help="How certain that promise is; 0.95 by default.")
    ] = None,
    output: Annotated[
        list[str] | None, typer.Option(help="Judge this output only (may be given several times).")
    ] = None,
    level: Annotated[str, typer.Option(help=f"What a hit reuses: auto, {LEVEL_NAMES}.")] = "auto",
    sites: Annotated[
        str | None, typer.Option(help="Which attention blocks may be guarded, as in 0,2-4.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Instead of a tolerance: the key distance up to which a stored input is reused."),
    ] = None,
    max_bytes: Annotated[
        str | None, typer.Option(help="The most disk that the memo data may take, as in 500M or 2G.")
    ] = None,
    mask: Mask = None,
    allow_unknown: AllowUnknown = False,
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
            data,
            out_dir,
            tokenizer=tokenizer,
            tolerance=tolerance,
            metric=metric,
            keep=keep,
            decision=decision,
            slack=slack,
            within=within,
            confidence=confidence,
            outputs=output or (),
            level=level,
            sites=sites,
            threshold=threshold,
            max_bytes=None if max_bytes is None else parse_bytes(max_bytes),
            mask=mask,
            allow_unknown=allow_unknown,
            force=force,
            show_inputs=show_inputs,
            progress=progress,
        )
    show(as_json, result.manifest.as_json(), lambda: tables.bundle_tables(out_dir, result.manifest))


@app.command()
def bench(
    model: Annotated[Path, typer.Argument(help="The original model.")],
    bundle: Annotated[Path, typer.Argument(help="The bundle made from it.")],
    data: Data,
    tokenizer: Tokenizer = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each session.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="How many inputs a request has.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="How many times each request is timed.")] = 5,
    allow_unknown: AllowUnknown = False,
    stock: Annotated[bool, typer.Option("--stock", help="Run without the native library.")] = False,
    as_json: Json = False,
) -> None:
    """Compare a bundle with its original: latency, hits, errors."""
    with show_progress() as progress:
        report = run_bench(
            model,
            bundle,
            data,
            tokenizer=tokenizer,
            threads=threads,
            batch=batch,
            rounds=rounds,
            native=not stock,
            allow_unknown=allow_unknown,
            progress=progress,
        )
    show(as_json, report, lambda: tables.bench_tables(report))


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


def show(as_json: bool, content: dict[str, Any], renderables: Callable[[], list[Any]]) -> None:
    """Print a result: one JSON object, or tables."""
    if as_json:
        print(json.dumps(content))
        return
    for renderable in renderables():
        out.print(renderable)


@contextmanager
def show_progress() -> Iterator[Callable[[str, int], Callable[[], None]]]:
    """Progress bars on standard error, so that standard output stays clean."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bars:

        def start(step: str, parts: int) -> Callable[[], None]:
            task = bars.add_task(step, total=parts)

            def advance() -> None:
                interrupts.check()
                bars.advance(task)

            return advance

        yield start


def main() -> NoReturn:
    """Errors that the user can mend become one line and exit code 2."""
    interrupts.catch()
    # --debug is understood anywhere in the line.
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        try:
            code = app(arguments, standalone_mode=False)
        finally:
            interrupts.too_late()
        sys.exit(code)
    except (Exception, interrupts.Interrupted) as error:
        complaint = _complaint(error)
        if complaint is None or len(arguments) < len(sys.argv[1:]):
            raise
        if "--json" in arguments:
            print(json.dumps(complaint.as_json(error)))
        print(f"onnx-memo: {complaint.line}", file=sys.stderr)
        sys.exit(complaint.code)


@dataclass(frozen=True)
class _Complaint:
    """What is said of an error: a line, and the exit code."""

    message: str
    code: int = 2

    @property
    def line(self) -> str:
        return " ".join(self.message.split())

    def as_json(self, error: BaseException) -> dict[str, Any]:
        if isinstance(error, NothingPays):
            return {"pays": False, "reason": str(error), **error.as_json(), "exit_code": self.code}
        return {"error": self.line, "exit_code": self.code}


def _complaint(error: BaseException) -> _Complaint | None:
    """What is said of an error that a user can mend; None for a defect of ours."""
    if isinstance(error, NothingPays):
        return _Complaint(f"no bundle was written, since none would pay: {error}", code=3)
    if isinstance(error, MemoError):
        return _Complaint(str(error))
    if isinstance(error, interrupts.Interrupted):
        return _Complaint("interrupted: no bundle was written", code=128 + error.number)
    if isinstance(error, OSError):
        return _Complaint(f"'{error.filename or 'a file'}': {error.strerror or error} (--debug shows where)")
    if hasattr(error, "format_message"):  # of the parser, whose own way takes several lines
        return _Complaint(f"{error.format_message() or 'name a command'} (--help shows what there is)")
    return None


from onnx_memo import cli_explain  # noqa: E402, F401  its command belongs to `app`, which it imports
