"""From a model and a sample of its inputs to a bundle: the pipeline, one step after the other."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from onnx_memo import __version__, bundle, store
from onnx_memo.capture import Capture, capture
from onnx_memo.decide import PAYS, Decision, NothingPays, decide
from onnx_memo.errors import MemoError
from onnx_memo.evidence import evidence_of
from onnx_memo.export import Source, as_onnx
from onnx_memo.goal import Goal
from onnx_memo.graph.guard import insert_guards
from onnx_memo.graph.load import external_files, load_model
from onnx_memo.graph.operators import SEGMENTS
from onnx_memo.graph.sites import LEVELS, Findings, Site, find_sites
from onnx_memo.inputs import Samples, model_inputs, read_samples
from onnx_memo.keys import KEY_WIDTH, KeyNetwork, fit_keys
from onnx_memo.learn import REDUCED_WIDTH
from onnx_memo.metrics import METRICS
from onnx_memo.plan import Plan, guards_of, memo_tensors
from onnx_memo.progress import Progress, silent
from onnx_memo.promise import Promise
from onnx_memo.report import write_report
from onnx_memo.runtime import session_options
from onnx_memo.timing import race

# Key distances are scaled to about 1 between two inputs of the sample (`onnx_memo.keys`). Repeats
# of a stored input come within 0.01 even below guards that return half precision.
NEAR_EXACT = 0.02

TOKENIZER = "tokenizer.json"
REPORT = "report.html"
ROUNDS = 3  # how often the held-out part is timed


@dataclass(frozen=True)
class Result:
    """What `optimize` made."""

    path: Path
    manifest: bundle.Manifest


@dataclass(frozen=True)
class _Built:
    """What both ways of deciding come to."""

    plan: Plan
    captures: Mapping[str, Capture]
    networks: Mapping[str, KeyNetwork]
    threshold: float
    entries: int
    decision: Decision | None = None


def optimize(
    model: Path | str,
    data: Path | str,
    output: Path | str,
    *,
    tokenizer: Path | str | None = None,
    tolerance: float | None = None,
    metric: str = "cosine",
    within: float = 0.95,
    confidence: float = 0.95,
    outputs: Sequence[str] = (),
    level: str = "auto",
    sites: str | None = None,
    threshold: float | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> Result:
    """Write a bundle in which the attention of `model` is memoized for inputs like those in `data`.

    With a `tolerance`, what is guarded and how near an entry must be is decided by measurement, so that
    with `confidence` at least the share `within` of such requests stays within it (`docs/calibration.md`).
    Without, near-exact repeats are reused (or what lies within `threshold`).

    Args:
        model: an ONNX file, or a Hugging Face model directory (exported first; extra `export`).
        data: representative inputs (`onnx_memo.inputs`).
        output: the bundle's directory.
        tokenizer: a `tokenizer.json`, for text; it goes into the bundle. A model directory brings its own.
        tolerance: the largest error that is acceptable, in terms of `metric`.
        metric: `cosine`, `relative` or `argmax` (`onnx_memo.metrics`), worst over the outputs.
        within: share of requests that stays within the tolerance.
        confidence: of that statement.
        outputs: names of the outputs that count; none: all.
        level: what a hit reuses, `probs` or `output`; `auto` decides (without a tolerance: `output`).
        sites: numbers and ranges of the sites that may be guarded, as in "0,2-4"; None: all.
        threshold: key distance below which an entry counts, in units of `onnx_memo.keys`.
        force: replace a bundle that is there.
        progress: told of steps and their parts.

    Raises:
        MemoError: the input is unfit, or nothing can be guarded.
        NothingPays: no plan saves time within the tolerance.
    """
    model, data, output = Path(model), Path(data), Path(output)
    if level not in ("auto", *LEVELS):
        raise MemoError(f"there is no level '{level}': choose auto, {' or '.join(LEVELS)}")
    if threshold is not None and tolerance is not None:
        raise MemoError("give --tolerance, and the threshold follows from it, or --threshold, but not both")
    if threshold is not None and not threshold >= 0:
        raise MemoError(f"the threshold {threshold} is no distance: give a number of at least 0")
    if metric not in METRICS:
        raise MemoError(f"there is no metric '{metric}': choose {', '.join(METRICS)}")
    goal = None
    if tolerance is not None:
        goal = Goal(Promise(tolerance, within, confidence), metric, tuple(outputs))
    bundle.check_output(output, force)
    with as_onnx(model) as source:
        vocabulary = Path(tokenizer) if tokenizer is not None else source.tokenizer
        loaded = load_model(source.onnx)
        _check_names(source.onnx, loaded)
        chosen, notes = _choose(model, find_sites(loaded), level, sites)
        samples = read_samples(data, model_inputs(loaded), vocabulary)
        if samples.left_out:
            notes.append(f"{samples.left_out} inputs left out: empty, or their mask is no right padding")
        with bundle.publishing(output) as folder:
            levels = LEVELS if level == "auto" and goal else ("output" if level == "auto" else level,)
            needed = sum(_bytes_needed(source.onnx, loaded, chosen, one, samples) for one in levels)
            store.check_room(folder, needed)
            scratch = folder / "scratch"
            scratch.mkdir()
            if goal is None:
                distance = NEAR_EXACT if threshold is None else threshold
                built = _near_exact(
                    source.onnx, chosen, levels[0], distance, samples, scratch, notes, progress
                )
            else:
                built = _within(source.onnx, chosen, level, goal, samples, scratch, progress)
            by_name = {site.name: site for site in chosen}
            tensors = memo_tensors(built.plan, by_name, built.captures, built.networks, scratch, notes)
            external = store.write_store(folder, tensors)
            insert_guards(loaded, guards_of(built.plan, chosen, external, built.threshold))
            shutil.rmtree(scratch)
            _write_model(loaded, source.onnx, folder)
            _copy_companions(source, vocabulary, folder)
            predicted = None
            if goal is not None and built.decision is not None:
                names = {"title": output.name, "model": model.name, "data": data.name}
                predicted = _report(source.onnx, folder, built.decision, goal, names, notes, progress)
            manifest = bundle.Manifest(
                version=__version__,
                source=model.name,
                entries=built.entries,
                tokens=int(next(iter(built.captures.values())).lengths.sum()),
                sites=[
                    bundle.GuardedSite(
                        name=name,
                        softmax=by_name[name].softmax.name or "",
                        level=at,
                        threshold=built.threshold,
                        lookup=name in built.plan.lookups,
                        heads=by_name[name].heads,
                        width=by_name[name].width,
                        share=by_name[name].share,
                    )
                    for name, at in built.plan.levels.items()
                ],
                notes=notes,
                files={},
                predicted=predicted,
            )
            bundle.write_manifest(folder, manifest)
    return Result(output, manifest)


def _near_exact(
    path: Path,
    sites: list[Site],
    level: str,
    threshold: float,
    samples: Samples,
    scratch: Path,
    notes: list[str],
    progress: Progress,
) -> _Built:
    """Guard all sites at one level, each with a lookup of its own, for repeats of what is stored."""
    stored = _prepare(samples, notes)
    captured = capture(path, sites, level, stored, scratch, progress("running the inputs", len(stored)))
    kept = _storable(sites, captured, notes)
    advance = progress("fitting keys", len(kept))
    networks = {}
    for site in kept:
        networks[site.name] = fit_keys(captured.means(site))
        advance()
    plan = Plan({site.name: level for site in kept}, shared=False)
    return _Built(plan, {level: captured}, networks, threshold, len(stored))


def _within(
    path: Path,
    sites: list[Site],
    level: str,
    goal: Goal,
    samples: Samples,
    scratch: Path,
    progress: Progress,
) -> _Built:
    """Guard what pays within the tolerance."""
    decision = decide(path, sites, samples, goal, level, scratch, progress)
    plan, network = decision.chosen.plan, decision.chosen.network
    networks = dict.fromkeys(plan.lookups, network)
    return _Built(plan, decision.captures, networks, decision.threshold, len(decision.stored), decision)


def _report(
    path: Path,
    folder: Path,
    decision: Decision,
    goal: Goal,
    names: dict[str, str],
    notes: list[str],
    progress: Progress,
) -> dict[str, float]:
    """Run the held-out part through original and bundle, write the report, and say what to expect.

    Raises:
        NothingPays: the bundle turned out not to save time.
    """
    before, after = session_options(native=False, threads=1), session_options(threads=1)
    sessions = [
        ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        for model, options in ((path, before), (folder / bundle.MODEL, after))
    ]
    requests = decision.held_out.arrays
    race(sessions, requests[:4], 1)  # the first runs of a session allocate
    times = race(sessions, requests, ROUNDS, progress("measuring", ROUNDS * len(requests)))
    size = (folder / store.FILE).stat().st_size
    evidence = evidence_of(decision, goal, times, names, size, notes)
    predicted = {key: evidence["predicted"][key] for key in ("ratio", "hit_rate", "hit_ratio", "miss_ratio")}
    if predicted["ratio"] > PAYS:
        raise NothingPays(
            f"{predicted['hit_rate']:.0%} of the held-out requests were reused, which took "
            f"{predicted['ratio']:.3f} of the original's time in all: not worth a bundle",
            evidence,
        )
    write_report(folder / REPORT, evidence)
    return predicted


def _check_names(path: Path, model: ir.Model) -> None:
    """The files of the model's weights are copied under their own names, which must be free."""
    for name in sorted(
        external_files(model) & {bundle.MODEL, bundle.MANIFEST, store.FILE, TOKENIZER, REPORT}
    ):
        raise MemoError(f"'{path}' keeps weights in '{name}', a name that the bundle needs: rename that file")


