"""Original, int8 and ours side by side on the six workloads: the section "Workloads" of `docs/benchmarks.md`.

Run as `python -m tools.bench_workloads [--only a,d] [--rounds N]`. One process, one thread, batch 1; the
models take turns at every request, in an order drawn anew each time. A request's time is its median over
the rounds, a ratio is total time over total time. A run of some workloads replaces their rows only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from rich.console import Console

import onnx_memo
from models import antiberty, minilm
from models.bring import CACHE
from models.fetch import RecipeError
from onnx_memo.cli import show_progress
from onnx_memo.graph.load import load_model
from onnx_memo.inputs import Arrays, model_inputs, read_samples
from onnx_memo.progress import Progress, silent
from onnx_memo.runtime import library_path, session_options
from tools import int8
from tools.workloads import WORKLOADS, Workload

TOLERANCE, WITHIN, CONFIDENCE = 0.01, 0.95, 0.95
PROMISE: dict[str, Any]
PROMISE = {"tolerance": TOLERANCE, "metric": "cosine", "within": WITHIN, "confidence": CONFIDENCE}
MODELS = {"antiberty": antiberty.bring, "minilm": minilm.bring}
UNLIKE = "e>f"  # calibrated on the one, shown the other
SEEN = 60  # lines of the sample that are run as requests: what is gained where nearly all hit
RESULTS = Path(".cache") / "bench_workloads.json"

FloatArray = npt.NDArray[np.float64]
# model, sample, bundle, tokenizer, progress -> the result of `onnx_memo.optimize`
Optimizer = Callable[[Path, Path, Path, Path, Progress], Any]


class NoBundle(Exception):
    """The optimizer found that nothing pays; the message is its reason."""


@dataclass(frozen=True)
class Row:
    """What was measured on one workload; without a bundle the original runs, and its ratio is 1."""

    name: str
    title: str
    requests: int
    fp32_ms: float
    ratios: dict[str, tuple[float, float, float]]  # int8, native, stock: all, least and most of one round
    errors: dict[str, dict[str, float]]  # int8, ours: mean, p95, worst, share outside the tolerance
    hit_rate: float
    predicted: float
    seen: tuple[float, float] | None  # ratio and hit rate on lines of the sample
    worst: str  # the request with ours' largest error
    reason: str  # why there is no bundle
    machine: str


def calibrated(model: Path, data: Path, out: Path, tokenizer: Path, progress: Progress) -> Any:
    """`optimize` with the tolerance of the benchmarks.

    Raises:
        NoBundle: nothing pays.
    """
    from onnx_memo.verdict import NothingPays

    try:
        return onnx_memo.optimize(model, data, out, tokenizer=tokenizer, progress=progress, **PROMISE)
    except NothingPays as nothing:
        raise NoBundle(str(nothing)) from nothing


def measure(
    work: Workload,
    model: Path,
    tokenizer: Path,
    folder: Path,
    rounds: int,
    optimizer: Optimizer = calibrated,
    progress: Progress = silent,
) -> Row:
    """Optimize `model` for the sample of `work` in the empty `folder`; run its requests through all."""
    seen_lines = work.sample[:: max(1, len(work.sample) // SEEN)][:SEEN]
    files = []
    for name, lines in (("sample", work.sample), ("requests", work.requests), ("seen", seen_lines)):
        files.append(folder / f"{name}.txt")
        files[-1].write_text("\n".join(lines), encoding="utf-8")
    sample, unseen, seen_file = files
    sessions = {"fp32": _session(model), "int8": _session(int8.bring(model))}
    reason, predicted, hit_rate, seen = "", 1.0, 0.0, None
    bundle = folder / "bundle"
    try:
        predicted = float(optimizer(model, sample, bundle, tokenizer, progress).manifest.predicted["ratio"])
        for kind in ("native", "stock") if library_path() else ("stock",):
            sessions[kind] = _session(bundle / "model.onnx", native=kind == "native")
        hit_rate = onnx_memo.bench(model, bundle, unseen, rounds=1)["hit_rate"]
        report = onnx_memo.bench(model, bundle, seen_file, rounds=rounds, progress=progress)
        seen = (report["ratio"], report["hit_rate"])
    except NoBundle as nothing:
        reason = str(nothing)
    requests = read_samples(unseen, model_inputs(load_model(model)), tokenizer).arrays
    assert len(requests) == len(work.requests), "each line is one request"
    times = race(list(sessions.values()), requests, rounds, progress)
    directions = {kind: pooled(session, requests) for kind, session in sessions.items()}
    # Half the squared distance of unit vectors is 1 - cosine, without its cancellation.
    errors = {kind: np.square(d - directions["fp32"]).sum(axis=1) / 2 for kind, d in directions.items()}
    ours = errors[next(kind for kind in ("native", "stock", "fp32") if kind in errors)]
    return Row(
        name=work.name,
        title=work.title,
        requests=len(requests),
        fp32_ms=float(np.median(times, axis=0)[:, 0].mean() * 1e3),
        ratios={kind: ratio(times, at) for at, kind in enumerate(sessions) if at},
        errors={"int8": summary(errors["int8"]), "ours": summary(ours)},
        hit_rate=hit_rate,
        predicted=predicted,
        seen=seen,
        worst=work.requests[int(ours.argmax())],
        reason=reason,
        machine=machine(),
    )


def _session(path: Path, native: bool = False) -> ort.InferenceSession:
    options = session_options(native=native, threads=1)
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def race(
    sessions: Sequence[ort.InferenceSession],
    requests: Sequence[Arrays],
    rounds: int,
    progress: Progress = silent,
) -> FloatArray:
    """Seconds of every request: [rounds, requests, sessions], after one round that does not count."""
    rng = np.random.default_rng(0)
    times = np.zeros((rounds + 1, len(requests), len(sessions)))
    advance = progress("measuring", len(requests) * (rounds + 1))
    for turn, number in np.ndindex(times.shape[:2]):
        for which in rng.permutation(len(sessions)):
            start = time.perf_counter()
            sessions[which].run(None, requests[number])
            times[turn, number, which] = time.perf_counter() - start
        advance()
    return times[1:]


def ratio(times: FloatArray, which: int) -> tuple[float, float, float]:
    """Total time of a session over that of the first: by medians, and the least and most of one round."""
    medians = np.median(times, axis=0).sum(axis=0)
    rounds = times.sum(axis=1)
    by_round = rounds[:, which] / rounds[:, 0]
    return float(medians[which] / medians[0]), float(by_round.min()), float(by_round.max())


def pooled(session: ort.InferenceSession, requests: Sequence[Arrays]) -> FloatArray:
    """The direction of the mean of each request's last hidden states: unit vectors f64[requests, width]."""
    states = [session.run(["last_hidden_state"], feeds)[0][0] for feeds in requests]
    means = np.stack([rows.mean(axis=0, dtype=np.float64) for rows in states])
    lengths: FloatArray = np.linalg.norm(means, axis=1, keepdims=True)
    return means / lengths


