"""What all benchmarks share: models taking turns, their errors, bundles that are kept, and the machine."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import re
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort

import onnx_memo
from models import antiberty, minilm
from models.bring import CACHE
from onnx_memo.data.readers import read_samples
from onnx_memo.data.samples import Arrays, model_inputs
from onnx_memo.errors import MemoError
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.levels.registry import level_of
from onnx_memo.levels.rows.repeats import NAME
from onnx_memo.progress import Progress, silent
from onnx_memo.proof.metrics import METRICS
from onnx_memo.runtime import library_path, session_options
from onnx_memo.sessions import open_session
from onnx_memo.store.bundle import MODEL, read_bundle

MODELS = {"antiberty": antiberty.bring, "minilm": minilm.bring}
KEPT = Path(".cache") / "bench"  # bundles, some GB

FloatArray = npt.NDArray[np.float64]
Outputs = list[npt.NDArray[Any]]
Figures = dict[str, Any]


@dataclass(frozen=True)
class Runner:
    """A model that runs requests, perhaps with inputs of its own beside theirs."""

    session: ort.InferenceSession
    extra: Arrays = field(default_factory=dict)

    def __call__(self, feeds: Arrays) -> Outputs:
        """The outputs for one request."""
        outputs: Outputs = self.session.run(None, feeds | self.extra)
        return outputs

    def at(self, strictness: float) -> Runner:
        """The same bundle at another strictness."""
        return replace(self, extra={"memo_strictness": np.asarray(strictness, np.float32)})


def runner(path: Path, native: bool = False, threads: int = 1) -> Runner:
    """The model at `path`."""
    options = session_options(native=native, threads=threads)
    return Runner(ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]))


def kinds() -> tuple[str, ...]:
    """The ways in which a bundle runs here; the best first."""
    return ("native", "stock") if library_path() else ("stock",)


def best(bundle: Path) -> Runner:
    """The bundle, with the native library if it is there."""
    return runner(bundle / "model.onnx", native=library_path() is not None)


def unbounded(bundle: Path) -> Runner | None:
    """The bundle as it would run if nothing but the changed rows had to; None below the level `rows`."""
    model = ir.load(bundle / "model.onnx")
    bound = model.graph.initializers.get(f"memo/{NAME}/bound")
    if bound is None:
        return None
    bound.const_value = ir.tensor(np.float32(np.inf), name=bound.name)
    return Runner(open_session(model, bundle, session_options(threads=1)))


def race(
    runners: Sequence[Callable[[Arrays], Outputs]],
    requests: Sequence[Arrays],
    rounds: int,
    progress: Progress = silent,
) -> FloatArray:
    """Seconds of every request: [rounds, requests, runners], after one round that does not count."""
    rng = np.random.default_rng(0)
    times = np.zeros((rounds + 1, len(requests), len(runners)))
    advance = progress("measuring", len(requests) * (rounds + 1))
    for turn, number in np.ndindex(times.shape[:2]):
        for which in rng.permutation(len(runners)):
            start = time.perf_counter()
            runners[which](requests[number])
            times[turn, number, which] = time.perf_counter() - start
        advance()
    return times[1:]


def race_in_turns(
    runners: Sequence[Callable[[Arrays], Outputs]], requests: Sequence[Arrays], rounds: int
) -> FloatArray:
    """The same, but each runs all requests before the next does.

    A session keeps its threads busy waiting for some time after a request, and so a core from the next one.
    """
    rng = np.random.default_rng(0)
    times = np.zeros((rounds + 1, len(requests), len(runners)))
    for turn in range(rounds + 1):
        for which in rng.permutation(len(runners)):
            for number in rng.permutation(len(requests)):
                start = time.perf_counter()
                runners[which](requests[number])
                times[turn, number, which] = time.perf_counter() - start
    return times[1:]


def ratio(times: FloatArray, which: int, base: int = 0) -> tuple[float, float, float]:
    """Total time of a runner over that of the base: by medians, and the least and most of one round."""
    medians = np.median(times, axis=0).sum(axis=0)
    rounds = times.sum(axis=1)
    by_round = rounds[:, which] / rounds[:, base]
    return float(medians[which] / medians[base]), float(by_round.min()), float(by_round.max())


def errors_of(
    one: Callable[[Arrays], Outputs],
    other: Callable[[Arrays], Outputs],
    requests: Sequence[Arrays],
    metric: str = "cosine",
    mask: str = "attention_mask",
) -> FloatArray:
    """The error of each sequence of the requests, worst over the outputs."""
    measure, found = METRICS[metric], []
    for feeds in requests:
        want, have = one(feeds), other(feeds)
        for row in range(len(want[0])):
            real = feeds[mask][row] != 0 if mask in feeds else None
            if real is None and want[0].ndim == 3:  # without a mask all rows are real
                real = np.ones(want[0].shape[1], np.bool_)
            found.append(
                max(measure(a[row], b[row], real) for a, b in zip(want, have[: len(want)], strict=True))
            )
    return np.asarray(found)


def summary(errors: FloatArray, tolerance: float) -> dict[str, float]:
    """Mean, 95th percentile, worst, and the share outside the tolerance."""
    figures = {"mean": errors.mean(), "p95": np.percentile(errors, 95), "worst": errors.max()}
    return {name: float(f) for name, f in {**figures, "outside": (errors > tolerance).mean()}.items()}


def reused(bundle: Path, requests: Sequence[Arrays]) -> tuple[float, float]:
    """Share of the requests that are reused, and of their rows that run (all, but at the level `rows`)."""
    sites, model = read_bundle(bundle).sites, ir.load(bundle / MODEL)
    watch = level_of(sites).watch(model, sites)
    session = open_session(model, bundle, session_options(threads=1))
    seen = [watch.read(session.run(None, feeds)) for feeds in requests]
    hits = [any(hits.any() for hits in reuse.hits.values()) for reuse in seen]
    return float(np.mean(hits)), float(np.mean([1.0 if reuse.ran is None else reuse.ran for reuse in seen]))


def model_of(name: str) -> tuple[Path, Path]:
    """Model and tokenizer."""
    folder = MODELS[name](CACHE)
    return folder / "model.onnx", folder / "tokenizer.json"


def requests_of(model: Path, data: Path, tokenizer: Path | None = None) -> list[Arrays]:
    """The requests in a file, one by one."""
    return read_samples(data, model_inputs(OpenedModel(model)), tokenizer).arrays


def write_lines(path: Path, lines: Iterable[str]) -> Path:
    """Write a text file, one request a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Bundle:
    """What `optimize` gave: a bundle, or a reason why there is none."""

    path: Path | None
    reason: str
    seconds: float
    level: str = ""
    predicted: float = 1.0


