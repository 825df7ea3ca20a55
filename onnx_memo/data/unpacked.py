"""The bytes of a file of inputs, unpacked as they are read, and no more of them than fit.

A file from a stranger may unpack to a thousand times its size and more. So it is unpacked block by block, and
given up where it goes beyond `MOST_BYTES`.
"""

from __future__ import annotations

import io
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO, Protocol, cast

from onnx_memo.data.given import Data
from onnx_memo.errors import MemoError, reason_of

MOST_BYTES = 1 << 30  # that a packed file, or standard input, may hold
# Bytes that are unpacked at a time: what comes of them at once is at most 32 MiB (zstd; gzip: 1 MiB).
STEP = 1 << 10
START = 1 << 16  # bytes from which the kind of standard input is seen


class Frame(Protocol):
    """Unpacks one frame (zstd) or member (gzip)."""

    @property
    def eof(self) -> bool:
        """Whether it has come to the end of the frame."""

    @property
    def unused_data(self) -> bytes:
        """What stands behind the frame in the bytes that it was given."""

    def decompress(self, data: bytes, /) -> bytes:
        """The next bytes."""


@dataclass(frozen=True)
class Packing:
    """A way of packing: its name, how files begin, and what unpacks the next frame of one."""

    name: str
    magic: bytes
    frame: Callable[[], Frame]


def _gzip() -> Frame:
    return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)


def _zstd() -> Frame:
    try:
        from compression import zstd  # of Python 3.14
    except ImportError:
        try:
            import zstandard
        except ImportError as error:
            raise MemoError(
                "what is packed by zstd needs the package zstandard: pip install 'onnx-memo[data]', or "
                "unpack it first"
            ) from error
        return cast(Frame, zstandard.ZstdDecompressor().decompressobj())
    return cast(Frame, zstd.ZstdDecompressor())


GZIP, ZSTD = Packing("gzip", b"\x1f\x8b", _gzip), Packing("zstd", b"\x28\xb5\x2f\xfd", _zstd)
PACKINGS = {".gz": GZIP, ".zst": ZSTD}  # by the suffix that they add to a file's own


class _Unpacked(io.RawIOBase):
    """The bytes of a packed stream. Raises MemoError where it is damaged, or holds too much."""

    def __init__(self, packed: BinaryIO, packing: Packing, where: str) -> None:
        self.packed, self.packing, self.where = packed, packing, where
        self.frame = packing.frame()
        self.inside = self.ended = False  # of a frame, of the stream
        self.whole = 0  # frames
        self.ready = memoryview(b"")
        self.size = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: object) -> int:
        """Fill some of a buffer of bytes; how much, 0 at the end."""
        while not self.ready and not self.ended:
            self.ready = memoryview(self._next())
            self.size += len(self.ready)
            check_bytes(self.size, self.where)
        room = memoryview(cast(bytearray, buffer))
        size = min(len(room), len(self.ready))
        room[:size], self.ready = self.ready[:size], self.ready[size:]
        return size

    def _next(self) -> bytes:
        """What the next step unpacks to: nothing, perhaps."""
        data = self.packed.read(STEP)
        if not data:
            if self.inside or not self.whole:
                raise self._damaged("it ends too early")
            self.ended = True
        made = []
        # Between frames, zeros may fill up a block of a tape or disk.
        while data := data if self.inside else data.lstrip(b"\0"):
            self.inside = True
            try:
                made.append(self.frame.decompress(data))
            except Exception as error:  # the libraries share no class of errors
                raise self._damaged(reason_of(error)) from error
            data = b""
            if self.frame.eof:
                data, self.frame, self.inside = self.frame.unused_data, self.packing.frame(), False
                self.whole += 1
        return b"".join(made)

    def _damaged(self, why: str) -> MemoError:
        return MemoError(f"{self.where} is no whole {self.packing.name} file ({why}): copy or pack it again")


def check_bytes(size: int, where: str) -> None:
    """Raises MemoError if so many bytes are too many."""
    if size > MOST_BYTES:
        raise MemoError(
            f"{where} holds more than {MOST_BYTES >> 20:,} MiB, unpacked: give a part of it; a sample of the "
            "inputs is enough"
        )


@dataclass(frozen=True)
class Content:
    """An open file of inputs.

    Attributes:
        where: how messages name it.
        kind: the suffix of its own kind, in lower case, as `.csv` of `x.csv.gz`; of standard input empty.
        stream: its bytes, unpacked.
        bounded: whether it is read only up to `MOST_BYTES`, as it is packed, or has no size.
        start: of standard input its first bytes, which `stream` gives, too.
    """

    where: str
    kind: str
    stream: io.BufferedReader
    bounded: bool = True
    start: bytes = b""

    def seekable(self) -> BinaryIO:
        """The bytes as a file that can be read from any place: the file itself, or a copy in memory."""
        return cast(BinaryIO, io.BytesIO(self.whole())) if self.bounded else self.stream

    def whole(self) -> bytes:
        """All bytes."""
        content = self.stream.read(MOST_BYTES + 1 if self.bounded else -1)
        if self.bounded:
            check_bytes(len(content), self.where)
        return content


def kind_of(path: PurePath) -> str:
    """The suffix of a file's own kind, in lower case, without that of its packing."""
    suffix = path.suffix.lower()
    return PurePath(path.stem).suffix.lower() if suffix in PACKINGS else suffix


@contextmanager
def opened_file(path: Path) -> Iterator[Content]:
    """The content of a file, which may be packed, as its last suffix says."""
    packing, where = PACKINGS.get(path.suffix.lower()), f"'{path}'"
    with open(path, "rb") as file:
        if packing is None:
            yield Content(where, kind_of(path), file, bounded=False)
        else:
            yield Content(where, kind_of(path), io.BufferedReader(_Unpacked(file, packing, where)))


@contextmanager
def opened(data: Data) -> Iterator[Content]:
    """The content of a file, or of standard input, packed or not.

    Raises:
        MemoError: also later, while it is read: it is damaged, or holds too much.
    """
    if data.place is not None:
        with opened_file(data.place) as content:
            yield content
        return
    stream = getattr(sys.stdin, "buffer", None)  # closed, or a notebook's, it has none
    if stream is None:
        raise MemoError("there is no standard input of bytes: name a file of inputs")
    start = stream.read(START)
    for packing in (GZIP, ZSTD):
        if start.startswith(packing.magic):
            packed = cast(BinaryIO, io.BufferedReader(_Joined(start, stream)))
            stream = io.BufferedReader(_Unpacked(packed, packing, data.where))
            start = stream.read(START)
            break
    yield Content(data.where, "", io.BufferedReader(_Joined(start, stream)), start=start)


class _Joined(io.RawIOBase):
    """Bytes that were read already, then the rest of the stream that they are from."""

    def __init__(self, start: bytes, rest: BinaryIO) -> None:
        self.start, self.rest = memoryview(start), rest

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: object) -> int:
        """Fill some of a buffer of bytes; how much, 0 at the end."""
        room = memoryview(cast(bytearray, buffer))
        if not self.start:
            data = self.rest.read(len(room))
            room[: len(data)] = data
            return len(data)
        size = min(len(room), len(self.start))
        room[:size], self.start = self.start[:size], self.start[size:]
        return size