def summary(errors: FloatArray) -> dict[str, float]:
    """Mean, 95th percentile, worst, and the share outside the tolerance."""
    figures = {"mean": errors.mean(), "p95": np.percentile(errors, 95), "worst": errors.max()}
    return {name: float(f) for name, f in {**figures, "outside": (errors > TOLERANCE).mean()}.items()}


def machine() -> str:
    """Processor, its instructions that matter to int8, cores and versions; nothing that names one machine."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8") if info.is_file() else ""
    name = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    has = re.findall(r"\b(?:avx2|avx512f|avx512_vnni|avx_vnni|amx_int8)\b", text.partition("\n\n")[0])
    return (
        f"{name[1] if name else platform.processor() or platform.machine()} ({', '.join(has) or 'no AVX2'}), "
        f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, "
        f"ONNX Runtime {ort.__version__}, onnx-memo {onnx_memo.__version__}"
    )


def section(rows: Sequence[Row]) -> str:
    """The section's text: what was run, the pictures, the tables, the reasons and the worst requests."""
    lines = [
        f"{rows[0].machine}. One thread, batch 1. Times are relative to the fp32 original's, in brackets the "
        f"least and most of a single round. Calibrated for `cosine` {TOLERANCE} within {WITHIN}, confidence "
        f"{CONFIDENCE}. An error is 1 - cosine of the mean-pooled output.\n",
        "![Time by workload](workloads-ratio.svg)\n",
        "![Share of requests outside the tolerance, by workload](workloads-outside.svg)\n",
        "| workload | requests | fp32 ms | int8 | ours, native | ours, stock | predicted | hits "
        "| ours on lines of the sample |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [
            "{:.3f} ({:.3f} to {:.3f})".format(*row.ratios[kind]) if kind in row.ratios else "1, the original"
            for kind in ("int8", "native", "stock")
        ]
        seen = f"{row.seen[0]:.3f} at {row.seen[1]:.0%} hits" if row.seen else ""
        start = f"| ({row.name}) {row.title} | {row.requests} | {row.fp32_ms:.2f} | {' | '.join(cells)} "
        lines.append(f"{start}| {row.predicted:.3f} | {row.hit_rate:.1%} | {seen} |")
    lines += [
        "",
        "| workload | error of | mean | 95th percentile | worst | outside the tolerance |",
        "|-" * 6 + "|",
    ]
    for row in rows:
        for kind, error in row.errors.items():
            figures = " | ".join(f"{error[name]:.1e}" for name in ("mean", "p95", "worst"))
            lines.append(f"| ({row.name}) | {kind} | {figures} | {error['outside']:.1%} |")
    lines.append("")
    for row in rows:
        told = f"no bundle: {row.reason}" if row.reason else f"ours is worst on: {row.worst[:200]}"
        lines.append(f"- ({row.name}) {' '.join(told.split())}")
    return "\n".join(lines) + "\n"


