"""Explain how a bundle serves a request, or find the requests of a file that it serves worst.

Both answers come from the bundle: with `memo_strictness` 0 it reuses nothing and gives the original's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.data.readers import read_samples
from onnx_memo.data.samples import Arrays, ModelInput, Samples
from onnx_memo.data.tokens import load_tokenizer, tokenized
from onnx_memo.errors import MemoError
from onnx_memo.graph.shapes import is_number
from onnx_memo.levels.inserter import STRICTNESS, mask_of
from onnx_memo.levels.registry import level_of
from onnx_memo.pair import one_line
from onnx_memo.progress import Progress, silent
from onnx_memo.proof import metrics
from onnx_memo.proof.answer import real_rows
from onnx_memo.proof.choice import CLASSES, MOST_CLASSES
from onnx_memo.proof.scores import is_score
from onnx_memo.runtime import session_options
from onnx_memo.served.explanation import REPEAT, Difference, Explanation, Worst
from onnx_memo.served.outcomes import Seen, seen_at_rows, seen_at_sites
from onnx_memo.served.trace import trace_model
from onnx_memo.sessions import open_session, run_model
from onnx_memo.store import bundle as bundles

MOST = 10  # requests of a file that are named
SAME = 0.02  # key distance up to which an entry is the input itself (`onnx_memo.levels.sites.level`)
TOKENS = "input_ids"


def explain(
    bundle: Path | str,
    *,
    text: str | None = None,
    data: Path | str | None = None,
    line: int | None = None,
    arrays: Mapping[str, npt.NDArray[Any]] | None = None,
    sample: Path | str | None = None,
    tokenizer: Path | str | None = None,
    native: bool = True,
) -> Explanation:
    """How a bundle serves one request: `text`, or `line` of `data`, or `arrays`.

    Args:
        bundle: its folder.
        text: for a model whose inputs a tokenizer makes.
        data: a file of inputs, as for `optimize`.
        line: of it, from 1; of arrays the row.
        arrays: as a session takes them, a batch of one; may be padded.
        sample: the file that the bundle was made from: the entry's text is found in it.
        tokenizer: a `tokenizer.json`; None: the bundle's, if it holds one.
        native: False runs without the native library.

    Raises:
        MemoError: the bundle is damaged, not exactly one request is named, or it does not fit the model.
    """
    if [text is not None, data is not None, arrays is not None].count(True) != 1:
        raise MemoError("name one request: --text, or --data FILE with --line")
    if (data is None) != (line is None):
        raise MemoError("--line names a line of --data FILE: give both")
    if sample is not None and not Path(sample).is_file():
        raise MemoError(f"--sample '{sample}' is not a file: name the one that the bundle was made from")
    traced = _Traced(Path(bundle), tokenizer, native)
    if arrays is not None:
        return traced.explain(dict(arrays), "the arrays", sample)
    if text is not None:
        given = traced.text(text)
        return replace(traced.explain(given.arrays[0], "the text", sample), notes=tuple(given.notes))
    samples = traced.read(Path(str(data)))
    at = _numbered(samples, str(data), line or 0)
    return traced.explain(samples.arrays[at], samples.place(at), sample)


def worst_served(
    bundle: Path | str,
    data: Path | str,
    *,
    tokenizer: Path | str | None = None,
    native: bool = True,
    progress: Progress = silent,
) -> Worst:
    """Run all requests of a file, and find those that the bundle serves worst: at most 10 of each kind.

    Raises:
        MemoError: the bundle is damaged, or the data does not fit.
    """
    traced = _Traced(Path(bundle), tokenizer, native)
    samples = traced.read(Path(data))
    advance = progress("running the requests", len(samples))
    outcomes: Counter[str] = Counter()
    reused: list[Explanation] = []
    missed: list[Explanation] = []
    for at, request in enumerate(samples.arrays):
        one = traced.explain(request, samples.place(at))
        outcomes[one.outcome] += 1
        if one.reused:
            reused = sorted([*reused, one], key=lambda each: -each.error)[:MOST]
        elif len(missed) < MOST:
            missed.append(one)
        advance()
    return Worst(len(samples), outcomes, tuple(reused), tuple(missed), tuple(samples.notes))


class _Traced:
    """A bundle whose model gives more than its answer, open."""

    def __init__(self, bundle: Path, tokenizer: Path | str | None, native: bool) -> None:
        manifest = bundles.read_bundle(bundle)
        self.guards, self.promised = manifest.sites, manifest.promised
        self.level = level_of(self.guards)
        self.path = bundle / bundles.MODEL
        own = bundle / bundles.TOKENIZER
        self.tokenizer = Path(tokenizer) if tokenizer else own if own.is_file() else None
        self.names = load_tokenizer(self.tokenizer) if self.tokenizer else None
        with one_line(self.path):
            model = ir.load(self.path)
            self.mask = mask_of(model)
            self.outputs = [str(value.name) for value in model.graph.outputs]
            self.inputs = _inputs(model, self.mask)
            self.lookups, self.rows = trace_model(model, self.guards)
            self.literal = not self.guards[0].threshold
        self.session = open_session(model, bundle, session_options(native=native))

    def read(self, data: Path) -> Samples:
        """The requests of a file; unknown tokens are no fault here, but noted."""
        return read_samples(data, self.inputs, self.tokenizer, allow_unknown=True)

    def text(self, text: str) -> Samples:
        """One text."""
        samples = tokenized(Path("--text"), {1: text}, self.inputs, self.tokenizer, True)
        if not samples.arrays:
            raise MemoError("--text has no token: give some text")
        return samples

    def explain(self, request: Arrays, place: str, sample: Path | str | None = None) -> Explanation:
        """How a request, a batch of one, is served."""
        self._check(request)
        results = self._run(request)
        never = self._run(request | {STRICTNESS: np.zeros((), np.float32)})
        mask = request[self.mask][0] != 0 if self.mask is not None else None
        with one_line(self.path):
            seen = self._seen(request, results, mask)
            apart = tuple(
                _difference(name, never[name], results[name], mask)
                for name in self.outputs
                if np.issubdtype(results[name].dtype, np.floating) and results[name].size
            )
        text, notes = self._entry_text(seen, Path(sample)) if sample is not None else (None, ())
        level = self.guards[0].level if self.rows else self.level.title
        return Explanation(
            place,
            level,
            seen.outcome,
            seen.reason,
            seen.lookups,
            seen.rows,
            apart,
            self.promised,
            text,
            notes,
        )

    def _seen(self, request: Arrays, results: Arrays, mask: npt.NDArray[np.bool_] | None) -> Seen:
        if self.rows is None:
            return seen_at_sites(self.lookups, results, mask)

        def name_of(at: int) -> str:
            ids = request.get(TOKENS)
            if self.names is None or ids is None or ids.ndim != 2 or at >= ids.shape[1]:
                return str(at)
            return self.names.id_to_token(int(ids[0, at])) or str(at)

        return seen_at_rows(self.lookups[0], self.rows, results, mask, name_of, self.literal)

    def _entry_text(self, seen: Seen, sample: Path) -> tuple[str | None, tuple[str, ...]]:
        """The text of the nearest entry: the input of the sample of which nothing differs from it."""
        entry = seen.lookups[0].nearest
        if entry is None:
            return None, ()
        samples = self.read(sample)
        length = len(seen.rows.rows) if seen.rows else 0
        for at, request in enumerate(samples.arrays):
            if not length or samples.lengths[at] in (0, length):
                mask = samples.real(at)
                other = self._seen(request, self._run(request), mask)
                lookup = other.lookups[0]
                same = other.outcome == REPEAT if self.rows else (lookup.distance or 0) <= SAME
                if lookup.nearest == entry and same:
                    return samples.text(at) or samples.place(at), ()
        return None, (f"entry {entry} is none of the inputs in '{sample}': was the bundle made from it?",)

    def _run(self, request: Arrays) -> Arrays:
        values = run_model(self.session, request, 0)
        return dict(zip((output.name for output in self.session.get_outputs()), values, strict=True))

    def _check(self, request: Arrays) -> None:
        missing = [str(wanted) for wanted in self.inputs if wanted.name not in request]
        if missing:
            raise MemoError(f"the request has no array for the model's input {missing[0]}")
        if any(array.ndim == 0 or len(array) != 1 for array in request.values()):
            raise MemoError("one request is explained at a time: give arrays whose first axis is 1")


def _inputs(model: ir.Model, mask: str | None) -> list[ModelInput]:
    """What a guarded model takes; how many rows its tables have is not looked for."""
    found = []
    for value in model.graph.inputs:
        if value.is_initializer():
            continue
        if value.dtype is None or value.shape is None or not is_number(value.dtype):
            raise MemoError(f"the model's input '{value.name}' is no tensor of numbers")
        shape = tuple(dim if isinstance(dim, int) else None for dim in value.shape)
        dtype = np.dtype(value.dtype.numpy())
        found.append(ModelInput(str(value.name), dtype, shape, None, value.name == mask))
    return found


def _numbered(samples: Samples, data: str, line: int) -> int:
    numbers = samples.numbers or list(range(1, len(samples) + 1))
    if line not in numbers:
        raise MemoError(
            f"'{data}' has no request in line {line}: it is blank, was left out, or lies beyond the last, "
            f"{numbers[-1]}"
        )
    return numbers.index(line)


def _difference(
    name: str, want: npt.NDArray[Any], have: npt.NDArray[Any], mask: npt.NDArray[np.bool_] | None
) -> Difference:
    """Of one output, of a batch of one."""
    one, other, real = want[0], have[0], real_rows(want, mask)
    if is_score(want):
        single = one.size == 1
        before, after = (float(each.item()) if single else None for each in (one, other))
        return Difference(name, "relative", metrics.relative(one, other, real), None, before, after)
    tokens = metrics.cosine_by_token(one, other, real) if one.ndim > 1 else None
    best: list[float | None] = [None, None]
    if one.ndim == 1 and len(one) <= MOST_CLASSES and any(part in name.lower() for part in CLASSES):
        best = [float(each.argmax()) for each in (one, other)]
    return Difference(name, "cosine", metrics.cosine(one, other, real), tokens, *best)
