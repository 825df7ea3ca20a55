"""What a guard costs and saves: hits and misses by level and length, and where a miss spends its time.

Run as `python -m tools.bench_guards [--model MODEL.onnx] [--entries N]`; prints the tables of
`docs/benchmarks.md`. Requests are pieces of running text, cut to one length; half of the table is
requests that are stored (all hit), half requests that are not (all miss).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort
from rich.console import Console

from models import chatterbot, demo, news
from models.bring import CACHE
from onnx_memo.commands.progress import show_progress
from onnx_memo.compare import bench
from onnx_memo.data.tokens import load_tokenizer
from onnx_memo.pipeline import optimize
from onnx_memo.runtime import library_path, session_options
from onnx_memo.store.data import StoredTensor, memo_data, write_store
from onnx_memo.store.index import build_index

LENGTHS = {128: (200, 40), 512: (40, 12)}  # tokens: (stored inputs, requests)
ROUNDS = 3


def main() -> int:
    """Run the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="default: the demo's MiniLM")
    parser.add_argument("--entries", type=int, default=10_000, help="stored inputs of the cost table")
    arguments = parser.parse_args()
    model = arguments.model or demo.bring(CACHE) / "model.onnx"
    stream = token_stream(demo.bring(CACHE) / "tokenizer.json")
    with tempfile.TemporaryDirectory() as folder:
        print(savings_table(model, stream, Path(folder)))
        print(cost_table(model, stream, Path(folder), arguments.entries))
    return 0


def token_stream(tokenizer: Path) -> npt.NDArray[np.int64]:
    """All tokens of the news and conversation texts, one after the other."""
    reader = load_tokenizer(tokenizer)
    reader.no_truncation()
    texts = [recipe.bring(CACHE).read_text(encoding="utf-8") for recipe in (news, chatterbot)]
    lines = [line for text in texts for line in text.splitlines()]
    ids = [encoding.ids[1:-1] for encoding in reader.encode_batch(lines)]
    return np.asarray([token for line in ids for token in line], np.int64)


def write_requests(path: Path, stream: npt.NDArray[np.int64], count: int, length: int, seed: int) -> Path:
    """`count` pieces of `length` tokens, [CLS] and [SEP] included, as an .npz for a BERT-like model."""
    starts = np.random.default_rng(seed).integers(0, len(stream) - length, count)
    ids = np.stack([[101, *stream[at : at + length - 2], 102] for at in starts]).astype(np.int64)
    np.savez(path, input_ids=ids, attention_mask=np.ones_like(ids), token_type_ids=np.zeros_like(ids))
    return path


def savings_table(model: Path, stream: npt.NDArray[np.int64], folder: Path) -> str:
    """Ratio of the bundle's time to the original's, one thread, batch 1, all sites guarded."""
    rows = [
        "| tokens | level | operators | hit | miss | relative error of a hit, worst |",
        "|---|---|---|---|---|---|",
    ]
    for length, (stored, requests) in LENGTHS.items():
        sample = write_requests(folder / "sample.npz", stream, stored, length, seed=0)
        with np.load(sample) as arrays:
            np.savez(folder / "seen.npz", **{name: arrays[name][:requests] for name in arrays.files})
        unseen = write_requests(folder / "unseen.npz", stream, requests, length, seed=1)
        for level in ("output", "probs"):
            bundle = folder / "bundle"
            with show_progress() as progress:
                optimize(model, sample, bundle, level=level, force=True, progress=progress)
            for native in (True, False) if library_path() else (False,):
                with show_progress() as progress:
                    hit = bench(
                        model, bundle, folder / "seen.npz", rounds=ROUNDS, native=native, progress=progress
                    )
                    miss = bench(model, bundle, unseen, rounds=ROUNDS, native=native, progress=progress)
                assert (hit.hit_rate, miss.hit_rate) == (1.0, 0.0), "the two halves are hits and misses"
                worst = max(output["relative"].worst for output in hit.outputs.values())
                rows.append(
                    f"| {length} | {level} | {hit.library} | {hit.ratio:.3f} | {miss.ratio:.3f} "
                    f"| {worst:.1e} |"
                )
    return "\n".join(rows) + "\n"


