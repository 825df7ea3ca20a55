"""The user's inputs: text with a tokenizer, or arrays named as the model's inputs."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from tokenizers import Tokenizer

from onnx_memo.errors import MemoError

Arrays = dict[str, npt.NDArray[Any]]

# What a tokenizer gives, by the names that exporters use for the model's inputs.
TOKENIZER_FIELDS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")


@dataclass(frozen=True)
class ModelInput:
    """One required input of the model."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]  # None: free

    def __str__(self) -> str:
        dims = ", ".join("?" if dim is None else str(dim) for dim in self.shape)
        return f"{self.name} {self.dtype}[{dims}]"


@dataclass(frozen=True)
class Samples:
    """Inputs one by one: a batch of one each, without padding.

    Attributes:
        arrays: for each sample its arrays by input name, first axis 1.
        lengths: real tokens of each sample; 0 where the model has no mask to tell.
        mask: the name of the mask among the inputs, or None.
        left_out: samples that could not be taken because their mask is no right padding.
        texts: what the samples were made from, where that was text.
    """

    arrays: list[Arrays]
    lengths: list[int]
    mask: str | None
    left_out: int = 0
    texts: list[str] | None = None

    def __len__(self) -> int:
        return len(self.arrays)

    def take(self, which: Iterable[int]) -> Samples:
        """The samples with these numbers, in this order."""
        order = list(which)
        texts = [self.texts[i] for i in order] if self.texts is not None else None
        return Samples(
            [self.arrays[i] for i in order], [self.lengths[i] for i in order], self.mask, texts=texts
        )

    def real(self, at: int) -> npt.NDArray[np.bool_] | None:
        """Which tokens of a sample are real, bool[L]; None where the model has no mask to tell."""
        return None if self.mask is None else self.arrays[at][self.mask][0] != 0

    def text(self, at: int) -> str | None:
        """What a sample was made from, where that was text."""
        return self.texts[at] if self.texts is not None else None

    def extent(self, at: int) -> int:
        """How large a sample is: its real tokens, or without a mask the elements of its largest array.

        The store's order, shares by length, and what the report calls a request's length rest on it.
        """
        return self.lengths[at] or max(array.size for array in self.arrays[at].values())

    def batch(self, first: int, size: int) -> Arrays:
        """Samples `first` to `first + size - 1` as one batch, padded with zeros on the right.

        Raises:
            MemoError: they differ in length and the model has no mask to say so.
        """
        chosen = self.arrays[first : first + size]
        if len(chosen) == 1:
            return chosen[0]
        merged: Arrays = {}
        for name, array in chosen[0].items():
            rows = [sample[name] for sample in chosen]
            shape = [max(dims) for dims in zip(*(row.shape for row in rows), strict=True)]
            if self.mask is None and any(list(row.shape) != shape for row in rows):
                raise MemoError(
                    f"inputs of different size in '{name}' cannot form a batch: the model has no mask; "
                    "use --batch 1"
                )
            merged[name] = np.zeros([len(rows), *shape[1:]], array.dtype)
            for at, row in enumerate(rows):
                place: tuple[Any, ...] = (at, *(slice(dim) for dim in row.shape[1:]))
                merged[name][place] = row[0]
        return merged


def model_inputs(model: ir.Model) -> list[ModelInput]:
    """The inputs that a caller has to give."""
    required = [value for value in model.graph.inputs if not value.is_initializer()]
    found = []
    for value in required:
        if value.dtype is None or not value.shape:
            raise MemoError(f"the model's input '{value.name}' is no tensor with a batch axis: not supported")
        shape = tuple(dim if isinstance(dim, int) else None for dim in value.shape)
        found.append(ModelInput(str(value.name), np.dtype(value.dtype.numpy()), shape))
    return found


def read_samples(path: Path, inputs: Sequence[ModelInput], tokenizer: Path | None) -> Samples:
    """Read the samples in `path` (.txt, .jsonl or .npz) for a model with these inputs.

    Raises:
        MemoError: the file is missing, empty, of another kind, or does not fit the model.
    """
    if not path.is_file():
        raise MemoError(f"'{path}' is not a file: name your inputs (.txt, .jsonl or .npz)")
    if path.suffix == ".npz":
        samples = _from_arrays(path, inputs)
    elif path.suffix in (".txt", ".jsonl"):
        samples = _from_text(path, _read_lines(path), inputs, tokenizer)
    else:
        raise MemoError(f"'{path}' ends in '{path.suffix}': inputs come as .txt, .jsonl or .npz")
    if not samples.arrays:
        raise MemoError(f"'{path}' holds no input that can be used: at least one is needed")
    return samples


def _mask_name(inputs: Sequence[ModelInput]) -> str | None:
    masks = [i.name for i in inputs if "mask" in i.name.lower() and len(i.shape) == 2]
    return masks[0] if len(masks) == 1 else None


