"""The bundle: the output directory, its manifest, and how it comes into being all at once."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from onnx_memo.errors import MemoError
from onnx_memo.files import sync_folder, write_file
from onnx_memo.store.data import MEMO_DATA
from onnx_memo.store.manifest import FORMAT, Manifest, parse_manifest

MODEL = "model.onnx"
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
REPORT = "report.html"
OWN_FILES = (MODEL, MEMO_DATA, MANIFEST, TOKENIZER, REPORT)
MANIFEST_LIMIT = 16 * 2**20


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
            raise MemoError(f"'{path}' is a bundle of format {version}; this version reads {FORMAT}")
        manifest = parse_manifest(content)
    except (ValueError, RecursionError) as error:
        raise MemoError(f"'{file}' is damaged ({error}): build the bundle again") from error
    for name, expected in manifest.files.items():
        part = path / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise MemoError(f"'{file}' names '{name}', outside the bundle: build the bundle again")
        if not part.is_file():
            raise MemoError(f"the bundle '{path}' lacks its file '{name}': copy it again, whole")
        if part.stat().st_size != expected["bytes"] or sha256(part) != expected["sha256"]:
            raise MemoError(f"'{part}' is damaged or was changed: copy the bundle again, or build it again")
    for name in (MODEL, MEMO_DATA):
        if name not in manifest.files:
            raise MemoError(f"'{file}' names no '{name}': build the bundle again")
    return manifest


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
