"""`advise` on 1,000 look-alikes of each kind: how long it takes, its table and its picture, for the docs.

Run as `python -m tools.advice_pages [--only logs,questions,variants]`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from models.bring import CACHE, RECIPES
from onnx_memo.advice.page import ladder_drawing
from onnx_memo.advice.run import Advice, advise
from onnx_memo.commands.progress import show_progress
from onnx_memo.notebook import Table
from tools.lookalikes.inputs import INPUTS, write
from tools.measure import machine
from tools.pages import as_file, write_section

RESULTS = Path(".cache") / "advice_pages.json"
DOCS = Path("docs")
COUNT = 1000
# By name: title, model, inputs.
ASKED = {
    "logs": ("log lines of an SSH server, MiniLM", "minilm", "sshd"),
    "questions": ("questions to a bank, MiniLM", "minilm", "questions"),
    "variants": (
        "variants of an antibody, AntiBERTy with its language-model head",
        "antiberty-mlm",
        "variants",
    ),
}
STYLE = """text{font:13px sans-serif;fill:#1f2937}.area.before{fill:#818a9333;stroke:#818a93}
.area.after{fill:#1f62b81f;stroke:#1f62b8}@media(prefers-color-scheme:dark){text{fill:#e5e7eb}
.area.before{fill:#7f898333;stroke:#7f8993}.area.after{fill:#6fa8f52b;stroke:#6fa8f5}}"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask for advice, write pictures and section; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.advice_pages", description=__doc__)
    parser.add_argument("--only", default=",".join(ASKED), help="default: %(default)s")
    chosen = parser.parse_args(arguments)
    for name in chosen.only.split(","):
        title, model, inputs = ASKED[name]
        folder = RECIPES[model](CACHE)
        with TemporaryDirectory() as scratch, show_progress() as progress:
            data = Path(scratch) / f"{inputs}.txt"
            write(INPUTS[inputs].draw(COUNT, 0), data, folder / "tokenizer.json")
            start = time.monotonic()
            advice = advise(folder / "model.onnx", data, progress=progress)
            seconds = time.monotonic() - start
        said = f"onnx-memo advise, {title}"
        (DOCS / f"advice-{name}.svg").write_text(
            as_file(ladder_drawing(advice), said, STYLE), encoding="utf-8"
        )
        known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
        known[name] = {"machine": machine(), "text": _text(name, title, advice, seconds)}
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(known), encoding="utf-8")
        write_section(DOCS / "benchmarks.md", "advice", _section(known))
        print(f"{name}: {seconds:.0f} s", file=sys.stderr, flush=True)
    return 0


def _section(known: dict[str, Any]) -> str:
    told = f"`advise` on {COUNT:,} inputs each. {next(iter(known.values()))['machine']}.\n\n"
    return told + "\n".join(known[name]["text"] for name in ASKED if name in known)


def _text(name: str, title: str, advice: Advice, seconds: float) -> str:
    """Title, how long it took, what is recommended and why, picture, table, and what was said beside it."""
    shown = next(part for part in advice.parts() if isinstance(part, Table))
    rows = [shown.headings, ["---"] * len(shown.headings), *shown.rows]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    legend = "; ".join([*advice.legend(), *advice.notes])
    return (
        f"### {title[0].upper()}{title[1:]}\n\nIn {seconds:.0f} s, while the original takes "
        f"{advice.original.p50.value:.1f} ms a request (the median). "
        f"{'Recommended: ' if advice.command else ''}{advice.why}.\n\n"
        f"![{title}](advice-{name}.svg)\n\n{lines}\n\n{legend}.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
