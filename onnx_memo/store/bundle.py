"""The bundle: the output directory, its manifest, and how it comes into being all at once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import onnx

from onnx_memo.errors import MemoError
from onnx_memo.files import copy_file, is_plain_path, sha256, sync_folder, write_file
from onnx_memo.operators.spec import DOMAIN, VERSION
from onnx_memo.store.data import DATA_NAME, DIGITS, MEMO
from onnx_memo.store.manifest import FORMAT, Manifest, parse_manifest

MODEL = "model.onnx"
LAYOUTS = {"flat": MODEL, "onnx": f"onnx/{MODEL}"}  # where the model stands, its data files beside it
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
IMAGE_PROCESSOR = "preprocessor_config.json"
REPORT = "report.html"
MANIFEST_LIMIT = 16 * 2**20


def is_bundle(path: Path) -> bool:
    """Whether `path` is a directory that holds a manifest of ours."""
    return (path / MANIFEST).is_file()


@contextmanager
def telling_operators(model: Path) -> Iterator[None]:
    """Where a bundle's model cannot be loaded, and its operators are of another version, say that instead."""
    try:
        yield
    except MemoError as error:
        opsets = onnx.load(model, load_external_data=False).opset_import
        version = next((opset.version for opset in opsets if opset.domain == DOMAIN), VERSION)
        if version == VERSION:
            raise
        raise MemoError(
            f"'{model}' has our operators of version {version}, and the native library those of {VERSION}: "
            "build the bundle again"
        ) from error


def check_layout(layout: str) -> None:
    """Raises MemoError if there is no such layout."""
    if layout not in LAYOUTS:
        raise MemoError(f"there is no layout '{layout}': --layout takes {' or '.join(LAYOUTS)}")


def add_files(folder: Path, files: Mapping[str, Path | bytes]) -> None:
    """Copy or write files into a bundle, by their names in it, so that it loads wherever the original did."""
    for name, content in files.items():
        to = folder / name
        to.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            copy_file(content, to)
        else:
            write_file(to, content)


def lay_out(folder: Path, layout: str) -> None:
    """Move the model, and the data files that it names beside it, to where a layout has them.

    Raises:
        MemoError: something else stands there.
    """
    to = (folder / LAYOUTS[layout]).parent
    if to == folder:
        return
    to.mkdir(exist_ok=True)
    for file in [folder / MODEL, *(file for file in folder.iterdir() if DATA_NAME.fullmatch(file.name))]:
        if (to / file.name).exists():
            raise MemoError(f"a module of the model brings '{to.name}/{file.name}': leave --layout out")
        file.rename(to / file.name)


def model_of(folder: Path, manifest: Manifest) -> Path:
    """The model of the bundle in `folder`."""
    return folder / _model_name(manifest)


def memo_of(manifest: Manifest) -> list[str]:
    """The names of the files of memo data, which are one in every bundle that is whole."""
    return [name for name, data in _data_files(manifest).items() if data[1] == MEMO]


def _data_files(manifest: Manifest) -> dict[str, re.Match[str]]:
    """The data files beside the model, by their names in the bundle."""
    folder = PurePosixPath(_model_name(manifest)).parent
    beside = {name: PurePosixPath(name) for name in manifest.files}
    found = {name: DATA_NAME.fullmatch(path.name) for name, path in beside.items() if path.parent == folder}
    return {name: data for name, data in found.items() if data}


def _model_name(manifest: Manifest) -> str:
    return next((name for name in LAYOUTS.values() if name in manifest.files), MODEL)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest last; every other file must be there, since their digests go into it."""
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            name = file.relative_to(folder).as_posix()
            manifest.files[name] = {"bytes": file.stat().st_size, "sha256": sha256(file)}
    text = json.dumps(manifest.as_json(), indent=2)
    write_file(folder / MANIFEST, (text + "\n").encode())
    for inside in [*(path for path in folder.rglob("*") if path.is_dir()), folder]:
        sync_folder(inside)


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
    for name in manifest.files:
        if not is_plain_path(name):
            raise MemoError(f"'{file}' names {name[:80]!r}, outside the bundle: build the bundle again")
    for name, data in _data_files(manifest).items():
        if str(manifest.files[name]["sha256"])[:DIGITS] != data[2]:
            raise MemoError(f"'{file}' says of '{name}' that it holds something else: build it again")
    if _model_name(manifest) not in manifest.files:
        raise MemoError(f"'{file}' names no '{MODEL}': build the bundle again")
    memo = memo_of(manifest)
    if len(memo) != 1:
        raise MemoError(f"'{file}' names {len(memo)} files of memo data in place of one: build it again")
