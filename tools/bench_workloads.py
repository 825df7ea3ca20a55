"""Original, int8 and ours side by side: the sections of `docs/benchmarks.md`.

Run as `python -m tools.bench_workloads [--only a,d,repeats] [--missing] [--minutes N]`. One process, one
thread; the models take turns at every request, in an order drawn anew each time. A request's time is its
median over the rounds, a ratio is total time over total time. What is measured is kept in
`.cache/`: a run of some pieces replaces theirs only, and a run that was stopped goes on with `--missing`.
Bundles stay in `.cache/bench` (some GB), made anew when the code or the sample changed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from models.fetch import RecipeError
from onnx_memo.commands.progress import show_progress
from tools import int8
from tools.bench_levels import levels_picture
from tools.bench_rows import TOLERANCE, Bench
from tools.bench_tables import TABLES
from tools.measure import (
    KEPT,
    Bundle,
    Figures,
    Workshop,
    errors_of,
    kinds,
    machine,
    model_of,
    race,
    ratio,
    requests_of,
    reused,
    runner,
    summary,
    unbounded,
    write_lines,
)
from tools.pages import bars, table, write_section
from tools.workloads import WORKLOADS, Workload

WITHIN, CONFIDENCE = 0.95, 0.95
TOLERANCES = {
    "a": (0.01, 0.002, 0.0005),
    "c": (0.01, 0.0005),
    "e": (0.03, 0.01),
    "e>f": (0.03, 0.01),
}  # of the others: 0.01
UNLIKE = "e>f"  # calibrated on the one, shown the other
RESULTS = Path(".cache") / "bench_workloads.json"
# What matters most comes first, in case there is not time for all.
ORDER = ["a", "b", "e", "repeats", "e>f", "d", "batch", "changes", "causal"]
ORDER += ["c", "f", "int8", "stores", "video", "levels"]


@dataclass(frozen=True)
class Row:
    """What was measured on one workload; without a bundle the original runs, and its ratio is 1."""

    name: str
    tolerance: float
    title: str
    requests: int
    fp32_ms: float
    # int8, native, stock, and ceiling (only changed rows run): all, least and most of one round
    ratios: dict[str, tuple[float, float, float]]
    errors: dict[str, dict[str, float]]  # int8, ours: mean, p95, worst, share outside the tolerance
    level: str
    hit_rate: float
    rows_run: float
    predicted: float
    seconds: float  # that `optimize` took
    worst: str  # the request with ours' largest error
    reason: str  # why there is no bundle
    machine: str

    @property
    def key(self) -> str:
        """What the row is told apart by."""
        return f"{self.name} {self.tolerance:g}"

    @property
    def ours(self) -> float:
        """The best of our ratios."""
        return self.ratios.get("native", self.ratios.get("stock", (1.0,)))[0]

    @property
    def kept(self) -> bool:
        """Whether no more requests are outside the tolerance than was promised."""
        return self.errors["ours"]["outside"] <= 1 - WITHIN


def measure(
    work: Workload, model: Path, tokenizer: Path, made: Bundle, tolerance: float, bench: Bench
) -> Row:
    """Run the requests of `work` through all models: the original, int8, and the bundle if there is one."""
    lines = work.requests[: bench.limit]
    name = f"{work.name.replace('>', '-')}.requests.txt"
    requests = requests_of(model, write_lines(bench.shop.folder / name, lines), tokenizer)
    assert len(requests) == len(lines), "each line is one request"
    runners = {"fp32": runner(model), "int8": runner(int8.bring(model))}
    hit_rate, rows_run = 0.0, 1.0
    if made.path is not None:
        for kind in kinds():
            runners[kind] = runner(made.path / "model.onnx", native=kind == "native")
        ceiling = unbounded(made.path)
        runners |= {"ceiling": ceiling} if ceiling else {}
        hit_rate, rows_run = reused(made.path, requests)
    times = race(list(runners.values()), requests, bench.rounds, bench.shop.progress)
    errors = {"int8": errors_of(runners["fp32"], runners["int8"], requests), "ours": np.zeros(len(requests))}
    if made.path is not None:
        errors["ours"] = errors_of(runners["fp32"], runners[kinds()[0]], requests)
    return Row(
        name=work.name,
        tolerance=tolerance,
        title=work.title,
        requests=len(requests),
        fp32_ms=float(np.median(times, axis=0)[:, 0].mean() * 1e3),
        ratios={kind: ratio(times, at) for at, kind in enumerate(runners) if at},
        errors={kind: summary(found, tolerance) for kind, found in errors.items()},
        level=made.level,
        hit_rate=hit_rate,
        rows_run=rows_run,
        predicted=made.predicted,
        seconds=made.seconds,
        worst=lines[int(errors["ours"].argmax())],
        reason=made.reason,
        machine=machine(),
    )


def section(rows: Sequence[Row]) -> str:
    """The section's text: what was run, the pictures, the tables, the reasons and the worst requests."""
    told = (
        f"{rows[0].machine}. One thread, batch 1. Times are relative to the fp32 original's, in brackets the "
        f"least and most of a single round. Calibrated for `cosine` within "
        f"{WITHIN}, confidence {CONFIDENCE}; on the requests, which nothing saw before, the promise is kept "
        f"where at most {1 - WITHIN:.0%} are outside the tolerance. An error is 1 - cosine of the "
        "mean-pooled output.\n\n"
        "![Time by workload](workloads-ratio.svg)\n\n"
        "![Share of requests outside the tolerance, by workload](workloads-outside.svg)\n"
    )
    times, errors = [], []
    for row in rows:
        cells: Figures = {
            kind: "{:.3f} ({:.3f} to {:.3f})".format(*row.ratios[kind])
            if kind in row.ratios
            else "1, the original"
            for kind in ("int8", "native", "stock")
        }
        cells |= {
            "ceiling": f"{row.ratios['ceiling'][0]:.3f}" if "ceiling" in row.ratios else "",
            "work": f"({row.name}) {row.title}",
            "level": row.level or "none",
            "off": row.ours - row.predicted,
        }
        times.append(vars(row) | cells)
        for kind, found in row.errors.items():
            kept = ("yes" if row.kept else "**no**") if kind == "ours" else ""
            errors.append(
                {"work": f"({row.name})", "of": kind, "kept": kept, "tolerance": row.tolerance, **found}
            )
    columns = (
        ("workload", "work", ""),
        ("tolerance", "tolerance", "g"),
        ("requests", "requests", "d"),
        ("fp32 ms", "fp32_ms", ".2f"),
        ("int8", "int8", ""),
        ("ours, native", "native", ""),
        ("ours, stock", "stock", ""),
        ("if only changed rows ran", "ceiling", ""),
        ("level", "level", ""),
        ("hits", "hit_rate", ".1%"),
        ("rows run", "rows_run", ".1%"),
        ("predicted", "predicted", ".3f"),
        ("measured less predicted", "off", "+.3f"),
        ("`optimize`, seconds", "seconds", ".0f"),
    )
    of_errors = (
        ("workload", "work", ""),
        ("tolerance", "tolerance", "g"),
        ("error of", "of", ""),
        ("mean", "mean", ".1e"),
        ("95th percentile", "p95", ".1e"),
        ("worst", "worst", ".1e"),
        ("outside the tolerance", "outside", ".1%"),
        ("promise kept", "kept", ""),
    )
    notes = []
    for row in rows:
        note = f"no bundle: {row.reason[:500]}" if row.reason else f"ours is worst on: {row.worst[:200]}"
        notes.append(f"- ({row.name}) at {row.tolerance:g}: {' '.join(note.split())}")
    return "\n".join([told, table(columns, times), table(of_errors, errors), *notes]) + "\n"


