"""The memo data: all tensors of the guards in one file, external data of the model beside it.

Layout (`docs/bundle.md`): the tensors' bytes one after the other, little-endian, each from a
multiple of 4,096 on, so that ONNX Runtime can map them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.files import NewFile, new_file

ALIGNMENT = 4096
MEMO_DATA = "memo.data"
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


def write_store(folder: Path, tensors: Sequence[StoredTensor]) -> dict[str, ir.ExternalTensor]:
    """Write `tensors` to the memo data in `folder`; returns them as external data, by name."""
    external: dict[str, ir.ExternalTensor] = {}
    with new_file(folder / MEMO_DATA) as file:
        for tensor in tensors:
            offset = _pad(file)
            if isinstance(tensor.content, Path):
                file.copy(tensor.content)
            else:
                file.array(tensor.content)
            if file.tell() != offset + tensor.nbytes:
                raise OSError(f"'{tensor.name}' has {file.tell() - offset} bytes in place of {tensor.nbytes}")
            external[tensor.name] = ir.ExternalTensor(
                MEMO_DATA,
                offset,
                tensor.nbytes,
                ir.DataType.from_numpy(tensor.dtype),
                shape=ir.Shape(tensor.shape),
                name=tensor.name,
                base_dir=folder,
            )
        file.write(b"\0")  # an empty tensor at the end still begins inside the file
        _pad(file)
    return external


def _pad(file: NewFile) -> int:
    """Write zeros up to a multiple of `ALIGNMENT`; returns where that is."""
    file.write(bytes(-file.tell() % ALIGNMENT))
    return file.tell()


def offsets_of(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The first row of each entry in a payload, from the rows of each: i64[N]."""
    return np.cumsum(rows) - rows
