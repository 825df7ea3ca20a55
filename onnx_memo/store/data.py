"""The memo data: all tensors of the guards in one file, external data of the model beside it.

Layout (`docs/bundle.md`): the tensors' bytes one after the other, little-endian, each from a
multiple of 4,096 on, so that ONNX Runtime can map them.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.errors import MemoError

ALIGNMENT = 4096
FILE = "memo.data"

# The kernel searches exactly up to this many entries of one length; only beyond it does the
# index pay (`docs/benchmarks.md`), so only then is it built.
EXACT_SEARCH = 2048
INDEX_TREES = 10
INDEX_LENGTH_SCALE = 16.0


@dataclass(frozen=True)
class StoredTensor:
    """A tensor to be written: its content is an array, or a file that holds its bytes."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    content: npt.NDArray[Any] | Path

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


def from_array(name: str, array: npt.NDArray[Any]) -> StoredTensor:
    """A tensor whose bytes are those of `array`."""
    return StoredTensor(name, array.dtype, array.shape, array)


def from_file(name: str, dtype: npt.DTypeLike, shape: tuple[int, ...], path: Path) -> StoredTensor:
    """A tensor whose bytes are the file `path`, which must be of the right size."""
    tensor = StoredTensor(name, np.dtype(dtype), shape, path)
    assert path.stat().st_size == tensor.nbytes, f"'{path}' does not hold {shape} of {dtype}"
    return tensor


def write_store(folder: Path, tensors: Sequence[StoredTensor]) -> dict[str, ir.ExternalTensor]:
    """Write `tensors` to the memo data in `folder`; returns them as external data, by name."""
    external: dict[str, ir.ExternalTensor] = {}
    with open(folder / FILE, "xb") as file:
        for tensor in tensors:
            offset = _aligned(file.tell())
            file.seek(offset)
            if isinstance(tensor.content, Path):
                with open(tensor.content, "rb") as source:
                    shutil.copyfileobj(source, file, 1 << 22)
            else:
                np.ascontiguousarray(tensor.content).tofile(file)
            external[tensor.name] = ir.ExternalTensor(
                FILE,
                offset,
                tensor.nbytes,
                ir.DataType.from_numpy(tensor.dtype),
                shape=ir.Shape(tensor.shape),
                name=tensor.name,
                base_dir=folder,
            )
        # An empty tensor at the end still begins inside the file.
        file.truncate(_aligned(file.tell() + 1))
        file.flush()
        os.fsync(file.fileno())
    return external


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


def check_room(folder: Path, needed: int) -> None:
    """Raises MemoError if the disk under `folder` has less than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise MemoError(
            f"'{folder}' has {free / 2**20:,.0f} MiB free and {needed / 2**20:,.0f} MiB are needed: "
            "make room, choose another disk with -o, or give fewer inputs"
        )


def offsets_of(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The first row of each entry in a payload, from the rows of each: i64[N]."""
    return np.cumsum(rows) - rows


def largest_group(lengths: npt.NDArray[np.int64]) -> int:
    """How many entries share the commonest length."""
    return int(np.bincount(lengths).max(initial=0))


def annoy_available() -> bool:
    """Whether the Annoy package is installed."""
    try:
        import annoy  # noqa: F401
    except ImportError:
        return False
    return True


def build_index(keys: npt.NDArray[np.float32], lengths: Iterable[int], path: Path) -> npt.NDArray[np.uint8]:
    """The bytes of an Annoy index of the keys [N, k], each with its scaled length behind it.

    `path` is where Annoy writes; the file is removed again. Deterministic: a fixed seed, one thread.
    """
    from annoy import AnnoyIndex

    index = AnnoyIndex(keys.shape[1] + 1, "euclidean")
    index.set_seed(1)
    for entry, (key, length) in enumerate(zip(keys, lengths, strict=True)):
        index.add_item(entry, [*key.tolist(), INDEX_LENGTH_SCALE * length])
    index.build(INDEX_TREES, n_jobs=1)
    index.save(str(path))
    index.unload()
    content = np.fromfile(path, np.uint8)
    path.unlink()
    return content
