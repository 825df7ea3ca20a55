"""A bundle whose model gives more than its answer, open to explain requests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.data.given import Data
from onnx_memo.data.readers import read_samples
from onnx_memo.data.samples import Arrays, ModelInput, Samples
from onnx_memo.data.tokens import Text, load_tokenizer, tokenized
from onnx_memo.errors import MemoError
from onnx_memo.graph.longest import most_positions
from onnx_memo.graph.shapes import ShapeTable, is_number
from onnx_memo.levels.decide import ANSWERS
from onnx_memo.levels.inserter import STRICTNESS, masks_of
from onnx_memo.levels.int8.guard import RAN
from onnx_memo.levels.registry import level_of
from onnx_memo.levels.rows.guard import misses_in_bytes
from onnx_memo.levels.rows.level import RowsLevel
from onnx_memo.pair import one_line
from onnx_memo.progress import Progress, silent
from onnx_memo.proof import metrics
from onnx_memo.proof.answer import Answer, real_rows
from onnx_memo.proof.metrics import Mask
from onnx_memo.proof.scores import is_score
from onnx_memo.runtime import session_options
from onnx_memo.served.decided import about_others, decided, decision_about, known_by
from onnx_memo.served.explanation import REPEAT, Difference, Explanation
from onnx_memo.served.outcomes import Seen, seen_at_rows, seen_at_sites, seen_at_spans, seen_in_8_bits
from onnx_memo.served.trace import trace_model
from onnx_memo.sessions import open_session, run_model
from onnx_memo.store import bundle as bundles

SAME = 0.02  # key distance up to which an entry is the input itself (`onnx_memo.levels.sites.level`)
TOKENS = "input_ids"
NOT_TOLD = "whether the decision stays, one answer does not tell: --sample FILE names other inputs"


class TracedBundle:
    """A bundle whose model gives more than its answer, open."""

    def __init__(self, bundle: Path, tokenizer: Path | str | None, native: bool) -> None:
        manifest = bundles.read_bundle(bundle)
        if manifest.compact:
            raise MemoError(
                f"'{bundle}' is compact: without the original's weights it does not tell what its answers "
                "differ by; onnx-memo bench compares it with its model"
            )
        self.guards, self.promised = manifest.sites, manifest.promised
        self.level = level_of(self.guards)
        self.path = bundles.model_of(bundle, manifest)
        own = bundle / bundles.TOKENIZER
        self.tokenizer = Path(tokenizer) if tokenizer else own if own.is_file() else None
        processor = bundle / bundles.IMAGE_PROCESSOR
        self.image_processor = processor if processor.is_file() else None
        self.names = load_tokenizer(self.tokenizer) if self.tokenizer else None
        with one_line(self.path):
            model = ir.load(self.path)
            self.mask = next(iter(masks_of(model)), None)
            self.outputs = [str(value.name) for value in model.graph.outputs]
            self.inputs = _inputs(model, self.mask)
            self.lookups, self.rows = trace_model(model, self.guards)
            self.literal = not self.guards[0].threshold
            self.in_bytes = misses_in_bytes(model)
        with bundles.telling_operators(self.path):
            self.session = open_session(model, self.path.parent, session_options(native=native))

    def read(self, data: Data | Path | str) -> Samples:
        """The requests of a file; unknown tokens are no fault here, but noted."""
        return read_samples(
            data, self.inputs, self.tokenizer, image_processor=self.image_processor, allow_unknown=True
        )

    def text(self, text: Text, max_length: int | None) -> Samples:
        """One text, or the two of a pair."""
        samples = tokenized("--text", {1: text}, self.inputs, self.tokenizer, True, max_length=max_length)
        if not samples.arrays:
            raise MemoError("--text has no token: give some text")
        return samples

    def explain(
        self,
        request: Arrays,
        place: str,
        sample: Data | Path | str | None = None,
        progress: Progress = silent,
    ) -> Explanation:
        """How a request, a batch of one, is served; the `sample` tells more (`onnx_memo.served.explain`)."""
        self._check(request)
        others = None if sample is None else self.read(sample)
        results = self._run(request)
        mask = request[self.mask][0] != 0 if self.mask is not None else None
        want = self._original(request, mask)
        with one_line(self.path):
            seen = self._seen(request, results, mask)
            apart = tuple(_difference(name, want.outputs[name], results[name], mask) for name in want.floats)
            measure = decision_about(self.promised, want)
            known = None if others is None else known_by(measure, lambda: self._others(others, progress))
            told = None if measure is None else decided(measure, want, results, known)
        text, notes = (None, ()) if others is None else self._entry_text(seen, others, str(sample))
        if others is None and about_others(measure) and any(one.error for one in apart):
            notes = (
                "whether the decision stays, one answer does not tell: --sample FILE names other inputs",
            )
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
            told,
            text,
            notes,
        )

    def _seen(self, request: Arrays, results: Arrays, mask: Mask | None) -> Seen:
        if not self.lookups:
            return seen_in_8_bits(bool(results[RAN]))
        if self.rows is None:
            seen_at = seen_at_spans if self.guards[0].level in RowsLevel.names else seen_at_sites
            return seen_at(self.lookups, results, mask)

        def name_of(at: int) -> str:
            ids = request.get(TOKENS)
            if self.names is None or ids is None or ids.ndim != 2 or at >= ids.shape[1]:
                return str(at)
            return self.names.id_to_token(int(ids[0, at])) or str(at)

        return seen_at_rows(self.lookups[0], self.rows, results, mask, name_of, self.literal, self.in_bytes)

    def _original(self, request: Arrays, mask: Mask | None) -> Answer:
        """What the original gives."""
        never = self._run(request | {STRICTNESS: np.zeros((), np.float32)})
        return Answer({name: never[name] for name in self.outputs}, mask, request)

    def _others(self, sample: Samples, progress: Progress) -> Iterator[tuple[str, Answer]]:
        """What the original gives for some of the sample, as many as a promise is judged against."""
        some = np.random.default_rng(0).permutation(len(sample))[:ANSWERS].tolist()
        advance = progress("running the sample", len(some))
        for at in some:
            yield sample.text(at) or sample.place(at), self._original(sample.arrays[at], sample.real(at))
            advance()

    def _entry_text(self, seen: Seen, samples: Samples, name: str) -> tuple[str | None, tuple[str, ...]]:
        """The text of the nearest entry: the input of the sample of which nothing differs from it."""
        entry = seen.lookups[0].nearest if seen.lookups else None
        if entry is None:
            return None, ()
        length = len(seen.rows.rows) if seen.rows else 0
        for at, request in enumerate(samples.arrays):
            if not length or samples.lengths[at] in (0, length):
                mask = samples.real(at)
                other = self._seen(request, self._run(request), mask)
                lookup = other.lookups[0]
                same = other.outcome == REPEAT if self.rows else (lookup.distance or 0) <= SAME
                if lookup.nearest == entry and same:
                    return samples.text(at) or samples.place(at), ()
        return None, (f"entry {entry} is none of the inputs in '{name}': was the bundle made from it?",)

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
    found, longest = [], _longest(model, mask)
    for value in model.graph.inputs:
        if value.is_initializer():
            continue
        if value.dtype is None or value.shape is None or not is_number(value.dtype):
            raise MemoError(f"the model's input '{value.name}' is no tensor of numbers")
        shape = tuple(dim if isinstance(dim, int) else None for dim in value.shape)
        dtype = np.dtype(value.dtype.numpy())
        found.append(ModelInput(str(value.name), dtype, shape, None, value.name == mask, longest=longest))
    return found


def _longest(model: ir.Model, mask: str | None) -> int | None:
    """How many tokens the model has positions for: texts are cut as for its original."""
    try:
        return most_positions(model, ShapeTable(model), mask)
    except MemoError:  # the shapes cannot be inferred, and nothing else needs them
        return None


def _difference(name: str, want: npt.NDArray[Any], have: npt.NDArray[Any], mask: Mask | None) -> Difference:
    """Of one output, of a batch of one."""
    one, other, real = want[0], have[0], real_rows(want, mask)
    if is_score(want):
        return Difference(name, "relative", metrics.relative(one, other, real))
    tokens = metrics.cosine_by_token(one, other, real) if one.ndim > 1 else None
    return Difference(name, "cosine", metrics.cosine(one, other, real), tokens)
