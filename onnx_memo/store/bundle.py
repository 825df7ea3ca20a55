"""The bundle: the output directory, its manifest, and how it comes into being all at once."""

from __future__ import annotations

import json
from pathlib import Path

from onnx_memo.errors import MemoError
from onnx_memo.files import sha256, sync_folder, write_file
from onnx_memo.store.data import DATA_NAME, DIGITS, MEMO
from onnx_memo.store.manifest import FORMAT, Manifest, parse_manifest

MODEL = "model.onnx"
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
REPORT = "report.html"
MANIFEST_LIMIT = 16 * 2**20
MOST_LETTERS = 255  # of a file's name


def is_bundle(path: Path) -> bool:
    """Whether `path` is a directory that holds a manifest of ours."""
    return (path / MANIFEST).is_file()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest last; every other file must be there, since their digests go into it."""
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            name = file.relative_to(folder).as_posix()
            manifest.files[name] = {"bytes": file.stat().st_size, "sha256": sha256(file)}
    text = json.dumps(manifest.as_json(), indent=2)
    write_file(folder / MANIFEST, (text + "\n").encode())
    sync_folder(folder)


def read_bundle(path: Path) -> Manifest:
    """Read the manifest of the bundle at `path` and check every file against it.

    Raises:
        MemoError: it is no bundle, one of another format, or a damaged one.
    """
    if not is_bundle(path):
        raise MemoError(f"'{path}' is no bundle (it has no {MANIFEST}): make one with 'onnx-memo optimize'")
    file = path / MANIFEST
    try:
        if file.stat().st_size > MANIFEST_LIMIT:
            raise ValueError("too large")
        content = json.loads(file.read_text(encoding="utf-8"))
        version = content.get("format") if isinstance(content, dict) else None
        if isinstance(version, int) and version != FORMAT:
            raise MemoError(
                f"'{path}' is a bundle of format {version}, and this version reads {FORMAT}: build it again"
            )
        manifest = parse_manifest(content)
    except (ValueError, RecursionError) as error:
        raise MemoError(f"'{file}' is damaged ({error}): build the bundle again") from error
    _check_names(file, manifest)
    for name, expected in manifest.files.items():
        part = path / name
        if not part.is_file():
            raise MemoError(f"the bundle '{path}' lacks its file '{name}': copy it again, whole")
        if part.stat().st_size != expected["bytes"] or sha256(part) != expected["sha256"]:
            raise MemoError(f"'{part}' is damaged or was changed: copy the bundle again, or build it again")
    return manifest


def _check_names(file: Path, manifest: Manifest) -> None:
    """Every name must lie in the bundle's folder, a data file's carry its content, and none be missing."""
    memo = []
    for name, expected in manifest.files.items():
        if not _is_plain(name):
            raise MemoError(f"'{file}' names {name[:80]!r}, outside the bundle: build the bundle again")
        if data := DATA_NAME.fullmatch(name):
            memo += [name] if data[1] == MEMO else []
            if str(expected["sha256"])[:DIGITS] != data[2]:
                raise MemoError(f"'{file}' says of '{name}' that it holds something else: build it again")
    if MODEL not in manifest.files:
        raise MemoError(f"'{file}' names no '{MODEL}': build the bundle again")
    if len(memo) != 1:
        raise MemoError(f"'{file}' names {len(memo)} files of memo data in place of one: build it again")


def _is_plain(name: str) -> bool:
    """Whether a name from anywhere is that of a file in a folder, on every system."""
    return (
        name.isprintable()
        and 0 < len(name.encode()) <= MOST_LETTERS
        and name not in (".", "..")
        and not {"/", "\\", ":"} & set(name)
    )
