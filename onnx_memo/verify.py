"""Check a bundle that was just written: does it keep what no proof is about?

Regions are cut by structure, and ONNX Runtime fuses what it likes across the cuts. So some inputs run through
original and bundle, with the native library and without: with reuse switched off every bit must be the
original's, and without a tolerance what is stored must come back. Where the original's weights are left out,
the two ways to run in 8 bits must agree.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from onnx_memo.data.distinct import content
from onnx_memo.data.samples import Arrays
from onnx_memo.errors import MemoError
from onnx_memo.job import Job
from onnx_memo.levels.inserter import LITERAL, STRICTNESS
from onnx_memo.levels.padding import mixed_batch, padded_requests
from onnx_memo.proof.answer import real_rows
from onnx_memo.proof.metrics import relative
from onnx_memo.runtime import library_path, session_options
from onnx_memo.sessions import open_file, run_model
from onnx_memo.store import bundle

REQUESTS, UNSEEN = 24, 8
WAYS = 3.0  # how far two ways to run products in 8 bits may be apart, in units of their own error
STORED = 0.02  # relative L2 error of a stored input's answer; payloads of half precision stay below 0.005

Outputs = list[npt.NDArray[Any]]


class Unfit(MemoError):
    """A bundle is not right.

    Attributes:
        why: the reason alone.
    """

    def __init__(self, why: str, what_next: str) -> None:
        super().__init__(f"the bundle is not written: {why}; {what_next}")
        self.why = why


class Fused(Unfit):
    """A request that reuses nothing would not get the original's answer."""


class Mixed(Unfit):
    """In a batch of which only some sequences are reused, one would get an answer that is not its own."""


@dataclass(frozen=True)
class Checked:
    """What was checked, and found right.

    Attributes:
        requests: how many requests ran: inputs of the sample, as they are and padded.
        libraries: `stock`, and `native` where the library is there.
        stored_error: the largest relative L2 error with reuse; None where a tolerance is about that.
    """

    requests: int
    libraries: list[str]
    stored_error: float | None


def check_bundle(job: Job, folder: Path) -> Checked:
    """Run some of the job's inputs through the bundle in `folder`.

    Raises:
        Fused: a request that reuses nothing would not get the original's answer.
        Mixed: it would, or one that is stored would get another answer, in a batch with others.
        Unfit: one that is stored gets another answer; or, where the original's weights are left out, the two
            ways to run do not agree.
    """
    # A session may hold the weights once more, packed: one is open at a time.
    asked = _asked(job)
    libraries = ["stock", *(["native"] if library_path() is not None else [])]
    advance = job.progress("checking the bundle", len(libraries) * asked.count)
    worst = max(_check(job, folder, library, asked, advance) for library in libraries)
    return Checked(asked.count, libraries, worst if _comes_back(job) else None)


@dataclass(frozen=True)
class _Asked:
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
        return len(self.known) + len(self.unseen)