def write_docs(results: dict[str, Any], docs: Path) -> None:
    """Write all sections that there are figures for, and their pictures."""
    rows = [Row(**found) for found in results["workloads"].values()]
    page = docs / "benchmarks.md"
    docs.mkdir(parents=True, exist_ok=True)
    if rows:
        rows.sort(key=lambda row: ([*WORKLOADS, UNLIKE].index(row.name), -row.tolerance))
        keys = [row.key for row in rows]
        times: dict[str, dict[str, float | None]]
        times = {
            "int8": {row.key: row.ratios["int8"][0] for row in rows},
            "ours": {r.key: r.ours for r in rows},
        }
        outside: dict[str, dict[str, float | None]] = {
            kind: dict(zip(keys, (row.errors[kind]["outside"] for row in rows), strict=True))
            for kind in ("int8", "ours")
        }
        titles = "Time by workload and tolerance, relative to the original", "Requests outside the tolerance"
        for name, picture in (
            ("ratio", bars(titles[0], times, 1.0, "fp32 original", ".2f")),
            ("outside", bars(titles[1], outside, 1 - WITHIN, "what is promised", ".1%")),
        ):
            (docs / f"workloads-{name}.svg").write_text(picture, encoding="utf-8")
        write_section(page, "workloads", section(rows))
    for name, found in results["tables"].items():
        if name == "levels" and any(not row.get("reason") for row in found["rows"]):
            (docs / "levels.svg").write_text(levels_picture(found["rows"]), encoding="utf-8")
        write_section(page, name, TABLES[name].text(found["rows"], found["machine"]))


