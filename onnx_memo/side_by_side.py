"""Bundles of one model side by side: time, hits, errors, decisions kept, bytes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from onnx_memo.compare import Ask, measuring_goal, reuse_of, right_answers
from onnx_memo.comparison import Figures
from onnx_memo.data.given import Data, data_of
from onnx_memo.data.readers import read_samples
from onnx_memo.data.samples import Samples, model_inputs
from onnx_memo.errors import MemoError
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.notebook import notebook_bar
from onnx_memo.pair import Guarded, bundle_of, same_outputs
from onnx_memo.progress import Progress
from onnx_memo.proof.answer import Answer
from onnx_memo.proof.goal import Goal, Opinion
from onnx_memo.proof.measure import Kept, Seen
from onnx_memo.proof.percentile import percentile
from onnx_memo.reference import Reference
from onnx_memo.runtime import operators_used, session_options
from onnx_memo.sessions import open_file, race, run_model, runner
from onnx_memo.store import bundle as bundles
from onnx_memo.store.manifest import Manifest
from onnx_memo.timing import Measured, Times, ratio_of, times_of

WARM_UP = 4  # requests that run before the race: the first runs of a session allocate
LARGEST = 1e30  # in place of an infinite error, which JSON cannot hold


@dataclass(frozen=True)
class Compared:
    """A bundle, as measured on the requests.

    Attributes:
        path: as it was given.
        times: that requests take, in milliseconds.
        ratio: its total time over the original's.
        against_fastest: its total time over that of the fastest, original included.
        hit_rate: share of (request, site) pairs that were reused.
        rows_run: mean share of their rows that requests ran; None at levels that run no single rows.
        errors: from the right answers, by the metric; None where the model has no output of floats.
        kept: the decisions that stay, of the one that the outputs suggest (`onnx_memo.proof.choice`).
        memo_bytes: of its memo data.
    """

    path: str
    times: Times
    ratio: Measured
    against_fastest: Measured
    hit_rate: float
    rows_run: float | None
    errors: Figures | None
    kept: list[Kept]
    memo_bytes: int


@dataclass(frozen=True)
class SideBySide:
    """Bundles of one model, measured in one race.

    Attributes:
        original: milliseconds that requests take.
        reference: the file of the model whose answers are right; None: the original's own are.
        original_errors, original_kept: of the original against the reference; None, and nothing, without one.
        fastest: the path of the bundle with the least total time; None: the original has it.
        metric: what errors are: `cosine` (1 - cosine, averaged over tokens first, the worst of the outputs),
            or `spread` where outputs are single numbers (`onnx_memo.proof.scores`).
        library: `native` or `stock`.
        notes: what was left out of the data, cut off or not known.
    """

    requests: int
    rounds: int
    threads: int
    library: str
    metric: str
    original: Times
    bundles: list[Compared]
    fastest: str | None
    notes: list[str]
    reference: str | None = None
    original_errors: Figures | None = None
    original_kept: list[Kept] = field(default_factory=list)

    @property
    def equal(self) -> list[str]:
        """The bundles that take no longer than the fastest, within the spread; the fastest among them."""
        return [one.path for one in self.bundles if one.against_fastest.equals(1)]

    def as_json(self) -> dict[str, Any]:
        """As one JSON object, with the paths of `equal` bundles."""
        return asdict(self) | {"equal": self.equal}


def compare_bundles(
    model: Path | str,
    paths: Sequence[Path | str],
    data: Data | Path | str,
    *,
    tokenizer: Path | str | None = None,
    threads: int = 1,
    rounds: int = 5,
    native: bool = True,
    allow_unknown: bool = False,
    reference: Path | str | None = None,
    progress: Progress = notebook_bar,
) -> SideBySide:
    """Run every request in `data`, one at a time, through the original and all bundles, turn by turn.

    Args:
        model: the original that all bundles were made from.
        paths: the bundles, at least one.
        data: requests, as for `optimize`.
        tokenizer: for text; None: the one that the bundles bring.
        threads: of each session; no more than there are cores.
        rounds: how often each request is timed; a spread needs at least two.
        native: with the native library.
        allow_unknown: take text of which more than a tenth is unknown to the tokenizer.
        reference: the file of another model whose answers are right in place of the original's, as in
            `optimize`; then the original errs, too. Times are compared with the original's all the same.

    Raises:
        MemoError: a bundle is damaged or of another model, or the data or the reference does not fit.
    """
    model = Path(model)
    if not paths:
        raise MemoError("name at least one bundle to compare with the model")
    if rounds < 1 or threads < 1:
        raise MemoError("--rounds and --threads take numbers of at least 1")
    found = [bundle_of(path) for path in _distinct(paths)]
    threads = min(threads, os.cpu_count() or 1)
    with found[0].original(model) as source:
        for other in found[1:]:
            other.check(source)
        inputs = model_inputs(OpenedModel(source.onnx, _same_mask(found)))
        original = open_file(source.onnx, session_options(native=False, threads=threads))
    sessions = [original]
    for one in found:
        with bundles.telling_operators(one.model):
            sessions.append(open_file(one.model, session_options(native=native, threads=threads)))
        outputs = same_outputs(original, sessions[-1], one.path)
    judge = None if reference is None else Reference(Path(reference), inputs, outputs)
    data = data_of(data)
    vocabulary = _same(found, bundles.TOKENIZER, "tokenizer") if tokenizer is None else Path(tokenizer)
    named = data.image_processor is not None
    samples = read_samples(
        data,
        inputs,
        vocabulary,
        image_processor=None if named else _same(found, bundles.IMAGE_PROCESSOR, "image processor"),
        allow_unknown=allow_unknown,
    )
    notes = list(samples.notes)
    ask = right_answers(original, judge)
    goal = measuring_goal(ask, samples, notes, progress)
    erring = sessions[1:] if judge is None else sessions
    judged = _judge(ask, erring, samples, goal, progress("comparing outputs", len(samples)))
    own_errors, own_kept = (None, list[Kept]()) if judge is None else judged.pop(0)
    counting = progress("counting hits", len(found) * len(samples))
    reuse = [reuse_of(one.model, one.manifest.sites, native, samples.arrays, counting) for one in found]
    runners = [runner(session) for session in sessions]
    race(runners, samples.arrays[:WARM_UP], 1)
    raced = race(runners, samples.arrays, rounds, progress("measuring", rounds * len(samples)))
    best = int(raced.medians.sum(axis=0).argmin())
    return SideBySide(
        requests=len(samples),
        rounds=rounds,
        threads=threads,
        library=operators_used(native),
        metric=goal.metric,
        original=times_of(raced, 0),
        bundles=[
            Compared(
                path=str(one.path),
                times=times_of(raced, at),
                ratio=ratio_of(raced, at),
                against_fastest=ratio_of(raced, at, best),
                hit_rate=float(np.mean(list(reused.sites.values()))),
                rows_run=reused.rows_run,
                errors=errors,
                kept=kept,
                memo_bytes=_memo_bytes(one.manifest),
            )
            for at, (one, reused, (errors, kept)) in enumerate(
                zip(found, reuse, judged, strict=True), start=1
            )
        ],
        fastest=None if best == 0 else str(found[best - 1].path),
        notes=notes,
        reference=None if judge is None else judge.name,
        original_errors=own_errors,
        original_kept=own_kept,
    )


def _distinct(paths: Sequence[Path | str]) -> list[Path]:
    places = {Path(path).resolve(): Path(path) for path in paths}
    if len(places) < len(paths):
        raise MemoError("a bundle is named twice: name each bundle once")
    return list(places.values())


def _same_mask(found: Sequence[Guarded]) -> str | None:
    """The padding mask of all bundles."""
    first = found[0]
    for other in found:
        if other.mask != first.mask:
            raise MemoError(
                f"'{first.path}' and '{other.path}' take different inputs for the padding mask "
                f"('{first.mask}' and '{other.mask}'): make them with the same --mask"
            )
    return first.mask


def _same(found: Sequence[Guarded], name: str, what: str) -> Path | None:
    """A file that bundles bring, where those that bring one bring the same; `what` people call it."""
    bring = [one for one in found if one.brought(name)]
    hashes = [one.manifest.files[name]["sha256"] for one in bring]
    for other, found_hash in zip(bring, hashes, strict=True):
        if found_hash != hashes[0]:
            raise MemoError(
                f"'{bring[0].path}' and '{other.path}' bring different {what}s: name one with "
                f"--{what.replace(' ', '-')}"
            )
    return bring[0].brought(name) if bring else None


def _memo_bytes(manifest: Manifest) -> int:
    (memo,) = bundles.memo_of(manifest)
    return int(manifest.files[memo]["bytes"])


def _judge(
    ask: Ask,
    sessions: Sequence[ort.InferenceSession],
    samples: Samples,
    goal: Goal,
    advance: Callable[[], None],
) -> list[tuple[Figures | None, list[Kept]]]:
    """For each session: the errors of its answers from those that `ask` gives, and the decisions kept."""
    names = [value.name for value in sessions[0].get_outputs()]
    opinions: list[list[Opinion]] = [[] for _ in sessions]
    floats = True
    for at, feeds in enumerate(samples.arrays):
        want = Answer(ask(feeds, at), samples.real(at), feeds)
        floats = bool(want.floats)
        for own, session in zip(opinions, sessions, strict=True):
            have = run_model(session, feeds, at)
            if floats:
                own.append(goal.opinion(want, dict(zip(names, have, strict=True))))
        advance()
    if not floats:
        return [(None, []) for _ in opinions]
    return [
        (
            _summary(np.minimum([one.judged.error for one in own], LARGEST).tolist()),
            goal.kept(Seen.of([one.decided for one in own])),
        )
        for own in opinions
    ]


def _summary(errors: Sequence[float]) -> Figures:
    return Figures(float(np.mean(errors)), percentile(errors, 95), percentile(errors, 100))
