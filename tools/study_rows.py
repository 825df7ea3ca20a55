"""Which rows to run, and what to add to those that do not: tables and picture of `docs/rows.md`.

Run as `python -m tools.study_rows [--only a,e]`. The method of level `rows` is simulated for BERT-like
encoders: weights are read from the exported model, keys and values are stored in half precision. Selectors
and corrections are tried on unseen requests, each against its nearest stored input of the same length. The
parts are in `tools/study/`.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models import antiberty, minilm
from models.bring import CACHE
from models.fetch import RecipeError
from tools.pages import write_section
from tools.study.corrections import (
    RIDGES,
    Correction,
    Fit,
    Pairs,
    error,
    from_all,
    from_changed,
    from_changed_until,
)
from tools.study.encoder import Encoder, Entry, captured
from tools.study.page import CORRECTED, NONE, P95, picture, tables
from tools.study.partial import Pair, Run, nearest, run
from tools.study.selectors import (
    Neighbours,
    Selector,
    by_influence,
    fixed,
    growing,
    learned_influence,
    learned_passes,
    leave_out,
    rollouts,
    stages,
    true_change,
)
from tools.workloads import WORKLOADS

MODELS = {"antiberty": (antiberty.bring, 8), "minilm": (minilm.bring, 12)}  # and the number of heads
RESULTS = Path(".cache") / "study_rows.json"
STORED, UNSEEN = {"a": 300, "b": 300, "e": 500}, {"a": 150, "b": 150, "e": 300}
NEAR = 60  # neighbours that an entry learns from
NEIGHBOURS = 3  # pairs that each stored input gives to the fit of the correction
INF = math.inf
# Bounds of each selector: for variants of antibodies, and for text.
ATTENDED = ([INF, 0.1, 0.06, 0.035, 0.022, 0.014, 0.009], [INF, 0.3, 0.2, 0.14, 0.1, 0.075, 0.055])
STAGED = ([INF, 0.35, 0.25, 0.18, 0.14, 0.1, 0.07, 0.045], [INF, 0.7, 0.5, 0.35, 0.25, 0.18, 0.12, 0.08])
BOUNDS = {
    "leftover": ([INF, 0.018, 0.01, 0.0065, 0.004, 0.0025], [INF, 0.08, 0.06, 0.04, 0.025, 0.012, 0.006]),
    "learned": ([INF, 0.12, 0.07, 0.045, 0.03, 0.02, 0.013], [INF, 0.3, 0.2, 0.14, 0.09, 0.06, 0.04]),
    "adaptive": ATTENDED,
    "staged": STAGED,
    "staged, every layer": STAGED,
    "staged, limited starts": STAGED,
    "staged, plain starts": STAGED,
    "staged, not learned": ATTENDED,
    "oracle": ([INF, 3.0, 1.8, 1.2, 0.8, 0.4], [INF, 2.7, 1.8, 1.2, 0.8, 0.5]),
}


def study(name: str) -> dict[str, Any]:
    """All of one workload: curves by selector and correction, and notes on the fit."""
    work = WORKLOADS[name]()
    bring, heads = MODELS[work.model]
    encoder = Encoder(bring(CACHE), heads)
    entries = [captured(encoder, line) for line in work.sample[: STORED[name]]]
    inputs = [entry.at(0) for entry in entries]
    requests = []
    for line in work.requests[: UNSEEN[name]]:
        whole = captured(encoder, line, torch.float32)
        for n in nearest([whole.at(0)], inputs, 1)[0]:
            requests.append(Pair(entries[n], whole))
    near = nearest(inputs, inputs, NEAR)
    neighbours = {entries[n]: [entries[m] for m in found] for n, found in enumerate(near)}
    pairs = [
        (n, m, Pair(entries[m], entries[n]))
        for at in range(NEIGHBOURS)
        for n, found in enumerate(near)
        for m in found[at : at + 1]
    ]
    correction = Fit(pairs, encoder.layers).correction()
    print(name, len(requests), f"requests; fitted: {time.process_time():.0f} s", flush=True)
    result: dict[str, Any] = {"curves": {}}
    kept = []
    for title, select in selectors(neighbours, pairs).items():
        curves: dict[str, list[tuple[float, float, float]]] = {NONE: [], CORRECTED: []}
        for bound in BOUNDS[title][work.model == "minilm"]:
            runs = [run(encoder, pair, select(pair, bound)) for pair in requests]
            if title == "leftover":
                kept.append((bound, runs))
            curves[NONE].append(measured(runs))
            curves[CORRECTED].append(measured(runs, correction))
        result["curves"][title] = curves
        print(name, title, json.dumps(curves), f"{time.process_time():.0f} s", flush=True)
    result["fits"] = how_fitted(pairs, kept[1:5:2])
    return result


def selectors(neighbours: Neighbours, pairs: Pairs) -> dict[str, Selector]:
    """All that are compared; what they learn of an entry is learned once."""
    layers = len(next(iter(neighbours)).states)
    begins = stages(layers)
    starts = {at: Fit(pairs, at, from_changed_until(at)).correction() for at in range(1, layers)}
    whole = {begin: Fit(pairs, begin).correction() for begin in begins[1:]}

    @functools.cache
    def influence(entry: Entry) -> Tensor:
        return learned_influence(entry, neighbours[entry])

    @functools.cache
    def learned(entry: Entry) -> dict[int, Tensor]:
        return learned_passes(entry, neighbours[entry], begins)

    @functools.cache
    def every(entry: Entry) -> dict[int, Tensor]:
        return learned_passes(entry, neighbours[entry], range(layers))

    @functools.cache
    def plain(entry: Entry) -> dict[int, Tensor]:
        return rollouts(entry, begins)

    return {
        "leftover": fixed(by_influence(lambda entry: entry.influence)),
        "learned": fixed(by_influence(influence)),
        "adaptive": growing(functools.cache(lambda entry: rollouts(entry, range(layers)))),
        "staged": growing(learned, starts),
        "staged, every layer": growing(every, starts),
        "staged, limited starts": growing(learned, whole, limited=True),
        "staged, plain starts": growing(learned),
        "staged, not learned": growing(plain, starts),
        "oracle": fixed(true_change),
    }


def measured(runs: Sequence[Run], correction: Correction | None = None) -> tuple[float, float, float]:
    """A point of a curve."""
    errors = [error(made, correction) for made in runs]
    return (
        float(np.mean([made.cost for made in runs])),
        float(np.mean(errors)),
        float(np.quantile(errors, 0.95)),
    )


def how_fitted(pairs: Pairs, kept: Sequence[tuple[float, list[Run]]]) -> dict[str, list[float]]:
    """The 95th percentile at some bounds of `leftover`, by how the matrix was fitted."""
    told = {"share of rows": [measured(runs)[0] for _, runs in kept]}
    layers = len(pairs[0][2].entry.states)

    def at(title: str, correction: Correction | None = None) -> None:
        told[title] = [measured(runs, correction)[P95] for _, runs in kept]

    at("no correction")
    for part in (9, 3, 1):
        made = Fit(pairs[: len(pairs) // part], layers)
        at(f"{made.pairs} pairs, best ridge: {made.ridge()}", made.correction())
    for ridge in RIDGES:
        at(f"{made.pairs} pairs, ridge {ridge}", made.correction(ridge))
    for number, (bound, _) in enumerate(kept, 1):
        for title, features in (("changed rows", from_changed), ("all rows that ran", from_all)):
            made = Fit(pairs, layers, features, functools.partial(_left, bound))
            at(f"{title}, fitted at bound {number}", made.correction())
    return told


def _left(bound: float, pair: Pair) -> Tensor:
    return leave_out(pair, pair.entry.influence @ pair.change, bound)


def main() -> int:
    """Run the study and write its tables and picture; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(STORED), help="default: %(default)s")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder of rows.md")
    parser.add_argument("--results", type=Path, default=RESULTS, help="what former runs found")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    for name in filter(None, arguments.only.split(",")):
        try:
            result = study(name)
        except RecipeError as problem:
            print(f"study_rows: {problem}", file=sys.stderr)
            return 1
        former = json.loads(arguments.results.read_text()) if arguments.results.is_file() else {}
        arguments.results.parent.mkdir(parents=True, exist_ok=True)
        arguments.results.write_text(json.dumps(former | {name: result}), encoding="utf-8")
    results = json.loads(arguments.results.read_text())
    results = {name: results[name] for name in STORED if name in results}
    for name, text in tables(results).items():
        write_section(arguments.docs / "rows.md", name, text)
    (arguments.docs / "rows.svg").write_text(picture(results), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
