"""A bundle comes into being all at once, and what a killed run leaves behind goes.

It is built in a folder beside its place, made read-only, and renamed into it, or changes places with the
bundle that is there. The folder is locked as long as the process lives that builds in it: what nobody holds
was left by one that was killed, and the next one removes it. Where two folders cannot change places, the old
bundle is set aside meanwhile, and put back if need be.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from onnx_memo import interrupts
from onnx_memo.errors import MemoError
from onnx_memo.files import sync_folder
from onnx_memo.store.bundle import is_bundle
from onnx_memo.store.exchange import exchange

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there, and nothing is taken for left
    fcntl = None  # type: ignore[assignment]

LEFT = re.compile(r"\.(?P<name>.+)\.(?P<kind>building|old)\.[a-z0-9_]{8}")
SET_ASIDE = "bundle"  # of a bundle that is being replaced, in its folder


def check_output(output: Path, force: bool) -> None:
    """Refuse to write over what is there, unless it is a bundle and `force` is set.

    What killed runs left there is removed, or put back, first.

    Raises:
        MemoError: with the reason.
    """
    clean(output.parent, output.name)
    if not output.exists() and not output.is_symlink():
        return
    if output.is_symlink() and is_bundle(output):
        raise MemoError(
            f"'{output}' is a link to a bundle: write to a new folder, and let the link name that "
            "(docs/deploy.md)"
        )
    if not is_bundle(output):
        raise MemoError(f"'{output}' exists and is no bundle: choose another place with -o")
    if not force:
        raise MemoError(
            f"'{output}' holds a bundle already: replace it with --force, or choose another place with -o"
        )


def clean(parent: Path, name: str | None = None) -> list[Path]:
    """Remove what killed runs left in a folder, and put back bundles that they had set aside.

    Args:
        parent: the folder.
        name: of the bundle; None: of any.

    Returns:
        The folders that are gone.
    """
    gone = []
    for folder in sorted(parent.iterdir()) if parent.is_dir() else []:
        found = LEFT.fullmatch(folder.name)
        if (
            found is None
            or folder.is_symlink()
            or not folder.is_dir()
            or found["name"] != (name or found["name"])
        ):
            continue
        with _locked(folder) as ours:
            if ours:
                aside, output = folder / SET_ASIDE, parent / found["name"]
                if found["kind"] == "old" and is_bundle(aside) and not output.exists():
                    aside.rename(output)
                shutil.rmtree(folder, ignore_errors=True)
                gone += [] if folder.exists() else [folder]
    return gone


@contextlib.contextmanager
def publishing(output: Path) -> Iterator[Path]:
    """A folder beside `output` to build in; takes its place at the end, or is removed on any failure."""
    new_parents = [parent for parent in output.parents if not parent.exists()]
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with _new_folder(output, "building") as folder:
            yield folder
            for file in (path for path in folder.rglob("*") if path.is_file()):
                file.chmod(file.stat().st_mode & 0o444)  # what the umask left of it
            interrupts.check()
            interrupts.too_late()
            _replace(folder, output)
            _confirm(output)
    finally:
        with contextlib.suppress(OSError):  # they hold the bundle, or something else by now
            for parent in new_parents:
                parent.rmdir()


def _confirm(output: Path) -> None:
    """Raises MemoError if the disk does not confirm that a bundle will stay where it now is."""
    try:
        sync_folder(output.parent)
    except OSError as error:
        raise MemoError(
            f"'{output}' is written, but the disk does not confirm that it will stay there "
            f"({error.strerror}): look after the disk, then check the bundle with onnx-memo inspect"
        ) from error


def _replace(folder: Path, output: Path) -> None:
    """Let `folder` be at `output`; what was there is in its place, or gone."""
    if not output.exists():
        folder.rename(output)
        return
    if exchange(folder, output):
        return
    with _new_folder(output, "old") as old:
        try:
            output.rename(old / SET_ASIDE)
            folder.rename(output)
        finally:
            if not output.exists():  # interrupted between the two
                (old / SET_ASIDE).rename(output)


@contextlib.contextmanager
def _new_folder(output: Path, kind: str) -> Iterator[Path]:
    """A new folder beside `output`, locked as long as this lasts; what is there under its name goes then."""
    while True:
        folder = output.parent / f".{output.name}.{kind}.{secrets.token_hex(4)}"
        folder.mkdir()  # not by `tempfile`, which allows nobody else to read
        try:
            with _locked(folder, wait=True):
                if not folder.exists():
                    continue  # it was taken for left before we held it
                yield folder
                return
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path, wait: bool = False) -> Iterator[bool]:
    """Hold the lock of a folder, if nobody else does, or when they do no longer; whether we hold it.

    It ends with the process.
    """
    if fcntl is None:
        yield False
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # somebody else's, or gone by now
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)
