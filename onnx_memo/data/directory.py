"""Hugging Face and sentence-transformers model directories, as they lie on a disk or in the cache of a hub.

Which ONNX file of a directory is taken, which task it would be exported for, and which of its files go into a
bundle, so that it loads wherever the directory did. What a directory says of itself is not trusted: nothing
outside of it is read, but what a hub's cache links to.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from onnx_memo.errors import MemoError, reason_of
from onnx_memo.files import is_plain_path

CONFIG, MODULES = "config.json", "modules.json"
ONNX_FILES = ("model.onnx", "onnx/model.onnx")  # where an ONNX file stands, the first one first
MOST_BYTES = 16 * 2**20  # of a JSON file
MOST_NAMES = 5  # of files that are named

# What libraries load beside a model: configurations, tokenizers, and what sentence-transformers adds.
COMPANIONS = (
    CONFIG,
    "*_config.json",
    MODULES,
    "config_sentence_transformers.json",
    "tokenizer.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",  # SentencePiece
    "chat_template.*",
)

# optimum's task for a model with that head, by how the names of architectures end; without a head its states.
HEADS = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForMaskedLM": "fill-mask",
    "ForQuestionAnswering": "question-answering",
    "ForMultipleChoice": "multiple-choice",
    "ForImageClassification": "image-classification",
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
}
STATES = "feature-extraction"
# Of sentence-transformers, where optimum calls it otherwise.
SENTENCE_TASKS = {"sequence-classification": "text-classification"}

Files = dict[str, Path | bytes]  # files or contents, by their names in a bundle


@dataclass(frozen=True)
class Task:
    """What a model is exported for, in optimum's terms, and who says so, for people."""

    name: str
    why: str


class ModelDirectory:
    """A directory that holds a model; a bundle of ours is refused.

    Raises:
        MemoError: what it says of its modules cannot be read, or leads out of it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if (path / "manifest.json").is_file():
            raise MemoError(f"'{path}' is a bundle: name the original model that it was made from")
        self.modules = self._read_modules()
        first = self.modules[0]["path"] if self.modules else ""
        # Old versions of sentence-transformers put the transformer into a folder of its own.
        self.home = path / first if (path / first / CONFIG).is_file() else path

    @property
    def is_exportable(self) -> bool:
        """Whether there is a configuration, as exporting needs it."""
        return (self.home / CONFIG).is_file()

    def onnx_file(self, name: str | None = None) -> Path | None:
        """The ONNX file to take: the one that is named, else the one where such files stand, else None.

        Raises:
            MemoError: there is none of that name.
        """
        if name is None:
            return next((file for file in map(self.home.joinpath, ONNX_FILES) if file.is_file()), None)
        file = self.path / name
        if not is_plain_path(name) or not file.is_file():
            raise MemoError(
                f"'{self.path}' has no file '{name}': --file names one as it stands in the directory"
                + self.others()
            )
        return file

    def others(self) -> str:
        """For a message: the ONNX files that are there under any name."""
        found = sorted(path for place in ("*.onnx", "onnx/*.onnx") for path in self.home.glob(place))
        names = [f"'{path.relative_to(self.path).as_posix()}'" for path in found[:MOST_NAMES]]
        more = f" and {len(found) - MOST_NAMES} more" if len(found) > MOST_NAMES else ""
        return f"; its ONNX files (--file): {', '.join(names)}{more}" if names else ""

    def task(self) -> Task:
        """What it is exported for, if nobody says otherwise: sentence-transformers' task, or its head's."""
        if self.modules:
            named = self._sentence_task()
            return Task(SENTENCE_TASKS.get(named, named), f"as {MODULES} says")
        architectures = self._read(self.home / CONFIG, dict).get("architectures")
        for name in architectures if isinstance(architectures, list) else []:
            for head, task in HEADS.items():
                if str(name).endswith(head):
                    return Task(task, f"as its architecture '{name}' says")
        return Task(STATES, "since its architecture names no head")

    def companions(self) -> Files:
        """What goes into a bundle: files beside the model, and the folders of sentence-transformers' modules.

        The transformer's own folder becomes the bundle's.

        Raises:
            MemoError: one is a link out of the directory.
        """
        found: Files = {}
        for folder in (self.path, self.home):
            found |= {name: self._own(file) for name, file in companions_in(folder).items()}
        for module in self.modules:
            folder = self.path / module["path"]
            if folder not in (self.path, self.home):
                inside = sorted(folder.iterdir()) if folder.is_dir() else []
                name = PurePosixPath(module["path"])
                found |= {str(name / file.name): self._own(file) for file in inside if file.is_file()}
        if self.home != self.path:
            first, *others = self.modules
            found[MODULES] = json.dumps([{**first, "path": ""}, *others], indent=2).encode()
        return found

    def _sentence_task(self) -> str:
        for file in sorted(self.home.glob("sentence_*_config.json")):
            named = self._read(file, dict).get("transformer_task")
            if isinstance(named, str):
                return named
        return "fill-mask" if str(self.modules[0].get("type")).endswith("MLMTransformer") else STATES

    def _read_modules(self) -> list[dict[str, Any]]:
        """What modules.json lists; nothing where there is none."""
        file = self.path / MODULES
        if not file.is_file():
            return []
        modules: list[dict[str, Any]] = self._read(file, list)
        for module in modules:
            name = module.get("path") if isinstance(module, dict) else None
            if not isinstance(name, str):
                raise MemoError(f"'{file}' is no list of modules with their paths: mend it, or move it away")
            if name and not is_plain_path(name):
                raise MemoError(f"'{file}' names {name[:80]!r}, which lies outside: mend it, or move it away")
        return modules

    def _read(self, file: Path, kind: type) -> Any:
        """What a JSON file of the directory holds.

        Raises:
            MemoError: it cannot be read, or holds something else than `kind`.
        """
        try:
            if self._own(file).stat().st_size > MOST_BYTES:
                raise ValueError("too large")
            content = json.loads(file.read_text(encoding="utf-8"))
            if not isinstance(content, kind):
                raise ValueError(f"no JSON {'object' if kind is dict else 'list'}")
        except (OSError, ValueError, RecursionError) as error:
            raise MemoError(f"'{file}' cannot be read ({reason_of(error)}): mend it") from error
        return content

    def _own(self, file: Path) -> Path:
        """The file, if it lies in the directory, or in the cache of the hub that this belongs to.

        Raises:
            MemoError: it is a link to elsewhere.
        """
        home, real = self.path.resolve(), file.resolve()
        # models--NAME/snapshots/REVISION links to models--NAME/blobs, and newer hubs from there to blobs.
        repository = home.parent.parent
        is_cached = home.parent.name == "snapshots" and repository.name.startswith("models--")
        caches = (repository / "blobs", repository.parent / "blobs") if is_cached else ()
        if not any(real.is_relative_to(place) for place in (home, *caches)):
            raise MemoError(f"'{file}' is a link out of its directory: copy the file itself there (cp -L)")
        return file


def companions_in(folder: Path) -> dict[str, Path]:
    """The files of a folder that libraries load beside a model, by their names."""
    return {file.name: file for name in COMPANIONS for file in folder.glob(name) if file.is_file()}
