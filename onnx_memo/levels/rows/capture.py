"""Run representative inputs through the encoder and stream to disk what the level `rows` stores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.data.samples import Arrays, Samples
from onnx_memo.errors import MemoError
from onnx_memo.files import NewFile
from onnx_memo.graph.build import Builder
from onnx_memo.graph.cores import Core, Meeting, Mixing
from onnx_memo.graph.encoder import Encoder
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.graph.plain.floats import HALVES
from onnx_memo.graph.probe import add_outputs
from onnx_memo.graph.prune import prune
from onnx_memo.graph.span import Span
from onnx_memo.graph.stages import find_stages
from onnx_memo.keys.network import segment_means
from onnx_memo.levels.rows.layout import RowsForm
from onnx_memo.operators.spec import SEGMENTS
from onnx_memo.precision.tables import Tables
from onnx_memo.runtime import session_options
from onnx_memo.sessions import open_session, real_length, run_model
from onnx_memo.store.data import HALF_MAX
from onnx_memo.threads import side_by_side

KEPT = 0.7  # share of the residual in what reaches a row within a stage: the best of what was tried

Floats = npt.NDArray[np.float32]
_Piece = tuple[str, npt.NDArray[Any]]  # of a file, named by its kind


@dataclass(frozen=True)
class RowsCapture:
    """What whole encoder runs gave, one file a kind, samples one after the other, unpadded.

    Letters: N samples, T sum of their tokens, Q sum of the squares; d width, H heads of a core.

    Attributes:
        folder: holds the files.
        lengths: real tokens of each sample, i64[N].
        width: d.
        kept: of each layer what its attention reads of all rows, as kinds and widths; none where only literal
            repeats are reused.
        stages: the first layer of each stage (`onnx_memo.graph.stages`).
        share: of the model's multiply-adds that lie in the encoder, 0 to 1; None: not known.
        final: numbers of the output for each row of the input; d of an encoder.
    """

    folder: Path
    lengths: npt.NDArray[np.int64]
    width: int
    kept: tuple[tuple[tuple[str, int], ...], ...]
    stages: tuple[int, ...]
    share: float | None
    final: int

    def tokens(self, sample: int) -> slice:
        """Where a sample's tokens lie in `states`."""
        end = int(self._ends[sample])
        return slice(end - int(self.lengths[sample]), end)

    def numbers(self, sample: int) -> slice:
        """Where a sample's matrix lies in `past` and `reach`."""
        end = int(self._square_ends[sample])
        return slice(end - int(self.lengths[sample]) ** 2, end)

    @cached_property
    def _ends(self) -> npt.NDArray[np.int64]:
        return np.cumsum(self.lengths)

    @cached_property
    def _square_ends(self) -> npt.NDArray[np.int64]:
        return np.cumsum(np.square(self.lengths))

    def path(self, kind: str) -> Path:
        """The file of one kind: means, final, rollout, keys.0 (of a core), states.0 (of a stage) ..."""
        return self.folder / f"rows.{kind}"

    @property
    def form(self) -> RowsForm:
        """The sizes of the encoder."""
        return RowsForm(self.width, self.kept, len(self.stages), self.final)

    @property
    def means(self) -> Floats:
        """Segment means of the states at the input, mapped: f32[N, SEGMENTS * d]."""
        return self._mapped("means", np.float32, (len(self.lengths), SEGMENTS * self.width))

    def states(self, stage: int) -> npt.NDArray[np.floating]:
        """States before a stage, mapped: f16[T, d]; after the last, at the encoder's output, f32[T, d]."""
        last = stage == len(self.stages)
        kind, dtype = ("final", np.float32) if last else (f"states.{stage}", np.float16)
        return self._mapped(kind, dtype, (int(self.lengths.sum()), self.final if last else self.width))

    def past(self, stage: int) -> npt.NDArray[np.float16]:
        """Attention rollouts [n, n] of all samples over the layers before a stage, mapped: f16[Q]."""
        return self._squares("rollout" if stage == len(self.stages) else f"past.{stage}")

    def reach(self, stage: int) -> npt.NDArray[np.float16]:
        """How far tokens reach within a stage's own layers, mapped: f16[Q]."""
        return self._squares(f"reach.{stage}")

    def _squares(self, kind: str) -> npt.NDArray[np.float16]:
        return self._mapped(kind, np.float16, (int(np.square(self.lengths).sum()),))

    def _mapped(self, kind: str, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        # As a plain array: what NumPy does for the parts of a memmap takes longer than reading them.
        return np.asarray(np.memmap(self.path(kind), dtype, "r", shape=shape))


def attention_rollout(attention: Sequence[Floats], kept: float = 0.5) -> Floats:
    """How far token j (row) reaches row t (column) through some layers: [n, n].

    Attention rollout (Abnar and Zuidema, 2020): the product over layers of attention probabilities and the
    identity (the residual).

    Args:
        attention: of each layer, in order, averaged over heads: [n, n].
        kept: the share of the identity.
    """
    reach = np.eye(len(attention[0]), dtype=np.float32)
    for layer in attention:
        reach = (1 - kept) * (layer @ reach) + kept * reach
    return np.ascontiguousarray(reach.T)


def capture_rows(
    opened: OpenedModel,
    samples: Samples,
    folder: Path,
    advance: Callable[[], None],
    *,
    literal: bool = False,
    span: Span | None = None,
    tables: Tables | None = None,
) -> RowsCapture:
    """Run `samples` through the encoder of a model.

    Args:
        opened: the model, which has an encoder, or for literal repeats a span.
        samples: sorted by length by the caller; that order is kept.
        folder: where the files go.
        advance: called after each sample.
        literal: for literal repeats only: neither keys, values nor rollouts are kept.
        span: of these, what is repeated; None: the model's own span.
        tables: of the model, that will be read in 8 bits. The states at the input are then those that
            requests will have, so that rows that did not change are known; all others are the model's own.

    Raises:
        MemoError: the model cannot run a sample, or makes numbers that half precision cannot hold.
    """
    copy = opened.copy()
    encoder = None if literal else copy.twin(opened.encoder)
    span = encoder or copy.twin(span or opened.span)
    assert span is not None, "there is something to run"
    stages = [] if encoder is None else find_stages(encoder)
    later = [stage.states for stage in stages[1:]]
    wanted = [_in_floats(copy.model, span.result), span.input, *later]
    meetings = () if encoder is None else encoder.meetings
    for meeting in meetings:
        wanted += [*_kept(meeting), meeting.probabilities]
    copy.model.graph.outputs.clear()
    add_outputs(copy.model, wanted)
    prune(copy.model)  # a head, and of literal repeats the graft
    place = {value: at for at, value in enumerate(copy.model.graph.outputs)}
    session = open_session(copy.model, opened.folder, session_options(native=False, threads=1))
    firsts = tuple(stage.layer for stage in stages) or (0,)
    form = RowsForm.literal(span) if encoder is None else RowsForm.of(encoder)
    given = None if tables is None else _input_by(opened, tables)

    def captured(number: int) -> tuple[int, list[_Piece]]:
        feeds = samples.arrays[number]
        results = run_model(session, feeds, number)
        after, before, *others = (results[place[value]] for value in wanted)
        if given is not None:
            before = given(feeds, number)
        n = real_length(feeds, span.mask, before)
        final = _by_rows(after, before.shape[1], span)[:n]
        pieces: list[_Piece] = [("final", final), ("means", segment_means(before[0, :n]))]
        for stage, states in enumerate([before, *others[: len(later)]]):
            pieces.append((f"states.{stage}", _half(states.reshape(-1, span.width)[:n])))
        if encoder is not None:
            pieces += _of_meetings(encoder, form, firsts, others[len(later) :], n)
        return n, pieces

    lengths: list[int] = []
    with _Files(folder) as files:
        for n, pieces in side_by_side(captured, range(len(samples))):
            lengths.append(n)
            for kind, array in pieces:
                files.write(kind, array)
            advance()
    sizes = span.width, form.kept, firsts, span.share, form.final
    return RowsCapture(folder, np.asarray(lengths, np.int64), *sizes)


def _input_by(opened: OpenedModel, tables: Tables) -> Callable[[Arrays, int], Floats]:
    """Runs what leads to the encoder's input, [B, L, d], with `tables` in 8 bits; requests are numbered."""
    copy = opened.copy()
    copy.model.graph.outputs[:] = [copy.twin(opened.encoder).input]
    tables.insert(copy, {tensor.name: tensor.in_place() for tensor in tables.tensors()})
    prune(copy.model)
    session = open_session(copy.model, opened.folder, session_options(native=False, threads=1))
    taken = [value.name for value in session.get_inputs()]

    def run(feeds: Arrays, number: int) -> Floats:
        states: Floats = run_model(session, {name: feeds[name] for name in taken}, number)[0]
        return states

    return run


def _kept(meeting: Meeting) -> tuple[ir.Value, ...]:
    """What attention reads of all rows."""
    if isinstance(meeting, Core):
        return meeting.key, meeting.value
    assert isinstance(meeting, Mixing) and meeting.asking is not None, "its rows can be run"
    return meeting.asking.kept


def _of_meetings(
    encoder: Encoder, form: RowsForm, firsts: Sequence[int], results: Sequence[Floats], n: int
) -> list[_Piece]:
    """Of what each attention reads of all rows, and its probabilities, of a sample of `n` tokens."""
    pieces, attention, given = list[_Piece](), list[Floats](), iter(results)
    for meeting, kinds in zip(encoder.meetings, form.kept, strict=True):
        arrays = [next(given) for _ in kinds]
        if isinstance(meeting, Core):
            keys, values = arrays
            arrays = [_heads(keys)[:, :, :n], _heads(values)[:, :n]]
        else:
            axes = [encoder.forms[value].axis or 0 for value in _kept(meeting)]
            arrays = [np.moveaxis(array, axis, 0)[:n] for array, axis in zip(arrays, axes, strict=True)]
        pieces += [(kind, _half(array)) for (kind, _), array in zip(kinds, arrays, strict=True)]
        attention.append(_heads(next(given))[:, :n, :n].mean(axis=0))
    pieces.append(("rollout", _half(attention_rollout(attention))))
    for stage, (first, end) in enumerate(pairwise([*firsts, len(attention)])):
        pieces.append((f"reach.{stage}", _half(attention_rollout(attention[first:end], KEPT))))
        if stage:
            pieces.append((f"past.{stage}", _half(attention_rollout(attention[:first]))))
    return pieces


class _Files(ExitStack):
    """The open files of a capture, appended sample by sample."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.files: dict[str, NewFile] = {}

    def write(self, kind: str, array: npt.NDArray[Any]) -> None:
        if kind not in self.files:
            self.files[kind] = self.enter_context(NewFile(self.folder / f"rows.{kind}", replace=True))
        self.files[kind].array(array)


def _by_rows(made: Floats, rows: int, span: Span) -> Floats:
    """The output of a span for one sample, [1, L', d'], divided among the `rows` of its input."""
    if made.size != rows * span.per_row:
        raise MemoError(
            f"'{span.output.name}' has not {span.per_row} numbers for each of the {rows} rows of "
            f"'{span.input.name}', as the graph says, but {made.size} in all: 'rows' cannot store them"
        )
    return made.reshape(rows, span.per_row)


def _in_floats(model: ir.Model, value: ir.Value) -> ir.Value:
    """A value in floats; `model` is changed."""
    if value.dtype not in HALVES:
        return value
    b = Builder(f"{value.name}/float", model.opset_imports[""])
    cast = b.op("Cast", value, to=ir.DataType.FLOAT.value)
    model.graph.extend(b.nodes)
    return cast


def _heads(array: npt.NDArray[Any]) -> Floats:
    """One sample's heads, [H, ., .], whether or not they are folded into the batch."""
    return array.reshape(-1, *array.shape[-2:])


def _half(array: Floats) -> npt.NDArray[np.float16]:
    if not np.abs(array).max(initial=0.0) <= HALF_MAX:
        raise MemoError("the encoder makes numbers that half precision cannot hold: 'rows' cannot store them")
    return np.ascontiguousarray(array).astype(np.float16)