def _read_lines(path: Path) -> list[str]:
    try:
        # Not splitlines(), which also splits at separators that JSON strings and sentences may hold.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise MemoError(f"'{path}' is not UTF-8 text (byte {error.start}): convert it first") from error
    if path.suffix == ".txt":
        return [line for line in lines if line.strip()]
    texts = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise MemoError(f"'{path}' line {number} is not JSON ({error})") from error
        text = record.get("text") if isinstance(record, dict) else None
        if not isinstance(text, str):
            raise MemoError(f"'{path}' line {number} has no field 'text' that is a string")
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise MemoError(f"'{path}' line {number} escapes half a character (a lone surrogate): mend it")
        texts.append(text)
    return texts


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer in a `tokenizer.json`, without padding; it truncates as its file says.

    Raises:
        MemoError: there is no such file, or it holds no tokenizer.
    """
    if not path.is_file():
        raise MemoError(f"'{path}' is not a file: name the model's tokenizer.json")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise MemoError(f"'{path}' is not a tokenizer ({error}): name the model's tokenizer.json") from error
    tokenizer.no_padding()
    return tokenizer


def _from_text(path: Path, lines: list[str], inputs: Sequence[ModelInput], tokenizer: Path | None) -> Samples:
    if tokenizer is None:
        raise MemoError(f"'{path}' is text: name the model's tokenizer with --tokenizer tokenizer.json")
    unknown = [str(i) for i in inputs if i.name not in TOKENIZER_FIELDS]
    if unknown:
        raise MemoError(
            f"text cannot serve the model's input '{unknown[0]}': give arrays for all inputs as .npz"
        )
    encodings = load_tokenizer(tokenizer).encode_batch(lines)
    arrays, lengths, texts = [], [], []
    for line, encoding in zip(lines, encodings, strict=True):
        size = len(encoding.ids)
        if not size:
            continue
        fields = {
            "input_ids": encoding.ids,
            "attention_mask": [1] * size,
            "token_type_ids": encoding.type_ids,
            "position_ids": range(size),
        }
        arrays.append({i.name: np.asarray([fields[i.name]], i.dtype) for i in inputs})
        lengths.append(size)
        texts.append(line)
    return Samples(arrays, lengths, _mask_name(inputs), len(lines) - len(arrays), texts)


def _from_arrays(path: Path, inputs: Sequence[ModelInput]) -> Samples:
    try:
        with np.load(path, allow_pickle=False) as archive:
            given = {name: archive[name] for name in archive.files}
    except (ValueError, TypeError, RuntimeError, OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise MemoError(f"'{path}' is not a readable .npz file of plain arrays ({error})") from error
    for wanted in inputs:
        _check_fit(path, wanted, given)
    sizes = {name: len(given[name]) for name in (i.name for i in inputs)}
    if len(set(sizes.values())) > 1:
        raise MemoError(f"the arrays in '{path}' hold different numbers of samples: {sizes}")
    mask = _mask_name(inputs)
    arrays, lengths, left_out = [], [], 0
    for at in range(next(iter(sizes.values()), 0)):
        sample = {i.name: given[i.name][at : at + 1] for i in inputs}
        length = 0
        if mask is not None:
            row = sample[mask][0]
            length = int(np.count_nonzero(row))
            if not length or not np.array_equal(row, np.arange(len(row)) < length):
                left_out += 1
                continue
            sample = {i.name: _trim(sample[i.name], i, len(row), length) for i in inputs}
        arrays.append(sample)
        lengths.append(length)
    return Samples(arrays, lengths, mask, left_out)


def _check_fit(path: Path, wanted: ModelInput, given: Arrays) -> None:
    if wanted.name not in given:
        names = ", ".join(sorted(given)) or "nothing"
        raise MemoError(
            f"'{path}' has no array '{wanted.name}' (it holds: {names}); the model wants {wanted}"
        )
    array = given[wanted.name]
    if array.dtype != wanted.dtype:
        raise MemoError(f"'{wanted.name}' in '{path}' is {array.dtype}; the model wants {wanted}")
    fits = array.ndim == len(wanted.shape) and all(
        dim is None or dim == size for dim, size in zip(wanted.shape[1:], array.shape[1:], strict=True)
    )
    if not fits:
        raise MemoError(
            f"'{wanted.name}' in '{path}' has shape {list(array.shape)}; the model wants {wanted}"
        )


def _trim(array: npt.NDArray[Any], wanted: ModelInput, padded: int, length: int) -> npt.NDArray[Any]:
    """Cut the padding off where axis 1 is the free sequence axis; a fixed one stays as it is."""
    if array.ndim >= 2 and wanted.shape[1] is None and array.shape[1] == padded:
        return array[:, :length]
    return array
