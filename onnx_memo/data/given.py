"""What a user names as inputs: a file, a folder or standard input, and how it is to be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from onnx_memo.errors import MemoError

STANDARD_INPUT = "-"


@dataclass(frozen=True)
class Data:
    """Inputs, and how they are to be read. A path stands for itself, read as its kind is by default.

    Attributes:
        path: a file, a folder of images, or "-" for standard input (`onnx_memo.data.readers` has the kinds).
        columns: of a table, or fields of objects, that hold the text, or the two texts of a pair; none:
            `text`, and `text_pair` where it is there.
        image_processor: a Hugging Face `preprocessor_config.json`, or the folder that holds it, for images.
        max_length: the most tokens that a text may have; None: what tokenizer and model allow.
    """

    path: Path | str
    columns: Sequence[str] = ()
    image_processor: Path | str | None = None
    max_length: int | None = None

    def __post_init__(self) -> None:
        """Raises MemoError where that cannot be done with any file."""
        if len(self.columns) > 2:
            raise MemoError(
                f"--column takes one column of texts, or the two of a pair, not {len(self.columns)}: leave "
                "some out"
            )
        if len(set(self.columns)) < len(self.columns):
            raise MemoError(f"--column names '{self.columns[0]}' twice: name the other text of the pair")
        if self.max_length is not None and self.max_length < 1:
            raise MemoError(f"--max-length takes a number of tokens, at least 1, not {self.max_length}")

    @property
    def place(self) -> Path | None:
        """The file or folder; None: standard input."""
        return None if str(self.path) == STANDARD_INPUT else Path(self.path)

    @property
    def name(self) -> str:
        """What people call it: the name without the folder."""
        return "standard input" if self.place is None else self.place.name

    @property
    def where(self) -> str:
        """How messages name it: the path, in quotes."""
        return "standard input" if self.place is None else f"'{self.place}'"

    def options(self) -> list[tuple[str, object]]:
        """The options of the command line that say the same, but for `--data`; those left out are None."""
        return [
            *(("--column", name) for name in self.columns),
            ("--image-processor", self.image_processor),
            ("--max-length", self.max_length),
        ]


def data_of(given: Data | Path | str) -> Data:
    """`given`, or what a path alone stands for."""
    return given if isinstance(given, Data) else Data(given)
