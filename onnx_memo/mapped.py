"""Memory of sessions on large models in files, which the system writes back and drops where memory is short.

ONNX Runtime maps weights that lie beside a model. But when it opens a session it packs those of products for
the processor: of a large model a second copy of nearly all of them, in memory. Without packing products have
other bits (`session.disable_prepacking`; they are added up in other steps), so that is no way out where bits
count. The native library gives sessions an allocator that puts this copy into nameless files. What is summed
up over the inputs of many products, and their weights in 8 bits, lie in such files as well (`zeros`).
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from onnx_memo.runtime import library_path

LARGE = 1 << 29  # bytes of weights from which on it is done

_folder: ContextVar[Path | None] = ContextVar("folder", default=None)


@contextmanager
def mapped_sessions(weights: int, output: Path) -> Iterator[None]:
    """Sessions that `onnx_memo.sessions` opens inside, on this thread, have their large blocks in files.

    Only where the model is large, and the system, the file system and the native library can; else nothing is
    done.

    Args:
        weights: bytes of the model's weights.
        output: the files lie on the disk where this is to be written, and go with their session.
    """
    folder = next(parent for parent in output.absolute().parents if parent.is_dir())
    token = _folder.set(folder if weights >= LARGE else None)
    try:
        yield
    finally:
        _folder.reset(token)


@contextmanager
def opening(options: ort.SessionOptions) -> Iterator[None]:
    """A session with `options` is opened inside, by this thread."""
    folder, library = _folder.get(), None if _folder.get() is None else _library()
    if library is None or not library.onnx_memo_map_memory(os.fsencode(str(folder))):
        yield
        return
    options.add_session_config_entry("session.use_env_allocators", "1")
    try:
        _give_back()
        yield
    finally:
        library.onnx_memo_map_memory(None)
        _give_back()


def in_files() -> bool:
    """Whether sessions that are opened now have their large blocks in files."""
    return _folder.get() is not None and _library() is not None


def zeros(shapes: Sequence[tuple[int, ...]], dtype: npt.DTypeLike) -> list[npt.NDArray[Any]]:
    """Arrays of zeros: inside `mapped_sessions` of a large model, on its thread, in a nameless file.

    Where that is not to be had they are in memory.
    """
    kind, counts = np.dtype(dtype), [math.prod(shape) for shape in shapes]
    folder, size = _folder.get(), sum(counts) * kind.itemsize
    block = _nameless(folder, size) if folder is not None and size else None
    if block is None:
        return [np.zeros(shape, kind) for shape in shapes]
    begins = np.cumsum([0, *counts[:-1]]) * kind.itemsize
    return [
        np.frombuffer(block, kind, count, begin).reshape(shape)
        for shape, count, begin in zip(shapes, counts, begins.tolist(), strict=True)
    ]


def _nameless(folder: Path, size: int) -> mmap.mmap | None:
    """A file without a name that is mapped, and goes with the last array in it; None: it cannot be made."""
    if not hasattr(os, "posix_fallocate"):
        return None
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, size)  # where a page has no room, a write ends the process
            return mmap.mmap(file.fileno(), size)
    except OSError:
        return None


def _give_back() -> None:
    """Let the system have memory that the process has freed: glibc keeps what lies between blocks in use."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other libraries have none
    if trim is not None:
        trim(0)


@cache
def _library() -> ctypes.CDLL | None:
    path = library_path()
    if path is None:
        return None
    library = ctypes.CDLL(str(path))  # first: options unload what they alone have loaded
    ort.SessionOptions().register_custom_ops_library(str(path))  # so it gets to know ONNX Runtime
    library.onnx_memo_map_memory.argtypes = [ctypes.c_char_p]
    library.onnx_memo_map_memory.restype = ctypes.c_bool
    return library
