"""Which key picks the entry that is best reused: the section "Keys" of `docs/benchmarks.md`.

Run as `python -m tools.compare_keys [--only a,b]`. At every site of AntiBERTy, level `output`, each key is
fitted to 300 stored variants and tried on 120 unseen ones. A new key is one more line in `SCHEMES`.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort
from rich.console import Console

from models import antiberty
from models.bring import CACHE
from models.fetch import RecipeError, place, sha256, workspace
from onnx_memo.commands.progress import show_progress
from onnx_memo.data.readers import read_samples
from onnx_memo.data.samples import Samples, model_inputs
from onnx_memo.graph.build import Builder
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.graph.probe import add_outputs
from onnx_memo.keys.fixed import fit_keys
from onnx_memo.keys.learned import fit_learned, sketch
from onnx_memo.keys.network import KeyNetwork, segment_means
from onnx_memo.keys.nodes import emit_key
from onnx_memo.operators.spec import SEGMENTS
from onnx_memo.progress import Progress
from onnx_memo.runtime import session_options
from onnx_memo.sessions import open_session
from tools.measure import machine
from tools.pages import write_section
from tools.workloads import WORKLOADS, Workload

STORED, UNSEEN = 300, 120
NEAREST = 8  # entries that the second stage compares
OPSET = 17
RUNS = 200
EVICTED = 48 << 20  # bytes read between two timed runs: weights come from memory, as in a real request

FloatArray = npt.NDArray[np.float32]
Key = Callable[[FloatArray], FloatArray]  # segment means [n, SEGMENTS * d] -> keys [n, k]


@dataclass(frozen=True, eq=False)
class Site:
    """What reuse costs at one site. Inputs of different length are infinitely far and wrong."""

    lengths: npt.NDArray[np.int64]  # [STORED + UNSEEN], as all that follow: the stored ones first
    means: FloatArray  # [STORED + UNSEEN, SEGMENTS * d]
    sketches: FloatArray  # [STORED + UNSEEN, m]: of the payloads, scaled so that distances are errors
    error: FloatArray  # [STORED + UNSEEN, STORED]: relative L2 error of input i with the payload of entry j
    states: FloatArray  # [STORED + UNSEEN, STORED]: L2 distance of the hidden states, in half precision

    @functools.cached_property
    def stored(self) -> Site:
        """The stored inputs alone."""
        return Site(*(getattr(self, part.name)[:STORED] for part in fields(self)))


@dataclass(frozen=True)
class Scheme:
    """A way to pick an entry: a key fitted to the stored inputs, and perhaps a second stage.

    `fit` gets a site with the stored inputs only. A `KeyNetwork` is timed as ONNX nodes; another key is not.
    """

    name: str
    fit: Callable[[Site], Key]
    candidates: int = 1  # above 1: of so many nearest, the one whose stored hidden states are nearest


def _principal(stored: Site) -> Key:
    return fit_keys(stored.means)


@functools.cache  # two schemes share it, and fitting takes its time
def _learned(stored: Site) -> Key:
    return fit_learned(stored.means, stored.sketches, stored.lengths)


SCHEMES = [
    Scheme("principal components", _principal),
    Scheme("learned", _learned),
    Scheme("principal, then states", _principal, NEAREST),
    Scheme("learned, then states", _learned, NEAREST),
    Scheme("segment means as they are", lambda _: lambda means: means),
]


@dataclass(frozen=True)
class Score:
    """How a scheme did at a site."""

    correlation: float  # Spearman's, of key distance and error, over pairs of unseen and stored
    picked: float  # mean error of the picked entry
    best: float  # mean error of the best entry
    hits: float  # share of requests that may hit within the tolerance, see `hits_within`
    microseconds: float | None


def score(scheme: Scheme, site: Site, tokens: int) -> Score:
    """Fit the scheme to the stored inputs of a site and try it on the unseen ones."""
    key = scheme.fit(site.stored)
    keys = key(site.means)
    near = distances(keys[STORED:], keys[:STORED])
    error, states = site.error[STORED:], site.states[STORED:]
    comparable = np.isfinite(error)
    near = np.where(comparable, near, np.inf)
    nearest = np.argsort(near, axis=1, kind="stable")[:, : scheme.candidates]
    second = np.take_along_axis(states, nearest, axis=1).argmin(axis=1)
    entry = nearest[np.arange(len(error)), second]
    rows, best = np.arange(len(error)), error.min(axis=1)
    picked = error[rows, entry]
    hits = hits_within((near if scheme.candidates == 1 else states)[rows, entry], picked, best)
    spent = microseconds(key, tokens) if isinstance(key, KeyNetwork) else None
    if spent is not None and scheme.candidates > 1:
        spent += second_stage_microseconds(tokens, site.means.shape[1] // SEGMENTS)
    correlation = spearman(near[comparable], error[comparable])
    return Score(correlation, float(picked.mean()), float(best.mean()), hits, spent)


def hits_within(distance: FloatArray, picked: FloatArray, best: FloatArray) -> float:
    """The largest hit rate of any threshold on `distance` that leaves 5 % of the requests too wrong.

    Too wrong is above the 95th percentile of the best entries' errors: picking perfectly, all may hit.
    """
    wrong = picked > np.percentile(best, 95)
    order = np.argsort(distance, kind="stable")
    allowed = np.cumsum(wrong[order]) <= 0.05 * len(wrong) + 1e-9
    return float(np.count_nonzero(allowed) / len(wrong))


def distances(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> FloatArray:
    """L2 distances of the rows of `a` to those of `b`: f32[len(a), len(b)]."""
    center = b.mean(axis=0, dtype=np.float64)  # so that the expansion below cancels less
    a, b = a - center, b - center
    squares = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2 * a @ b.T
    found: FloatArray = np.sqrt(np.maximum(squares, 0)).astype(np.float32)
    return found


def spearman(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> float:
    """Spearman's rank correlation; equal values share the mean of their ranks."""
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: npt.NDArray[np.float64] = (last - (counts - 1) / 2)[inverse]
    return ranks


