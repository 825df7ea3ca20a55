"""Reading the user's inputs: a reader for each kind of file, by its suffix.

A new kind is a module with a `Reader`, and a line in `READERS`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from onnx_memo.data.arrays import read_npz
from onnx_memo.data.columns import read_arrow, read_parquet
from onnx_memo.data.given import Data, data_of
from onnx_memo.data.images import FORMATS, read_images
from onnx_memo.data.labels import LabelColumn, note_contradictions
from onnx_memo.data.samples import ModelInput, Samples
from onnx_memo.data.tables import read_csv, read_tsv
from onnx_memo.data.text import read_fasta, read_jsonl, read_txt
from onnx_memo.data.texts import Reading
from onnx_memo.data.unpacked import PACKINGS, Content, kind_of, opened
from onnx_memo.errors import MemoError

# From what is asked for, and an open file, to the samples. Raises MemoError if the file is damaged or does
# not fit the model.
Reader = Callable[[Reading, Content], Samples]

_OF_TEXT = "write its texts as .csv, and name their column with --column"
_OF_ARRAYS = "save the arrays under the names of the model's inputs, with numpy.savez, as .npz"
# What to do with other files that people have.
ADVICE = {
    **dict.fromkeys((".xls", ".xlsx", ".ods", ".orc", ".avro"), _OF_TEXT),
    **dict.fromkeys((".npy", ".pt", ".pth", ".pkl", ".safetensors", ".h5", ".mat"), _OF_ARRAYS),
    **dict.fromkeys((".bz2", ".xz", ".zip", ".tar", ".tgz"), "unpack it first"),
    **dict.fromkeys(FORMATS, "name the folder that holds the images"),
    ".json": "write one object a line, with the text in 'text', as .jsonl",
}

READERS: dict[str, Reader] = {
    ".txt": read_txt,
    ".log": read_txt,
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".jsonl": read_jsonl,
    ".parquet": read_parquet,
    ".arrow": read_arrow,
    ".feather": read_arrow,
    ".fasta": read_fasta,
    ".fa": read_fasta,
    ".faa": read_fasta,
    ".npz": read_npz,
}
PLAIN = (read_txt, read_fasta)  # texts without columns
# How files begin that are no text, by their kind.
STARTS = {b"PK\x03\x04": ".npz", b"PAR1": ".parquet", b"ARROW1": ".arrow", b"\xff\xff\xff\xff": ".arrow"}
_SEQUENCE = re.compile(r"[A-Za-z*.-]+")


def read_samples(
    data: Data | Path | str,
    inputs: Sequence[ModelInput],
    tokenizer: Path | None,
    *,
    image_processor: Path | None = None,
    allow_unknown: bool = False,
    labels: LabelColumn | None = None,
) -> Samples:
    """Read samples for a model with these inputs.

    Args:
        data: a file of a suffix in `READERS`, perhaps with that of a packing (`.gz`, `.zst`) behind it;
            standard input, of which the kind is seen (`_kind_seen`); or a folder of images.
        inputs: what the model takes, from `onnx_memo.data.samples.model_inputs`.
        tokenizer: a `tokenizer.json`, which text needs; other kinds ignore it.
        image_processor: a `preprocessor_config.json` for images, where `data` names none.
        allow_unknown: take text of which more than a tenth is unknown to the tokenizer.
        labels: where the true labels stand in the file; None: they are not wanted.

    Raises:
        MemoError: the file is missing, empty, damaged, of another kind, or does not fit the model.
    """
    reading = Reading(data_of(data), inputs, tokenizer, image_processor, allow_unknown, labels)
    place = reading.data.place
    if place is not None and place.is_dir():
        _check_options(reading, "a folder of images", columns=False, texts=False, images=True)
        samples = read_images(reading, place)
    else:
        samples = _read(reading)
    if not samples.arrays:
        why = f" ({'; '.join(samples.notes)})" if samples.notes else ""
        raise MemoError(f"{reading.where} holds no input that can be used{why}: at least one is needed")
    return replace(samples, notes=[*samples.notes, *note_contradictions(samples)])


def _read(reading: Reading) -> Samples:
    """The samples of a file, or of standard input."""
    place = reading.data.place
    if place is not None:
        _check_file(place)
    with opened(reading.data) as content:
        kind = content.kind if place is not None else _kind_seen(content.start, bool(reading.data.columns))
        read = READERS[kind]
        _check_options(reading, kind, columns=read not in (*PLAIN, read_npz), texts=read != read_npz)
        samples = read(reading, content)
    if place is not None:
        return samples
    return replace(samples, notes=[f"standard input is read as {kind}", *samples.notes])


def _check_file(path: Path) -> None:
    """Raises MemoError if there is no file, or none of a kind that is read."""
    *others, last = READERS
    kinds = f"{', '.join(others)} or {last}"
    if not path.is_file():
        raise MemoError(f"'{path}' is not a file: name your inputs ({kinds})")
    if path.name == "tokenizer.json":
        raise MemoError(
            f"'{path}' is a tokenizer: name it with --tokenizer, and your inputs ({kinds}) with --data"
        )
    kind = kind_of(path)
    if kind not in READERS:
        advice = f"; {ADVICE[kind]}" if kind in ADVICE else ""
        suffix = kind + (path.suffix if path.suffix.lower() in PACKINGS else "")
        ending = f"ends in '{suffix}'" if suffix else "has no suffix"
        raise MemoError(
            f"'{path}' {ending}: inputs come as {kinds}, each also with {' or '.join(PACKINGS)} behind it, "
            f"or as a folder of images{advice}"
        )


def _check_options(reading: Reading, kind: str, *, columns: bool, texts: bool, images: bool = False) -> None:
    """Raises MemoError if something is asked for that this kind of data does not have."""
    data, labels = reading.data, reading.labels
    if data.columns and not columns:
        raise MemoError(
            f"--column '{data.columns[0]}' names a column, and {reading.where}, read as {kind}, has none: "
            "leave it out, or give a table (.csv, .tsv, .jsonl, .parquet)"
        )
    if data.max_length is not None and not texts:
        raise MemoError(
            f"--max-length cuts texts, and {reading.where}, read as {kind}, holds none: leave it out"
        )
    if data.image_processor is not None and not images:
        raise MemoError(
            f"--image-processor is for a folder of images, and {reading.where} is read as {kind}: leave it "
            "out"
        )
    if labels is not None and not columns and texts:
        raise MemoError(
            f"{reading.where} holds texts alone, and --labels '{labels.name}' names a column: write one "
            f"object a line, with the text in 'text' and the label in '{labels.name}', as .jsonl"
        )
    if labels is not None and images:
        raise MemoError(
            f"--labels '{labels.name}' names a column, and a folder of images has none: leave it out"
        )


def _kind_seen(start: bytes, columns: bool) -> str:
    """The kind of standard input, by how it begins: that of a file that begins so.

    Of text it is .jsonl where the first line is an object, .fasta where it is a name behind `>` and the next
    a sequence, where columns are named .tsv or .csv by whether the first line has tabs, and else .txt.
    """
    for magic, kind in STARTS.items():
        if start.startswith(magic):
            return kind
    lines = [line for line in start.decode("utf-8-sig", errors="replace").splitlines() if line.strip()]
    first, second = [*lines, "", ""][:2]
    if first.startswith("{") and (len(lines) < 2 or _is_object(first)):
        return ".jsonl"
    if first.startswith(">") and _SEQUENCE.fullmatch(second.strip()):
        return ".fasta"
    if columns:
        return ".tsv" if "\t" in first else ".csv"
    return ".txt"


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
