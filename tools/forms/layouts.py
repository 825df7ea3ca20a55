"""The same model in other files: weights outside, and links as the cache of a hub lays them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import onnx

from tools.forms.form import MODEL

LINKED = "snapshots/main/onnx/model.onnx"


def outside(together: bool) -> Callable[[Path, Path], None]:
    """All weights outside the file: in one, or each in its own."""

    def lay(source: Path, to: Path) -> None:
        onnx.save_model(
            onnx.load(source),
            to / MODEL,
            save_as_external_data=True,
            all_tensors_to_one_file=together,
            location="model.onnx_data" if together else None,
            size_threshold=0,
        )

    return lay


def linked(external: bool) -> Callable[[Path, Path], None]:
    """Every file is a link into a folder of files that are named by their content."""

    def lay(source: Path, to: Path) -> None:
        snapshot, blobs = (to / LINKED).parent, to / "blobs"
        snapshot.mkdir(parents=True)
        blobs.mkdir()
        if external:
            outside(together=True)(source, snapshot)
        else:
            (snapshot / MODEL).write_bytes(source.read_bytes())
        for file in list(snapshot.iterdir()):
            blob = blobs / hashlib.sha256(file.read_bytes()).hexdigest()
            file.rename(blob)
            file.symlink_to(Path("../../..") / "blobs" / blob.name)

    return lay


# How it is laid, by what, and where the model then is.
LAYOUTS = {
    "external": ("weights outside, in one file", outside(together=True), MODEL),
    "external-each": ("weights outside, each in a file", outside(together=False), MODEL),
    "linked": ("a link into a folder of blobs", linked(external=False), LINKED),
    "linked-external": ("links, the weights outside", linked(external=True), LINKED),
}