# ---- Capture


def sites_of(work: Workload, model: Path, progress: Progress) -> list[Site]:
    """Means, errors and distances at every site, from the cache where they were taken before."""
    lines = [*work.sample[:STORED], *work.requests[:UNSEEN]]
    cached = CACHE / "keys" / f"{work.name}.npz"
    parts = [part.name for part in fields(Site)]
    made_from = f"{sha256(model / 'model.onnx')} {parts} {lines}"
    if cached.is_file():
        with np.load(cached) as arrays:
            if str(arrays["made_from"]) == made_from:
                return [Site(*(arrays[f"{n}.{part}"] for part in parts)) for n in range(arrays["sites"])]
    found = _capture(lines, model, progress)
    content: dict[str, npt.ArrayLike] = {"made_from": made_from, "sites": len(found)}
    for n, site in enumerate(found):
        content |= {f"{n}.{part}": getattr(site, part) for part in parts}
    with workspace(cached) as folder:
        np.savez(folder / cached.name, **content)  # type: ignore[arg-type]
        place([folder / cached.name], cached.parent)
    return found


def _capture(lines: list[str], model: Path, progress: Progress) -> list[Site]:
    opened = OpenedModel(model / "model.onnx")
    inputs, loaded = model_inputs(opened), opened.model
    sites = opened.findings.sites
    own = len(loaded.graph.outputs)
    wanted = [value for site in sites for value in (site.hidden, site.output)]
    add_outputs(loaded, wanted)
    assert len(loaded.graph.outputs) == own + len(wanted), "no site's value is an output of the model"
    session = open_session(loaded, model, session_options(native=False))
    with workspace(CACHE / "keys" / "states") as folder:
        file = folder / "lines.txt"
        file.write_text("\n".join(lines), encoding="utf-8")
        samples = read_samples(file, inputs, model / "tokenizer.json")
        assert len(samples) == len(lines), "each line is one input"
        derived, kept = _run(session, own, samples, folder, progress)
        advance = progress("comparing inputs", len(sites))
        found = []
        for n in range(len(sites)):
            states, _ = _between(kept[2 * n], samples.lengths)
            payload, norms = _between(kept[2 * n + 1], samples.lengths)
            means, sketches = np.stack(derived[2 * n]), np.stack(derived[2 * n + 1]) / norms.mean()
            lengths = np.asarray(samples.lengths)
            found.append(Site(lengths, means, sketches, payload / norms[:, None], states))
            advance()
    return found


