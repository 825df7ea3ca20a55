"""Reading the user's inputs: a reader for each kind of file, by its suffix.

A new kind is a module with a `Reader`, and a line in `READERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from onnx_memo.data.arrays import read_npz
from onnx_memo.data.samples import ModelInput, Samples
from onnx_memo.data.text import read_jsonl, read_txt
from onnx_memo.errors import MemoError

# From a file that exists, the model's inputs, the user's tokenizer, if any, and whether many unknown tokens
# are allowed, to the samples. Raises MemoError if the file is damaged or does not fit the model.
Reader = Callable[[Path, Sequence[ModelInput], Path | None, bool], Samples]

READERS: dict[str, Reader] = {".txt": read_txt, ".log": read_txt, ".jsonl": read_jsonl, ".npz": read_npz}


def read_samples(
    path: Path, inputs: Sequence[ModelInput], tokenizer: Path | None, *, allow_unknown: bool = False
) -> Samples:
    """Read the samples in `path`, of a suffix in `READERS`, for a model with these inputs.

    Args:
        path: the file.
        inputs: what the model takes, from `onnx_memo.data.samples.model_inputs`.
        tokenizer: a `tokenizer.json`, which text needs; other kinds ignore it.
        allow_unknown: take text of which more than a tenth is unknown to the tokenizer.

    Raises:
        MemoError: the file is missing, empty, damaged, of another kind, or does not fit the model.
    """
    *others, last = READERS
    kinds = f"{', '.join(others)} or {last}"
    if not path.is_file():
        raise MemoError(f"'{path}' is not a file: name your inputs ({kinds})")
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise MemoError(f"'{path}' ends in '{path.suffix}': inputs come as {kinds}")
    samples = read(path, inputs, tokenizer, allow_unknown)
    if not samples.arrays:
        raise MemoError(f"'{path}' holds no input that can be used: at least one is needed")
    return samples
