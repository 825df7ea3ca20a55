"""Original and bundle side by side: latency, hits, and how far the outputs are apart."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort

from onnx_memo.comparison import Comparison, Figures, latency_of
from onnx_memo.data.given import Data
from onnx_memo.data.labels import accuracy_by, label_decision
from onnx_memo.data.samples import Arrays, Samples
from onnx_memo.errors import MemoError
from onnx_memo.levels.registry import level_of
from onnx_memo.notebook import notebook_bar
from onnx_memo.pair import one_line, open_pair
from onnx_memo.progress import Progress
from onnx_memo.proof import metrics
from onnx_memo.proof.answer import Answer, Outputs, real_rows
from onnx_memo.proof.decisions import Label
from onnx_memo.proof.goal import Goal
from onnx_memo.proof.measure import Distance, Judged, Kept, Seen
from onnx_memo.proof.percentile import percentile
from onnx_memo.proof.promise import Promise
from onnx_memo.proof.scores import SCORE_METRICS, ScoreMetric, is_score, scores_of
from onnx_memo.reference import Reference
from onnx_memo.runtime import operators_used, session_options
from onnx_memo.sessions import open_session, race, run_model, runner
from onnx_memo.store.manifest import GuardedSite
from onnx_memo.words import counted

MOST_ANSWERS = 1024  # of the original's, that decisions are judged by
Ask = Callable[[Arrays, int], Outputs]  # the answer to a request, of a number
# An output of a request from the original and from the bundle, and the real tokens.
_Pair = tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[np.bool_] | None]


def bench(
    model: Path | str,
    bundle: Path | str,
    data: Data | Path | str,
    *,
    tokenizer: Path | str | None = None,
    threads: int = 1,
    batch: int = 1,
    rounds: int = 5,
    native: bool = True,
    allow_unknown: bool = False,
    labels: str | None = None,
    reference: Path | str | None = None,
    progress: Progress = notebook_bar,
) -> Comparison:
    """Run every request in `data` through both models, turn by turn, and compare.

    A request's time is its median over `rounds`. All requests count, hits and misses. `labels` is the column
    of `data` that holds the true label of each input, as in `optimize`: then the accuracy of both is told.
    `reference` is the file of another model whose answers count in place of the original's, as in `optimize`;
    times are compared with the original's all the same.

    Raises:
        MemoError: the bundle is damaged, or the data does not fit.
    """
    if batch < 1 or rounds < 1 or threads < 1:
        raise MemoError("--batch, --rounds and --threads take numbers of at least 1")
    pair = open_pair(
        model,
        bundle,
        data,
        tokenizer=tokenizer,
        threads=threads,
        native=native,
        allow_unknown=allow_unknown,
        labels=labels,
    )
    before, after, samples, manifest = pair.original, pair.bundle, pair.samples, pair.manifest
    requests = [samples.batch(at, batch) for at in range(0, len(samples), batch)]
    notes = list(samples.notes)
    judge = None if reference is None else Reference(Path(reference), pair.inputs, pair.outputs)
    ask = right_answers(before, judge)
    goal = measuring_goal(ask, samples, notes, progress)
    advance = progress("comparing outputs", len(requests))
    errors, kept, decided = _compare(ask, after, requests, samples, goal, advance)
    reused = reuse_of(pair.path, manifest.sites, native, requests, progress("counting hits", len(requests)))
    runners = [runner(before), runner(after)]
    raced = race(runners, requests, rounds, progress("measuring", rounds * len(requests)))
    latency = latency_of(raced, reused.whole)
    return Comparison(
        baseline_ms=latency["all"].original.p50.value,
        memo_ms=latency["all"].bundle.p50.value,
        ratio=raced.ratio,
        noise=raced.noise,
        hit_rate=float(np.mean(list(reused.sites.values()))),
        sites=reused.sites,
        rows_run=reused.rows_run,
        outputs=errors,
        requests=len(requests),
        batch=batch,
        threads=pair.threads,
        library=operators_used(native),
        notes=notes,
        predicted=manifest.predicted,
        predicted_with=manifest.predicted_with,
        rounds=rounds,
        latency=latency,
        kept=kept,
        accuracy=accuracy_by(samples.labels, decided),
        reference=None if judge is None else judge.name,
        compact=manifest.compact,
    )


def right_answers(original: ort.InferenceSession, reference: Reference | None = None) -> Ask:
    """What the answers to requests are compared with: the original's, or the reference's."""
    names = [output.name for output in original.get_outputs()]

    def ask(feeds: Arrays, number: int) -> Outputs:
        outputs = dict(zip(names, run_model(original, feeds, number), strict=True))
        return outputs if reference is None else reference.like(outputs, feeds, number)

    return ask


@dataclass(frozen=True)
class Reused:
    """What requests reused.

    Attributes:
        sites: the share of rows that each site reused.
        whole: which requests were reused in all their rows at all sites, bool[requests].
        rows_run: the mean share of their rows that they ran; None at levels that run no single rows.
    """

    sites: dict[str, float]
    whole: npt.NDArray[np.bool_]
    rows_run: float | None


def reuse_of(
    path: Path,
    sites: list[GuardedSite],
    native: bool,
    requests: list[Arrays],
    advance: Callable[[], None],
) -> Reused:
    """Run every request through the bundle's model, watched."""
    with one_line(path):
        model = ir.load(path)
        watch = level_of(sites).watch(model, sites)
    session = open_session(model, path.parent, session_options(native=native))
    seen = []
    for feeds in requests:
        with one_line(path):
            seen.append(watch.read(session.run(None, feeds)))
        advance()
    names = [site.name for site in sites]
    shares = {name: float(np.concatenate([reuse.hits[name] for reuse in seen]).mean()) for name in names}
    whole = np.asarray([all(reuse.hits[name].all() for name in names) for reuse in seen])
    ran = [reuse.ran for reuse in seen if reuse.ran is not None]
    return Reused(shares, whole, float(np.mean(ran)) if ran else None)