def _run(
    session: ort.InferenceSession, own: int, samples: Samples, folder: Path, progress: Progress
) -> tuple[list[list[FloatArray]], list[npt.NDArray[np.float16]]]:
    """Segment means and sketches of each input, in turn by site; hidden states and payloads likewise.

    The latter are mapped: f16[inputs, longest * width], zeros behind the end.
    """
    longest = max(samples.lengths)
    derived: list[list[FloatArray]] = []
    kept: list[npt.NDArray[np.float16]] = []
    advance = progress("capturing", len(samples))
    for number, feeds in enumerate(samples.arrays):
        results = session.run(None, feeds)[own:]
        for at, value in enumerate(results):
            if len(kept) == at:
                shape = (len(samples), longest * value.shape[2])
                derived.append([])
                kept.append(np.memmap(folder / f"{at}", np.float16, "w+", shape=shape))
            kept[at][number, : value[0].size] = value[0].ravel()
            derived[at].append((segment_means, sketch)[at % 2](value[0]))
        advance()
    return derived, kept


def _between(rows: npt.NDArray[np.float16], lengths: Sequence[int]) -> tuple[FloatArray, FloatArray]:
    """Distances [n, STORED] of rows, infinite between lengths; and the norms [n]."""
    full = rows.astype(np.float32)
    same = np.equal.outer(lengths, lengths[:STORED])
    found: FloatArray = np.where(same, distances(full, full[:STORED]), np.float32(np.inf))
    norms: FloatArray = np.linalg.norm(full, axis=1)
    return found, norms


# ---- Time


def microseconds(network: KeyNetwork, tokens: int) -> float:
    """What the key's nodes add to a run: a graph with them against one without."""
    width = len(network.reduction)
    parts = (network.reduction, network.projection, network.bias)
    rng = np.random.default_rng(0)

    def key(b: Builder, weights: ir.Value, hidden: ir.Value) -> ir.Value:
        reduction, projection, bias = (b.const(part, np.float32) for part in parts)
        return emit_key(b, weights, hidden, reduction, projection, bias)

    weights = np.full((1, SEGMENTS, tokens), 1 / tokens, np.float32)
    return _added(key, weights, rng.standard_normal((1, tokens, width), np.float32))


def second_stage_microseconds(tokens: int, width: int) -> float:
    """What it adds to fetch the nearest entries' hidden states and compare them with the request's."""
    rng = np.random.default_rng(0)
    stored = rng.standard_normal((STORED, tokens, width), np.float32)

    def pick(b: Builder, nearest: ir.Value, hidden: ir.Value) -> ir.Value:
        fetched = b.op("Gather", b.const(stored, np.float16), nearest, axis=0)
        apart = b.op("Sub", b.op("Cast", fetched, to=ir.DataType.FLOAT.value), hidden)
        return b.op("ArgMin", b.op("ReduceSumSquare", apart, axes=[1, 2], keepdims=0), axis=0)

    nearest = rng.permutation(STORED)[:NEAREST].astype(np.int64)
    return _added(pick, nearest, rng.standard_normal((1, tokens, width), np.float32))


