"""An encoder in 8 bits beside what else could be picked: the section `precision` of `docs/benchmarks.md`.

Run as `python -m tools.bench_precision [--model minilm] [--rounds 7]`. Requests are pieces of running news
text, cut to one length each; no piece occurs twice. One process runs the original, its bundle of the level
`int8` with the native library and in stock ONNX Runtime, ONNX Runtime's dynamic int8 (weights per channel)
and its `MatMulNBits` with 8 bits, blocks of 128 and int8 arithmetic, turn by turn, one thread.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from tokenizers import Tokenizer

from models.bring import CACHE, RECIPES
from onnx_memo.commands.shared import show_progress
from tools import int8
from tools.measure import (
    KEPT,
    Runner,
    Workshop,
    errors_of,
    kinds,
    machine,
    model_of,
    race,
    ratio,
    runner,
    summary,
)
from tools.pages import table, write_section

LENGTHS = (8, 14, 32, 128, 256)  # in tokens, the special ones included
SAMPLE, REQUESTS = 80, 24  # pieces of each length for `optimize`, and for the race
TOLERANCE = 0.01
PAGE = Path("docs") / "benchmarks.md"


def pieces(tokenizer: Tokenizer) -> Iterator[tuple[int, list[int]]]:
    """Lengths and pieces of news, first and last tokens as the tokenizer puts them; each token is in one."""
    tokenizer.no_padding()
    tokenizer.no_truncation()
    text = (CACHE / "news.txt").read_text(encoding="utf-8")
    first, *tokens, last = tokenizer.encode(text).ids
    at = 0
    while True:
        for length in LENGTHS:
            piece = tokens[at : at + length - 2]
            at += length - 2
            if len(piece) < length - 2:
                return
            yield length, [first, *piece, last]


def feeds_of(piece: list[int], names: set[str]) -> dict[str, np.ndarray[Any, Any]]:
    """One request."""
    ids = np.asarray([piece], np.int64)
    whole = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    return {name: array for name, array in whole.items() if name in names}


def by_nbits(model: Path) -> Runner:
    """The rival whose weights alone are in 8 bits, in blocks; its arithmetic is int8 as well."""
    from onnxruntime.quantization.matmul_nbits_quantizer import (
        DefaultWeightOnlyQuantConfig,
        MatMulNBitsQuantizer,
    )

    config = DefaultWeightOnlyQuantConfig(block_size=128, is_symmetric=True, accuracy_level=4, bits=8)
    quantizer = MatMulNBitsQuantizer(onnx.load(model), algo_config=config)
    quantizer.process()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    content = quantizer.model.model.SerializeToString()
    return Runner(ort.InferenceSession(content, options, providers=["CPUExecutionProvider"]))


def main() -> None:
    """Bring, make, race, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="minilm", choices=["minilm"])
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    RECIPES["news"](CACHE)
    model, vocabulary = model_of(arguments.model)
    original = runner(model)
    names = {value.name for value in original.session.get_inputs()}
    by_length: dict[int, list[dict[str, np.ndarray[Any, Any]]]] = {length: [] for length in LENGTHS}
    for length, piece in pieces(Tokenizer.from_file(str(vocabulary))):
        by_length[length].append(feeds_of(piece, names))
    sample = [feeds for own in by_length.values() for feeds in own[REQUESTS : REQUESTS + SAMPLE]]
    folder = KEPT / "precision"
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "sample.npz"
    _write(data, sample, names)
    with show_progress() as progress:
        workshop = Workshop(progress=progress)
        bundle = workshop.bundle("precision/bundle", model, data, tolerance=TOLERANCE, level="int8")
    if bundle.path is None:
        raise SystemExit(f"no bundle: {bundle.reason}")
    runners = {"original": original}
    for kind in kinds():
        runners[f"ours, {kind}"] = runner(bundle.path / "model.onnx", native=kind == "native")
    runners["ONNX Runtime, dynamic int8"] = runner(int8.bring(model))
    runners["ONNX Runtime, MatMulNBits"] = by_nbits(model)
    rows: list[dict[str, Any]] = []
    for length, requests in by_length.items():
        some = requests[:REQUESTS]
        times = race(list(runners.values()), some, arguments.rounds)
        for at, (name, one) in enumerate(runners.items()):
            if at:
                middle, least, most = ratio(times, at)
                figures = summary(errors_of(original, one, some), TOLERANCE)
                rows.append(
                    {"tokens": length, "way": name, "ratio": f"{middle:.2f} ({least:.2f} to {most:.2f})"}
                    | {"mean": figures["mean"], "p95": figures["p95"]}
                )
                print(rows[-1])
    columns = [("tokens", "tokens", ""), ("", "way", ""), ("time", "ratio", "")]
    columns += [("error, mean", "mean", ".5f"), ("95th percentile", "p95", ".5f")]
    head = (
        f"Time relative to the original, with the least and the most of {arguments.rounds} rounds; error is "
        f"1 - cosine of the mean over tokens, of {REQUESTS} unseen pieces of news of each length. "
        f"{machine()}\n\n"
    )
    write_section(PAGE, "precision", head + table(columns, rows))


def _write(path: Path, sample: list[dict[str, np.ndarray[Any, Any]]], names: set[str]) -> None:
    """The sample as padded arrays, the mask among them."""
    longest = max(LENGTHS)
    arrays: dict[str, Any] = {
        name: np.concatenate(
            [np.pad(feeds[name], [(0, 0), (0, longest - feeds[name].shape[1])]) for feeds in sample]
        )
        for name in names
    }
    np.savez(path, **arrays)


if __name__ == "__main__":
    main()
