"""From a model and a sample of its inputs to a bundle: the pipeline, one step after the other."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir
import onnxruntime as ort

from onnx_memo import __version__
from onnx_memo.data.export import Source, as_onnx
from onnx_memo.data.samples import model_inputs, read_samples
from onnx_memo.errors import MemoError
from onnx_memo.graph.encoder import find_encoder
from onnx_memo.graph.load import external_files, load_model
from onnx_memo.graph.sites import LEVELS, Findings, Site, find_sites
from onnx_memo.levels.base import PAYS, Blueprint, NothingPays, Verdict
from onnx_memo.levels.decide import Choice, decide
from onnx_memo.levels.literal import reuse_near, reuse_repeats
from onnx_memo.progress import Progress, silent
from onnx_memo.proof.goal import Goal
from onnx_memo.proof.metrics import METRICS
from onnx_memo.proof.promise import Promise
from onnx_memo.report import write_report
from onnx_memo.report.evidence import evidence_of
from onnx_memo.runtime import session_options
from onnx_memo.sessions import race
from onnx_memo.store import bundle
from onnx_memo.store import data as store
from onnx_memo.store.room import bytes_needed
from onnx_memo.threads import one_thread

TOKENIZER = "tokenizer.json"
REPORT = "report.html"
ROUNDS = 3  # how often the held-out part is timed


@dataclass(frozen=True)
class Result:
    """What `optimize` made."""

    path: Path
    manifest: bundle.Manifest


@one_thread()
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
    max_bytes: int | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> Result:
    """Write a bundle in which `model` reuses what it computed for inputs like those in `data`.

    With a `tolerance`, what is guarded and how much is reused is decided by measurement, so that with
    `confidence` at least the share `within` of such requests stays within it (`docs/calibration.md`).
    Without, literal repeats are reused (or what lies within `threshold`).

    Args:
        model: an ONNX file, or a Hugging Face model directory (exported first; extra `export`).
        data: representative inputs (`onnx_memo.data.samples`).
        output: the bundle's directory.
        tokenizer: a `tokenizer.json`, for text; it goes into the bundle. A model directory brings its own.
        tolerance: the largest error that is acceptable, in terms of `metric`.
        metric: `cosine`, `relative` or `argmax` (`onnx_memo.proof.metrics`), worst over the outputs.
        within: share of requests that stays within the tolerance.
        confidence: of that statement.
        outputs: names of the outputs that count; none: all.
        level: what is reused: `rows`, `output` or `probs`; `auto` decides.
        sites: numbers and ranges of the sites that may be guarded, as in "0,2-4"; None: all. The level `rows`
            takes all of them.
        threshold: key distance below which an entry counts, in units of `onnx_memo.keys`; not with `rows`.
        max_bytes: the most that the memo data may take; what is stored then is chosen for its coverage of
            the sample (`onnx_memo.store.budget`). None: no bound.
        force: replace a bundle that is there.
        progress: told of steps and their parts.

    Raises:
        MemoError: the input is unfit, or nothing can be guarded.
        NothingPays: nothing saves time within the tolerance.
    """
    model, data, output = Path(model), Path(data), Path(output)
    _check_options(level, sites, threshold, tolerance, metric)
    goal = None
    if tolerance is not None:
        goal = Goal(Promise(tolerance, within, confidence), metric, tuple(outputs))
    bundle.check_output(output, force)
    with as_onnx(model) as source:
        vocabulary = Path(tokenizer) if tokenizer is not None else source.tokenizer
        loaded = load_model(source.onnx)
        _check_names(source.onnx, loaded)
        choice, notes = _choose(model, loaded, level, sites, threshold)
        samples = read_samples(data, model_inputs(loaded), vocabulary)
        if samples.left_out:
            notes.append(f"{samples.left_out} inputs left out: empty, or their mask is no right padding")
        with bundle.publishing(output) as folder:
            store.check_room(folder, bytes_needed(source.onnx, loaded, choice, goal, samples, max_bytes))
            scratch = folder / "scratch"
            scratch.mkdir()
            verdict = None
            blueprint: Blueprint
            steps = (samples, max_bytes, scratch, notes, progress)
            if goal is not None:
                verdict = decide(
                    source.onnx, choice, samples, goal, scratch, progress, max_bytes=max_bytes, notes=notes
                )
                blueprint = verdict.blueprint
            elif choice.rows:
                blueprint = reuse_repeats(source.onnx, *steps)
            else:
                blueprint = reuse_near(source.onnx, choice, threshold, *steps)
            external = store.write_store(folder, blueprint.tensors(scratch, notes))
            guarded = load_model(source.onnx)
            blueprint.insert(guarded, external)
            shutil.rmtree(scratch)
            _write_model(guarded, source.onnx, folder)
            _copy_companions(source, vocabulary, folder)
            predicted = None
            if goal is not None and verdict is not None:
                names = {"title": output.name, "model": model.name, "data": data.name}
                predicted = _report(source.onnx, folder, verdict, goal, names, notes, progress)
            manifest = bundle.Manifest(
                version=__version__,
                source=model.name,
                entries=len(blueprint.lengths),
                tokens=int(blueprint.lengths.sum()),
                sites=blueprint.guarded(),
                notes=notes,
                files={},
                predicted=predicted,
            )
            bundle.write_manifest(folder, manifest)
    return Result(output, manifest)


def _check_options(
    level: str, sites: str | None, threshold: float | None, tolerance: float | None, metric: str
) -> None:
    known = ("auto", "rows", *LEVELS)
    if level not in known:
        raise MemoError(f"there is no level '{level}': choose {', '.join(known)}")
    if threshold is not None and tolerance is not None:
        raise MemoError("give --tolerance, and the threshold follows from it, or --threshold, but not both")
    if threshold is not None and not threshold >= 0:
        raise MemoError(f"the threshold {threshold} is no distance: give a number of at least 0")
    if level == "rows" and (sites is not None or threshold is not None):
        option = "--sites" if sites is not None else "--threshold"
        raise MemoError(
            f"{option} does not go with --level rows, which guards the encoder as a whole: omit one"
        )
    if metric not in METRICS:
        raise MemoError(f"there is no metric '{metric}': choose {', '.join(METRICS)}")


def _report(
    path: Path,
    folder: Path,
    verdict: Verdict,
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
    requests = verdict.parts.held_out.arrays
    race(sessions, requests[:4], 1)  # the first runs of a session allocate
    times = race(sessions, requests, ROUNDS, progress("measuring", ROUNDS * len(requests)))
    size = (folder / store.FILE).stat().st_size
    evidence = evidence_of(verdict, goal, times, names, size, notes)
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


def _choose(
    path: Path, model: ir.Model, level: str, wanted: str | None, threshold: float | None
) -> tuple[Choice, list[str]]:
    """What may be guarded, and notes on what cannot be."""
    findings = find_sites(model)
    if not findings.sites:
        raise MemoError(
            f"'{path}' has no attention that can be memoized. Looked for: a softmax over square scores whose "
            f"result is multiplied with values and projected. Found: {_looked_at(findings)}"
        )
    notes: list[str] = []
    rows = level in ("auto", "rows") and wanted is None and threshold is None
    if rows:
        encoder = find_encoder(model)
        if isinstance(encoder, str):
            rows = False
            notes.append(f"the level 'rows' is not possible: {encoder}")
            if level == "rows":
                raise MemoError(f"'{path}' does not allow the level 'rows': {encoder}; try --level auto")
    lone = not findings.sites[0].levels
    if level == "rows" or (lone and rows):
        return Choice((), rows, level), notes
    if lone:
        why = notes[0] if notes else "try --level rows"
        raise MemoError(f"'{path}' has a fixed batch of one, which allows the level 'rows' alone: {why}")
    chosen: list[Site] = []
    for number in _numbers(wanted, len(findings.sites)):
        site = findings.sites[number]
        if level == "auto" or level in site.levels:
            chosen.append(site)
        else:
            notes.append(f"{site.name} is not guarded at '{level}': {site.why_no_probs}")
    if not chosen:
        raise MemoError(
            f"no chosen site of '{path}' allows the level '{level}': {notes[0]}; try --level output"
        )
    return Choice(chosen, rows, level), notes


def _looked_at(findings: Findings) -> str:
    reasons = "; ".join(f"softmax '{r.softmax}': {r.reason}" for r in findings.refusals)
    return reasons or "it has no softmax at all"


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
