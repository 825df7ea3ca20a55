"""Run representative inputs through the encoder and stream to disk what the level `rows` stores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_memo.capture import HALF_MAX, open_session, real_length, run_model
from onnx_memo.errors import MemoError
from onnx_memo.graph.encoder import find_encoder
from onnx_memo.graph.load import load_model
from onnx_memo.graph.operators import SEGMENTS
from onnx_memo.graph.probe import add_outputs
from onnx_memo.inputs import Samples
from onnx_memo.keys import segment_means
from onnx_memo.runtime import session_options

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class RowsCapture:
    """What whole encoder runs gave, one file a kind, samples one after the other, unpadded.

    Letters: N samples, T sum of their tokens, Q sum of the squares; d width, H heads of a core.

    Attributes:
        folder: holds the files.
        lengths: real tokens of each sample, i64[N].
        width: d.
        heads: (H, dk, dv) of each core.
        share: of the model's multiply-adds that lie in the encoder, 0 to 1.
    """

    folder: Path
    lengths: npt.NDArray[np.int64]
    width: int
    heads: tuple[tuple[int, int, int], ...]
    share: float

    def tokens(self, sample: int) -> slice:
        """Where a sample's tokens lie in `stored` and `final`."""
        end = int(self.lengths[: sample + 1].sum())
        return slice(end - int(self.lengths[sample]), end)

    def numbers(self, sample: int) -> slice:
        """Where a sample's matrix lies in `rollout`."""
        end = int(np.square(self.lengths[: sample + 1]).sum())
        return slice(end - int(self.lengths[sample]) ** 2, end)

    def path(self, kind: str) -> Path:
        """The file of one kind: means, stored, final, rollout, keys.0, values.0, keys.1 ..."""
        return self.folder / f"rows.{kind}"

    @property
    def means(self) -> Floats:
        """Segment means of the states at the input, mapped: f32[N, SEGMENTS * d]."""
        return np.memmap(
            self.path("means"), np.float32, "r", shape=(len(self.lengths), SEGMENTS * self.width)
        )

    @property
    def stored(self) -> npt.NDArray[np.float16]:
        """States at the encoder's input, mapped: f16[T, d]."""
        return np.memmap(self.path("stored"), np.float16, "r", shape=(int(self.lengths.sum()), self.width))

    @property
    def final(self) -> Floats:
        """States at the encoder's output, mapped: f32[T, d]."""
        return np.memmap(self.path("final"), np.float32, "r", shape=(int(self.lengths.sum()), self.width))

    @property
    def rollout(self) -> npt.NDArray[np.float16]:
        """Attention rollouts J[n, n] of all samples, mapped: f16[Q]."""
        return np.memmap(self.path("rollout"), np.float16, "r", shape=(int(np.square(self.lengths).sum()),))


def attention_rollout(probabilities: Sequence[Floats]) -> Floats:
    """How far token j (row) reaches row t (column) of the last layer: J[n, n].

    Attention rollout (Abnar and Zuidema, 2020): the product over layers of half the attention probabilities,
    averaged over heads, and half the identity (the residual).

    Args:
        probabilities: of each layer from the first on, [H, n, n].
    """
    n = probabilities[0].shape[-1]
    reach = np.eye(n, dtype=np.float32)
    for layer in probabilities:
        reach = (layer.mean(axis=0) @ reach + reach) / 2
    return np.ascontiguousarray(reach.T)


def capture_rows(
    path: Path, samples: Samples, folder: Path, advance: Callable[[], None], *, literal: bool = False
) -> RowsCapture:
    """Run `samples` through the encoder of the model at `path`.

    Args:
        path: the model.
        samples: sorted by length by the caller; that order is kept.
        folder: where the files go.
        advance: called after each sample.
        literal: for literal repeats only: neither keys, values nor rollouts are kept.

    Raises:
        MemoError: the model has no encoder, cannot run a sample, or makes numbers that half precision
            cannot hold.
    """
    model = load_model(path)
    encoder = find_encoder(model)
    if isinstance(encoder, str):
        raise MemoError(f"'{path}' does not allow the level 'rows': {encoder}")
    wanted = [encoder.input, encoder.output]
    for core in () if literal else encoder.cores:
        wanted += [core.key, core.value, core.probabilities]
    add_outputs(model, wanted)
    place = {value: at for at, value in enumerate(model.graph.outputs)}
    session = open_session(model, path.parent, session_options(native=False))
    lengths: list[int] = []
    with _Files(folder, 0 if literal else len(encoder.cores)) as files:
        for number, feeds in enumerate(samples.arrays):
            results = run_model(session, feeds, number)
            before, after, *cores = (results[place[value]] for value in wanted)
            n = real_length(feeds, encoder.mask, before)
            lengths.append(n)
            files.write("means", segment_means(before[0, :n]))
            files.write("stored", _half(before[0, :n]))
            files.write("final", after[0, :n])
            _write_cores(files, cores, n)
            advance()
    heads = tuple((core.heads, core.key_width, core.value_width) for core in encoder.cores)
    return RowsCapture(folder, np.asarray(lengths, np.int64), encoder.width, heads, encoder.share)


def _write_cores(files: _Files, results: Sequence[Floats], n: int) -> None:
    """The keys, values and probabilities of each core, one after the other, of a sample of `n` tokens."""
    if not results:
        return
    rollout = attention_rollout([_heads(p)[:, :n, :n] for p in results[2::3]])
    files.write("rollout", _half(rollout))
    for layer, (keys, values) in enumerate(zip(results[0::3], results[1::3], strict=True)):
        files.write(f"keys.{layer}", _half(_heads(keys)[:, :, :n]))
        files.write(f"values.{layer}", _half(_heads(values)[:, :n]))


class _Files:
    """The open files of a capture, appended sample by sample."""

    def __init__(self, folder: Path, layers: int) -> None:
        kinds = ["means", "stored", "final", *(["rollout"] if layers else [])]
        kinds += [f"{kind}.{layer}" for layer in range(layers) for kind in ("keys", "values")]
        self.files = {kind: open(folder / f"rows.{kind}", "wb") for kind in kinds}

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self.files.values():
            file.close()

    def write(self, kind: str, array: npt.NDArray[Any]) -> None:
        array.tofile(self.files[kind])


def _heads(array: npt.NDArray[Any]) -> Floats:
    """One sample's heads, [H, ., .], whether or not they are folded into the batch."""
    return array.reshape(-1, *array.shape[-2:])


def _half(array: Floats) -> npt.NDArray[np.float16]:
    if not np.abs(array).max(initial=0.0) <= HALF_MAX:
        raise MemoError("the encoder makes numbers that half precision cannot hold: 'rows' cannot store them")
    return np.ascontiguousarray(array).astype(np.float16)
