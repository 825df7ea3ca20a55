"""From a model and a sample of its inputs to a bundle: the pipeline, one step after the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

from onnx_memo import __version__
from onnx_memo.build import built
from onnx_memo.data.export import Source, as_onnx, reader_files
from onnx_memo.data.given import Data, data_of
from onnx_memo.data.labels import label_column
from onnx_memo.data.readers import read_samples
from onnx_memo.data.samples import model_inputs
from onnx_memo.errors import MemoError
from onnx_memo.files import sha256
from onnx_memo.graph.external import bytes_outside
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.job import Job
from onnx_memo.levels.attention import note_unguarded
from onnx_memo.levels.base import PAYS, Blueprint, Verdict, Wanted
from onnx_memo.levels.inserter import check_original
from onnx_memo.levels.padding import note_padding
from onnx_memo.levels.registry import allowed, check_options
from onnx_memo.levels.ways import NothingPays
from onnx_memo.mapped import mapped_sessions
from onnx_memo.notebook import notebook_bar
from onnx_memo.progress import Progress
from onnx_memo.proof.asked import Asked, goal_of
from onnx_memo.proof.goal import Goal
from onnx_memo.proof.values import Decide
from onnx_memo.reference import Reference
from onnx_memo.report import write_report
from onnx_memo.report.collect import evidence_of
from onnx_memo.report.evidence import Evidence, Names
from onnx_memo.result import Result
from onnx_memo.runtime import operators_used, session_options
from onnx_memo.sessions import open_file, race, runner
from onnx_memo.store import bundle
from onnx_memo.store.data import memo_data
from onnx_memo.store.manifest import Manifest, Promised
from onnx_memo.store.publish import check_output, publishing
from onnx_memo.threads import one_thread
from onnx_memo.verify import Checked

ROUNDS = 3  # how often the held-out part is timed
EXACT = "requests that reuse nothing run the original, bit for bit (--exact-misses)"


@one_thread()
def optimize(
    model: Path | str,
    data: Data | Path | str,
    output: Path | str,
    *,
    file: str | None = None,
    task: str | None = None,
    tokenizer: Path | str | None = None,
    tolerance: float | None = None,
    metric: str | None = None,
    within: float | None = None,
    confidence: float | None = None,
    keep: float | None = None,
    decision: str | None = None,
    slack: float | None = None,
    decide: Decide | None = None,
    outputs: Sequence[str] = (),
    labels: str | None = None,
    reference: Path | str | None = None,
    level: str = "auto",
    sites: str | None = None,
    threshold: float | None = None,
    exact_misses: bool = False,
    max_bytes: int | None = None,
    compact: bool = False,
    mask: str | None = None,
    allow_unknown: bool = False,
    layout: str = "flat",
    force: bool = False,
    show_inputs: bool = False,
    progress: Progress = notebook_bar,
) -> Result:
    """Write a bundle in which `model` reuses what it computed for inputs like those in `data`.

    With a `tolerance`, what is guarded and how much is reused is decided by measurement, so that with
    `confidence` at least the share `within` of such requests stays within it (`docs/calibration.md`). With
    `keep`, so that this share of requests leads to the same decision. Without either, literal repeats are
    reused (or what lies within `threshold`).

    Args:
        model: an ONNX file, or a Hugging Face or sentence-transformers model directory. Its `model.onnx` or
            `onnx/model.onnx` is taken; where there is none, it is exported (extra `export`). Configuration,
            tokenizer and modules of a directory go into the bundle.
        data: representative inputs: a path, or `onnx_memo.Data`, which also says how to read them.
        output: the bundle's directory.
        file: of a directory, the ONNX file to take, by its name there.
        task: of a directory, what optimum shall export it for, as in "text-classification", whatever ONNX
            files there are; None: what its configuration says.
        tokenizer: a `tokenizer.json`, for text; None: the one beside the model. It goes into the
            bundle, and so does the image processor of `data`.
        tolerance: the largest error that is acceptable, in terms of `metric`.
        metric: `cosine` (the default), `relative` or `argmax` (`onnx_memo.proof.metrics`), worst over the
            outputs.
        within: share of requests that stays within the tolerance; 0.95 by default.
        confidence: of that statement; 0.95 by default.
        keep: instead of a tolerance, the share of requests that must lead to the same decision.
        decision: `neighbours`, `ten-neighbours`, `label`, `ranking` or `likelihood`
            (`onnx_memo.proof.choice`); None: what the outputs suggest. Beside a tolerance it is told, not
            promised.
        slack: of `neighbours`: up to which multiple of the nearest's distance another is as near.
        decide: in place of `decision`, a function of a request's outputs and inputs, by name, each of a batch
            of one. A number that it gives is ranked, a vector has neighbours, else it is a label.
        outputs: names of the outputs that count; none: all.
        labels: the column of `data` (a field of .jsonl, an array of .npz) that holds the true label of each
            request, as a class's name (`id2label` in config.json beside the model) or number. The accuracy of
            original and bundle on the held-out part is told. They go with the decision `label`.
        reference: the ONNX file of another model whose answers count in place of `model`'s own: the one that
            `model` was quantized from. It is fed what `model` is fed, and has the same outputs. What reuses
            nothing then has the error of `model` itself, which counts as any other.
        level: what is reused: `rows`, `output` or `probs`; `auto` decides.
        sites: numbers and ranges of the sites that may be guarded, as in "0,2-4"; None: all. Not with `rows`,
            which takes all of them.
        threshold: key distance below which an entry counts, in units of `onnx_memo.keys`; not with `rows`.
        exact_misses: what reuses nothing runs the original, bit for bit, whatever the tolerance has room for.
        max_bytes: the most that the memo data may take; what is stored then is chosen for its coverage of
            the sample (`onnx_memo.store.budget`). None: no bound.
        compact: leave out the original's weights, so that those left take about a quarter of them; all that
            runs, runs in 8 bits, and no answer is the original's, bit for bit, but that to a stored input.
        mask: the input that says which tokens are real (1) and which are padding (0), where that is not seen
            in the graph.
        allow_unknown: take text of which more than a tenth of the tokens is unknown to the tokenizer.
        layout: where the bundle's model stands: `flat`, or `onnx` for the folder of that name
            (`onnx_memo.store.bundle.LAYOUTS`).
        force: replace a bundle that is there.
        show_inputs: show the texts of requests in the report, not only where they stand in `data`.
        progress: is called for each step and its parts.

    Raises:
        MemoError: the input is unfit, or nothing can be guarded.
        NothingPays: nothing saves time within the tolerance.
    """
    model, data, output = Path(model), data_of(data), Path(output)
    repeats = tolerance is None and keep is None
    wanted = Wanted(level, sites, threshold, exact_misses, compact, repeats)
    _check_options(wanted, tolerance if keep is None else keep)
    bundle.check_layout(layout)
    about = tolerance, metric, within, confidence, keep, decision, slack, decide
    asked = Asked(*about, tuple(outputs), labels, reference)
    goal = goal_of(asked)
    column = label_column(labels, model)
    check_output(output, force)
    with as_onnx(model, file, task, progress) as source, ExitStack() as stack:
        vocabulary = Path(tokenizer) if tokenizer is not None else source.tokenizer
        opened = OpenedModel(source.onnx, mask, in_floats=reference is not None)
        check_original(opened)
        stack.enter_context(mapped_sessions(bytes_outside(opened.model), output))
        if goal is not None:
            goal.check_outputs(opened.outputs)
        notes: list[str] = []
        source.note_choice(opened.outputs, notes)
        uses = allowed(opened, wanted, notes, rounding=goal is not None)
        notes += opened.findings.notes
        notes += [EXACT] if exact_misses else []
        inputs = model_inputs(opened)
        judge = None if reference is None else Reference(Path(reference), inputs, opened.outputs)
        samples = read_samples(
            data,
            inputs,
            vocabulary,
            image_processor=source.image_processor,
            allow_unknown=allow_unknown,
            labels=column,
        )
        notes += samples.notes
        source.note_reading(data, tokenizer, samples, notes)
        padding = samples.mask if note_padding(opened, samples, notes) else None
        if compact and padding is not None:
            raise MemoError(
                f"the answers of '{opened.path}' depend on what is in padding, so that requests with padding "
                "run the original: leave --compact out"
            )
        if compact and opened.findings.counted:
            raise MemoError(
                f"'{opened.path}' counts the ones of its mask '{opened.findings.mask}', so that requests "
                "with a 0 before a 1 run the original: leave --compact out"
            )
        with publishing(output) as folder:
            job = Job(
                opened,
                samples,
                folder / "scratch",
                goal,
                threshold,
                max_bytes,
                compact=compact,
                progress=progress,
                notes=notes,
                reference=judge,
            )
            job, (verdict, blueprint, checked) = built(job, wanted, uses, padding, folder)
            note_unguarded(job.opened, blueprint.guarded(), notes)
            bundle.add_files(folder, source.companions | reader_files(vocabulary, data))
            evidence = promised = None
            if verdict is not None:
                promised = _promised(verdict.goal, judge)
                names = Names(output.name, model.name, data.name, promised.reference)
                evidence = _report(job, folder, verdict, names, show_inputs)
            bundle.lay_out(folder, layout)
            manifest = _manifest(model.name, source, blueprint, notes, evidence, promised, checked, compact)
            bundle.write_manifest(folder, manifest)
    return Result(output, manifest)


def _manifest(
    name: str,
    source: Source,
    blueprint: Blueprint,
    notes: list[str],
    evidence: Evidence | None,
    promised: Promised | None,
    checked: Checked,
    compact: bool,
) -> Manifest:
    return Manifest(
        version=__version__,
        source=name,
        source_sha256=sha256(source.onnx) if source.task is None else None,
        source_file=source.file,
        task=source.task,
        entries=len(blueprint.lengths),
        tokens=int(blueprint.lengths.sum()),
        sites=blueprint.guarded(),
        notes=notes,
        files={},
        predicted=None if evidence is None else asdict(evidence.predicted),
        predicted_with=None if evidence is None else operators_used(),
        checked=asdict(checked),
        compact=compact,
        promised=promised,
        accuracy=None if evidence is None else evidence.accuracy,
    )


def _promised(goal: Goal, reference: Reference | None) -> Promised:
    promise = goal.promise
    tolerance = None if goal.measure is None else promise.tolerance
    found = Promised(
        goal.metric,
        tolerance,
        promise.within,
        promise.confidence,
        outputs=list(goal.wish.outputs),
        slack=goal.wish.slack,
    )
    if reference is None:
        return found
    return replace(found, reference=reference.name, reference_sha256=reference.sha256)


def _check_options(wanted: Wanted, tolerance: float | None) -> None:
    check_options(wanted)
    if wanted.compact and tolerance is None:
        raise MemoError(
            "--compact leaves out the original's weights, so that answers are rounded: say with --tolerance "
            "or --keep how wrong they may be"
        )
    threshold = wanted.threshold
    if threshold is not None and tolerance is not None:
        raise MemoError(
            "give --tolerance or --keep, and the threshold follows from it, or --threshold, but not both"
        )
    if threshold is not None and not (threshold >= 0 and math.isfinite(threshold)):
        raise MemoError(f"the threshold {threshold} is no distance: give a finite number of at least 0")


def _report(job: Job, folder: Path, verdict: Verdict, names: Names, show_inputs: bool) -> Evidence:
    """Run the held-out part through original and bundle, and write the report.

    Raises:
        NothingPays: the bundle turned out not to save time.
    """
    before, after = session_options(native=False, threads=1), session_options(threads=1)
    runners = [runner(open_file(job.path, before)), runner(open_file(folder / bundle.MODEL, after))]
    requests = verdict.parts.held_out.arrays
    race(runners, requests[:4], 1)  # the first runs of a session allocate
    raced = race(runners, requests, ROUNDS, job.progress("measuring", ROUNDS * len(requests)))
    size = memo_data(folder).stat().st_size
    evidence = evidence_of(verdict, raced, names, size, job.notes, show_inputs)
    predicted = evidence.predicted
    if predicted.ratio > PAYS:
        raise NothingPays(
            f"{predicted.hit_rate:.0%} of the held-out requests were reused, which took "
            f"{predicted.ratio:.3f} of the original's time in all: not worth a bundle",
            verdict.alternatives,
            evidence.as_json(),
        )
    write_report(folder / bundle.REPORT, evidence)
    return evidence
