"""The picture and the table at the top of the README, from measured figures only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.measure import Figures
from tools.pages import Column, bars, table, write_section

PICTURE, PROMISE, RIVAL = "gain.svg", "--keep 0.95", "int8"
# Workload -> what the picture calls it; the table has its title.
SHOWN = {
    "likelihood": "variants",
    "logs": "log lines",
    "questions": "questions",
    "d": "half seen",
    "e": "templates",
    "classifier": "classes",
    "reranker": "reranking",
}
COLUMNS: tuple[Column, ...] = (
    ("requests", "title", ""),
    ("what has to stay", "what", ""),
    ("int8: time", "int8", ".2f"),
    ("stays", "int8 kept", ""),
    (f"onnx-memo `{PROMISE}`: time", "ours", ""),
    ("stays", "kept", ""),
)


def write_decisions(path: Path, docs: Path, rows: Sequence[Any]) -> None:
    """Write picture and table between the README's markers, of the workloads that were measured.

    Args:
        path: the README.
        docs: where the picture goes.
        rows: of `tools.bench_decisions`.
    """
    found = {(row.workload, row.promise): row for row in rows}
    pairs = {
        short: (found.get((name, RIVAL)), found[name, PROMISE])
        for name, short in SHOWN.items()
        if (name, PROMISE) in found
    }
    if not pairs:
        return
    title = "Time of a request, relative to the original model (fp32)"
    times: dict[str, dict[str, float | None]] = {
        RIVAL: {short: rival.ratio if rival else None for short, (rival, _) in pairs.items()},
        f"onnx-memo {PROMISE}": {short: own.ratio for short, (_, own) in pairs.items()},
    }
    (docs / PICTURE).write_text(bars(title, times, 1.0, "original = 1", ".2f", group=104), encoding="utf-8")
    _make_markers(path)
    note = (
        f"`{PROMISE}`: at least 95 % of the decisions stay as they are with the original, proven when the "
        "bundle is made; int8 (ONNX Runtime's dynamic quantization) promises nothing. Requests that were "
        "never seen, one thread, batch 1, native operators; `docs/benchmarks.md` has the machine, other "
        "promises, errors, and workloads where less is gained. Literal repeats are answered exactly, "
        "in 0.01 to 0.03 of the time.\n"
    )
    listed = [_row(rival, own) for rival, own in pairs.values()]
    write_section(path, "picture", f"![{title}]({docs.name}/{PICTURE})\n\n{table(COLUMNS, listed)}\n{note}")


def _row(rival: Any | None, own: Any) -> Figures:
    """Of a ranking all that was promised is shown, else the first, which is what was promised."""
    names = list(own.kept) if own.about_many else list(own.kept)[:1]
    return {
        "title": own.title,
        "what": "; ".join(names),
        "int8": rival.ratio if rival else None,
        "int8 kept": "; ".join(f"{rival.kept[name]:.0%}" for name in names) if rival else None,
        "ours": "1, the original" if own.reason else f"{own.ratio:.2f}",
        "kept": "; ".join(f"{own.kept[name]:.0%}" for name in names),
    }


def _make_markers(path: Path) -> None:
    """Put the markers below the README's first paragraph if there are none."""
    text = path.read_text(encoding="utf-8") if path.is_file() else "# onnx-memo\n\nA demo.\n\n"
    if "<!-- picture -->" not in text:
        title, _, rest = text.partition("\n\n")
        first, _, rest = rest.partition("\n\n")
        text = f"{title}\n\n{first}\n\n<!-- picture -->\n<!-- /picture -->\n\n{rest}"
        path.write_text(text, encoding="utf-8")
