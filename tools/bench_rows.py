"""The tables of `docs/benchmarks.md` beside the workloads: each a function from a `Bench` to its figures.

They run by `python -m tools.bench_workloads --only NAME`. All: one thread, models taking turns.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from models.bring import CACHE
from onnx_memo.data.samples import Arrays, Samples
from tools import int8
from tools.bench_guards import profile, token_stream, write_requests
from tools.measure import (
    Bundle,
    Figures,
    Runner,
    Workshop,
    best,
    errors_of,
    kinds,
    model_of,
    race,
    ratio,
    requests_of,
    reused,
    runner,
    summary,
    write_lines,
)
from tools.moving_object import bring as bring_vision
from tools.moving_object import frames
from tools.shared_prefix import bring as bring_causal
from tools.shared_prefix import shared_prefix
from tools.store_sizes import sized
from tools.workloads import OKT3, TRASTUZUMAB, WORKLOADS, substituted

TOLERANCE = 0.01
LENGTHS = {32: (200, 40), 128: (200, 40), 512: (40, 12)}  # tokens: (stored inputs, requests)
SUBSTITUTIONS = (1, 2, 4, 8, 16)
BATCH = 16
INT8_LINES = 300  # of the sample of (a)
SIZES = (100, 1_000, 10_000, 100_000)


@dataclass(frozen=True)
class Bench:
    """How to measure; `limit` cuts samples and requests, to try the tool."""

    shop: Workshop
    rounds: int = 3
    limit: int | None = None

    def cut(self, count: int) -> int:
        """So many, or fewer where they are limited."""
        return min(count, self.limit or count)

    def race(self, runners: Sequence[Runner], requests: Sequence[Arrays]) -> list[float]:
        """The ratio of each runner but the first to the first."""
        times = race(runners, requests, self.rounds, self.shop.progress)
        return [ratio(times, at)[0] for at in range(1, len(runners))]

    def lines(self, name: str, lines: Sequence[str]) -> Path:
        """A file of text lines, cut."""
        return write_lines(self.shop.folder / f"{name}.txt", lines[: self.limit])


def repeats(bench: Bench) -> list[Figures]:
    """Literal repeats and unrelated requests, by length; no tolerance: only literal repeats are reused."""
    model, tokenizer = model_of("minilm")
    stream = token_stream(tokenizer)
    rows = []
    for length, (stored, asked) in LENGTHS.items():
        name = f"repeats-{length}"
        data = write_requests(bench.shop.folder / f"{name}.npz", stream, bench.cut(stored), length, seed=0)
        other = write_requests(
            bench.shop.folder / f"{name}-unseen.npz", stream, bench.cut(asked), length, seed=1
        )
        made = bench.shop.bundle(name, model, data)
        assert made.path is not None, made.reason
        runners = [runner(model), runner(int8.bring(model))]
        runners += [runner(made.path / "model.onnx", native=kind == "native") for kind in kinds()]
        seen, unseen = requests_of(model, data)[: bench.cut(asked)], requests_of(model, other)
        row: Figures = {"tokens": length, "hits": reused(made.path, seen)[0]}
        for title, requests in (("hit", seen), ("miss", unseen)):
            row["int8"], *ratios = bench.race(runners, requests)
            row |= {f"{title} {kind}": r for kind, r in zip(kinds(), ratios, strict=True)}
            row[f"{title} error"] = float(errors_of(runners[0], runners[2], requests, "relative").max())
        rows.append(row)
    return rows


def changes(bench: Bench) -> list[Figures]:
    """Ratio and error by the number of substitutions, with the bundle of (b)."""
    work = WORKLOADS["b"]()
    model, made = workload_bundle(bench, "b", TOLERANCE)
    if made.path is None:
        return [{"reason": made.reason[:400]}]
    rng = np.random.default_rng(11)
    original, ours = runner(model), best(made.path)
    rows = []
    for count in SUBSTITUTIONS:
        parents = [(TRASTUZUMAB, OKT3)[number % 2] for number in range(bench.cut(40))]
        lines = [substituted(parent, count, rng) for parent in parents]
        requests = text_requests(bench, f"changes-{count}", work.model, lines)
        hits, ran = reused(made.path, requests)
        error = summary(errors_of(original, ours, requests), TOLERANCE)
        ratio_of = bench.race([original, ours], requests)[0]
        rows.append({"changes": count, "ratio": ratio_of, "hits": hits, "rows": ran, **error})
    return rows


def batch(bench: Bench) -> list[Figures]:
    """Batches of variants, and batches of unrelated text of uneven length."""
    rows: list[Figures] = []
    for letter, title in (("a", "variants of (a)"), ("e", "unrelated text, 16 to 128 tokens")):
        model, made = workload_bundle(bench, letter, TOLERANCE)
        if made.path is None:
            rows.append({"requests": title, "reason": made.reason[:400]})
            continue
        if letter == "a":
            lines = WORKLOADS[letter]().requests[: 8 * BATCH]
            singles = text_requests(bench, "batch-a", "antiberty", lines, cut=False)
        else:
            singles = _pieces(8 * BATCH)
        samples = Samples(singles, [feeds["input_ids"].shape[1] for feeds in singles], "attention_mask")
        requests = [samples.batch(at, BATCH) for at in range(0, len(singles), BATCH)][: bench.limit]
        original, ours = runner(model), best(made.path)
        error = summary(errors_of(original, ours, requests), TOLERANCE)
        row: Figures = {"requests": title, "size": BATCH, "ratio": bench.race([original, ours], requests)[0]}
        rows.append(row | error)
    return rows


def _pieces(count: int) -> list[Arrays]:
    """Pieces of running text of 16 to 128 tokens, for MiniLM."""
    stream = token_stream(model_of("minilm")[1])
    rng = np.random.default_rng(12)
    found = []
    for length in rng.integers(16, 129, count):
        at = rng.integers(0, len(stream) - length)
        ids = np.asarray([[101, *stream[at : at + length - 2], 102]], np.int64)
        found.append(
            {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        )
    return found


def on_int8(bench: Bench) -> list[Figures]:
    """The level `rows` on the int8 model, for (a): relative to that model, in time and error."""
    work = WORKLOADS["a"]()
    model, tokenizer = model_of(work.model)
    quantized = int8.bring(model)
    data = bench.lines("int8", work.sample[:INT8_LINES])
    made = bench.shop.bundle("int8", quantized, data, tokenizer=tokenizer, tolerance=TOLERANCE)
    if made.path is None:
        return [{"reason": made.reason[:400]}]
    requests = text_requests(bench, "int8", work.model, work.requests[:80])
    runners = [runner(quantized), best(made.path), runner(model)]
    times = race(runners, requests, bench.rounds, bench.shop.progress)
    hits, ran = reused(made.path, requests)
    figures: Figures = {"level": made.level, "hits": hits, "rows": ran}
    figures |= {"ratio": ratio(times, 1)[0], "fp32": ratio(times, 1, 2)[0]}
    return [figures | summary(errors_of(runners[0], runners[1], requests), TOLERANCE)]


def causal(bench: Bench) -> list[Figures]:
    """Exact prefix reuse."""
    return [shared_prefix(bring_causal(CACHE))]


def video(bench: Bench) -> list[Figures]:
    """A vision model on frames of a still camera."""
    model = bring_vision(CACHE)
    files = {}
    for name, count, seed in (("sample", 280, 1), ("requests", 60, 2)):
        files[name] = bench.shop.folder / f"video-{name}.npz"
        np.savez(files[name], pixel_values=frames(count, seed))
    made = bench.shop.bundle("video", model, files["sample"], tolerance=TOLERANCE)
    if made.path is None:
        return [{"reason": made.reason[:400]}]
    requests = requests_of(model, files["requests"])[: bench.cut(60)]
    hits, ran = reused(made.path, requests)
    original, ours = runner(model), best(made.path)
    figures: Figures = {"level": made.level, "hits": hits, "rows": ran}
    figures["ratio"] = bench.race([original, ours], requests)[0]
    return [figures | summary(errors_of(original, ours, requests), TOLERANCE)]


def stores(bench: Bench) -> list[Figures]:
    """What finding an entry costs, by the number of entries: those of (a), and more with scattered keys."""
    _, made = workload_bundle(bench, "a", TOLERANCE)
    if made.path is None or not made.level.startswith("rows"):
        return [{"reason": made.reason or f"the level is {made.level}"}]
    requests = text_requests(bench, "stores", "antiberty", WORKLOADS["a"]().requests[:60])
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder) / "asked.npz"
        together = {name: np.concatenate([feeds[name] for feeds in requests]) for name in requests[0]}
        np.savez(asked, **cast(Any, together))
        for entries in SIZES:
            spent = profile(sized(made.path, entries), asked, Path(folder))
            rows.append({"entries": entries, "lookup": spent["MemoLookup"], "rows": spent["MemoRows"]})
    return rows


def workload_bundle(bench: Bench, letter: str, tolerance: float) -> tuple[Path, Bundle]:
    """The model of a workload, and its bundle for a tolerance."""
    work = WORKLOADS[letter]()
    model, tokenizer = model_of(work.model)
    data = bench.lines(letter, work.sample)
    name = f"{letter}-{tolerance:g}"
    return model, bench.shop.bundle(name, model, data, tokenizer=tokenizer, tolerance=tolerance)


def text_requests(
    bench: Bench, name: str, model: str, lines: Sequence[str], cut: bool = True
) -> list[Arrays]:
    """Requests from lines of text, cut unless said otherwise."""
    path, tokenizer = model_of(model)
    some = lines[: bench.limit] if cut else lines
    return requests_of(path, write_lines(bench.shop.folder / f"{name}.requests.txt", some), tokenizer)
