"""Reading the user's inputs: a reader for each kind of file, by its suffix.

A new kind is a module with a `Reader`, and a line in `READERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from onnx_memo.data.arrays import read_npz
from onnx_memo.data.labels import LabelColumn, note_contradictions
from onnx_memo.data.samples import ModelInput, Samples
from onnx_memo.data.text import read_jsonl, read_txt
from onnx_memo.errors import MemoError

# From a file that exists, the model's inputs, the user's tokenizer, if any, whether many unknown tokens are
# allowed, and the column of true labels, if any, to the samples. Raises MemoError if the file is damaged or
# does not fit the model.
Reader = Callable[[Path, Sequence[ModelInput], Path | None, bool, LabelColumn | None], Samples]

_OF_TEXT = "write its texts as .txt, one a line, or as .jsonl with other columns (--labels) beside 'text'"
_OF_ARRAYS = "save the arrays under the names of the model's inputs, with numpy.savez, as .npz"
# What to do with other files that people have.
ADVICE = {
    **dict.fromkeys((".csv", ".tsv", ".xls", ".xlsx", ".parquet", ".arrow", ".feather", ".fasta"), _OF_TEXT),
    **dict.fromkeys((".npy", ".pt", ".pth", ".pkl", ".safetensors", ".h5", ".mat"), _OF_ARRAYS),
    **dict.fromkeys((".gz", ".bz2", ".xz", ".zst", ".zip"), "unpack it first"),
    ".json": "write one object a line, with the text in 'text', as .jsonl",
}

READERS: dict[str, Reader] = {".txt": read_txt, ".log": read_txt, ".jsonl": read_jsonl, ".npz": read_npz}


def read_samples(
    path: Path,
    inputs: Sequence[ModelInput],
    tokenizer: Path | None,
    *,
    allow_unknown: bool = False,
    labels: LabelColumn | None = None,
) -> Samples:
    """Read the samples in `path`, of a suffix in `READERS`, for a model with these inputs.

    Args:
        path: the file.
        inputs: what the model takes, from `onnx_memo.data.samples.model_inputs`.
        tokenizer: a `tokenizer.json`, which text needs; other kinds ignore it.
        allow_unknown: take text of which more than a tenth is unknown to the tokenizer.
        labels: where the true labels stand in the file; None: they are not wanted.

    Raises:
        MemoError: the file is missing, empty, damaged, of another kind, or does not fit the model.
    """
    *others, last = READERS
    kinds = f"{', '.join(others)} or {last}"
    if path.is_dir():
        raise MemoError(f"'{path}' is a folder: name one file of inputs ({kinds})")
    if not path.is_file():
        raise MemoError(f"'{path}' is not a file: name your inputs ({kinds})")
    if path.name == "tokenizer.json":
        raise MemoError(
            f"'{path}' is a tokenizer: name it with --tokenizer, and your inputs ({kinds}) with --data"
        )
    suffix = path.suffix.lower()
    read = READERS.get(suffix)
    if read is None:
        advice = f"; {ADVICE[suffix]}" if suffix in ADVICE else ""
        raise MemoError(f"'{path}' ends in '{path.suffix}': inputs come as {kinds}{advice}")
    samples = read(path, inputs, tokenizer, allow_unknown, labels)
    if not samples.arrays:
        why = f" ({'; '.join(samples.notes)})" if samples.notes else ""
        raise MemoError(f"'{path}' holds no input that can be used{why}: at least one is needed")
    return replace(samples, notes=[*samples.notes, *note_contradictions(samples)])
