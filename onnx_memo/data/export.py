"""Models that come as a Hugging Face directory: export them with optimum first."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from onnx_memo.data.samples import Samples
from onnx_memo.errors import MemoError, reason_of

TASK = "feature-extraction"
OPSET = 17
TOKENIZER = "tokenizer.json"
ONNX_FILES = ("model.onnx", "onnx/model.onnx")  # where an ONNX file stands in a directory


@dataclass(frozen=True)
class Source:
    """A model to read: its ONNX file, and the files that belong to it (configuration, tokenizer)."""

    onnx: Path
    companions: tuple[Path, ...] = ()

    @property
    def tokenizer(self) -> Path | None:
        """The tokenizer among the companions."""
        return next((path for path in self.companions if path.name == TOKENIZER), None)

    def note_tokenizer(self, named: Path | str | None, samples: Samples, notes: list[str]) -> None:
        """Say with what a text was read, where the user did not name it."""
        if named is None and samples.texts is not None:
            notes.append(f"the text is read with {TOKENIZER}, which came with the model")


@contextlib.contextmanager
def as_onnx(model: Path) -> Iterator[Source]:
    """The model as an ONNX file: itself, or its export as long as this lasts.

    A tokenizer that stands beside an ONNX file, or beside its folder `onnx/`, comes with it.

    Raises:
        MemoError: the directory holds no model, the extra `export` is missing, or the export fails.
    """
    if not model.is_dir():
        places = [model.parent, *([model.parent.parent] if model.parent.name == "onnx" else [])]
        beside = [place / TOKENIZER for place in places if (place / TOKENIZER).is_file()]
        yield Source(model, tuple(beside[:1]))
        return
    if (model / "manifest.json").is_file():
        raise MemoError(f"'{model}' is a bundle: name the original model that it was made from")
    if not (model / "config.json").is_file():
        inside = next((file for file in map(model.joinpath, ONNX_FILES) if file.is_file()), None)
        raise MemoError(
            f"'{model}' is a directory without config.json: name "
            + (f"the ONNX file in it, '{inside}'" if inside else "an ONNX file or a Hugging Face directory")
        )
    with tempfile.TemporaryDirectory(prefix="onnx-memo-") as folder:
        export_directory(model, Path(folder))
        files = sorted(Path(folder).iterdir())
        companions = tuple(file for file in files if not file.name.startswith("model.onnx"))
        yield Source(Path(folder) / "model.onnx", companions)


def export_directory(model: Path, to: Path) -> None:
    """Export the Hugging Face model in `model` as `to`/model.onnx, with its companions beside it.

    Raises:
        MemoError: the extra `export` is missing, or the export fails.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        from optimum.exporters.onnx import main_export
    except ImportError as error:
        raise MemoError(
            f"'{model}' is a model directory, and exporting it needs optimum and PyTorch ({error}): "
            "pip install 'onnx-memo[export]', or export it elsewhere and name the ONNX file"
        ) from error
    try:
        main_export(str(model), output=to, task=TASK, library_name="transformers", opset=OPSET, device="cpu")
    except Exception as error:  # whatever the exporter meets in a foreign model
        raise MemoError(
            f"optimum cannot export '{model}' ({reason_of(error)}): export it yourself and name the ONNX file"
        ) from error
