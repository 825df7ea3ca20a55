"""Sessions of ONNX Runtime: open one on a model in memory, run a request, time several against each other."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort

from onnx_memo.data.samples import Arrays
from onnx_memo.errors import MemoError, reason_of
from onnx_memo.files import NewFile, take_file
from onnx_memo.graph.external import external_files
from onnx_memo.mapped import in_files, opening
from onnx_memo.runtime import EXTERNAL_FOLDER

# Bytes: a message of protobuf ends at 2 GiB, and what is in one is in memory several times at once.
MOST_IN_A_MESSAGE, SMALL = 1 << 27, 1 << 16
PAGE = 4096  # bytes: what is mapped begins at a multiple
MOST_TRIED = 512  # tokens to which a request is padded to see whether it runs then


def place_weights(model: ir.Model, source: Path, folder: Path) -> None:
    """Have what the model keeps in files in `source` in `folder` as well, for a while: one folder serves a
    whole session. Blocks are shared where the file system can.
    """
    for name in external_files(model):
        if not (folder / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            take_file(source / name, folder / name)


def open_file(path: Path, options: ort.SessionOptions) -> ort.InferenceSession:
    """A session on the model in a file.

    Raises:
        MemoError: ONNX Runtime cannot load it.
    """
    return _opened(str(path), options, f"'{path}'")


def open_session(
    model: ir.Model, folder: Path, options: ort.SessionOptions, *, scratch: bool = False
) -> ort.InferenceSession:
    """A session on a model that exists in memory only.

    Args:
        model: the model.
        folder: where its external data lies.
        options: of the session.
        scratch: whether files may be made in `folder`, for a while.

    Raises:
        MemoError: ONNX Runtime cannot load it.
    """
    options.add_session_config_entry(EXTERNAL_FOLDER, str(folder))
    # Threads that spin while they wait slow each other down where the cores have other work.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    with _weights_apart(model, folder if scratch else None) as (apart, weights):
        options.add_external_initializers(list(weights), list(weights.values()))
        session = _opened(ir.to_proto(apart).SerializeToString(), options, "the model")
    session.weights = weights  # they are to live as long as it does
    return session


@contextmanager
def _weights_apart(
    model: ir.Model, scratch: Path | None
) -> Iterator[tuple[ir.Model, dict[str, ort.OrtValue]]]:
    """The model, and by name the weights that are left out of it, where they are many for one message.

    ONNX Runtime copies what it is given so. Of a large model they are in a file in `scratch` instead, which
    it maps: while the session is opened the file has a name, and then goes with the session.
    """
    own = {
        name: value.const_value
        for name, value in model.graph.initializers.items()
        if value.const_value is not None and not isinstance(value.const_value, ir.ExternalTensor)
    }
    if sum(tensor.nbytes for tensor in own.values()) < MOST_IN_A_MESSAGE:
        yield model, {}
        return
    large = {name: tensor for name, tensor in own.items() if tensor.nbytes > SMALL}
    apart = model.clone()

    def leave_out(name: str, file: str, begin: int) -> None:
        tensor = large[name]
        shape = ir.Shape(tensor.shape.numpy())
        apart.graph.initializers[name].const_value = ir.ExternalTensor(
            file, begin, tensor.nbytes, tensor.dtype, shape=shape, name=name
        )

    if scratch is None or not in_files():
        for name in large:
            leave_out(name, "given", 0)
        yield apart, {name: ort.OrtValue.ortvalue_from_numpy(large[name].numpy()) for name in large}
        return
    with tempfile.TemporaryDirectory(dir=scratch) as place:
        path = Path(place, "weights")
        with NewFile(path) as file:
            for name, tensor in large.items():
                leave_out(name, path.relative_to(scratch).as_posix(), file.tell())
                file.array(tensor.numpy())
                file.write(bytes(-file.tell() % PAGE))
        yield apart, {}


def _opened(source: str | bytes, options: ort.SessionOptions, what: str) -> ort.InferenceSession:
    try:
        with opening(options):
            return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no public base class
        raise MemoError(f"ONNX Runtime {ort.__version__} cannot load {what}: {reason_of(error)}") from error


def run_model(
    session: ort.InferenceSession, feeds: dict[str, Any], number: int, outputs: Sequence[str] | None = None
) -> list[npt.NDArray[Any]]:
    """Run one request, for all outputs or those that are named.

    Raises:
        MemoError: the model refuses it; why, is found by trying what it runs in its place.
    """
    try:
        results: list[npt.NDArray[Any]] = session.run(outputs, feeds)
    except Exception as error:  # ONNX Runtime's errors share no public base class
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
        why = _too_long(session, feeds) or _out_of_range(session, feeds) or _other_length(session, feeds)
        raise MemoError(
            f"the model cannot run input {number + 1} ({shapes}): "
            f"{why or 'ONNX Runtime says: ' + reason_of(error)}"
        ) from error
    return results


def _runs(session: ort.InferenceSession, feeds: dict[str, Any]) -> bool:
    try:
        session.run(None, feeds)
    except Exception:  # ONNX Runtime's errors share no public base class
        return False
    return True


def _out_of_range(session: ort.InferenceSession, feeds: dict[str, Any]) -> str | None:
    """Says so where the model runs with zeros in place of whole numbers: where they are looked up."""
    for name, array in feeds.items():
        if np.issubdtype(array.dtype, np.integer) and _runs(session, feeds | {name: np.zeros_like(array)}):
            return (
                f"'{name}' holds numbers up to {array.max()}, and the model does not know all of them (it "
                "runs with zeros there): were they made by the model's own tokenizer?"
            )
    return None


def _too_long(session: ort.InferenceSession, feeds: dict[str, Any]) -> str | None:
    """Says so where the model runs the same numbers at a shorter length, but not zeros at this one."""
    length, rows = _tokens(feeds)
    zeros = {name: np.zeros_like(array) if name in rows else array for name, array in feeds.items()}

    def runs(size: int) -> bool:
        return _runs(session, {name: a[:, :size] if name in rows else a for name, a in zeros.items()})

    if length < 2 or not runs(1) or runs(length):
        return None
    most, beyond = 1, length
    while beyond - most > 1:
        middle = (most + beyond) // 2
        most, beyond = (middle, beyond) if runs(middle) else (most, middle)
    if most == 1:  # a single token meets no other: what fails is not the length
        return None
    return (
        f"it is longer than the model allows: {length} tokens, and the model runs at most {most}; shorten it"
    )


def _other_length(session: ort.InferenceSession, feeds: dict[str, Any]) -> str | None:
    """Says so where the model runs the same numbers with zeros behind them, at one of few lengths."""
    length, rows = _tokens(feeds)
    if not any(np.issubdtype(feeds[name].dtype, np.integer) for name in rows):
        return None  # no tokens
    for size in range(length + 1, MOST_TRIED + 1):
        longer = {name: np.pad(feeds[name], ((0, 0), (0, size - length))) for name in rows}
        if _runs(session, feeds | longer):
            return (
                f"it has {length} tokens, and the next length that the model runs is {size}: its exporter "
                "has fixed which ones run; export it with a free length, or give inputs of such lengths alone"
            )
    return None


def _tokens(feeds: dict[str, Any]) -> tuple[int, set[str]]:
    """The length of a request, and the names of the inputs that have it: [B, L]."""
    length = max((array.shape[1] for array in feeds.values() if array.ndim == 2), default=0)
    return length, {name for name, array in feeds.items() if array.ndim == 2 and array.shape[1] == length}


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

    def among(self, requests: npt.NDArray[np.bool_]) -> Raced:
        """The same of some of the requests, bool[requests]."""
        return Raced(self.seconds[:, requests])

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

    Who goes first changes from turn to turn, and so does the direction: whoever follows finds the caches
    warmer, and nobody shall always follow the same one.
    """
    seconds = np.zeros((rounds, len(requests), len(runners)))
    for turn in range(rounds):
        for at, feeds in enumerate(requests):
            for which in _order(turn + at, len(runners)):
                start = time.perf_counter()
                runners[which](feeds)
                seconds[turn, at, which] = time.perf_counter() - start
            advance()
    return Raced(seconds)


def _order(turn: int, runners: int) -> list[int]:
    """Each runner once, from another one every turn; backwards after each of them was first."""
    step = -1 if turn // runners % 2 else 1
    return [(turn + step * at) % runners for at in range(runners)]
