"""Check a bundle that was just written: does it keep what no proof is about?

Regions are cut by structure, and ONNX Runtime fuses what it likes across the cuts. So some inputs run through
original and bundle, with the native library and without: with reuse switched off every bit must be the
original's, and without a tolerance what is stored must come back. Where the original's weights are left out,
the two ways to run in 8 bits must agree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from onnx_memo.data.samples import Arrays
from onnx_memo.errors import MemoError
from onnx_memo.job import Job
from onnx_memo.levels.inserter import LITERAL, STRICTNESS
from onnx_memo.proof.answer import real_rows
from onnx_memo.proof.metrics import relative
from onnx_memo.questions import REUSED, Outputs, Questions, questions_for
from onnx_memo.runtime import library_path, session_options
from onnx_memo.sessions import open_file
from onnx_memo.store import bundle

WAYS = 3.0  # how far two ways to run products in 8 bits may be apart, in units of their own error
STORED = 0.02  # relative L2 error of a stored input's answer; payloads of half precision stay below 0.005


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


def check_bundle(job: Job, folder: Path, apart: bool = False) -> Checked:
    """Run some of the job's inputs through the bundle in `folder`.

    Args:
        job: of which the bundle is.
        folder: that of the bundle.
        apart: whether sequences of a batch that reuse nothing run without those that do.

    Raises:
        Fused: a request that reuses nothing would not get the original's answer.
        Mixed: it would, or one that is stored would get another answer, in a batch with others.
        Unfit: one that is stored gets another answer; or, where the original's weights are left out, the two
            ways to run do not agree.
    """
    # A session may hold the weights once more, packed: one is open at a time.
    questions = questions_for(job, apart)
    libraries = ["stock", *(["native"] if library_path() is not None else [])]
    advance = job.progress("checking the bundle", len(libraries) * questions.count)
    worst = max(_check(job, folder, library, questions, advance) for library in libraries)
    return Checked(questions.count, libraries, worst if _comes_back(job) else None)


def _comes_back(job: Job) -> bool:
    """Whether what is stored must come back. With a threshold, inputs that are not may reuse others."""
    return job.goal is None and (job.threshold is None or job.max_bytes is None)


def _check(job: Job, folder: Path, library: str, questions: Questions, advance: Callable[[], None]) -> float:
    """Run what is asked through the bundle; the largest error of what is stored, 0 where none is looked at.

    Raises:
        Unfit: as of `check_bundle`.
    """
    session = open_file(folder / bundle.MODEL, session_options(native=library == "native", threads=1))
    worst = 0.0
    for feeds, want in questions.known:
        _check_miss(session, feeds, want, library)
        if _comes_back(job):
            worst = max(worst, _error(job, session, feeds, want, "a stored input", library))
        advance()
    if job.compact:
        _check_ways(job, session, questions.unseen, library, advance)
        return worst
    for feeds, want in questions.unseen:
        _check_miss(session, feeds, want, library)
        _error(job, session, feeds, want, "an input that is not stored", library)
        advance()
    return max([worst, *(_check_mixed(job, session, *both, library) for both in questions.mixed)])


def _check_mixed(
    job: Job, session: ort.InferenceSession, feeds: Arrays, want: Outputs, library: str
) -> float:
    """How far the answer to the one that may be reused is off; the others' must be the original's.

    With a tolerance, or a threshold, that is how far it is from the answer that it gets alone.
    """
    have = session.run(None, feeds)
    for name, one, other in zip(_names(session), want, have, strict=True):
        if np.delete(one, REUSED, 0).tobytes() != np.delete(other, REUSED, 0).tobytes():
            raise Mixed(
                f"beside a stored input, output '{name}' of one that is not differs ({library} operators)",
                "send requests one by one",
            )
    own = slice(REUSED, REUSED + 1)
    alone = {name: array[own] for name, array in feeds.items()}
    repeats = job.goal is None and job.threshold is None
    right = [output[own] for output in want] if repeats else session.run(None, alone)
    error = _largest_error(session, right, [output[own] for output in have], _masks(job, alone))
    if error > STORED:
        raise Mixed(
            f"beside inputs that are not, a stored one is off by {error:.2g} ({library} operators)",
            "send requests one by one",
        )
    return error if repeats else 0.0


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