def _choose(path: Path, findings: Findings, level: str, wanted: str | None) -> tuple[list[Site], list[str]]:
    """The sites to guard, and notes on those that cannot be."""
    if not findings.sites:
        looked = (
            "; ".join(f"softmax '{r.softmax}': {r.reason}" for r in findings.refusals)
            or "it has no softmax at all"
        )
        raise MemoError(
            f"'{path}' has no attention that can be memoized. Looked for: a softmax over square scores whose "
            f"result is multiplied with values and projected. Found: {looked}"
        )
    numbers = _numbers(wanted, len(findings.sites))
    notes = []
    chosen = []
    for number in numbers:
        site = findings.sites[number]
        if level == "auto" or level in site.levels:
            chosen.append(site)
        else:
            notes.append(f"{site.name} is not guarded at '{level}': {site.why_no_probs}")
    if not chosen:
        raise MemoError(
            f"no chosen site of '{path}' allows the level '{level}': {notes[0]}; try --level output"
        )
    return chosen, notes


def _numbers(wanted: str | None, count: int) -> list[int]:
    if wanted is None:
        return list(range(count))
    numbers: set[int] = set()
    for part in wanted.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdecimal() or (last and not last.isdecimal()):
            raise MemoError(f"'{part}' in --sites is no number or range: write for example 0,2-4")
        if int(last or first) >= count:
            raise MemoError(
                f"--sites {wanted} names a site that is not there: the model has 0 to {count - 1}"
            )
        numbers.update(range(int(first), int(last or first) + 1))
    if not numbers:
        raise MemoError(f"--sites {wanted} names no site: write for example 0,2-4")
    return sorted(numbers)


