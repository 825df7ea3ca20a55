"""The level `rows`, as `onnx_memo.levels.base` asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.data.distinct import distinct
from onnx_memo.data.samples import Samples
from onnx_memo.graph.encoder import Encoder, NoEncoder
from onnx_memo.graph.linked import LinkedSpan
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.graph.span import Span
from onnx_memo.job import Job
from onnx_memo.keys.fixed import fit_keys
from onnx_memo.levels.attention import attention_of
from onnx_memo.levels.base import Brief, Level, NotAllowed, Proposal, Use, Wanted, compact_tables
from onnx_memo.levels.explored import Explored
from onnx_memo.levels.repeats import inputs_to_store
from onnx_memo.levels.rows.blueprint import RowsBlueprint, RowsSettings
from onnx_memo.levels.rows.capture import capture_rows
from onnx_memo.levels.rows.explore import explore_rows
from onnx_memo.levels.rows.layout import RowsForm, literal_footprint, rows_footprint, scratch_layout
from onnx_memo.levels.rows.linked import LinkedBlueprint, entries_of, guard_name, regular, tokens_of
from onnx_memo.levels.rows.propose import propose_rows
from onnx_memo.levels.rows.watch import RepeatsWatch, RowsWatch
from onnx_memo.runtime import library_path
from onnx_memo.store.budget import most_tokens
from onnx_memo.store.layout import Footprint, Layout
from onnx_memo.store.manifest import GuardedSite


class RowsLevel(Level):
    """All rows of the encoder but those that changed or are moved."""

    names = ("rows",)
    title = "rows"
    compact = True
    setting = "bound"

    def use(self, opened: OpenedModel, wanted: Wanted, notes: list[str]) -> Use:
        """The encoder as a whole."""
        if opened.span is None or not wanted.repeats:
            attention_of(opened)
        if wanted.compact and library_path() is None:
            raise NotAllowed("--compact leaves out the weights that rows run with where no native library is")
        try:
            encoder, why = opened.encoder, opened.encoder.why_no_rows
        except NoEncoder as none:
            encoder, why = None, str(none)
        if encoder is not None and why is None:
            return RowsUse(encoder, wanted.exact_misses)
        linked = opened.linked
        if opened.span is None and not linked.spans:
            raise NotAllowed(str(why))
        several = "" if opened.span is not None else f", of {len(linked.spans)} spans, each by itself"
        if not wanted.repeats:
            raise NotAllowed(f"{why}; without a tolerance it reuses literal repeats{several}")
        if opened.findings.sites:
            notes.append(
                f"the level 'rows' reuses literal repeats alone{several}, whatever the tolerance: {why}"
            )
        else:
            notes.append(f"only equal inputs are reused: attention is not understood, for one {why}")
        if opened.span is not None:
            return RepeatsUse(opened.span)
        notes += linked.notes()
        return LinkedUse(linked.spans)

    def describe(self, guards: Sequence[GuardedSite]) -> list[str]:
        """Depends on whether anything but literal repeats is reused."""
        return [_reused(guard) for guard in guards]

    def watch(self, model: ir.Model, guards: Sequence[GuardedSite]) -> RowsWatch | RepeatsWatch:
        """Reads which rows run, or which sequences where only literal repeats are reused."""
        return RowsWatch(model) if any(guard.threshold for guard in guards) else RepeatsWatch(model, guards)


@dataclass(frozen=True)
class RepeatsUse(Use):
    """The layers of the job's model, as a whole, for requests that repeat an input literally."""

    span: Span

    def bytes_needed(self, job: Job) -> int:
        """What is stored is captured first."""
        lengths = _most_tokens(job)
        size = literal_footprint(self.span, int(lengths.max()))
        return _bytes_needed(job, size, scratch_layout(RowsForm.literal(self.span), literal=True))

    def repeats(self, job: Job) -> RowsBlueprint:
        """Store the output of all layers for each input."""
        stored = inputs_to_store(job, literal_footprint(self.span, int(_most_tokens(job).max())))
        advance = job.progress("running the inputs", len(stored))
        captured = capture_rows(job.opened, stored, job.scratch, advance, literal=True)
        settings = RowsSettings(fit_keys(captured.means), None, 0.0)
        return RowsBlueprint(self.span, captured, settings)