def make(name: str) -> Workload:
    """A workload by its name; `e>f` has the sample of (e) and the requests of (f)."""
    if name != UNLIKE:
        return WORKLOADS[name]()
    sample, requests = (WORKLOADS[letter]() for letter in name.split(">"))
    return replace(sample, name=name, title="calibrated on (e), shown (f)", requests=requests.requests)


def pieces(names: Sequence[str]) -> list[tuple[str, float]]:
    """What is to be run, in order: workloads with each of their tolerances, and tables (tolerance 0)."""
    return [
        (name, tolerance)
        for name in ORDER
        if name in names
        for tolerance in ((0.0,) if name in TABLES else TOLERANCES.get(name, (TOLERANCE,)))
    ]


def run_piece(name: str, tolerance: float, bench: Bench, results: dict[str, Any] | None) -> None:
    """Measure one piece and put its figures into `results`; None: only make the bundle of a workload."""
    if name in TABLES:
        if results is None:
            return
        results["tables"][name] = {"machine": machine(), "rows": TABLES[name].measure(bench)}
        return
    work = make(name)
    model, tokenizer = model_of(work.model)
    letter = name.partition(">")[0]
    data = bench.lines(letter, work.sample)
    made = bench.shop.bundle(f"{letter}-{tolerance:g}", model, data, tokenizer=tokenizer, tolerance=tolerance)
    if results is None:
        return
    row = measure(work, model, tokenizer, made, tolerance, bench)
    results["workloads"][row.key] = vars(row)


def read_results(path: Path) -> dict[str, Any]:
    """Figures of former runs on this machine."""
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if not isinstance(found, dict):  # of an older tool
        found = {}
    return {
        kind: {key: row for key, row in found.get(kind, {}).items() if row["machine"] == machine()}
        for kind in ("workloads", "tables")
    }


def main() -> int:
    """Run what is asked for and write the sections; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(ORDER), help="default: %(default)s")
    parser.add_argument("--missing", action="store_true", help="pass over what has figures already")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin nothing more after so many")
    parser.add_argument("--prepare", action="store_true", help="only make bundles, for a quiet hour")
    parser.add_argument("--stale", action="store_true", help="take bundles that older code made")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int, help="to try the tool: so many lines; writes below .cache only")
    arguments = parser.parse_args()
    names = [name for name in arguments.only.split(",") if name]
    if not set(names) <= set(ORDER) or arguments.rounds < 1:
        parser.error(f"--only takes some of {','.join(ORDER)}, and --rounds at least 1")
    folder, docs, path = KEPT, Path("docs"), RESULTS
    if arguments.limit:
        folder = KEPT / f"limit-{arguments.limit}"
        docs, path = folder / "docs", folder / "results.json"
    folder.mkdir(parents=True, exist_ok=True)
    results, start, failed = read_results(path), time.monotonic(), False
    for name, tolerance in pieces(names):
        if arguments.missing and (
            name in results["tables"] or f"{name} {tolerance:g}" in results["workloads"]
        ):
            continue
        if time.monotonic() - start > 60 * arguments.minutes:
            print(f"not begun for want of time: {name} {tolerance or ''}", file=sys.stderr)
            continue
        began = time.monotonic()
        try:
            with show_progress() as progress:
                shop = Workshop(folder, arguments.stale, progress=progress)
                bench = Bench(shop, arguments.rounds, arguments.limit)
                run_piece(name, tolerance, bench, None if arguments.prepare else results)
        except RecipeError as error:
            print(f"bench_workloads: {error}", file=sys.stderr)
            return 1
        except Exception as error:  # what others found is not to be lost
            print(f"bench_workloads: {name} {tolerance or ''} failed: {error!r}", file=sys.stderr)
            failed = True
            continue
        if not arguments.prepare:
            path.write_text(json.dumps(results), encoding="utf-8")
            write_docs(results, docs)
        print(f"{name} {tolerance or ''}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    Console(stderr=True).print("one thread; close other work before you trust a figure")
    sys.exit(main())
