"""Check a bundle that was just written: does it keep what no proof is about?

Regions are cut by structure, and ONNX Runtime fuses what it likes across the cuts. So some inputs run through
original and bundle, with the native library and without: with reuse switched off every bit must be the
original's, and without a tolerance what is stored must come back. Whether padding counts is tried as well: a
hit has zeros in padded rows, which a model may read (a mean over all positions, say).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from onnx_memo.data.samples import Arrays
from onnx_memo.errors import MemoError
from onnx_memo.job import Job
from onnx_memo.levels.inserter import STRICTNESS
from onnx_memo.proof.goal import real_rows
from onnx_memo.proof.metrics import relative
from onnx_memo.runtime import library_path, session_options
from onnx_memo.sessions import open_file, run_model
from onnx_memo.store import bundle

REQUESTS = 16
TRIED_PADDED, PADDING = 3, 4  # inputs that are tried with so many more positions
STORED = 0.02  # relative L2 error of a stored input's answer; payloads of half precision stay below 0.005

Outputs = list[npt.NDArray[Any]]


@dataclass(frozen=True)
class Checked:
    """What was checked, and found right.

    Attributes:
        requests: how many inputs of the sample ran.
        libraries: `stock`, and `native` where the library is there.
        stored_error: the largest relative L2 error with reuse; None where a tolerance is about that.
    """

    requests: int
    libraries: list[str]
    stored_error: float | None


def check_bundle(job: Job, folder: Path) -> Checked:
    """Run some of the job's inputs through the bundle in `folder`.

    Raises:
        MemoError: a request that reuses nothing would not get the original's answer, or one that is stored
            gets another one.
    """
    samples = job.samples
    some = sorted(range(len(samples)), key=samples.extent)[:: max(1, len(samples) // REQUESTS)][:REQUESTS]
    original = open_file(job.path, session_options(native=False, threads=1))
    wanted = [run_model(original, samples.arrays[at], at) for at in some]
    libraries = ["stock", *(["native"] if library_path() is not None else [])]
    advance = job.progress("checking the bundle", len(libraries) * len(some))
    _note_padding(job, original, folder, some)
    worst = 0.0
    for library in libraries:
        options = session_options(native=library == "native", threads=1)
        session = open_file(folder / bundle.MODEL, options)
        for at, want in zip(some, wanted, strict=True):
            _check_miss(session, samples.arrays[at], want, library)
            if job.goal is None:
                have = session.run(None, samples.arrays[at])
                worst = max(worst, _error(want, have, samples.real(at), library))
            advance()
    return Checked(len(some), libraries, worst if job.goal is None else None)


def _check_miss(session: ort.InferenceSession, feeds: Arrays, want: Outputs, library: str) -> None:
    have = session.run(None, feeds | {STRICTNESS: np.zeros((), np.float32)})
    for name, one, other in zip(_names(session), want, have, strict=True):
        if one.tobytes() != other.tobytes():
            apart = np.abs(one.astype(np.float64) - other.astype(np.float64)).max()
            raise MemoError(
                f"the bundle is not written: with nothing reused its output '{name}' is off by {apart:.2g} "
                f"({library} operators), since ONNX Runtime fuses this model across the place where it is "
                "guarded; try another --level"
            )


def _note_padding(job: Job, original: ort.InferenceSession, folder: Path, some: Sequence[int]) -> None:
    """Say so where a padded request gets another answer than the original's because it is reused."""
    free = {
        value.name
        for value in original.get_inputs()
        if len(value.shape) > 1 and not isinstance(value.shape[1], int)
    }
    if job.samples.mask not in free:
        return
    session = open_file(folder / bundle.MODEL, session_options(native=False, threads=1))
    apart = 0.0
    for at in some[:TRIED_PADDED]:  # the shortest, which leave room for padding
        feeds, mask = job.samples.arrays[at], job.samples.real(at)
        assert mask is not None, "the model has a mask"
        padded = {name: _padded(array) if name in free else array for name, array in feeds.items()}
        try:
            wanted = original.run(None, padded)
        except Exception:  # as long as the model allows: then it is never padded
            continue
        error = _largest_error(wanted, session.run(None, padded), np.pad(mask, (0, PADDING)))
        usual = _largest_error(original.run(None, feeds), session.run(None, feeds), mask)
        if error > max(STORED, 4 * usual):
            apart = max(apart, error)
    if apart:
        job.notes.append(
            f"padding counts in this model: a request that is padded and reused is off by up to {apart:.2g} "
            "(relative L2 error), since a hit has zeros in padded rows; send requests one by one, unpadded"
        )


def _padded(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """With some more positions, of zeros."""
    return np.pad(array, [(0, PADDING if axis == 1 else 0) for axis in range(array.ndim)])


def _error(want: Outputs, have: Outputs, mask: npt.NDArray[np.bool_] | None, library: str) -> float:
    error = _largest_error(want, have, mask)
    if error > STORED:
        raise MemoError(
            f"the bundle is not written: the answer to a stored input is off by {error:.2g} ({library} "
            "operators; relative L2 error), since what is stored in half precision is quantized again; try "
            "another --level, or say with --tolerance how wrong an answer may be"
        )
    return error


def _largest_error(want: Outputs, have: Outputs, mask: npt.NDArray[np.bool_] | None) -> float:
    """The relative L2 error of one request, the worst over its outputs of floats."""
    floats = [at for at, output in enumerate(want) if np.issubdtype(output.dtype, np.floating)]
    return max((relative(want[at][0], have[at][0], real_rows(want[at], mask)) for at in floats), default=0.0)


def _names(session: ort.InferenceSession) -> list[str]:
    return [output.name for output in session.get_outputs()]
