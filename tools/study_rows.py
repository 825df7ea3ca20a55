"""Which rows to run, and what to add to those that do not: tables and picture of `docs/rows.md`.

Run as `python -m tools.study_rows [--only a,e]`. The method of level `rows` is simulated for BERT-like
encoders: weights are read from the exported model, keys and values are stored in half precision. Selectors
and corrections are tried on unseen requests, each against its nearest stored input of the same length.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from models import antiberty, minilm
from models.bring import CACHE
from models.fetch import RecipeError
from tools.pages import write_section
from tools.workloads import WORKLOADS

MODELS = {"antiberty": (antiberty.bring, 8), "minilm": (minilm.bring, 12)}  # and the number of heads
RESULTS = Path(".cache") / "study_rows.json"
STORED, UNSEEN = {"a": 300, "b": 300, "e": 500}, 150
NEAR = 60  # neighbours that an entry learns its influence from
NEIGHBOURS = 3  # pairs that each stored input gives to the fit
EPSILON, MOST = 0.01, 8.0  # a row is changed above the one, and counts at most as the other
HELD = 4  # one in so many stored inputs judges the ridge
TOLERANCES = {"a": (0.01, 0.002), "b": (0.01, 0.002), "e": (0.03, 0.01)}
RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # relative to the mean square of a feature
# Bounds of each selector: for variants of antibodies, and for text. Infinite: only the changed rows run.
Bounds = tuple[list[float], list[float]]
SUMS: Bounds = ([math.inf, 0.025, 0.018, 0.01, 0.0065, 0.004], [math.inf, 0.08, 0.06, 0.04, 0.025, 0.012])
CHANGES: Bounds = ([math.inf, 0.12, 0.07, 0.045, 0.03, 0.02], [math.inf, 0.3, 0.2, 0.14, 0.09, 0.06])
SINGLE: Bounds = ([math.inf, 0.03, 0.02, 0.013, 0.009, 0.006], [math.inf, 0.13, 0.1, 0.09, 0.075, 0.06])
GROWING: Bounds = ([math.inf, 0.15, 0.05, 0.03, 0.018, 0.01], [math.inf, 0.3, 0.18, 0.12, 0.08, 0.06])
TRUTH: Bounds = ([math.inf, 3.0, 1.8, 1.2, 0.8, 0.4], [math.inf, 2.7, 1.8, 1.2, 0.8, 0.5])


class Encoder:
    """A BERT encoder with normalization behind each block, its weights read from the exported model."""

    def __init__(self, folder: Path, heads: int) -> None:
        graph = onnx.load(folder / "model.onnx").graph
        self.heads = heads
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.w = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
        reader = {name: node for node in graph.node for name in node.input}
        for node in graph.node:  # the exporter names matrices by number, and biases as they were
            if node.op_type == "MatMul" and node.input[1] in self.w:
                (bias,) = (name for name in reader[node.output[0]].input if name in self.w)
                self.w[bias.replace(".bias", ".weight")] = self.w[node.input[1]]
        self.layers = sum(name.endswith("query.bias") for name in self.w)

    def embed(self, line: str) -> Tensor:
        """The hidden states [n, d] at the encoder's input."""
        ids = torch.tensor(self.tokenizer.encode(line).ids)
        word, place, kind = (
            self.w[f"embeddings.{k}_embeddings.weight"] for k in ("word", "position", "token_type")
        )
        return self._norm(word[ids] + place[: len(ids)] + kind[0], "embeddings.LayerNorm")

    def project(self, layer: int, x: Tensor) -> list[Tensor]:
        """Query, key and value [H, R, d / H] of rows."""
        names = (f"encoder.layer.{layer}.attention.self.{k}" for k in ("query", "key", "value"))
        return [self._linear(x, name).view(len(x), self.heads, -1).transpose(0, 1) for name in names]

    def finish(self, layer: int, x: Tensor, probabilities: Tensor, value: Tensor) -> Tensor:
        """The rows behind the layer: what they attend to, projected and fed forward."""
        at = f"encoder.layer.{layer}."
        context = (probabilities @ value).transpose(0, 1).reshape(len(x), -1)
        x = self._norm(
            x + self._linear(context, f"{at}attention.output.dense"), f"{at}attention.output.LayerNorm"
        )
        inner = functional.gelu(self._linear(x, f"{at}intermediate.dense"))
        return self._norm(x + self._linear(inner, f"{at}output.dense"), f"{at}output.LayerNorm")

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return torch.addmm(self.w[f"{name}.bias"], x, self.w[f"{name}.weight"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return functional.layer_norm(x, x.shape[1:], self.w[f"{name}.weight"], self.w[f"{name}.bias"], 1e-12)


def attention(query: Tensor, key: Tensor) -> Tensor:
    """The probabilities [H, R, n]."""
    return torch.softmax(query @ key.transpose(1, 2) / math.sqrt(query.shape[2]), -1)


@dataclass(eq=False)
class Entry:
    """One stored run; all but the final states in half precision. `states` inside serve `growing` only."""

    states: list[Tensor]  # [n, d] before each layer
    keys: list[Tensor]  # [H, n, d / H]
    values: list[Tensor]
    attention: list[Tensor]  # [n, n], averaged over heads
    final: Tensor  # [n, d]
    learned: Tensor | None = None  # influence as learned from its neighbours

    @functools.cached_property
    def influence(self) -> Tensor:
        """Attention rollout (Abnar and Zuidema, 2020): of row t by row j at [t, j]."""
        product = torch.eye(len(self.final))
        for probabilities in self.attention:
            product = (probabilities.float() @ product + product) / 2
        return product


def captured(encoder: Encoder, line: str) -> Entry:
    """The entry of a line."""
    entry = Entry([], [], [], [], x := encoder.embed(line))
    for layer in range(encoder.layers):
        query, key, value = encoder.project(layer, x)
        probabilities = attention(query, key)
        for kept, part in ((entry.states, x), (entry.keys, key), (entry.values, value)):
            kept.append(part.half())
        entry.attention.append(probabilities.mean(0).half())
        x = encoder.finish(layer, x, probabilities, value)
    return Entry(entry.states, entry.keys, entry.values, entry.attention, x)


@dataclass(frozen=True, eq=False)
class Pair:
    """A request, which entry serves it, and what its output should be."""

    entry: Entry
    states: Tensor  # the request's own, at the encoder's input
    final: Tensor  # and at its output

    @functools.cached_property
    def change(self) -> Tensor:
        """The relative change of each row at the encoder's input; 0 where it is not changed."""
        stored = self.entry.states[0].float()
        change = relative(self.states, stored)
        return torch.where(change > EPSILON, change.clamp(max=MOST), 0.0)

    @functools.cached_property
    def changed(self) -> Tensor:
        """Which rows are changed."""
        return self.change > 0

    @functools.cached_property
    def score(self) -> Tensor:
        """How much the changed rows influence each row."""
        return self.entry.influence @ self.change


def relative(states: Tensor, stored: Tensor) -> Tensor:
    """The relative L2 distance of each row."""
    change: Tensor = torch.linalg.vector_norm(states - stored, dim=1) / torch.linalg.vector_norm(
        stored, dim=1
    )
    return change


def nearest(states: Sequence[Tensor], stored: Sequence[Tensor], count: int) -> list[list[int]]:
    """For each input the stored ones of its length, nearest first; never those of distance 0.

    Distance: the relative squared change of a row, summed over rows. Rows are normalized, of one length.
    """
    flat = [functional.normalize(x, dim=1).flatten() for x in stored]
    found = []
    for x in states:
        own = functional.normalize(x, dim=1).flatten()
        same = [n for n, other in enumerate(flat) if len(other) == len(own)]
        far = {n: float((own - flat[n]).square().sum()) for n in same}
        found.append(sorted((n for n in same if far[n] > 1e-3), key=far.__getitem__)[:count])
    return found


# ---- Selectors: which rows run in each layer

Plan = Callable[[int, Tensor], tuple[Tensor, Tensor]]  # layer, change -> predicted change, mask of rows


def leave_out(pair: Pair, score: Tensor, bound: float) -> Tensor:
    """All rows but those of least score whose sum is at most `bound` times the number of rows."""
    order = torch.argsort(torch.where(pair.changed, torch.inf, score), stable=True)
    left = torch.cumsum(score[order], 0) <= bound * len(score)
    mask = torch.ones_like(pair.changed)
    mask[order[left]] = False
    return mask | pair.changed


def fixed(mask: Tensor) -> Plan:
    """The same rows in all layers."""
    return lambda _, change: (change, mask)


def growing(pair: Pair, bound: float, keep: float = 0.7) -> Plan:
    """Rows whose change, predicted layer by layer and measured on the rows that ran, is above the bound."""

    def plan(layer: int, change: Tensor) -> tuple[Tensor, Tensor]:
        change = keep * change + (1 - keep) * (pair.entry.attention[layer].float() @ change)
        return change, change > bound

    return plan


def learned(pair: Pair, bound: float) -> Plan:
    """As `leftover`, with the learned influence."""
    assert pair.entry.learned is not None
    return fixed(leave_out(pair, pair.entry.learned @ pair.change, bound))


def oracle(pair: Pair, bound: float) -> Plan:
    """As `leftover`, by how much each row's final state truly changes: what no selector can know."""
    return fixed(leave_out(pair, (pair.final - pair.entry.final).norm(dim=1), bound))


SELECTORS: dict[str, tuple[Callable[[Pair, float], Plan], Bounds]] = {
    "leftover": (lambda pair, bound: fixed(leave_out(pair, pair.score, bound)), SUMS),
    "learned": (learned, CHANGES),
    "threshold": (lambda pair, bound: fixed(pair.score > bound), SINGLE),
    "adaptive": (growing, GROWING),
    "oracle": (oracle, TRUTH),
}


def learn_influence(neighbours: Sequence[Pair]) -> None:
    """Fit the influence in the entry that all these pairs have: a ridge step from the scaled rollout.

    It shall predict the relative change of each final state. No run is needed.
    """
    entry = neighbours[0].entry
    changes = torch.stack([pair.change for pair in neighbours])
    wanted = torch.stack([relative(pair.final, entry.final) for pair in neighbours])
    rollout = changes @ entry.influence.T
    scale = (wanted * rollout).sum() / rollout.square().sum()
    gram = changes @ changes.T + torch.eye(len(changes))
    step = torch.linalg.solve(gram, wanted - scale * rollout).T @ changes
    entry.learned = (scale * entry.influence + step).clamp(min=0)


@dataclass(frozen=True, eq=False)
class Run:
    """What a partial run gave: the rows that ran in the last layer, their final states, row-layers run."""

    pair: Pair
    rows: Tensor
    final: Tensor
    cost: float


def run(encoder: Encoder, pair: Pair, plan: Plan) -> Run:
    """Run a request's rows by a plan; a row that ran once runs in all later layers."""
    entry, mask, change, x, cost = pair.entry, pair.changed, pair.change, pair.states, 0
    for layer in range(encoder.layers):
        change, more = plan(layer, change)
        mask = mask | more
        rows = mask.nonzero()[:, 0]
        cost += len(rows)
        query, new_key, new_value = encoder.project(layer, x[rows])
        key, value = entry.keys[layer].float(), entry.values[layer].float()
        key[:, rows], value[:, rows] = new_key, new_value
        ran = encoder.finish(layer, x[rows], attention(query, key), value)
        stored = [*entry.states[1:], entry.final][layer].float()
        change, x = change.clone(), stored.clone()
        change[rows], x[rows] = relative(ran, stored[rows]), ran
    return Run(pair, rows, ran, cost / (encoder.layers * len(x)))


# ---- Corrections of the rows that did not run


def from_all(made: Run) -> Tensor:
    """What all rows that ran pass on: their final changes."""
    return made.pair.entry.influence[:, made.rows] @ (made.final - made.pair.entry.final[made.rows])


def from_changed(made: Run) -> Tensor:
    """What the changed rows pass on: their final changes."""
    which = made.pair.changed[made.rows]
    rows = made.rows[which]
    return made.pair.entry.influence[:, rows] @ (made.final[which] - made.pair.entry.final[rows])


def with_inputs(made: Run) -> Tensor:
    """Beside it, the changes of the changed rows at the encoder's input."""
    stored = made.pair.entry.states[0].float()
    inputs = torch.where(made.pair.changed[:, None], made.pair.states - stored, 0.0)
    return torch.cat([from_changed(made), made.pair.entry.influence @ inputs], 1)


Features = Callable[[Run], Tensor]
CORRECTIONS: dict[str, Features] = {"changed rows": from_changed, "changed rows, inputs": with_inputs}


def error(made: Run, features: Features | None = None, matrix: Tensor | None = None) -> float:
    """1 - cosine of the mean-pooled output."""
    out, true = made.pair.entry.final, made.pair.final.mean(0)
    if features and matrix is not None:
        out = out + features(made) @ matrix
    out = out.index_copy(0, made.rows, made.final).mean(0)
    return float(1 - out @ true / (out.norm() * true.norm()))


def _changed(pair: Pair) -> Tensor:
    return pair.changed


def _left(bound: float, pair: Pair) -> Tensor:
    return leave_out(pair, pair.score, bound)


@dataclass(eq=False)
class Fit:
    """Ridge regression of stored inputs' final changes on what the rows of their neighbours pass on.

    Each stored input is the request of its nearest neighbours. No run is needed: their changes are known.
    """

    pairs: Sequence[tuple[int, int, Pair]]  # request, entry, both by number, and what they make
    features: Features
    select: Callable[[Pair], Tensor]  # the rows that count as run

    def __post_init__(self) -> None:
        self.used, self.rest = [[torch.zeros(()), torch.zeros(())] for _ in range(2)]
        self.judges: dict[int, Run] = {}
        for request, entry, pair in self.pairs:
            rows = self.select(pair).nonzero()[:, 0]
            made = Run(pair, rows, pair.final[rows], 0.0)
            idle = torch.ones(len(pair.final), dtype=torch.bool).index_fill(0, rows, False)
            x, y = self.features(made)[idle], (pair.final - pair.entry.final)[idle]
            held = [number % HELD == 0 for number in (request, entry)]
            to = self.rest if any(held) else self.used  # both ends, since a pair has a mirror image
            to[0], to[1] = to[0] + x.T @ x, to[1] + x.T @ y
            if held == [True, False]:
                self.judges.setdefault(request, made)

    def ridge(self) -> float:
        """The best on stored inputs held back."""
        errors = {}
        for ridge in RIDGES:
            matrix = self._solve(self.used, ridge)
            errors[ridge] = np.mean([error(made, self.features, matrix) for made in self.judges.values()])
        return min(errors, key=errors.__getitem__)

    def matrix(self, ridge: float) -> Tensor:
        """The matrix, from all pairs."""
        return self._solve([a + b for a, b in zip(self.used, self.rest, strict=True)], ridge)

    @staticmethod
    def _solve(products: list[Tensor], ridge: float) -> Tensor:
        gram, cross = (part.double() for part in products)
        gram = gram + ridge * gram.diagonal().mean() * torch.eye(len(gram))
        matrix: Tensor = torch.linalg.solve(gram, cross).float()
        return matrix


# ---- The study

Curve = list[tuple[float, float, float]]  # share of row-layers, mean and 95th percentile of the error


def measured(
    runs: Sequence[Run], features: Features | None = None, matrix: Tensor | None = None
) -> tuple[float, float, float]:
    """A point of a curve."""
    errors = [error(made, features, matrix) for made in runs]
    return (
        float(np.mean([made.cost for made in runs])),
        float(np.mean(errors)),
        float(np.quantile(errors, 0.95)),
    )


def study(name: str) -> dict[str, Any]:
    """All of one workload: curves by selector and correction, and notes on the fit."""
    work = WORKLOADS[name]()
    bring, heads = MODELS[work.model]
    encoder = Encoder(bring(CACHE), heads)
    entries = [captured(encoder, line) for line in work.sample[: STORED[name]]]
    inputs = [entry.states[0].float() for entry in entries]
    requests = []
    for line in work.requests[:UNSEEN]:
        states = encoder.embed(line)
        for n in nearest([states], inputs, 1)[0]:
            requests.append(Pair(entries[n], states, captured(encoder, line).final))
    near = nearest(inputs, inputs, NEAR)

    def pair(request: int, entry: int) -> Pair:
        return Pair(entries[entry], inputs[request], entries[request].final)

    for entry, others in enumerate(near):
        learn_influence([pair(n, entry) for n in others])
    pairs = [
        (n, m, pair(n, m))
        for at in range(NEIGHBOURS)
        for n, found in enumerate(near)
        for m in found[at : at + 1]
    ]
    fits = {title: Fit(pairs, features, _changed) for title, features in CORRECTIONS.items()}
    matrices = {title: made.matrix(made.ridge()) for title, made in fits.items()}
    result: dict[str, Any] = {"curves": {}}
    kept = []
    for title, (select, bounds) in SELECTORS.items():
        curves: dict[str, Curve] = {correction: [] for correction in ("none", *CORRECTIONS)}
        for bound in bounds[work.model == "minilm"]:
            runs = [run(encoder, pair, select(pair, bound)) for pair in requests]
            if title == "leftover":
                kept.append((bound, runs))
            curves["none"].append(measured(runs))
            for correction, features in CORRECTIONS.items():
                curves[correction].append(measured(runs, features, matrices[correction]))
        result["curves"][title] = curves
        print(name, title, json.dumps(curves), f"{time.process_time():.0f} s", flush=True)
    result["fits"] = how_fitted(pairs, kept[1:5:2])
    return result


def how_fitted(
    pairs: list[tuple[int, int, Pair]], kept: Sequence[tuple[float, list[Run]]]
) -> dict[str, list[float]]:
    """The 95th percentile at some bounds of `leftover`, by how the matrix was fitted."""
    told = {"share of rows": [measured(runs)[0] for _, runs in kept]}

    def at(title: str, *correction: Any) -> None:
        told[title] = [measured(runs, *correction)[2] for _, runs in kept]

    at("no correction")
    for part in (9, 3, 1):
        made = Fit(pairs[: len(pairs) // part], from_changed, _changed)
        at(f"{len(made.pairs)} pairs, best ridge: {made.ridge()}", from_changed, made.matrix(made.ridge()))
    for ridge in RIDGES:
        at(f"{len(made.pairs)} pairs, ridge {ridge}", from_changed, made.matrix(ridge))
    for number, (bound, _) in enumerate(kept, 1):
        for title, features in (("changed rows", from_changed), ("all rows that ran", from_all)):
            made = Fit(pairs, features, functools.partial(_left, bound))
            at(f"{title}, fitted at bound {number}", features, made.matrix(made.ridge()))
    return told


# ---- Result

COLORS = {title: number for number, title in enumerate(SELECTORS)}
STYLE = """text{font:12px sans-serif;fill:#1f2937}path{fill:none;stroke-width:2}line{stroke:#9ca3af}
.c0{stroke:#2563eb}.c1{stroke:#d97706}.c2{stroke:#059669}.c3{stroke:#9333ea}.c4{stroke:#6b7280}
@media(prefers-color-scheme:dark){text{fill:#e5e7eb}line{stroke:#4b5563}
.c0{stroke:#60a5fa}.c1{stroke:#f59e0b}.c2{stroke:#34d399}.c3{stroke:#c084fc}.c4{stroke:#9ca3af}}"""
LEARNED = next(iter(CORRECTIONS))


def needed(curve: Curve, tolerance: float) -> str:
    """The share of row-layers at which the 95th percentile reaches the tolerance, interpolated."""
    cost, errors = [point[0] for point in curve], [math.log(max(point[2], 1e-9)) for point in curve]
    wanted = math.log(tolerance)
    if errors[0] <= wanted:
        return f"{cost[0]:.3f} or less"
    for n in range(1, len(curve)):
        if errors[n] <= wanted:
            part = (errors[n - 1] - wanted) / (errors[n - 1] - errors[n])
            return f"{cost[n - 1] + part * (cost[n] - cost[n - 1]):.3f}"
    return f"above {cost[-1]:.3f}"


def tables(results: dict[str, Any]) -> dict[str, str]:
    """The sections of the page by name."""
    heads = [f"({name}) {tolerance:g}" for name in results for tolerance in TOLERANCES[name]]
    need = [f"| selector | correction | {' | '.join(heads)} |", "|---" * (len(heads) + 2) + "|"]
    for title in SELECTORS:
        for correction in ("none", *CORRECTIONS):
            cells = [
                needed(result["curves"][title][correction], tolerance)
                for name, result in results.items()
                for tolerance in TOLERANCES[name]
            ]
            need.append(f"| {title} | {correction} | {' | '.join(cells)} |")
    curves, fits = [], []
    for name, result in results.items():
        curves += [
            f"\n({name}) {WORKLOADS[name]().title}:\n",
            "| selector | row-layers: 95th percentile |",
            "|---|---|",
        ]
        for title, by_correction in result["curves"].items():
            for correction in ("none", LEARNED):
                points = ", ".join(f"{cost:.3f}: {p95:.4f}" for cost, _, p95 in by_correction[correction])
                curves.append(f"| {title}, {correction} | {points} |")
        fits += [f"\n({name}):\n", "| | bound 1 | bound 2 |", "|---|---|---|"]
        fits += [
            f"| {how} | {' | '.join(f'{x:.4f}' for x in values)} |" for how, values in result["fits"].items()
        ]
    parts = {"needed": need, "curves": curves, "fits": fits}
    return {name: "\n".join(lines) + "\n" for name, lines in parts.items()}


def picture(results: dict[str, Any]) -> str:
    """Error against row-layers, a panel for each workload, as SVG for light and dark pages."""
    drawn, wide, high, low, top = [], 280, 230, 5e-4, 0.2

    def y(value: float) -> float:
        return 290 - high * math.log(min(max(value, low), top) / low) / math.log(top / low)

    for number, (name, result) in enumerate(results.items()):
        left = 55 + (wide + 35) * number
        drawn.append(f'<text x="{left}" y="50" style="font-weight:600">({name}) ')
        drawn.append(f"{escape(WORKLOADS[name]().title)}</text>")
        for share_run in (0.0, 0.25, 0.5, 0.75, 1.0):
            x = left + wide * share_run
            drawn.append(f'<text x="{x}" y="306" text-anchor="middle">{share_run:g}</text>')
        for value in sorted({0.001, 0.01, 0.1, *TOLERANCES[name]}):
            dashes = ' stroke-dasharray="5 4"' if value in TOLERANCES[name] else ""
            drawn.append(
                f'<line x1="{left}" x2="{left + wide}" y1="{y(value):.1f}" y2="{y(value):.1f}"{dashes}/>'
            )
            drawn.append(f'<text x="{left - 5}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
        for title, color in COLORS.items():
            for correction in ("none", LEARNED):
                points = result["curves"][title][correction]
                at = "L".join(f"{left + wide * cost:.1f} {y(p95):.1f}" for cost, _, p95 in points)
                dashes = ' stroke-dasharray="3 4"' if correction == "none" else ""
                drawn.append(f'<path class="c{color}" d="M{at}"{dashes}/>')
    for number, (title, color) in enumerate(COLORS.items()):
        drawn.append(f'<path class="c{color}" d="M{55 + 110 * number} 22h18"/>')
        drawn.append(f'<text x="{78 + 110 * number}" y="26">{title}</text>')
    drawn.append('<text x="620" y="26">solid: with correction; dotted: without</text>')
    drawn.append(
        '<text x="55" y="326">across: share of row-layers run; up: 95th percentile of 1 - cosine</text>'
    )
    size = (
        f'viewBox="0 0 {70 + (wide + 35) * len(results)} 335" role="img" aria-label="Error against rows run"'
    )
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{STYLE}</style>{"".join(drawn)}</svg>\n'


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
        except RecipeError as error:
            print(f"study_rows: {error}", file=sys.stderr)
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
