"""What a bundle is asked when it is checked (`onnx_memo.verify`), with the original's answers."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
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

Outputs = list[npt.NDArray[Any]]


@dataclass(frozen=True)
class Asked:
    """Requests with the original's answers.

    Attributes:
        known: inputs of the sample.
        unseen: inputs that are not in the sample.
        mixed: batches of three, of which the one in the middle alone is in the sample.
    """

    known: list[tuple[Arrays, Outputs]]
    unseen: list[tuple[Arrays, Outputs]]
    mixed: list[tuple[Arrays, Outputs]]

    @property
    def count(self) -> int:
        """How many requests there are, but for batches."""
        return len(self.known) + len(self.unseen)


def asked(job: Job) -> Asked:
    """What the bundle is asked; the original's session ends here."""
    original = open_file(job.path, session_options(native=False, threads=1))
    requests = _requests(job, original)
    if job.compact:  # what is stored runs nothing
        return Asked([], _turned(job, original, requests), [])
    unseen: list[tuple[Arrays, Outputs]] = []
    mixed: list[tuple[Arrays, Outputs]] = []
    if job.goal is None and job.threshold is None:
        arrays = job.samples.arrays[:: max(1, len(job.samples) // UNSEEN)][:UNSEEN]
        unseen = _turned(job, original, arrays)
        mixed = _mixed(job, original, arrays)
    known = [(feeds, run_model(original, feeds, at)) for at, feeds in enumerate(requests)]
    return Asked(known, unseen, mixed)


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


def _turned(
    job: Job, original: ort.InferenceSession, requests: Sequence[Arrays]
) -> list[tuple[Arrays, Outputs]]:
    """Inputs that are not in the sample, `requests` turned by one; and what the original makes of them."""
    samples = job.samples
    kept = (samples.mask, job.opened.findings.positions)
    known = {content(arrays) for arrays in samples.arrays}
    found = []
    for feeds in requests:
        turned = {
            name: array if name in kept else np.roll(array, 1, axis=-1) for name, array in feeds.items()
        }
        if content(turned) not in known:
            with contextlib.suppress(Exception):  # not every model takes every input
                found.append((turned, original.run(None, turned)))
    return found


def _mixed(
    job: Job, original: ort.InferenceSession, requests: Sequence[Arrays]
) -> list[tuple[Arrays, Outputs]]:
    """Each of `requests` between two that are not in the sample, and what the original makes of these three.

    None where the model takes no batch.
    """
    found = []
    for feeds in requests:
        others = [other for other, _ in _turned(job, original, [feeds])]
        if not others:
            continue
        (other,) = others
        batch = {name: np.concatenate([other[name], array, other[name]]) for name, array in feeds.items()}
        with contextlib.suppress(Exception):
            found.append((batch, original.run(None, batch)))
    return found