def _asked(job: Job) -> _Asked:
    """What the bundle is asked; the original's session ends here."""
    original = open_file(job.path, session_options(native=False, threads=1))
    requests = _requests(job, original)
    if job.compact:  # what is stored runs nothing
        return _Asked([], _turned(job, original, requests), [])
    unseen: list[tuple[Arrays, Outputs]] = []
    mixed: list[tuple[Arrays, Outputs]] = []
    if job.goal is None and job.threshold is None:
        arrays = job.samples.arrays[:: max(1, len(job.samples) // UNSEEN)][:UNSEEN]
        unseen = _turned(job, original, arrays)
        mixed = _mixed(job, original, arrays)
    known = [(feeds, run_model(original, feeds, at)) for at, feeds in enumerate(requests)]
    return _Asked(known, unseen, mixed)


def _comes_back(job: Job) -> bool:
    """Whether what is stored must come back. With a threshold, inputs that are not may reuse others."""
    return job.goal is None and (job.threshold is None or job.max_bytes is None)


def _check(job: Job, folder: Path, library: str, asked: _Asked, advance: Callable[[], None]) -> float:
    """Run what is asked through the bundle; the largest error of what is stored, 0 where none is looked at.

    Raises:
        Unfit: as of `check_bundle`.
    """
    session = open_file(folder / bundle.MODEL, session_options(native=library == "native", threads=1))
    worst = 0.0
    for feeds, want in asked.known:
        _check_miss(session, feeds, want, library)
        if _comes_back(job):
            worst = max(worst, _error(job, session, feeds, want, "a stored input", library))
        advance()
    if job.compact:
        _check_ways(job, session, asked.unseen, library, advance)
        return worst
    for feeds, want in asked.unseen:
        _check_miss(session, feeds, want, library)
        _error(job, session, feeds, want, "an input that is not stored", library)
        advance()
    return max([worst, *(_check_mixed(job, session, *both, library) for both in asked.mixed)])


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


def _check_mixed(
    job: Job, session: ort.InferenceSession, feeds: Arrays, want: Outputs, library: str
) -> float:
    """How far the answer to the one that is stored is off; those of the other two must be the original's."""
    have, masks = session.run(None, feeds), _masks(job, feeds)
    for name, one, other in zip(_names(session), want, have, strict=True):
        if len(one) == 3 and (one[::2].tobytes() != other[::2].tobytes()):
            raise Mixed(
                f"beside a stored input, output '{name}' of one that is not differs ({library} operators)",
                "send requests one by one",
            )
    error = _largest_error(session, want, have, masks)
    if error > STORED:
        raise Mixed(
            f"beside inputs that are not, a stored one is off by {error:.2g} ({library} operators)",
            "send requests one by one",
        )
    return error


def _check_miss(session: ort.InferenceSession, feeds: Arrays, want: Outputs, library: str) -> None:
    have = session.run(None, feeds | {STRICTNESS: np.zeros((), np.float32)})
    for name, one, other in zip(_names(session), want, have, strict=True):
        if one.tobytes() != other.tobytes():
            apart = np.abs(one.astype(np.float64) - other.astype(np.float64)).max()
            raise Fused(
                f"with nothing reused its output '{name}' is off by {apart:.2g} ({library} operators), since "
                "ONNX Runtime fuses this model across the place where it is guarded",
                "try another --level",
            )


def _check_ways(
    job: Job,
    session: ort.InferenceSession,
    unseen: Sequence[tuple[Arrays, Outputs]],
    library: str,
    advance: Callable[[], None],
) -> None:
    """The form by nodes that are exact on every processor answers inputs that are not stored as the one that
    is served does.

    Their products are the same, but not how floats are rounded: a number in the middle of two steps goes up
    in one of them and down in the other, and so on through the layers. In the end they are about as far from
    each other as from the original.
    """
    apart = off = 0.0
    for feeds, want in unseen:
        masks = _masks(job, feeds)
        served, other = (
            session.run(None, feeds | {STRICTNESS: np.full((), one, np.float32)}) for one in (LITERAL, 0.0)
        )
        apart += _largest_error(session, served, other, masks)
        off += _largest_error(session, want, served, masks)
        advance()
    if apart > WAYS * off:
        raise Unfit(
            f"the two ways in which it runs in 8 bits are {apart / len(unseen):.2g} from each other, and the "
            f"one {off / len(unseen):.2g} from the original ({library} operators; relative L2 error)",
            "leave --compact out",
        )


def _error(
    job: Job, session: ort.InferenceSession, feeds: Arrays, want: Outputs, what: str, library: str
) -> float:
    """How far an answer is from the original's, where it should be the same but for half precision."""
    error = _largest_error(session, want, session.run(None, feeds), _masks(job, feeds))
    if error > STORED:
        raise Unfit(
            f"the answer to {what} is off by {error:.2g} ({library} operators; relative L2 error)",
            "try another --level, or say with --tolerance how wrong an answer may be",
        )
    return error


def _masks(job: Job, feeds: Arrays) -> list[npt.NDArray[np.bool_] | None]:
    """Which tokens of a request are real, for each output, bool[B, L]; None: no mask tells."""
    return [feeds[name] != 0 if name in feeds else None for name in job.opened.masks]


def _largest_error(
    session: ort.InferenceSession,
    want: Outputs,
    have: Outputs,
    masks: Sequence[npt.NDArray[np.bool_] | None],
) -> float:
    """The relative L2 error of a request, the worst over its sequences and its outputs of floats."""
    errors = []
    for output, one, other, mask in zip(session.get_outputs(), want, have, masks, strict=True):
        if not np.issubdtype(one.dtype, np.floating):
            continue
        if mask is not None and one.shape == mask.shape and not isinstance(output.shape[1], int):
            one, other = one[..., None], other[..., None]  # a number for each token, as where answers begin
        for row in range(len(one)):
            real = real_rows(one, None if mask is None else mask[row])
            errors.append(relative(one[row], other[row], real))
    return max(errors, default=0.0)


def _names(session: ort.InferenceSession) -> list[str]:
    return [output.name for output in session.get_outputs()]
