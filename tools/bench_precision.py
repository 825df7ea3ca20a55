"""An encoder in 8 bits beside what else could be picked: the section `precision` of `docs/benchmarks.md`.

Run as `python -m tools.bench_precision [--only minilm,base,cross-encoder] [--rounds 7]`. Requests are pieces
of running news text, cut to one length each; no piece occurs twice. One process runs the original, its bundle
of the level `int8` with the native library and in stock ONNX Runtime, and the rivals, turn by turn. What is
measured is kept in `.cache/`; a run of some models replaces theirs only.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from tokenizers import Tokenizer

from models.bring import CACHE, RECIPES
from onnx_memo.commands.progress import show_progress
from onnx_memo.data.samples import Arrays
from onnx_memo.progress import Progress
from tools.measure import (
    KEPT,
    Workshop,
    errors_of,
    kinds,
    machine,
    model_of,
    race,
    race_in_turns,
    ratio,
    runner,
    summary,
)
from tools.pages import table, write_section
from tools.random_models import bring_random
from tools.rivals import rivals

SAMPLE, REQUESTS = 120, 24  # pieces of each length for `optimize`, and for the race
TOLERANCE = 0.01
PAGE = Path("docs") / "benchmarks.md"
RESULTS = Path(".cache") / "bench_precision.json"
SPREAD = 0.04  # of random weights: what layers pass on stays of one size


@dataclass(frozen=True)
class Case:
    """A model, and what it is raced with.

    Attributes:
        lengths: in tokens, the special ones included.
        threads: with one the rivals take part.
    """

    title: str
    bring: Callable[[], Path]
    lengths: tuple[int, ...]
    threads: tuple[int, ...] = (1,)


def base() -> Path:
    """BERT of base size: 12 layers, 768 wide, random weights."""
    return bring_random("bert-base-random", CACHE, lambda transformers: _bert(transformers, 12, 768, 12))


def cross_encoder() -> Path:
    """An encoder as wide as MiniLM, random weights, and 16 scores of its first row."""
    source = bring_random("bert-small-random", CACHE, lambda transformers: _bert(transformers, 6, 384, 12))
    path = CACHE / "cross-encoder-random" / "model.onnx"
    model = ir.load(source)
    states = model.graph.outputs[0]
    weight = np.random.default_rng(0).standard_normal((384, 16)).astype(np.float32)
    zero = ir.node("Constant", [], {"value": ir.tensor(np.asarray(0))})
    head = ir.node("Constant", [], {"value": ir.tensor(weight)})
    first = ir.node("Gather", [states, zero.outputs[0]], {"axis": 1})
    scores = ir.node("MatMul", [first.outputs[0], head.outputs[0]])
    scores.outputs[0].name, scores.outputs[0].type = "scores", states.type
    scores.outputs[0].shape = ir.Shape(["batch", 16])
    model.graph.extend([zero, head, first, scores])
    model.graph.outputs[:] = scores.outputs
    path.parent.mkdir(exist_ok=True)
    ir.save(model, path)
    return path


def _bert(transformers: Any, layers: int, width: int, heads: int) -> Any:
    config = transformers.BertConfig(
        num_hidden_layers=layers,
        hidden_size=width,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        initializer_range=SPREAD,
    )
    return transformers.BertModel(config, add_pooling_layer=False)


CASES = {
    "minilm": Case("all-MiniLM-L6-v2", lambda: model_of("minilm")[0], (8, 14, 32, 128, 256), (1, 2)),
    "base": Case("BERT of base size, random weights", base, (32, 128)),
    "cross-encoder": Case("a cross-encoder, random weights: the first row is read", cross_encoder, (32, 128)),
}


def pieces(tokenizer: Tokenizer, lengths: tuple[int, ...]) -> Iterator[tuple[int, list[int]]]:
    """Lengths and pieces of news, first and last tokens as the tokenizer puts them; each token is in one."""
    tokenizer.no_padding()
    tokenizer.no_truncation()
    text = (CACHE / "news.txt").read_text(encoding="utf-8")
    first, *tokens, last = tokenizer.encode(text).ids
    at = 0
    while True:
        for length in lengths:
            piece = tokens[at : at + length - 2]
            at += length - 2
            if len(piece) < length - 2:
                return
            yield length, [first, *piece, last]


def feeds_of(piece: list[int], names: set[str]) -> Arrays:
    """One request."""
    ids = np.asarray([piece], np.int64)
    whole = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    return {name: array for name, array in whole.items() if name in names}


def measure(name: str, case: Case, rounds: int, progress: Progress) -> list[dict[str, Any]]:
    """The rows of a case: each length, each way, on each number of threads."""
    model = case.bring()
    names = {value.name for value in runner(model).session.get_inputs()}
    by_length: dict[int, list[Arrays]] = {length: [] for length in case.lengths}
    vocabulary = Tokenizer.from_file(str(model_of("minilm")[1]))
    for length, piece in pieces(vocabulary, case.lengths):
        by_length[length].append(feeds_of(piece, names))
    sample = [feeds for own in by_length.values() for feeds in own[REQUESTS : REQUESTS + SAMPLE]]
    folder = KEPT / "precision" / name
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "sample.npz"
    _write(data, sample, names, max(case.lengths))
    bundle = Workshop(progress=progress).bundle(
        f"precision/{name}/bundle", model, data, tolerance=TOLERANCE, level="int8"
    )
    if bundle.path is None:
        raise SystemExit(f"no bundle of {name}: {bundle.reason}")
    rows: list[dict[str, Any]] = []
    for threads in case.threads:
        original = runner(model, threads=threads)
        runners: dict[str, Any] = {"original": original}
        for kind in kinds():
            native = kind == "native"
            runners[f"ours, {kind}"] = runner(bundle.path / "model.onnx", native=native, threads=threads)
        runners |= rivals(model, threads)
        for length, requests in by_length.items():
            some = requests[:REQUESTS]
            racing = race if threads == 1 else race_in_turns
            times = racing(list(runners.values()), some, rounds)
            for at, (way, one) in enumerate(runners.items()):
                if at:
                    middle, least, most = ratio(times, at)
                    figures = summary(errors_of(original, one, some), TOLERANCE)
                    row = {"model": case.title, "threads": threads, "tokens": length, "way": way}
                    row["ratio"] = f"{middle:.2f} ({least:.2f} to {most:.2f})"
                    rows.append(row | {"mean": figures["mean"], "p95": figures["p95"]})
                    print(rows[-1])
    return rows


def main() -> None:
    """Bring, make, race, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(CASES), help=f"default: {','.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    RECIPES["news"](CACHE)
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    with show_progress() as progress:
        for name in arguments.only.split(","):
            known[name] = measure(name, CASES[name], arguments.rounds, progress)
            RESULTS.write_text(json.dumps(known), encoding="utf-8")
    rows = [row for name in CASES for row in known.get(name, [])]
    columns = [("model", "model", ""), ("threads", "threads", ""), ("tokens", "tokens", ""), ("", "way", "")]
    columns += [("time", "ratio", ""), ("error, mean", "mean", ".5f"), ("95th percentile", "p95", ".5f")]
    head = (
        "Time relative to the original on as many threads, with the least and the most of "
        f"{arguments.rounds} rounds; error is 1 - cosine of the mean over tokens, or of the scores, of "
        f"{REQUESTS} unseen pieces of news of each length. {machine()}\n\n"
    )
    write_section(PAGE, "precision", head + table(columns, rows))


def _write(path: Path, sample: list[Arrays], names: set[str], longest: int) -> None:
    """The sample as padded arrays, the mask among them."""
    arrays: dict[str, Any] = {
        name: np.concatenate(
            [np.pad(feeds[name], [(0, 0), (0, longest - feeds[name].shape[1])]) for feeds in sample]
        )
        for name in names
    }
    np.savez(path, **arrays)


if __name__ == "__main__":
    main()
