"""Models that take padding, or a mask, otherwise than what is stored: there requests with it miss.

What is stored has no padding, and a hit has zeros in padded rows. Where nothing but the mask's zeros tells
a model that a position is padding, its answer is another one then, if it reads padded positions, as a mean
over all of them does. So it is tried what the model does: with other inputs in padded positions, and the same
mask, all that counts of its answer must stay as it is. Where a model rounds all positions with one scale, its
answer must be that without padding as well, alone and in a batch: a hit gives that.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort

from onnx_memo.data.samples import Arrays, Samples
from onnx_memo.errors import MemoError
from onnx_memo.graph.build import Builder
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.graph.quantizers import rounds_by_request
from onnx_memo.operators.spec import DOMAIN, NO_ENTRY
from onnx_memo.proof.metrics import relative
from onnx_memo.runtime import session_options
from onnx_memo.sessions import open_file

TRIED = 4  # inputs, the shortest: they leave most room for padding
# Relative L2 error up to which answers are the same: of floats, of integer products.
EXACT, ROUNDED = 1e-6, 0.02
Outputs = list[npt.NDArray[Any]]


def note_padding(opened: OpenedModel, samples: Samples, notes: list[str]) -> bool:
    """Whether padding counts, which is said.

    Raises:
        MemoError: it does, and the inputs come padded: nothing of them could be reused.
    """
    session = open_file(opened.path, session_options(native=False, threads=1))
    if not padding_counts(opened.model, session, samples):
        return False
    if not all(np.all(feeds[str(samples.mask)]) for feeds in samples.arrays):
        raise MemoError(
            "padding counts in this model: its answers depend on padded positions, which are not stored, "
            "and the inputs are padded to its length; export it with a free length, or without pooling over "
            "padding"
        )
    notes.append(
        "padding counts in this model: its answers depend on what is in padded positions, so that a "
        "request with padding, and the batch that it is in, is never reused; send requests one by one, or "
        "batch equal lengths"
    )
    return True


def padding_counts(model: ir.Model, session: ort.InferenceSession, samples: Samples) -> bool:
    """Whether answers depend on what is in padded positions; `session` is on `model`, as it was read."""
    rounds = rounds_by_request(model)
    allowed = ROUNDED if rounds else EXACT
    for feeds in padded_requests(session, samples):
        real = feeds[str(samples.mask)][0] != 0
        others = {name: _filled(array, real) for name, array in feeds.items() if name != samples.mask}
        if _differs(session, feeds, feeds | others, 0, real, allowed):
            return True
    if not rounds or samples.mask is None:
        return False
    requests = *padded_requests(session, samples), *mixed_batch(session, samples)
    return any(
        _differs(session, feeds, _alone(feeds, row, real), row, real, allowed)
        for feeds in requests
        for row, real in enumerate(feeds[samples.mask] != 0)
    )


def mixed_batch(session: ort.InferenceSession, samples: Samples) -> Iterator[Arrays]:
    """The shortest sample in a batch with the longest; none where the model does not take it."""
    order = sorted(range(len(samples)), key=samples.extent)
    yield from uneven_batch(session, samples.arrays[order[0]], samples.arrays[order[-1]], samples.mask)


def _differs(
    session: ort.InferenceSession,
    one: Arrays,
    other: Arrays,
    row: int,
    real: npt.NDArray[np.bool_],
    allowed: float,
) -> bool:
    """Whether a sequence of a request gets another answer than the first of another, if both are taken."""
    try:
        answers = session.run(None, one), session.run(None, other)
    except Exception:  # ONNX Runtime's errors share no public base class
        return False
    return any(
        _apart(want[row : row + 1], have[:1], real) > allowed for want, have in zip(*answers, strict=True)
    )


def _alone(feeds: Arrays, row: int, real: npt.NDArray[np.bool_]) -> Arrays:
    """A sequence of a request, without padding."""
    return {name: _taken(array[row : row + 1], real, 1) for name, array in feeds.items()}


def miss_where_padded(model: ir.Model, mask_name: str) -> None:
    """Let requests miss of which a sequence is padded, and run the original; `model` is guarded, and changed.

    `mask_name` is that of the input that says which positions are padded.
    """
    for segments in [node for node in model.graph if (node.domain, node.op_type) == (DOMAIN, "MemoSegments")]:
        mask, lengths = segments.inputs[0], segments.outputs[0]
        assert mask is not None, "a request has a mask"
        readers = list(lengths.uses())
        b = Builder(f"{lengths.name}/unpadded", model.opset_imports[""])
        whole = b.op("Equal", b.reduce("ReduceMin", lengths, 0, keepdims=True), b.dim(mask, 1))
        kept = b.op("Where", whole, lengths, b.i64(NO_ENTRY))
        for node, place in readers:
            node.replace_input_with(place, kept)
        model.graph.insert_after(segments, b.nodes)
    given = _input(model, mask_name)

    def unpadded(b: Builder) -> ir.Value:
        real = b.op("Cast", given, to=ir.DataType.FLOAT.value)
        return b.op("Greater", b.op("ReduceMin", b.op("Abs", real), keepdims=0), b.const(0, np.float32))

    _in_bytes_where(model, "unpadded", unpadded)


def miss_where_irregular(model: ir.Model, mask_name: str) -> None:
    """Let requests run the original whose mask is not ones and then zeros; `model` is guarded, and changed.

    Reuse asks for such masks anyway (`MemoSegments`); so this is for what runs in 8 bits. A model that only
    counts the ones of its mask takes others for it: those of as many ones, and then zeros.
    """
    given = _input(model, mask_name)

    def regular(b: Builder) -> ir.Value:
        real = b.op("Cast", given, to=ir.DataType.FLOAT.value)
        length = b.op("Squeeze", b.dim(given, 1), b.i64(0))
        numbers = b.op("Range", b.const(0, np.int64), length, b.const(1, np.int64))
        count = b.reduce("ReduceSum", real, 1, keepdims=True)
        ones = b.op("Less", b.op("Cast", numbers, to=ir.DataType.FLOAT.value), count)
        off = b.op("Abs", b.op("Sub", real, b.op("Cast", ones, to=ir.DataType.FLOAT.value)))
        return b.op("Equal", b.op("ReduceMax", off, keepdims=0), b.const(0, np.float32))

    _in_bytes_where(model, "regular", regular)


def _input(model: ir.Model, name: str) -> ir.Value:
    (given,) = [value for value in model.graph.inputs if value.name == name]
    return given


def _in_bytes_where(model: ir.Model, name: str, holds: Callable[[Builder], ir.Value]) -> None:
    """Let the form in 8 bits run only where a condition holds, the nodes of which `holds` adds."""
    for exact in [node for node in model.graph if (node.domain, node.op_type) == (DOMAIN, "MemoExact")]:
        runs = exact.outputs[0]
        readers = list(runs.uses())
        b = Builder(f"{runs.name}/{name}", model.opset_imports[""])
        kept = b.op("And", runs, holds(b))
        for node, place in readers:
            node.replace_input_with(place, kept)
        model.graph.insert_after(exact, b.nodes)


def padded_requests(session: ort.InferenceSession, samples: Samples) -> Iterator[Arrays]:
    """Some samples with padding: as they come where the model fixes the length, else up to as long again.

    None where the model has no mask.
    """
    if samples.mask is None:
        return
    free = {i.name for i in session.get_inputs() if len(i.shape) > 1 and not isinstance(i.shape[1], int)}
    for at in sorted(range(len(samples)), key=samples.extent)[:TRIED]:
        feeds = samples.arrays[at]
        if samples.mask in free:  # the model may have few positions to spare, or none
            tried = (
                {name: _longer(array, more) if name in free else array for name, array in feeds.items()}
                for more in (samples.lengths[at], 1)
            )
            yield from itertools.islice((longer for longer in tried if _runs(session, longer)), 1)
        elif not np.all(feeds[samples.mask]):
            yield feeds


def uneven_batch(
    session: ort.InferenceSession, short: Arrays, long: Arrays, mask: str | None
) -> Iterator[Arrays]:
    """Two inputs as one request, each sequence padded to the length of the longer one.

    None where the model does not take it: it may fix the batch, or have no mask for what is padded.
    """
    if mask is None and any(short[name].shape != long[name].shape for name in long):
        return
    batch = {name: np.concatenate(_as_long(short[name], array)) for name, array in long.items()}
    if _runs(session, batch):
        yield batch


def _as_long(*arrays: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """Arrays with zeros behind them, up to the largest size along each axis."""
    shape = [max(sizes) for sizes in zip(*(array.shape for array in arrays), strict=True)]
    return [
        np.pad(array, [(0, to - have) for have, to in zip(array.shape, shape, strict=True)])
        for array in arrays
    ]


def _runs(session: ort.InferenceSession, feeds: Arrays) -> bool:
    try:
        session.run(None, feeds)
    except Exception:  # ONNX Runtime's errors share no public base class
        return False
    return True


def _longer(array: npt.NDArray[Any], more: int) -> npt.NDArray[Any]:
    """With `more` positions, of zeros."""
    return np.pad(array, [(0, more if axis == 1 else 0) for axis in range(array.ndim)])


def _filled(array: npt.NDArray[Any], real: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    """An input with its own real positions, over and over, in the padded ones."""
    if array.ndim < 2 or array.shape[1] != len(real):
        return array
    return array[:, np.arange(len(real)) % np.count_nonzero(real)]


def _apart(want: npt.NDArray[Any], have: npt.NDArray[Any], real: npt.NDArray[np.bool_]) -> float:
    """The relative L2 error of an output, without what belongs to padded positions, along whichever axis."""
    for axis in range(1, want.ndim):
        want, have = _taken(want, real, axis), _taken(have, real, axis)
    return relative(want.astype(np.float64), have.astype(np.float64))


def _taken(array: npt.NDArray[Any], real: npt.NDArray[np.bool_], axis: int) -> npt.NDArray[Any]:
    """An array without padded positions along an axis, if that is one of positions."""
    of_positions = array.ndim > axis and array.shape[axis] == len(real)
    return array.compress(real, axis) if of_positions else array
