"""The picture and the table at the top of the README, from measured figures only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.measure import Figures
from tools.pages import Column, bars, table, write_section

PICTURE = "gain.svg"
# Workload and tolerance -> what the README calls it, short and long.
SHOWN = {
    "a 0.01": ("variants", "single-point variants of an antibody, AntiBERTy"),
    "b 0.01": ("1-4 changes", "two antibodies with 1 to 4 substitutions, AntiBERTy"),
    "e 0.03": ("templates", "templated log and form lines, MiniLM"),
    "d 0.01": ("half seen", "text of which half was seen before, MiniLM"),
}
REPEAT = "repeats"  # and the tokens of each
COLUMNS: tuple[Column, ...] = (
    ("requests", "title", ""),
    ("error allowed (1 - cosine)", "tolerance", ""),
    ("original", "fp32", ""),
    ("int8", "int8", ".2f"),
    ("onnx-memo", "ours", ".2f"),
    ("its error, 95th percentile", "p95", ".4f"),
)


def write_readme(path: Path, docs: Path, rows: Mapping[str, Any], repeats: Sequence[Figures]) -> None:
    """Write picture and table between the README's markers; nothing where nothing was measured."""
    listed = _workloads(rows) | _repeats(repeats)
    if not listed:
        return
    title = "Time of a request, relative to the original model (fp32)"
    int8 = {short: figures["int8"] for short, figures in listed.items()}
    ours = {short: figures["ours"] for short, figures in listed.items()}
    picture = bars(title, {"int8": int8, "onnx-memo": ours}, 1.0, "original = 1", ".2f", group=104)
    (docs / PICTURE).write_text(picture, encoding="utf-8")
    _make_markers(path)
    note = (
        "Requests that were never seen (but for the repeats), one thread, batch 1, native operators; "
        "`docs/benchmarks.md` has the machine, the errors of int8, and the workloads where less is gained.\n"
    )
    text = f"![{title}]({docs.name}/{PICTURE})\n\n{table(COLUMNS, list(listed.values()))}\n{note}"
    write_section(path, "picture", text)


def _workloads(rows: Mapping[str, Any]) -> dict[str, Figures]:
    """Rows of the table by their short names: the workloads shown, as far as they were measured."""
    found: dict[str, Figures] = {}
    for key, (short, title) in SHOWN.items():
        if key in rows:
            row = rows[key]
            found[short] = {
                "title": title,
                "tolerance": f"{row.tolerance:g}",
                "fp32": "1",
                "int8": row.ratios["int8"][0],
                "ours": row.ours,
                "p95": row.errors["ours"]["p95"],
            }
    return found


def _repeats(repeats: Sequence[Figures]) -> dict[str, Figures]:
    """The same for literal repeats of long requests."""
    return {
        f"{REPEAT} {row['tokens']}": {
            "title": f"literal repeats of {row['tokens']} tokens, MiniLM",
            "tolerance": "none",
            "fp32": "1",
            "int8": row["int8"],
            "ours": row.get("hit native", row["hit stock"]),
            "p95": row["hit error"],
        }
        for row in repeats
        if row["tokens"] > 100
    }


def _make_markers(path: Path) -> None:
    """Put the markers below the README's first paragraph if there are none."""
    text = path.read_text(encoding="utf-8") if path.is_file() else "# onnx-memo\n\nA demo.\n\n"
    if "<!-- picture -->" not in text:
        title, _, rest = text.partition("\n\n")
        first, _, rest = rest.partition("\n\n")
        text = f"{title}\n\n{first}\n\n<!-- picture -->\n<!-- /picture -->\n\n{rest}"
        path.write_text(text, encoding="utf-8")
