"""The one way to write a file: what is not written whole is an error.

NumPy's `tofile` loses up to a buffer without a word where the disk is full. Here every write is checked, and
a file that is to stay is on the disk before its name is used.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

BUFFER = 1 << 20
FICLONE = 0x40049409  # of Linux: let a file share another's blocks until one of them is written to
MOST_LETTERS = 255  # of a file's name
LFS_POINTER = b"version https://git-lfs.github.com/spec/"  # how a file begins that stands for another


class RawFile(io.FileIO):
    """Where bytes leave the process; tests let this fail."""

    def write(self, data: Any) -> int:
        """Write some of `data`, at least a byte; how much."""
        return int(super().write(data) or 0)


class NewFile(io.BufferedWriter):
    """A file that is being written."""

    def __init__(self, path: Path, replace: bool = False) -> None:
        """Raises FileExistsError where there is one already, unless it may be replaced."""
        super().__init__(RawFile(path, "w" if replace else "x"), BUFFER)

    def array(self, array: npt.NDArray[Any]) -> None:
        """Write the numbers of an array, row-major."""
        self.write(np.ascontiguousarray(array).tobytes() if array.nbytes < BUFFER else _bytes_of(array))

    def copy(self, source: Path) -> None:
        """Write the content of another file."""
        with open(source, "rb") as file:
            while block := file.read(BUFFER):
                self.write(block)

    def reflink(self, source: Path) -> bool:
        """Share the blocks of another file, if the file system can; nothing was written yet."""
        if fcntl is None or sys.platform != "linux":
            return False
        with open(source, "rb") as file, contextlib.suppress(OSError):
            fcntl.ioctl(self.fileno(), FICLONE, file.fileno())
            self.seek(0, os.SEEK_END)
            return True
        return False

    def sync(self) -> None:
        """Return when all that was written is on the disk."""
        self.flush()
        os.fsync(self.fileno())


@contextlib.contextmanager
def new_file(path: Path, replace: bool = False) -> Iterator[NewFile]:
    """A file at `path`, as `NewFile`; at the end of the block it is whole and on the disk.

    Raises:
        OSError: it is there already, or could not be written whole.
    """
    with NewFile(path, replace) as file:
        yield file
        file.sync()
        expected = file.tell()
    written = path.stat().st_size
    if written < expected:
        raise OSError(f"'{path}' is {written} bytes long after {expected} were written: is the disk full?")


def write_file(path: Path, content: bytes, replace: bool = False) -> None:
    """Write a file. Raises OSError as `new_file` does."""
    with new_file(path, replace) as file:
        file.write(content)


def copy_file(source: Path, to: Path) -> None:
    """Copy a file to a new one. Raises OSError as `new_file` does."""
    with new_file(to) as file:
        file.copy(source)


def take_file(source: Path, to: Path) -> None:
    """Let `to` be a file of its own like `source`, which shares its blocks where the file system can.

    No hard link, which would take no room elsewhere either: ONNX and ONNX Runtime take files with several
    names for an attack, and what writes into the original would reach this one.

    Args:
        source: a file; a link leads to it.
        to: a place where none is.

    Raises:
        OSError: `to` is there already, or could not be written whole.
    """
    with new_file(to) as file:
        if not file.reflink(source):
            file.copy(source)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Return when the names in `folder` are on the disk, where the system can tell."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems cannot tell
                raise
        finally:
            os.close(handle)


def is_plain_path(name: str) -> bool:
    """Whether a name from anywhere is that of a file in a folder or below it, on every system."""
    return all(
        part.isprintable()
        and 0 < len(part.encode()) <= MOST_LETTERS
        and part not in (".", "..")
        and not {"\\", ":"} & set(part)
        for part in name.split("/")
    )


def _bytes_of(array: npt.NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
