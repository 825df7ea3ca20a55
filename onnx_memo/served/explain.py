"""Explain how a bundle serves a request, or find the requests of a file that it serves worst.

Both answers come from the bundle: with `memo_strictness` 0 it reuses nothing and gives the original's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from onnx_memo.data.given import Data, data_of
from onnx_memo.data.samples import Samples
from onnx_memo.data.tokens import Text
from onnx_memo.errors import MemoError
from onnx_memo.notebook import notebook_bar
from onnx_memo.progress import Progress
from onnx_memo.served.bundle import TracedBundle
from onnx_memo.served.explanation import ROUNDED, Explanation, Worst

MOST = 10  # requests of a file that are named


def explain(
    bundle: Path | str,
    *,
    text: Text | None = None,
    data: Data | Path | str | None = None,
    line: int | None = None,
    arrays: Mapping[str, npt.NDArray[Any]] | None = None,
    sample: Data | Path | str | None = None,
    tokenizer: Path | str | None = None,
    max_length: int | None = None,
    native: bool = True,
    progress: Progress = notebook_bar,
) -> Explanation:
    """How a bundle serves one request: `text`, or `line` of `data`, or `arrays`.

    Args:
        bundle: its folder.
        text: for a model whose inputs a tokenizer makes; two texts are a pair.
        data: a file of inputs, as for `optimize`.
        line: of it, from 1; of arrays the row.
        arrays: as a session takes them, a batch of one; may be padded.
        sample: the file that the bundle was made from: the entry's text is found in it, and what the decision
            is about: the nearest of some of its inputs, or how many of them have a lower score.
        tokenizer: a `tokenizer.json`; None: the bundle's, if it holds one.
        max_length: the most tokens that `text` may have, as `onnx_memo.Data` has it for files; None: what
            tokenizer and model allow.
        native: False runs without the native library.
        progress: is called for the inputs of the sample.

    Raises:
        MemoError: the bundle is damaged, not exactly one request is named, or it does not fit the model.
    """
    if [text is not None, data is not None, arrays is not None].count(True) != 1:
        raise MemoError("name one request: --text, or --data FILE with --line")
    if (data is None) != (line is None):
        raise MemoError("--line names a line of --data FILE: give both")
    place = None if sample is None else data_of(sample).place
    if place is not None and not place.exists():
        raise MemoError(f"--sample '{place}' is not a file: name the one that the bundle was made from")
    traced = TracedBundle(Path(bundle), tokenizer, native)
    if arrays is not None:
        return traced.explain(dict(arrays), "the arrays", sample, progress)
    if text is not None:
        given = traced.text(text, max_length)
        one = traced.explain(given.arrays[0], "the text", sample, progress)
        return replace(one, notes=(*given.notes, *one.notes))
    assert data is not None, "it is the one that is named"
    requests = data_of(data)
    samples = traced.read(requests)
    at = _numbered(samples, str(requests.path), line or 0)
    return traced.explain(samples.arrays[at], samples.place(at), sample, progress)


def worst_served(
    bundle: Path | str,
    data: Data | Path | str,
    *,
    tokenizer: Path | str | None = None,
    native: bool = True,
    progress: Progress = notebook_bar,
) -> Worst:
    """Run all requests of a file, and find those that the bundle serves worst: at most 10 of each kind.

    Raises:
        MemoError: the bundle is damaged, or the data does not fit.
    """
    traced = TracedBundle(Path(bundle), tokenizer, native)
    samples = traced.read(data)
    advance = progress("running the requests", len(samples))
    outcomes: Counter[str] = Counter()
    reused: list[Explanation] = []
    rounded: list[Explanation] = []
    missed: list[Explanation] = []
    for at, request in enumerate(samples.arrays):
        one = traced.explain(request, samples.place(at))
        outcomes[one.outcome] += 1
        if one.reused:
            reused = sorted([*reused, one], key=lambda each: -each.error)[:MOST]
        elif one.outcome == ROUNDED:
            rounded = sorted([*rounded, one], key=lambda each: -each.error)[:MOST]
        elif len(missed) < MOST:
            missed.append(one)
        advance()
    return Worst(len(samples), outcomes, tuple(reused), tuple(missed), tuple(samples.notes), tuple(rounded))


def _numbered(samples: Samples, data: str, line: int) -> int:
    numbers = samples.numbers or list(range(1, len(samples) + 1))
    if line not in numbers:
        raise MemoError(
            f"'{data}' has no request in line {line}: it is blank, was left out, or lies beyond the last, "
            f"{numbers[-1]}"
        )
    return numbers.index(line)
