"""Sessions of ONNX Runtime: open one on a model in memory, run a request, time several against each other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort

from onnx_memo.data.samples import Arrays
from onnx_memo.errors import MemoError
from onnx_memo.files import copy_file
from onnx_memo.graph.load import external_files

EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"


def place_weights(model: ir.Model, path: Path, folder: Path) -> None:
    """Copy what the model at `path` keeps outside its file to `folder`: one folder serves a whole session."""
    for name in external_files(model):
        if not (folder / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            copy_file(path.parent / name, folder / name)


def open_file(path: Path, options: ort.SessionOptions) -> ort.InferenceSession:
    """A session on the model in a file.

    Raises:
        MemoError: ONNX Runtime cannot load it.
    """
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no public base class
        reason = " ".join(str(error).split())[-200:]
        raise MemoError(f"ONNX Runtime {ort.__version__} cannot load '{path}': {reason}") from error


def open_session(model: ir.Model, folder: Path, options: ort.SessionOptions) -> ort.InferenceSession:
    """A session on a model that exists in memory only; its external data lies in `folder`."""
    options.add_session_config_entry(EXTERNAL_FOLDER, str(folder))
    # Threads that spin while they wait slow each other down where the cores have other work.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    content = ir.to_proto(model).SerializeToString()
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def run_model(session: ort.InferenceSession, feeds: dict[str, Any], number: int) -> list[npt.NDArray[Any]]:
    """Run one request.

    Raises:
        MemoError: the model refuses it, for one because it is longer than the model allows.
    """
    try:
        results: list[npt.NDArray[Any]] = session.run(None, feeds)
    except Exception as error:  # ONNX Runtime's errors share no public base class
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
        reason = " ".join(str(error).split())[-200:]
        raise MemoError(
            f"the model cannot run input {number + 1} ({shapes}): is it longer than the model allows? "
            f"ONNX Runtime says: {reason}"
        ) from error
    return results


def real_length(feeds: dict[str, Any], mask: ir.Value | None, states: npt.NDArray[Any]) -> int:
    """How many tokens of a request (a batch of one) are real at a site with hidden states [1, L, d].

    Samples hold no padding but where the model fixes the length.
    """
    return int(states.shape[1]) if mask is None else int(np.count_nonzero(feeds[str(mask.name)]))


Runner = Callable[[Arrays], object]


def runner(session: ort.InferenceSession, extra: Arrays | None = None) -> Runner:
    """Runs a request in a session, with `extra` inputs."""
    return lambda feeds: session.run(None, feeds | extra if extra else feeds)


@dataclass(frozen=True)
class Raced:
    """What a race took: seconds by round, request and runner, f64[rounds, requests, runners]."""

    seconds: npt.NDArray[np.float64]

    @property
    def medians(self) -> npt.NDArray[np.float64]:
        """Of each request over the rounds, f64[requests, runners]."""
        return np.median(self.seconds, axis=0)

    @property
    def ratio(self) -> float:
        """The second runner's total time over the first's, by medians."""
        first, second = self.medians.sum(axis=0)[:2]
        return float(second / first)

    @property
    def noise(self) -> float:
        """How far the ratio is uncertain: half the range of those of single rounds."""
        totals = self.seconds.sum(axis=1)
        return float(np.ptp(totals[:, 1] / totals[:, 0])) / 2


def race(
    runners: Sequence[Runner],
    requests: Sequence[Arrays],
    rounds: int,
    advance: Callable[[], None] = lambda: None,
) -> Raced:
    """Run every request by every runner, before the next request comes.

    Who goes first changes from turn to turn: whoever follows finds the caches warmer.
    """
    seconds = np.zeros((rounds, len(requests), len(runners)))
    for turn in range(rounds):
        for at, feeds in enumerate(requests):
            for step in range(len(runners)):
                which = (turn + at + step) % len(runners)
                start = time.perf_counter()
                runners[which](feeds)
                seconds[turn, at, which] = time.perf_counter() - start
            advance()
    return Raced(seconds)
