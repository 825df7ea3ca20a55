"""A bundle comes into being all at once, and what a killed run leaves behind goes.

It is built in a folder beside its place and renamed into it. That folder is locked as long as the process
lives that builds in it: what nobody holds was left by one that was killed, and the next one removes it. A
bundle that was set aside to be replaced is put back.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from onnx_memo.errors import MemoError
from onnx_memo.files import sync_folder
from onnx_memo.store.bundle import is_bundle

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
                gone.append(folder)
    return gone


@contextlib.contextmanager
def publishing(output: Path) -> Iterator[Path]:
    """A folder beside `output` to build in; renamed into place at the end, removed on any failure."""
    new_parents = [parent for parent in output.parents if not parent.exists()]
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _new_folder(output, "building") as folder:
            folder.chmod(0o755)
            yield folder
            _replace(folder, output)
            sync_folder(output.parent)
    finally:
        with contextlib.suppress(OSError):  # they hold the bundle, or something else by now
            for parent in new_parents:
                parent.rmdir()


def _replace(folder: Path, output: Path) -> None:
    if not output.exists():
        folder.rename(output)
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
    """A new folder beside `output`, locked as long as this lasts, and gone after it."""
    folder = Path(tempfile.mkdtemp(prefix=f".{output.name}.{kind}.", dir=output.parent))
    try:
        with _locked(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Hold the lock of a folder, if nobody else does; whether we hold it. It ends with the process."""
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
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)
