"""An original and its bundle, opened to run the same requests."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir as ir
import onnxruntime as ort

from onnx_memo.data.export import Source, as_onnx
from onnx_memo.data.given import Data
from onnx_memo.data.labels import label_column
from onnx_memo.data.readers import read_samples
from onnx_memo.data.samples import ModelInput, Samples, model_inputs
from onnx_memo.errors import MemoError, reason_of
from onnx_memo.files import sha256
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.levels.inserter import mask_of
from onnx_memo.runtime import session_options
from onnx_memo.sessions import open_file
from onnx_memo.store import bundle as bundles
from onnx_memo.store.manifest import Manifest


@dataclass(frozen=True)
class Guarded:
    """A bundle, looked at.

    Attributes:
        mask: the input that its guards take as the padding mask.
    """

    path: Path
    manifest: Manifest
    mask: str | None

    @property
    def model(self) -> Path:
        """The guarded model."""
        return bundles.model_of(self.path, self.manifest)

    @property
    def tokenizer(self) -> Path | None:
        """The one that it brings."""
        return self.brought(bundles.TOKENIZER)

    @property
    def image_processor(self) -> Path | None:
        """The one that it brings."""
        return self.brought(bundles.IMAGE_PROCESSOR)

    def brought(self, name: str) -> Path | None:
        """A file that stands at the bundle's top, if it does."""
        return self.path / name if name in self.manifest.files else None

    @contextlib.contextmanager
    def original(self, model: Path) -> Iterator[Source]:
        """The original model as `as_onnx` gives it; of a directory, what the bundle was made from.

        Raises:
            MemoError: it is another one.
        """
        made = self.manifest
        file, task = (made.source_file, made.task) if model.is_dir() else (None, None)
        with as_onnx(model, file, task) as source:
            self.check(source)
            yield source

    def check(self, source: Source) -> None:
        """Raises MemoError if the bundle was made from another model, as far as a file's digest tells."""
        digest = self.manifest.source_sha256
        if digest and source.task is None and sha256(source.onnx) != digest:
            raise MemoError(
                f"'{self.path}' was made from another model, '{self.manifest.source}' (its SHA-256 is not "
                f"that of '{source.onnx}'): name the model that it was made from"
            )


@dataclass(frozen=True)
class Pair:
    """Two models with the same inputs and outputs.

    Attributes:
        original, bundle: sessions on them.
        path: of the bundle's model.
        manifest: of the bundle.
        inputs: what both take.
        samples: the data, as these.
        outputs: their names, in the order of the results.
        threads: of each session, no more than there are cores.
    """

    original: ort.InferenceSession = field(repr=False)
    bundle: ort.InferenceSession = field(repr=False)
    path: Path
    manifest: Manifest
    inputs: list[ModelInput]
    samples: Samples = field(repr=False)
    outputs: list[str]
    threads: int


def open_pair(
    model: Path | str,
    bundle: Path | str,
    data: Data | Path | str,
    *,
    tokenizer: Path | str | None = None,
    threads: int = 1,
    native: bool = True,
    allow_unknown: bool = False,
    labels: str | None = None,
) -> Pair:
    """Check the bundle, open both models, and read the data: text by the bundle's tokenizer, images by its
    image processor, if none is named.

    `labels` is the column of the data that holds true labels, to be read, too.

    Raises:
        MemoError: the bundle is damaged or was made from another model, or the data does not fit.
    """
    model = Path(model)
    guarded = bundle_of(Path(bundle))
    threads = min(threads, os.cpu_count() or 1)
    with guarded.original(model) as source:
        inputs = model_inputs(OpenedModel(source.onnx, guarded.mask))
        before = open_file(source.onnx, session_options(native=False, threads=threads))
    with bundles.telling_operators(guarded.model):
        after = open_file(guarded.model, session_options(native=native, threads=threads))
    outputs = same_outputs(before, after, guarded.path)
    vocabulary = guarded.tokenizer if tokenizer is None else Path(tokenizer)
    column = label_column(labels, model)
    samples = read_samples(
        data,
        inputs,
        vocabulary,
        image_processor=guarded.image_processor,
        allow_unknown=allow_unknown,
        labels=column,
    )
    return Pair(before, after, guarded.model, guarded.manifest, inputs, samples, outputs, threads)


def bundle_of(path: Path) -> Guarded:
    """The bundle at `path`.

    Raises:
        MemoError: it is damaged.
    """
    manifest = bundles.read_bundle(path)
    file = bundles.model_of(path, manifest)
    with one_line(file):
        return Guarded(path, manifest, mask_of(ir.load(file)))


def same_outputs(original: ort.InferenceSession, guarded: ort.InferenceSession, path: Path) -> list[str]:
    """The names of the outputs of both; `path` is the bundle's.

    Raises:
        MemoError: they differ.
    """
    want, have = ([value.name for value in session.get_outputs()] for session in (original, guarded))
    if want != have:
        raise MemoError(f"'{path}' was made from another model: its outputs are {have}, not {want}")
    return want


@contextlib.contextmanager
def one_line(path: Path) -> Iterator[None]:
    """Say in one line what a bundle's model, whatever it holds, makes of those who read it."""
    try:
        yield
    except MemoError:
        raise
    except Exception as error:  # libraries and look-ups share no class of errors
        raise MemoError(
            f"'{path}' is not the guarded model that its manifest tells of ({reason_of(error)}): copy the "
            "bundle again, or build it again"
        ) from error