def measuring_goal(ask: Ask, samples: Samples, notes: list[str], progress: Progress) -> Goal:
    """How answers are judged where nothing is promised: by the right ones to the first `MOST_ANSWERS`."""
    first = range(min(len(samples), MOST_ANSWERS))
    if len(samples) > len(first):
        notes.append(f"what is decided is judged by the first {counted(len(first), 'input')}")
    advance = progress("running the original", len(first))

    def answers() -> Iterator[Answer]:
        for at in first:
            yield Answer(ask(samples.arrays[at], at), samples.real(at), samples.arrays[at])
            advance()

    return Goal(Promise(0.0), Distance()).settled(answers(), notes)


def _compare(
    ask: Ask,
    after: ort.InferenceSession,
    requests: list[Arrays],
    samples: Samples,
    goal: Goal,
    advance: Callable[[], None],
) -> tuple[dict[str, dict[str, Figures]], list[Kept], Seen]:
    """The errors of each output; what stays of the decision; and, where the samples have labels, which class
    each answer chooses.
    """
    names = [output.name for output in after.get_outputs()]
    errors: dict[str, dict[str, list[float]]] = {}
    scored: dict[str, list[_Pair]] = {}  # kept: they are measured against all of them
    opinions: list[Judged] = []
    label: Label | None = None
    decided: list[Judged] = []
    for number, feeds in enumerate(requests):
        expected = list(ask(feeds, number).values())
        given = run_model(after, feeds, number)
        mask = feeds[samples.mask] != 0 if samples.mask else None
        for name, want, have in zip(names, expected, given, strict=True):
            if not np.issubdtype(want.dtype, np.floating):
                continue
            own = errors.setdefault(name, {})
            own.setdefault("relative", []).extend(errors_by_row(metrics.relative, want, have, mask))
            if is_score(want):
                scored.setdefault(name, []).append((want, have, mask))
            else:
                own.setdefault("cosine", []).extend(errors_by_row(metrics.cosine, want, have, mask))
        rows = list(
            zip(_by_row(names, expected, mask, feeds), _by_row(names, given, mask, feeds), strict=True)
        )
        if goal.decision is not None:
            opinions += [goal.decision.judge(want, have.outputs) for want, have in rows]
        if samples.labels is not None:
            label = label or label_decision(samples, Answer(dict(zip(names, expected, strict=True))))
            decided += [label.judge(want, have.outputs) for want, have in rows]
        advance()
    for name, pairs in scored.items():
        known = scores_of(want for want, _, _ in pairs)
        for metric, measure in SCORE_METRICS.items():
            by = functools.partial(_scored, measure, known)
            errors[name][metric] = [error for pair in pairs for error in errors_by_row(by, *pair)]
    figures = {
        name: {metric: _figures(metric, found) for metric, found in own.items()}
        for name, own in errors.items()
    }
    kept = goal.kept(Seen.of(opinions))
    return figures, kept, Seen.of(decided)


def _by_row(
    names: list[str], outputs: Sequence[npt.NDArray[Any]], mask: npt.NDArray[np.bool_] | None, feeds: Arrays
) -> list[Answer]:
    """The answer to each input of a batch."""
    floats = {
        name: output
        for name, output in zip(names, outputs, strict=True)
        if output.ndim and np.issubdtype(output.dtype, np.floating)
    }
    masks = [None] * min(map(len, floats.values()), default=0) if mask is None else mask
    return [
        Answer(
            {name: output[row : row + 1] for name, output in floats.items()},
            real,
            {name: array[row : row + 1] for name, array in feeds.items()},
        )
        for row, real in enumerate(masks)
    ]


def _scored(
    measure: ScoreMetric,
    known: metrics.FloatArray,
    want: metrics.Array,
    have: metrics.Array,
    mask: metrics.Mask | None,
) -> float:
    return measure(want, have, mask, known)


def _figures(metric: str, errors: list[float]) -> Figures:
    """JSON has no infinity, and no angle is wider than the opposite direction."""
    if metric == "cosine":
        return _summary([1 - min(error, 2.0) for error in errors], low_is_worse=True)
    return _summary([min(error, 1e30) for error in errors])


def errors_by_row(
    metric: metrics.Metric,
    want: npt.NDArray[Any],
    have: npt.NDArray[Any],
    mask: npt.NDArray[np.bool_] | None,
) -> list[float]:
    """The error of each row of a batch, by a metric of `onnx_memo.proof.metrics`.

    Args:
        metric: how wrong a row is.
        want: an output of the original, floats [B, ...].
        have: the same of the bundle.
        mask: the real tokens of the batch, bool[B, L]; None where the model has no mask.
    """
    masks = [None] * len(want) if mask is None else mask
    return [metric(want[row], have[row], real_rows(want, masks[row])) for row in range(len(want))]


def _summary(figures: list[float], *, low_is_worse: bool = False) -> Figures:
    return Figures(
        mean=float(np.mean(figures)),
        p95=percentile(figures, 95, low_is_worse=low_is_worse),
        worst=percentile(figures, 100, low_is_worse=low_is_worse),
    )