def _added(nodes: Callable[..., ir.Value], *arrays: npt.NDArray[Any]) -> float:
    """Microseconds of a graph of these nodes above those of a graph that does nothing with its inputs."""
    feeds = {f"input.{number}": array for number, array in enumerate(arrays)}
    sessions = [_open(lambda b, first, _: b.op("Shape", first), feeds), _open(nodes, feeds)]
    other = np.zeros(EVICTED // 8)
    times = np.zeros((RUNS, 2))
    for turn, which in np.ndindex(times.shape):
        other += 1
        for array in arrays:
            array.sum()  # what came before leaves the hidden states in the cache
        start = time.perf_counter()
        sessions[which].run(None, feeds)
        times[turn, which] = time.perf_counter() - start
    before, after = np.median(times, axis=0)
    return float(after - before) * 1e6


def _open(nodes: Callable[..., ir.Value], feeds: dict[str, npt.NDArray[Any]]) -> ort.InferenceSession:
    b = Builder("timed", OPSET)
    inputs = [ir.val(n, ir.DataType.from_numpy(array.dtype), array.shape) for n, array in feeds.items()]
    result = b.op("Cast", nodes(b, *inputs), to=ir.DataType.FLOAT.value)
    result.type = ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph(inputs, [result], nodes=b.nodes, opset_imports={"": OPSET}, name="timed")
    return open_session(ir.Model(graph, ir_version=10), Path(), session_options(native=False, threads=1))


# ---- Result


def section(scores: dict[str, list[dict[str, Score]]]) -> str:
    """The section's text: for each workload a table of its sites, and of all the means."""
    lines = [
        f"{machine()}. AntiBERTy, level `output`; {STORED} stored and {UNSEEN} unseen variants. Correlation: "
        "Spearman's, of key distance and reuse error (relative L2 of the payload), over all pairs of an "
        "unseen and a stored variant of one length. Picked: mean error of the entry that is picked for an "
        "unseen variant, over that of the best entry (1 is perfect). Hits: largest hit rate of any threshold "
        "that leaves 5 % of the requests above the error that 95 % of the best entries keep. Microseconds: "
        "what the ONNX nodes add to a request, weights not in the cache, one thread.\n",
        "| workload | key | correlation, mean | least | picked, mean | most | hits, mean | microseconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, sites in scores.items():
        for scheme in sites[0]:
            rows = [site[scheme] for site in sites]
            correlation = [row.correlation for row in rows]
            picked = [row.picked / row.best for row in rows]
            timed = [row.microseconds for row in rows if row.microseconds is not None]
            hits = np.mean([row.hits for row in rows])
            spent = f"{np.median(timed):.0f}" if timed else ""
            lines.append(
                f"| ({name}) | {scheme} | {np.mean(correlation):.3f} | {min(correlation):.3f} "
                f"| {np.mean(picked):.3f} | {max(picked):.3f} | {hits:.0%} | {spent} |"
            )
    for name, sites in scores.items():
        heads = [f"{scheme}: {figure}" for scheme in sites[0] for figure in ("correlation", "picked")]
        lines += ["", f"Workload ({name}):\n", f"| site | best entry's error | {' | '.join(heads)} |"]
        lines.append("|---" * (len(heads) + 2) + "|")
        for number, site in enumerate(sites):
            cells = [f"{s.correlation:.3f} | {s.picked / s.best:.3f}" for s in site.values()]
            best = next(iter(site.values())).best
            lines.append(f"| attention.{number} | {best:.4f} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Compare the keys and write the section; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="a,b", help="workloads of AntiBERTy; default: %(default)s")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder of benchmarks.md")
    arguments = parser.parse_args()
    scores: dict[str, list[dict[str, Score]]] = {}
    try:
        model = antiberty.bring(CACHE)
    except RecipeError as error:
        print(f"compare_keys: {error}", file=sys.stderr)
        return 1
    for name in arguments.only.split(","):
        work = WORKLOADS[name]()
        tokens = len(work.sample[0]) + 2  # a residue each, [CLS] and [SEP]
        with show_progress() as progress:
            sites = sites_of(work, model, progress)
            advance = progress("trying keys", len(sites))
            scores[name] = []
            for site in sites:
                scores[name].append({scheme.name: score(scheme, site, tokens) for scheme in SCHEMES})
                advance()
    text = section(scores)
    write_section(arguments.docs / "benchmarks.md", "keys", text)
    print(text)
    return 0


if __name__ == "__main__":
    Console(stderr=True).print("one thread; close other work before you trust a figure")
    sys.exit(main())