def _prepare(samples: Samples, notes: list[str]) -> Samples:
    """Each distinct sample once, shortest first (the store's order)."""
    first: dict[tuple[bytes, ...], int] = {}
    for at, arrays in enumerate(samples.arrays):
        first.setdefault(tuple(array.tobytes() for array in arrays.values()), at)
    order = sorted(first.values(), key=samples.size)
    if len(order) < len(samples):
        notes.append(f"{len(samples) - len(order)} inputs repeat others and are stored once")
    return samples.take(order)


def _bytes_needed(path: Path, model: ir.Model, sites: Sequence[Site], level: str, samples: Samples) -> int:
    """An upper bound of what the captured tensors and the bundle take together, in bytes."""
    lengths = np.asarray(samples.lengths, np.int64)
    if samples.mask is None:
        lengths = np.asarray([samples.size(at) for at in range(len(samples))])
    total = 0
    for site in sites:
        if level == "output":
            payload = int(lengths.sum()) * site.output_width * 2
        elif site.length is not None:
            payload = len(lengths) * site.length**2 * site.heads * 2
        else:
            payload = int(np.square(lengths).sum()) * site.heads * 2
        means = len(lengths) * SEGMENTS * site.width * 4
        keys = len(lengths) * KEY_WIDTH * 4 * (1 + 3)  # the index takes up to three times the keys
        network = 4 * (site.width * REDUCED_WIDTH + SEGMENTS * REDUCED_WIDTH * KEY_WIDTH)
        total += 2 * payload + means + keys + network + 8 * store.ALIGNMENT
    weights = sum((path.parent / name).stat().st_size for name in external_files(model))
    return total + weights + 2 * path.stat().st_size


def _storable(sites: Sequence[Site], captured: Capture, notes: list[str]) -> list[Site]:
    notes.extend(f"{name} is not guarded: {reason}" for name, reason in captured.unfit.items())
    kept = [site for site in sites if site.name not in captured.unfit]
    if not kept:
        raise MemoError("no site can be stored: " + "; ".join(captured.unfit.values()))
    return kept


def _write_model(model: ir.Model, source: Path, folder: Path) -> None:
    """Write the guarded model, and beside it the files that hold the original's weights."""
    for name in external_files(model) - {store.FILE}:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.parent / name, folder / name)
    ir.save(model, folder / bundle.MODEL)


def _copy_companions(source: Source, tokenizer: Path | None, folder: Path) -> None:
    """Configuration and tokenizer, so that the bundle loads wherever the original did."""
    for file in source.companions:
        shutil.copyfile(file, folder / file.name)
    if tokenizer is not None:
        shutil.copyfile(tokenizer, folder / TOKENIZER)