STYLE = """text{font:13px sans-serif;fill:#1f2937}.s0{fill:#d97706}.s1{fill:#2563eb}line{stroke:#6b7280}
@media(prefers-color-scheme:dark){text{fill:#e5e7eb}.s0{fill:#f59e0b}.s1{fill:#60a5fa}}"""


def bars(title: str, series: dict[str, dict[str, float]], limit: float, told: str, form: str) -> str:
    """Two series of bars by workload, and a dashed line at `limit`, as SVG for light and dark pages."""
    top = max(limit, *(value for values in series.values() for value in values.values())) * 1.15
    labels = list(next(iter(series.values())))
    width = 90 * len(labels) + 40
    at = 250 - 180 * limit / top
    drawn = [f'<text x="20" y="22" style="font-weight:600">{escape(title)}</text>']
    for number, (name, values) in enumerate(series.items()):
        x = 20 + 110 * number
        drawn.append(f'<rect class="s{number}" x="{x}" y="34" width="12" height="12"/>')
        drawn.append(f'<text x="{x + 18}" y="45">{escape(name)}</text>')
        for place, label in enumerate(labels):
            x, height = 30 + 90 * place + 36 * number, 180 * values[label] / top
            bar = f'x="{x}" y="{250 - height:.1f}" width="32" height="{height:.1f}"'
            drawn.append(f'<rect class="s{number}" {bar}/><text x="{x + 16}" y="{246 - height:.1f}" ')
            drawn.append(f'text-anchor="middle" style="font-size:11px">{values[label]:{form}}</text>')
    drawn += [f'<text x="{50 + 90 * n}" y="270">{escape(label)}</text>' for n, label in enumerate(labels)]
    drawn.append(f'<line x1="20" x2="{width - 10}" y1="{at:.1f}" y2="{at:.1f}" stroke-dasharray="5 4"/>')
    drawn.append(f'<text x="250" y="45">- - - {escape(told)}</text>')
    size = f'viewBox="0 0 {max(width, 480)} 285" role="img" aria-label="{escape(title)}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{STYLE}</style>{"".join(drawn)}</svg>\n'


