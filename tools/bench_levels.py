"""Error against time of each level, on the same sample and requests."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from onnx_memo.data.readers import read_samples
from onnx_memo.data.samples import Samples, model_inputs
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.levels.rows.blueprint import EPSILON, LIMIT, RowsBlueprint, RowsSettings
from onnx_memo.levels.rows.capture import capture_rows
from onnx_memo.levels.rows.correction import fit_corrections, neighbour_pairs
from onnx_memo.levels.rows.influence import write_influence
from onnx_memo.levels.rows.propose import fit_rows_key
from onnx_memo.levels.rows.quantize import int8_products
from onnx_memo.levels.rows.search import BOUNDS
from onnx_memo.levels.rows.trial import RowsTrial
from onnx_memo.operators.spec import MOST_CHANGE
from tools.bench_rows import TOLERANCE, Bench, text_requests
from tools.measure import Figures, Runner, best, errors_of, model_of, runner, summary, write_lines
from tools.pages import Curve, curves
from tools.workloads import WORKLOADS

LINES = {"a": 200, "e": 300}  # of the sample; 197 are needed
STORED = 0.7  # of them, as `optimize` does
REQUESTS = 40
STRICTNESS = {
    "probs": (0.05, 0.1, 0.2, 0.35, 1.0),
    "output": (0.05, 0.1, 0.2, 0.35, 1.0),
    "rows": (0.01, 0.03, 0.1, 0.17, 0.3, 1.0),
    "rows, int8": (0.01, 0.03, 0.1, 0.17, 0.3, 1.0),
}


def levels(bench: Bench) -> list[Figures]:
    """Error against time of each level, with guards that reuse as much as the level can."""
    rows: list[Figures] = []
    for letter, count in LINES.items():
        with tempfile.TemporaryDirectory() as folder:
            rows += _of_workload(bench, letter, bench.cut(count), Path(folder))
    return rows


def _of_workload(bench: Bench, letter: str, count: int, folder: Path) -> list[Figures]:
    work = WORKLOADS[letter]()
    model, tokenizer = model_of(work.model)
    data = write_lines(bench.shop.folder / f"levels-{letter}.txt", work.sample[:count])
    requests = text_requests(bench, f"levels-{letter}", work.model, work.requests[:REQUESTS])
    original = runner(model)
    found: dict[str, Runner] = {}
    rows: list[Figures] = []
    for level in ("probs", "output"):
        # The tolerance allows any angle up to a right one.
        options = {"tokenizer": tokenizer, "level": level, "tolerance": 1.0}
        made = bench.shop.bundle(f"levels-{letter}-{level}", model, data, **options)
        if made.path is None:
            rows.append({"workload": letter, "level": level, "reason": f"{level}: {made.reason[:300]}"})
        else:
            found[level] = best(made.path)
    stored = read_samples(data, model_inputs(OpenedModel(model)), tokenizer)
    order = sorted(range(int(STORED * len(stored))), key=stored.extent)
    found |= rows_runners(model, stored.take(order), folder)
    tried = [found[level].at(value) for level in found for value in STRICTNESS[level]]
    told = [(level, value) for level in found for value in STRICTNESS[level]]
    ratios = bench.race([original, *tried], requests)
    for (level, value), ours, got in zip(told, tried, ratios, strict=True):
        error = summary(errors_of(original, ours, requests), TOLERANCE)
        rows.append({"workload": letter, "level": level, "strictness": value, "ratio": got, **error})
    return rows


def rows_runners(path: Path, stored: Samples, folder: Path) -> dict[str, Runner]:
    """The level `rows` with the loosest bound that is ever tried, its products in floats and in int8."""
    opened = OpenedModel(path)
    captured = capture_rows(opened, stored, folder, lambda: None)
    every = np.ones(len(stored), np.bool_)
    network = fit_rows_key(captured, every)
    keys = network(captured.means)
    write_influence(captured, keys, every, EPSILON, MOST_CHANGE, lambda: None)
    pairs = neighbour_pairs(keys, captured.lengths)
    corrections = fit_corrections(captured, pairs, EPSILON, LIMIT, lambda: None)
    found = {}
    for level, products in (("rows", []), ("rows, int8", int8_products(opened, stored))):
        settings = RowsSettings(network, corrections, BOUNDS[-1], products)
        blueprint = RowsBlueprint(opened.encoder, captured, settings)
        found[level] = Runner(RowsTrial(opened, blueprint).session)
    return found


def levels_picture(rows: Sequence[Figures]) -> str:
    """Error against time: a panel for each workload, a curve for each level."""
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    shown: dict[str, dict[str, Curve]] = {}
    for row in rows:
        if not row.get("reason"):
            heading = f"({row['workload']}) {WORKLOADS[row['workload']]().title}"
            panel = panels.setdefault(heading, {level: [] for level in STRICTNESS})
            panel[row["level"]].append((row["ratio"], row["p95"]))
    for heading, panel in panels.items():
        shown[heading] = {level: sorted(points) for level, points in panel.items() if points}
    across, up = "time relative to the original", "95th percentile of 1 - cosine, pooled"
    return curves("Error against time, by level", shown, TOLERANCE, across, up)