def cost_table(model: Path, stream: npt.NDArray[np.int64], folder: Path, entries: int) -> str:
    """Microseconds of each node that a guard adds to a miss at 128 tokens, from ONNX Runtime's profile."""
    sample = write_requests(folder / "many.npz", stream, 200, 128, seed=2)
    unseen = write_requests(folder / "unseen.npz", stream, 50, 128, seed=3)
    bundle = folder / "profiled"
    with show_progress() as progress:
        optimize(model, sample, bundle, sites="2", force=True, progress=progress)
    inflate(bundle, entries)
    spent = profile(bundle / "model.onnx", unseen, folder)
    rows = [f"| node ({entries:,} entries of 128 tokens) | microseconds |", "|---|---|"]
    for name, median in sorted(spent.items(), key=lambda item: -item[1]):
        rows.append(f"| {name} | {median:.0f} |")
    rows.append(f"| **all** | **{sum(spent.values()):.0f}** |")
    return "\n".join(rows) + "\n"


def inflate(bundle: Path, entries: int) -> None:
    """Give a bundle this many entries of its one length: its own, and more with keys scattered like theirs.

    All share the first payload: what is timed is the search, and nothing is reused.
    """
    model = ir.load(bundle / "model.onnx")
    values = model.graph.initializers
    name = next(name for name in values if name.endswith("/keys"))
    tensor = values[name].const_value
    assert tensor is not None
    own = tensor.numpy().T
    rng = np.random.default_rng(0)
    spread = np.linalg.cholesky(np.cov(own.T) + 1e-9 * np.eye(own.shape[1]))
    scattered = rng.standard_normal((entries - len(own), own.shape[1])) @ spread.T + own.mean(axis=0)
    keys = np.concatenate([own, scattered]).astype(np.float32)
    lengths = np.full(entries, 128, np.int64)
    index = build_index(keys, lengths, bundle / "index")
    arrays: dict[str, npt.NDArray[Any]] = {
        name: np.ascontiguousarray(keys.T),
        name.replace("/keys", "/index"): index,
        "memo/lengths": lengths,
        "memo/offsets/output": np.zeros(entries, np.int64),
    }
    folder = bundle / "inflated"
    folder.mkdir()
    tensors = write_store(folder, [StoredTensor.of(n, a) for n, a in arrays.items()])
    memo_data(folder).rename(bundle / "inflated.data")
    for tensor_name, written in tensors.items():
        values[tensor_name].const_value = ir.ExternalTensor(
            "inflated.data",
            written.offset,
            written.length,
            written.dtype,
            shape=ir.Shape(arrays[tensor_name].shape),
            name=tensor_name,
            base_dir=bundle,
        )
        values[tensor_name].shape = ir.Shape(arrays[tensor_name].shape)
    ir.save(model, bundle / "model.onnx")


def profile(model: Path, requests: Path, folder: Path) -> dict[str, float]:
    """Median microseconds a request spends in the added nodes, by operator; shared nodes together."""
    options = session_options(threads=1)
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    with np.load(requests) as arrays:
        names = [value.name for value in session.get_inputs()]
        given = {name: arrays[name] for name in names}
    count = len(next(iter(given.values())))
    for at in range(count):
        session.run(None, {name: array[at : at + 1] for name, array in given.items()})
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    durations: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        name = event["name"].removesuffix("_kernel_time")
        if event.get("cat") == "Node" and name != event["name"] and name.startswith("memo/"):
            operator = event["args"]["op_name"]
            label = "lengths and segments, once a request" if "/request." in name else operator
            if operator != "If":
                durations[label, name].append(event["dur"])
    spent: dict[str, float] = defaultdict(float)
    for (label, _), values in durations.items():
        spent[label] += float(np.median(values))
    return dict(spent)


if __name__ == "__main__":
    Console(stderr=True).print("one thread, batch 1; close other work before you trust a figure")
    sys.exit(main())
