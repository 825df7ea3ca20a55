"""The data files of a bundle: the memo data, all tensors of the guards in one file, and the model's weights.

They are external data of the model beside them, which ONNX Runtime maps as long as it serves. So their names
carry their content: a bundle that is copied over another one brings its own files, and changes none of these.

Layout of the memo data (`docs/bundle.md`): the tensors' bytes one after the other, little-endian, each from a
multiple of 4,096 on, so that ONNX Runtime can map them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.files import NewFile, new_file, sha256, take_file
from onnx_memo.graph.external import external_files, external_weights

ALIGNMENT = 4096
MEMO, WEIGHTS = "memo", "weights"  # the kinds of data files
DIGITS = 16  # of a file's SHA-256 that its name carries
DATA_NAME = re.compile(rf"({MEMO}|{WEIGHTS})-([0-9a-f]{{{DIGITS}}})\.data")
HALF_MAX = float(np.finfo(np.float16).max)  # what payloads are stored in


@dataclass(frozen=True)
class StoredTensor:
    """A tensor to be written: its content is an array, or a file that holds its bytes."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    content: npt.NDArray[Any] | Path

    @staticmethod
    def of(name: str, array: npt.NDArray[Any]) -> StoredTensor:
        """A tensor whose content is `array`."""
        return StoredTensor(name, array.dtype, array.shape, array)

    @property
    def nbytes(self) -> int:
        """Size of the content in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def in_place(self) -> ir.TensorProtocol:
        """The tensor as it lies, for a model that runs before anything is written; a file is mapped."""
        if not isinstance(self.content, Path):
            return ir.tensor(np.ascontiguousarray(self.content), name=self.name)
        return ir.ExternalTensor(
            self.content.name,
            0,
            self.nbytes,
            ir.DataType.from_numpy(self.dtype),
            shape=ir.Shape(self.shape),
            name=self.name,
            base_dir=self.content.parent,
        )


def named_by_content(file: Path, kind: str) -> Path:
    """Rename a data file after what it holds; returns where it is."""
    named = file.replace(file.with_name(f"{kind}-{sha256(file)[:DIGITS]}.data"))
    file.unlink(missing_ok=True)  # of two names of one file none goes by renaming
    return named


def memo_data(folder: Path) -> Path:
    """The memo data that was written to `folder`; what is read is found through the manifest instead."""
    (file,) = folder.glob(f"{MEMO}-*.data")
    return file


def write_store(folder: Path, tensors: Sequence[StoredTensor]) -> dict[str, ir.ExternalTensor]:
    """Write `tensors` to the memo data in `folder`; returns them as external data, by name."""
    return _write(folder, MEMO, tensors)


def _write(folder: Path, kind: str, tensors: Sequence[StoredTensor]) -> dict[str, ir.ExternalTensor]:
    """Write a data file."""
    places: dict[str, int] = {}
    with new_file(folder / kind) as file:
        for tensor in tensors:
            offset = _pad(file)
            if isinstance(tensor.content, Path):
                file.copy(tensor.content)
            else:
                file.array(tensor.content)
            if file.tell() != offset + tensor.nbytes:
                raise OSError(f"'{tensor.name}' has {file.tell() - offset} bytes in place of {tensor.nbytes}")
            places[tensor.name] = offset
        file.write(b"\0")  # an empty tensor at the end still begins inside the file
        _pad(file)
    data = named_by_content(folder / kind, kind)
    return {
        tensor.name: ir.ExternalTensor(
            data.name,
            places[tensor.name],
            tensor.nbytes,
            ir.DataType.from_numpy(tensor.dtype),
            shape=ir.Shape(tensor.shape),
            name=tensor.name,
            base_dir=folder,
        )
        for tensor in tensors
    }


def take_weights(model: ir.Model, source: Path, folder: Path) -> None:
    """Bring the files of weights that `model` has in the folder `source` to `folder`, and name them there."""
    names = {}
    for number, name in enumerate(sorted(external_files(model))):
        brought = folder / f"{WEIGHTS}.{number}"
        take_file(source / name, brought)
        names[name] = named_by_content(brought, WEIGHTS).name
    for value, tensor in external_weights(model):
        value.const_value = ir.ExternalTensor(
            names[str(tensor.location)],
            tensor.offset,
            tensor.length,
            tensor.dtype,
            shape=tensor.shape,
            name=tensor.name,
            base_dir=folder,
        )


def write_computed(model: ir.Model, folder: Path) -> None:
    """Write weights that are computed when they are read, as a plain form's are, to a file in `folder`."""
    graphs = (model.graph, *model.graph.subgraphs())
    values = [value for graph in graphs for value in graph.initializers.values()]
    computed = [
        (value, tensor)
        for value in values
        if isinstance(tensor := value.const_value, ir.LazyTensor) and tensor.nbytes > ALIGNMENT
    ]
    if computed:
        tensors = [StoredTensor.of(str(value.name), tensor.numpy()) for value, tensor in computed]
        written = _write(folder, WEIGHTS, tensors)
        for value, _ in computed:
            value.const_value = written[str(value.name)]


def rewrite_weights(model: ir.Model, folder: Path) -> None:
    """Write what `model` still reads from files outside of `folder` to one in it; what is small, into it."""
    outside = [pair for pair in external_weights(model) if Path(pair[1].base_dir) != folder]
    large = [(value, tensor) for value, tensor in outside if tensor.nbytes > ALIGNMENT]
    for value, tensor in outside:
        value.const_value = ir.tensor(tensor.numpy().copy(), name=tensor.name)
    if large:
        tensors = [StoredTensor.of(str(value.name), tensor.numpy()) for value, tensor in large]
        written = _write(folder, WEIGHTS, tensors)
        for value, _ in large:
            value.const_value = written[str(value.name)]


def _pad(file: NewFile) -> int:
    """Write zeros up to a multiple of `ALIGNMENT`; returns where that is."""
    file.write(bytes(-file.tell() % ALIGNMENT))
    return file.tell()


def offsets_of(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The first row of each entry in a payload, from the rows of each: i64[N]."""
    return np.cumsum(rows) - rows
