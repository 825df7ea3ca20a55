"""What a form of a model is, and the folder in which those that were made are kept."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

KEPT = Path(".cache") / "forms"
MODEL = "model.onnx"
WIDE, DEEP = 768, 12  # width and layers of models that are published as `base`


@dataclass(frozen=True)
class Scale:
    """How large the random models are.

    Attributes:
        tokens: the length at which models of text are timed.
        image: pixels of a picture's side.
        frames: of a spectrum.
        samples: of sound.
    """

    width: int = 32
    heads: int = 4
    intermediate: int = 64
    layers: int = 2
    vocabulary: int = 64
    positions: int = 64
    tokens: int = 32
    image: int = 32
    frames: int = 32
    samples: int = 800

    @staticmethod
    def of_width(width: int, layers: int = layers) -> Scale:
        """As published models of this width (384, 768) are, but for the vocabulary; about 128 rows."""
        if width == Scale.width:
            return Scale(layers=layers)
        return Scale(
            width, max(4, width // 64), 4 * width, layers, 64, 160, 128, image=44, frames=256, samples=2560
        )

    @property
    def name(self) -> str:
        """Of the folder that holds what is of this scale."""
        return f"width-{self.width}" + ("" if self.layers == Scale.layers else f"-layers-{self.layers}")


def no_shapes(_: Scale) -> dict[str, tuple[int, ...]]:
    """Of models whose inputs are tokens alone."""
    return {}


@dataclass(frozen=True)
class Form:
    """One form.

    Attributes:
        name: as the command line has it.
        family: the heading that it stands under.
        how: how it is made, a phrase.
        make: writes the model, and what belongs to it, into a folder.
        shapes: of inputs that are neither tokens nor have a fixed shape, without the batch, by the scale.
        vocabulary: tokens are drawn below it; None: the scale's.
        pad: the token that pads.
        side: on which side requests are padded.
        real: of a trained model, whose figures in 8 bits mean something.
        file: the model's place in the folder.
    """

    name: str
    family: str
    how: str
    make: Callable[[Path, Kitchen], None]
    shapes: Callable[[Scale], Mapping[str, tuple[int, ...]]] = no_shapes
    vocabulary: int | None = None
    pad: int = 0
    side: str = "right"
    real: bool = False
    file: str = MODEL


class NotMade(Exception):
    """A form cannot be made here; carries the maker's error, one line."""


@dataclass(frozen=True)
class Kitchen:
    """Makes forms and keeps them, since many are made from others.

    Attributes:
        forms: all that there are, by name.
        scale: of those with random weights.
        folder: holds what was made.
    """

    forms: Mapping[str, Form]
    scale: Scale = field(default_factory=Scale)
    folder: Path = KEPT

    def made(self, name: str) -> Path:
        """The file of a form, made if it is not there.

        Raises:
            NotMade: its maker failed.
        """
        form = self.forms[name]
        home = self.folder / ("real" if form.real else self.scale.name) / name
        if not (home / form.file).exists():
            home.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=home.parent) as work:
                part = Path(work) / name
                part.mkdir()
                try:
                    form.make(part, self)
                except NotMade:
                    raise
                except Exception as error:  # whatever exporters, optimizers and quantizers meet
                    raise NotMade(one_line(error)) from error
                shutil.rmtree(home, ignore_errors=True)
                os.replace(part, home)
        return home / form.file


def one_line(error: BaseException) -> str:
    """The error of a library, in at most 300 characters."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


def by_name(*groups: Iterable[Form]) -> dict[str, Form]:
    """The forms of all groups, by name; each has its own."""
    found: dict[str, Form] = {}
    for form in (form for group in groups for form in group):
        assert form.name not in found, form.name
        found[form.name] = form
    return found