def write_docs(rows: Sequence[Row], docs: Path) -> None:
    """Write the section and its pictures."""
    ours = {row.name: row.ratios.get("native", row.ratios.get("stock", (1.0,)))[0] for row in rows}
    times = {"int8": {row.name: row.ratios["int8"][0] for row in rows}, "ours": ours}
    outside = {kind: {row.name: row.errors[kind]["outside"] for row in rows} for kind in ("int8", "ours")}
    pictures = {
        "ratio": bars("Time by workload, relative to the original", times, 1.0, "fp32 original", ".2f"),
        "outside": bars("Requests outside the tolerance", outside, 1 - WITHIN, "what is promised", ".1%"),
    }
    for name, picture in pictures.items():
        (docs / f"workloads-{name}.svg").write_text(picture, encoding="utf-8")
    write_section(docs / "benchmarks.md", "workloads", section(rows))


def write_section(path: Path, name: str, text: str) -> None:
    """Put `text` between the markers `<!-- name -->` and `<!-- /name -->`, at the end if there are none."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    old = path.read_text(encoding="utf-8") if path.is_file() else "# Benchmarks\n"
    if begin not in old:
        old += f"\n## {name.capitalize()}\n\n{begin}\n{end}\n"
    before, _, rest = old.partition(begin)
    path.write_text(f"{before}{begin}\n{text}{end}{rest.partition(end)[2]}", encoding="utf-8")


def make(name: str) -> Workload:
    """A workload by its name; `e>f` has the sample of (e) and the requests of (f)."""
    if name != UNLIKE:
        return WORKLOADS[name]()
    sample, requests = (WORKLOADS[letter]() for letter in name.split(">"))
    return replace(sample, name=name, title="calibrated on (e), shown (f)", requests=requests.requests)


def main() -> int:
    """Run the workloads and write the section; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = [*WORKLOADS, UNLIKE]
    parser.add_argument("--only", default=",".join(every), help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=int, help="so many lines of sample and requests, to try the tool")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder of benchmarks.md")
    parser.add_argument("--results", type=Path, default=RESULTS, help="rows of former runs")
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    if not set(names) <= set(every) or arguments.rounds < 1:
        parser.error(f"--only takes some of {','.join(every)}, and --rounds at least 1")
    former = json.loads(arguments.results.read_text()) if arguments.results.is_file() else []
    rows = {row["name"]: Row(**row) for row in former if row["machine"] == machine()}
    for name in names:
        try:
            work = make(name)
            model = MODELS[work.model](CACHE)
        except RecipeError as error:
            print(f"bench_workloads: {error}", file=sys.stderr)
            return 1
        cut = slice(arguments.limit)
        work = replace(work, sample=work.sample[cut], requests=work.requests[cut])
        with tempfile.TemporaryDirectory() as folder, show_progress() as progress:
            tokenizer = model / "tokenizer.json"
            rows[name] = measure(
                work, model / "model.onnx", tokenizer, Path(folder), arguments.rounds, progress=progress
            )
        arguments.results.parent.mkdir(parents=True, exist_ok=True)
        arguments.results.write_text(json.dumps([asdict(row) for row in rows.values()]), encoding="utf-8")
        write_docs([rows[name] for name in every if name in rows], arguments.docs)
        print(section([rows[name]]))
    return 0


if __name__ == "__main__":
    Console(stderr=True).print("one thread, batch 1; close other work before you trust a figure")
    sys.exit(main())