Optimizer = Callable[..., Any]  # the arguments of `onnx_memo.optimize`


@dataclass(frozen=True)
class Workshop:
    """Makes bundles and keeps them, so that a run that was stopped goes on where it was.

    Attributes:
        folder: holds the bundles.
        stale: take bundles that an earlier state of the code made.
    """

    folder: Path = KEPT
    stale: bool = False
    optimizer: Optimizer = onnx_memo.optimize
    progress: Progress = silent

    def bundle(self, name: str, model: Path, data: Path, **options: Any) -> Bundle:
        """The bundle of that name, made now if it is not there or was made from something else."""
        path, record = self.folder / name, self.folder / f"{name}.json"
        stamp = [_hash([data]), *(f"{key}={options[key]}" for key in sorted(options)), str(model)]
        made_by = code()
        if record.is_file():
            known = json.loads(record.read_text(encoding="utf-8"))
            if known["stamp"] == stamp and (self.stale or known["made_by"] == made_by):
                found = Bundle(**known["bundle"] | {"path": path if known["bundle"]["path"] else None})
                if found.path is None or (path / "model.onnx").is_file():
                    return found
        record.unlink(missing_ok=True)
        shutil.rmtree(path, ignore_errors=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        try:
            made = self.optimizer(model, data, path, force=True, progress=self.progress, **options)
            levels = " and ".join(dict.fromkeys(site.level for site in made.manifest.sites))
            guarded = ir.load(path / "model.onnx")
            operators = {node.op_type for node in guarded.graph.all_nodes()}
            # Of rows that run: by standard nodes, or by operators.
            if f"memo/{NAME}/weight.0" in guarded.graph.initializers or "MemoRowsAttention" in operators:
                levels += ", int8"
            predicted = float((made.manifest.predicted or {"ratio": 1.0})["ratio"])
            bundle = Bundle(path, "", time.perf_counter() - start, levels, predicted)
        except MemoError as error:  # nothing pays, or it is refused
            bundle = Bundle(None, " ".join(str(error).split()), time.perf_counter() - start)
        plain = asdict(bundle) | {"path": str(path) if bundle.path else None}
        text = json.dumps({"stamp": stamp, "made_by": made_by, "bundle": plain})
        record.write_text(text, encoding="utf-8")
        return bundle


@functools.cache
def code(*folders: Path) -> str:
    """The hash of the files that decide what a bundle becomes, and of those in `folders`."""
    packages = (Path(onnx_memo.__file__).parent, *folders)
    library = library_path()
    files = [file for package in packages for file in sorted(package.rglob("*.py"))]
    return _hash([*files, *([library] if library else [])])


def _hash(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


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
