"""Inputs as arrays: an .npz file that holds one for each of the model's inputs, a row for each sample."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_memo.data.labels import LabelColumn
from onnx_memo.data.samples import Arrays, ModelInput, Samples, mask_name
from onnx_memo.data.texts import Reading
from onnx_memo.data.unpacked import Content
from onnx_memo.errors import MemoError, reason_of
from onnx_memo.words import counted

MOST_UNPACKED = (
    1 << 32
)  # bytes of arrays that are packed: such a file may unpack to a thousand times its size
WHOLE = "biu"  # the kinds of types of whole numbers and truths, as NumPy calls them
MOST_NAMES, MOST_LETTERS = 3, 30  # of arrays that are not read


def read_npz(reading: Reading, content: Content) -> Samples:
    """A sample of each row of the arrays (`onnx_memo.data.readers.Reader`), without the padding.

    The arrays are named as the model's inputs; others, but for that of the labels, are passed over. They get
    the model's types where no number changes, but for the rounding of floats. A sample whose mask is no right
    padding, or whose positions do not count its tokens, is left out; where the model is given positions,
    padding may stand in front as well.
    """
    where, inputs, labels = content.where, reading.inputs, reading.labels
    given = _arrays(content)
    truth = {} if labels is None else {labels.name: _truth(where, labels, given, inputs)}
    notes = _note_unread(given, inputs)
    for wanted in inputs:
        _check_fit(where, wanted, given)
    given = {wanted.name: _converted(where, wanted, given[wanted.name], notes) for wanted in inputs}
    sizes = {name: len(array) for name, array in (given | truth).items()}
    if len(set(sizes.values())) > 1:
        raise MemoError(f"the arrays in {where} hold different numbers of samples: {sizes}")
    mask = mask_name(inputs)
    positions = next((i.name for i in inputs if i.positions), None)
    arrays, lengths, numbers = [], [], []
    left_out: dict[str, list[int]] = {}  # samples by what is wrong
    # Where positions are given, it is them that say where tokens stand, and not how much padding is in front.
    in_front = positions is not None and all(i.shape[1] is None for i in inputs if len(i.shape) > 1)
    irregular = "is not ones in a row" if in_front else "is no right padding (ones, then zeros)"
    for at in range(next(iter(sizes.values()), 0)):
        sample = {i.name: given[i.name][at : at + 1] for i in inputs}
        length = 0
        if mask is not None:
            row = sample[mask][0]
            length = int(np.count_nonzero(row))
            begin = int(np.argmax(row != 0)) if in_front else 0
            place = np.arange(len(row)) - begin
            if not length or not np.array_equal(row, (place >= 0) & (place < length)):
                left_out.setdefault(f"'{mask}' {irregular}", []).append(at)
                continue
            sample = {i.name: _trim(sample[i.name], i, len(row), begin, length) for i in inputs}
            sample = _trim_others(sample, inputs)
        if positions is not None and not _counts(sample[positions][0], length):
            left_out.setdefault(f"'{positions}' do not count 0, 1, 2, ...", []).append(at)
            continue
        for wanted in inputs:
            _check_range(where, at, wanted, sample[wanted.name])
        arrays.append(sample)
        lengths.append(length)
        numbers.append(at + 1)
    for why, which in left_out.items():
        left = counted(len(which), "input left out: its", "inputs left out: their")
        notes.append(f"{left} {why}, first input {which[0] + 1}")
    made = Samples(arrays, lengths, mask, notes, numbers=numbers)
    if labels is None:
        return made
    return labels.beside(made, where, dict(enumerate(truth[labels.name].tolist(), 1)))


def _arrays(content: Content) -> Arrays:
    """All arrays of the file, by name."""
    where, file = content.where, content.seekable()
    if not zipfile.is_zipfile(file):  # NumPy would speak of pickles
        raise MemoError(f"{where} is not a readable .npz file (a ZIP archive): write it with numpy.savez")
    try:
        with zipfile.ZipFile(file) as archive:
            packed = sum(m.file_size for m in archive.infolist() if m.compress_type != zipfile.ZIP_STORED)
        if packed > MOST_UNPACKED:
            raise MemoError(
                f"{where} says that its arrays take {packed >> 20:,} MiB, unpacked, of which at most "
                f"{MOST_UNPACKED >> 20:,} are read: save them with numpy.savez, or fewer of them"
            )
        file.seek(0)
        with np.load(file, allow_pickle=False) as archive:
            given = {name: archive[name] for name in archive.files}
    except MemoError:
        raise
    except Exception as error:  # a hostile file finds ever new ones: zip, zlib, NumPy's header, memory
        raise MemoError(
            f"{where} is not a readable .npz file of plain arrays ({reason_of(error)})"
        ) from error
    for name in (name for name, array in given.items() if not isinstance(array, np.ndarray)):
        raise MemoError(
            f"'{name}' in {where} is no array: an .npz file holds one for each input of the model"
        )
    return given


def _truth(where: str, labels: LabelColumn, given: Arrays, inputs: Sequence[ModelInput]) -> npt.NDArray[Any]:
    """The array of true labels, which is taken out of those that are given."""
    if labels.name in (i.name for i in inputs):
        raise MemoError(f"--labels '{labels.name}' is an input of the model: name the array of true labels")
    if labels.name not in given:
        names = ", ".join(sorted(given)) or "nothing"
        raise MemoError(f"{where} has no array '{labels.name}' that --labels names (it holds: {names})")
    array = given.pop(labels.name)
    if array.ndim != 1:
        raise MemoError(
            f"'{labels.name}' in {where} has shape {list(array.shape)}; --labels takes one label a "
            "sample, of shape [samples]"
        )
    return array


def _note_unread(given: Arrays, inputs: Sequence[ModelInput]) -> list[str]:
    names = sorted(given.keys() - {i.name for i in inputs})
    if not names:
        return []
    shown = ", ".join(f"{name[:MOST_LETTERS]!r}" for name in names[:MOST_NAMES])
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return [f"not read, since the model has no such inputs: {shown}{more}"]


def _check_fit(where: str, wanted: ModelInput, given: Arrays) -> None:
    if wanted.name not in given:
        names = ", ".join(sorted(given)) or "nothing"
        raise MemoError(f"{where} has no array '{wanted.name}' (it holds: {names}); the model wants {wanted}")
    array = given[wanted.name]
    fits = array.ndim == len(wanted.shape) and all(
        dim is None or dim == size for dim, size in zip(wanted.shape[1:], array.shape[1:], strict=True)
    )
    if not fits:
        raise MemoError(f"'{wanted.name}' in {where} has shape {list(array.shape)}; the model wants {wanted}")


def _converted(where: str, wanted: ModelInput, array: npt.NDArray[Any], notes: list[str]) -> npt.NDArray[Any]:
    """The array in the model's type, a row after the other in memory.

    Raises:
        MemoError: that would change its numbers, other than by rounding floats.
    """
    given, target = array.dtype.newbyteorder("="), wanted.dtype
    what = f"'{wanted.name}' in {where} is {given}"
    if given.kind in WHOLE and target.kind in WHOLE:
        beyond = _out_of_range(array, target)
        if beyond is not None:
            raise MemoError(f"{what} and holds {beyond}, which is no {target}; the model wants {wanted}")
    elif given != target and not (given.kind in (*WHOLE, "f") and target.kind == "f"):
        raise MemoError(
            f"{what}; the model wants {wanted}: convert it, as in array.astype('{target}'), if that is what "
            "its numbers mean"
        )
    with np.errstate(over="ignore"):
        made = np.asarray(array, target, order="C")
    if target.kind == "f" and not np.array_equal(made, array, equal_nan=True):
        if np.isinf(made).sum() > np.isinf(array).sum():
            raise MemoError(f"{what} and holds numbers too large for {target}; the model wants {wanted}")
        notes.append(f"'{wanted.name}' was rounded from {given} to the model's {target}")
    return made


def _out_of_range(array: npt.NDArray[Any], target: np.dtype[Any]) -> int | None:
    """A whole number of `array` that a type of whole numbers, or of truths, does not have."""
    if not array.size:
        return None
    least, most = (0, 1) if target.kind == "b" else (np.iinfo(target).min, np.iinfo(target).max)
    ends = int(array.min()), int(array.max())
    return next((number for number in ends if not least <= number <= most), None)


def _check_range(where: str, at: int, wanted: ModelInput, array: npt.NDArray[Any]) -> None:
    number = wanted.beyond(array)
    if number is not None:
        raise MemoError(
            f"input {at + 1} in {where} holds {number} in '{wanted.name}', which the model looks up in "
            f"{wanted.rows} rows: were the arrays made by the model's own tokenizer, and for its length?"
        )


def _counts(positions: npt.NDArray[Any], length: int) -> bool:
    """Whether positions [L] count the real tokens, of which there are `length`, or all where it is 0."""
    own = positions[: length or None]
    return np.array_equal(own, np.arange(len(own)))


def _trim_others(sample: Arrays, inputs: Sequence[ModelInput]) -> Arrays:
    """Cut the padding off that masks of other sequences tell; where they are not ones, then zeros, none."""
    masks = {i.own_mask: sample[i.own_mask][0] for i in inputs if i.own_mask is not None}
    trimmed = dict(sample)
    for i in inputs:
        if i.own_mask is None:
            continue
        row, array = masks[i.own_mask], sample[i.name]
        if array.ndim < 2 or i.shape[1] is not None or array.shape[1] != len(row):
            continue
        length = int(np.count_nonzero(row))
        if length and np.array_equal(row, np.arange(len(row)) < length):
            trimmed[i.name] = array[:, :length]
    return trimmed


def _trim(
    array: npt.NDArray[Any], wanted: ModelInput, padded: int, begin: int, length: int
) -> npt.NDArray[Any]:
    """Cut the padding off where axis 1 is the free sequence axis; a fixed one stays as it is.

    Of another sequence than the mask's, as long by chance, nothing is cut off but one number repeated; and
    nothing where that has a mask of its own.
    """
    if array.ndim < 2 or wanted.shape[1] is not None or array.shape[1] != padded or wanted.own_mask:
        return array
    kept = array[:, begin : begin + length]
    beyond = np.delete(array, np.s_[begin : begin + length], axis=1) if wanted.beside else array[:, :0]
    return kept if np.all(beyond == beyond[:, :1]) else array
