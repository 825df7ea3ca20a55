"""What a bundle is asked when it is checked (`onnx_memo.verify`), with the original's answers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from onnx_memo.data.distinct import content
from onnx_memo.data.samples import Arrays
from onnx_memo.job import Job
from onnx_memo.levels.padding import mixed_batch, padded_requests
from onnx_memo.runtime import session_options
from onnx_memo.sessions import open_file, run_model

REQUESTS, UNSEEN = 24, 8
REUSED = 1  # the place in a batch of the one that may be reused

Outputs = list[npt.NDArray[Any]]


@dataclass(frozen=True)
class Questions:
    """Requests with the original's answers.

    Attributes:
        known: inputs of the sample.
        unseen: inputs that are not in the sample.
        mixed: batches of equally long ones, of which that at `REUSED` is in the sample, or, where others
            than repeats are reused, may be reused; no other is, and the first is there twice.
    """

    known: list[tuple[Arrays, Outputs]]
    unseen: list[tuple[Arrays, Outputs]]
    mixed: list[tuple[Arrays, Outputs]]

    @property
    def count(self) -> int:
        """How many requests there are, but for batches."""
        return len(self.known) + len(self.unseen)


def questions_for(job: Job, apart: bool) -> Questions:
    """What the bundle is asked; the original's session ends here.

    `apart`: whether what reuses nothing of a batch runs without the rest.
    """
    original = open_file(job.path, session_options(native=False, threads=1))
    requests, samples = _requests(job, original), job.samples
    if job.compact:  # what is stored runs nothing
        return Questions([], _answered(original, _Turned(job).of(requests)), [])
    some = samples.arrays[:: max(1, len(samples) // UNSEEN)][:UNSEEN]
    unseen: list[tuple[Arrays, Outputs]] = []
    mixed: list[Arrays] = []
    if job.goal is None and job.threshold is None:
        turned = _Turned(job)
        unseen = _answered(original, turned.of(some))
        mixed = [_batch(feeds, others) for feeds in some if len(others := turned.of([feeds], (1, 2))) == 2]
    elif apart and samples.mask is not None:
        mask = samples.mask
        mixed = [_batch(feeds, _with_holes(feeds, mask)) for feeds in some if feeds[mask].shape[1] > 3]
    known = [(feeds, run_model(original, feeds, at)) for at, feeds in enumerate(requests)]
    return Questions(known, unseen, _by_sequence(_answered(original, mixed)))


def _requests(job: Job, original: ort.InferenceSession) -> list[Arrays]:
    """Some of the job's inputs, of all lengths; some padded, on both sides where that counts, and a batch."""
    samples = job.samples
    order = sorted(range(len(samples)), key=samples.extent)
    some = [samples.arrays[at] for at in order[:: max(1, len(samples) // REQUESTS)][:REQUESTS]]
    padded = [*padded_requests(original, samples)]
    given = any(site.positions is not None for site in job.opened.findings.sites)
    # Only such models turn; of others no span need be searched, where the level has none.
    if given and job.opened.span is not None and job.opened.span.turns:
        padded += [_in_front(feeds, str(samples.mask)) for feeds in padded]
    return [*some, *padded, *mixed_batch(original, samples)]


def _in_front(feeds: Arrays, mask: str) -> Arrays:
    """A request with its padding in front of its tokens."""
    length, padding = feeds[mask].shape[1], int(np.count_nonzero(feeds[mask] == 0))
    own = {name for name, array in feeds.items() if array.ndim > 1 and array.shape[1] == length}
    return {name: np.roll(array, padding, axis=1) if name in own else array for name, array in feeds.items()}


class _Turned:
    """Inputs that are not in a job's sample."""

    def __init__(self, job: Job) -> None:
        self.kept = (job.samples.mask, job.opened.findings.positions)
        self.known = {content(arrays) for arrays in job.samples.arrays}

    def of(self, requests: Sequence[Arrays], by: Sequence[int] = (1,)) -> list[Arrays]:
        """What `requests` become once they are turned `by` some tokens, without what is in the sample."""
        turned = [
            {name: array if name in self.kept else np.roll(array, count, -1) for name, array in feeds.items()}
            for feeds in requests
            for count in by
        ]
        return [other for other in turned if content(other) not in self.known]


def _with_holes(feeds: Arrays, mask: str) -> list[Arrays]:
    """A request of four tokens or more with one masked in its middle: it has no entry, wherever it is looked
    for.
    """
    middle = feeds[mask].shape[1] // 2
    found = []
    for place in (middle - 1, middle):
        holed = feeds[mask].copy()
        holed[:, place] = 0
        found.append(feeds | {mask: holed})
    return found


def _batch(feeds: Arrays, others: Sequence[Arrays]) -> Arrays:
    """A request among two others, as `Questions.mixed` says."""
    one, two = others
    return {name: np.concatenate([one[name], own, two[name], one[name]]) for name, own in feeds.items()}


def _answered(original: ort.InferenceSession, requests: Sequence[Arrays]) -> list[tuple[Arrays, Outputs]]:
    """Those of `requests` that the original takes, with its answers."""
    found = []
    for feeds in requests:
        with contextlib.suppress(Exception):  # ONNX Runtime's errors share no public base class
            found.append((feeds, original.run(None, feeds)))
    return found


def _by_sequence(batches: list[tuple[Arrays, Outputs]]) -> list[tuple[Arrays, Outputs]]:
    """Those that are answered sequence by sequence."""

    def count(arrays: Iterable[npt.NDArray[Any]]) -> set[int]:
        return {len(array) if array.ndim else 0 for array in arrays}

    return [(feeds, answers) for feeds, answers in batches if count(answers) == count(feeds.values())]