@dataclass(frozen=True)
class LinkedUse(Use):
    """Several spans of the job's model, each for requests that repeat literally what went into it."""

    spans: tuple[LinkedSpan, ...]

    def bytes_needed(self, job: Job) -> int:
        """What is stored is captured first."""
        size, ones = self._footprint(job.samples), np.ones(len(job.samples), np.int64)
        total = size.total(ones)
        stored = total if job.max_bytes is None else min(total, job.max_bytes)
        scratch = [scratch_layout(RowsForm.literal(span), literal=True).footprint() for span in self.spans]
        return 2 * stored + sum(each.total(ones) for each in scratch)

    def repeats(self, job: Job) -> LinkedBlueprint:
        """Store the output of each span for each input that is distinct there."""
        numbers, _ = distinct(job.samples, range(len(job.samples)))
        size = self._footprint(job.samples.take(numbers))  # of these alone, in this order
        stored = regular(self.spans, inputs_to_store(job, size), job.notes)
        entries = entries_of(self.spans, stored)
        advance = job.progress("running the inputs", sum(len(own.samples) for own in entries))
        parts = []
        for number, (span, own) in enumerate(zip(self.spans, entries, strict=True)):
            folder = job.scratch / guard_name(number)
            folder.mkdir()
            samples = stored.take(own.samples.tolist())
            captured = capture_rows(job.opened, samples, folder, advance, literal=True, span=span)
            settings = RowsSettings(fit_keys(captured.means), None, 0.0)
            parts.append(RowsBlueprint(span, captured, settings, kinds=own.kinds(captured.lengths)))
        return LinkedBlueprint(self.spans, tuple(parts), tuple(entries))

    def _footprint(self, samples: Samples) -> Footprint:
        """What some inputs take at most, where nothing of them is alike."""
        lengths = [tokens_of(span, samples) for span in self.spans]
        sizes = [
            literal_footprint(span, int(own.max())) for span, own in zip(self.spans, lengths, strict=True)
        ]
        each = np.sum([size.each(own) for size, own in zip(sizes, lengths, strict=True)], axis=0)
        return Footprint(sum(size.fixed for size in sizes), lambda _: each)


@dataclass(frozen=True)
class RowsUse(RepeatsUse):
    """The encoder of the job's model; `exact_misses`: what reuses nothing has to run the original."""

    span: Encoder
    exact_misses: bool = False

    def bytes_needed(self, job: Job) -> int:
        """As of repeats, if these are all that is asked for."""
        if job.goal is None:
            return super().bytes_needed(job)
        size = rows_footprint(job.opened, compact_tables(job))
        return _bytes_needed(job, size, scratch_layout(RowsForm.of(self.span), literal=False))

    def explore(self, brief: Brief) -> Sequence[Explored]:
        """At bounds from strict to loose."""
        return explore_rows(brief, self.exact_misses)

    def propose(self, brief: Brief) -> Proposal:
        """The bound that saves most."""
        return propose_rows(brief, self.exact_misses)


def _most_tokens(job: Job) -> npt.NDArray[np.int64]:
    assert job.opened.span is not None, "there is something to store"
    return most_tokens(job.samples, job.opened.span.length)


def _bytes_needed(job: Job, size: Footprint, scratch: Layout) -> int:
    lengths = _most_tokens(job)
    total = size.total(lengths)
    stored = total if job.max_bytes is None else min(total, job.max_bytes)
    return 2 * stored + scratch.footprint().total(lengths)


def _reused(encoder: GuardedSite) -> str:
    if not encoder.threshold:
        return "reused: the output of all guarded layers, for requests that repeat a stored input literally"
    return (
        "reused: the rows that are as in the nearest stored input of the same length and, within the bound, "
        "are not moved by those that differ; a request runs the others"
    )
