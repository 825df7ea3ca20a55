"""The model that a user names, as an ONNX file: itself, one of its directory, or what optimum exports."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from onnx_memo.data import exporter
from onnx_memo.data.directory import CONFIG, ONNX_FILES, Files, ModelDirectory, Task, companions_in
from onnx_memo.data.given import Data
from onnx_memo.data.images import UNIT as IMAGE
from onnx_memo.data.lengths import limiting_files
from onnx_memo.data.pixels import CONFIG as IMAGE_PROCESSOR
from onnx_memo.data.pixels import processor_file
from onnx_memo.data.samples import Samples
from onnx_memo.errors import MemoError, reason_of
from onnx_memo.progress import Progress, silent

OPSET = 17
TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class Source:
    """A model to read.

    Attributes:
        onnx: its ONNX file.
        companions: what belongs to it (configuration, tokenizer), by names in a bundle.
        file: the name of the ONNX file in the directory that the user named; None: no directory's.
        task: what it was exported for; None: it was not.
        why: what the user should know of that choice.
    """

    onnx: Path
    companions: Files = field(default_factory=dict)
    file: str | None = None
    task: str | None = None
    why: str = ""

    @property
    def tokenizer(self) -> Path | None:
        """The tokenizer among the companions."""
        return self._companion(TOKENIZER)

    @property
    def image_processor(self) -> Path | None:
        """The image processor among the companions."""
        return self._companion(IMAGE_PROCESSOR)

    def _companion(self, name: str) -> Path | None:
        found = self.companions.get(name)
        return found if isinstance(found, Path) else None

    def note_choice(self, outputs: Sequence[str], notes: list[str]) -> None:
        """Say which model of a directory it is, and what that gives."""
        if self.why:
            notes.append(f"{self.why}; outputs: {', '.join(map(repr, outputs))}")

    def note_reading(
        self, data: Data, tokenizer: Path | str | None, samples: Samples, notes: list[str]
    ) -> None:
        """Say with what texts or images were read, where the user did not name it."""
        if tokenizer is None and samples.texts is not None:
            notes.append(f"the text is read with {TOKENIZER}, which came with the model")
        if data.image_processor is None and samples.unit == IMAGE:
            notes.append(f"images become pixels as {IMAGE_PROCESSOR} says, which came with the model")


def reader_files(tokenizer: Path | None, data: Data) -> Files:
    """The files that say how the bundle reads text, where it cuts it off, and how images become pixels."""
    files: Files = {}
    if tokenizer is not None:
        files[TOKENIZER] = tokenizer
        files |= {file.name: file for file in limiting_files(tokenizer)}
    if data.image_processor is not None:
        files[IMAGE_PROCESSOR] = processor_file(Path(data.image_processor))
    return files


@contextlib.contextmanager
def as_onnx(
    model: Path, file: str | None = None, task: str | None = None, progress: Progress = silent
) -> Iterator[Source]:
    """The model as an ONNX file: itself, one of the directory, or an export as long as this lasts.

    A tokenizer and an image processor that stand beside an ONNX file, or beside its folder `onnx/`, come with
    it.

    Args:
        model: an ONNX file, or a Hugging Face model directory.
        file: of a directory, the ONNX file to take; None: `ONNX_FILES`, the first that is there.
        task: of a directory, what optimum shall export it for, whatever ONNX files there are; None: what its
            configuration says, where there is none.
        progress: is called where it is exported.

    Raises:
        MemoError: the directory holds no model, the extra `export` is missing, or the export fails.
    """
    if file is not None and task is not None:
        raise MemoError("--file takes an ONNX file as it is, and --task exports one: give one of them")
    if not model.is_dir():
        if file is not None or task is not None:
            option = "--task" if file is None else "--file"
            raise MemoError(f"{option} goes with a model directory, and '{model}' is none: leave it out")
        places = [model.parent, *([model.parent.parent] if model.parent.name == "onnx" else [])]
        readers = [place / name for place in reversed(places) for name in (TOKENIZER, IMAGE_PROCESSOR)]
        yield Source(model, {file.name: file for file in readers if file.is_file()})
        return
    directory = ModelDirectory(model)
    found = directory.onnx_file(file) if task is None else None
    if found is not None:
        name = found.relative_to(model).as_posix()
        yield Source(found, directory.companions(), file=name, why=f"the directory's '{name}' is taken")
        return
    if not directory.is_exportable:
        raise MemoError(
            f"'{model}' is a directory without {CONFIG}, and without {' or '.join(ONNX_FILES)}: name an ONNX "
            f"file or a Hugging Face directory{directory.others()}"
        )
    chosen = directory.task() if task is None else Task(task, "as --task says")
    companions = directory.companions()
    with tempfile.TemporaryDirectory(prefix="onnx-memo-") as folder:
        to = Path(folder, "model")
        advance = progress(f"exporting for {chosen.name}", 1)
        _export(directory, to, chosen.name)
        advance()
        added: Files = {**companions_in(to)}  # a tokenizer.json that was made of a vocabulary
        why = f"exported by optimum for '{chosen.name}', {chosen.why}{directory.others()}"
        yield Source(to / "model.onnx", added | companions, task=chosen.name, why=why)


class ExportFailed(Exception):
    """What an exporter printed before it failed; `--debug` shows it."""


def _export(directory: ModelDirectory, to: Path, task: str) -> None:
    """Export a directory as `to`/model.onnx, with its companions beside it.

    Raises:
        MemoError: the extra `export` is missing, or the export fails.
    """
    why = to.with_name("why")
    places = (str(directory.home), str(to), task, str(OPSET), str(why))
    ended = subprocess.run(
        [sys.executable, "-P", exporter.__file__, *places],
        stdin=subprocess.DEVNULL,  # nobody is asked whether code of the model's may run
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"HF_HUB_OFFLINE": "1"} | os.environ,
    )
    if ended.returncode == exporter.DONE and (to / "model.onnx").is_file():
        return
    printed = ExportFailed(ended.stdout.decode(errors="replace"))
    if ended.returncode == exporter.DONE:
        made = ", ".join(sorted(path.name for path in to.glob("*.onnx"))) or "none"
        reason = f"for '{task}' it makes other files: {made}"
    elif why.is_file():
        reason = reason_of(Exception(why.read_text(encoding="utf-8")))
    else:
        reason = f"it ended with code {ended.returncode}; --debug shows what it printed"
    if ended.returncode == exporter.MISSING:
        raise MemoError(
            f"'{directory.path}' is a model directory, and exporting it needs optimum and PyTorch "
            f"({reason}): pip install 'onnx-memo[export]', or export it elsewhere and name the ONNX file"
            + directory.others()
        ) from printed
    raise MemoError(
        f"optimum cannot export '{directory.path}' for '{task}' ({reason}): try another --task, or export it "
        f"yourself and name the ONNX file{directory.others()}"
    ) from printed
