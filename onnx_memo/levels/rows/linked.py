"""Guard several spans of a model (`onnx_memo.graph.linked`), for requests that repeat what went into one.

Each span has a store, a lookup and an `If` of its own, as one span around all layers has. A span that reads
results of others is looked up among the entries that were stored with those: its entries are kept apart by
number of tokens *and* by the entries of the spans that it reads, and where one of these reuses nothing it has
none. So nothing but its own input has to be compared.

Requires: spans of this very model, found on its present graph. Ensures: as `onnx_memo.levels.rows.guard`
does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.data.distinct import content
from onnx_memo.data.samples import Arrays, Samples
from onnx_memo.errors import MemoError
from onnx_memo.graph.build import Builder
from onnx_memo.graph.copies import Copy
from onnx_memo.graph.linked import LinkedSpan
from onnx_memo.graph.prune import prune
from onnx_memo.graph.shapes import Shape
from onnx_memo.keys.nodes import emit_segments
from onnx_memo.levels.inserter import add_operators
from onnx_memo.levels.rows.blueprint import RowsBlueprint
from onnx_memo.levels.rows.reads import RowsGuard
from onnx_memo.levels.rows.repeats import RepeatsInserter
from onnx_memo.operators.spec import NO_ENTRY
from onnx_memo.store.data import StoredTensor
from onnx_memo.store.manifest import GuardedSite
from onnx_memo.words import counted

MOST_ENTRIES = 2**40  # of all spans that one reads, multiplied: lengths times these are whole numbers

Integers = npt.NDArray[np.int64]


def guard_name(number: int) -> str:
    """The name of the guard of a span, by its number."""
    return f"span.{number}"


def tokens_of(span: LinkedSpan, samples: Samples) -> Integers:
    """How many tokens each sample has in a span, i64[n]; where that cannot be told, how many at most."""

    def tokens(arrays: Arrays) -> int:
        if span.mask is not None:
            return int(np.count_nonzero(arrays[str(span.mask.name)]))
        return span.length or max(arrays[name].size for name in span.given or arrays)

    return np.fromiter(map(tokens, samples.arrays), np.int64, len(samples))


def regular(spans: Sequence[LinkedSpan], samples: Samples, notes: list[str]) -> Samples:
    """The samples whose masks are ones and then zeros in all spans; how many are not is noted.

    Others are no entries: of the sequence that the samples are cut by, readers see to that themselves.

    Raises:
        MemoError: there is none.
    """
    masks = {str(span.mask.name) for span in spans if span.mask is not None}
    kept = [
        at for at, arrays in enumerate(samples.arrays) if all(_is_regular(arrays[name]) for name in masks)
    ]
    names = ", ".join(f"'{name}'" for name in sorted(masks))
    if not kept:
        raise MemoError(f"the masks {names} of no input are ones and then zeros: nothing could be reused")
    if len(kept) < len(samples):
        left = counted(len(samples) - len(kept), "input left out: its", "inputs left out: their")
        notes.append(f"{left} {names} {'is' if len(masks) == 1 else 'are'} not ones and then zeros")
    return samples.take(kept)


def _is_regular(mask: npt.NDArray[np.generic]) -> bool:
    """Of a mask [1, L]."""
    count = int(np.count_nonzero(mask))
    return count > 0 and np.array_equal(mask[0], np.arange(mask.shape[1]) < count)


@dataclass(frozen=True)
class Entries:
    """The entries of a span: what is distinct of samples, by what is given to it and to those that it reads.

    Attributes:
        samples: a sample for each entry, by its number, i64[N].
        places: the entry of each sample, i64[n].
        beside: of each entry, the entries of the spans that this one reads, as one number, i64[N].
        count: how many such numbers there may be.
    """

    samples: Integers
    places: Integers
    beside: Integers
    count: int

    def kinds(self, lengths: Integers) -> Integers:
        """Of entries of these lengths, what they must have in common with a request, i64[N]; it rises."""
        return lengths * self.count + self.beside


def entries_of(spans: Sequence[LinkedSpan], samples: Samples) -> list[Entries]:
    """The entries of each span.

    Raises:
        MemoError: a span reads the results of too many others.
    """
    found: list[Entries] = []
    for span in spans:
        beside, count = np.zeros(len(samples), np.int64), 1
        for read in span.reads:
            own = found[read]
            beside, count = beside * len(own.samples) + own.places, count * len(own.samples)
            if count > MOST_ENTRIES:
                raise MemoError("a span reads results of too many stored ones: give fewer inputs")
        given = sorted(span.given)
        alike: dict[object, list[int]] = {}
        for at, arrays in enumerate(samples.arrays):
            key = int(beside[at]), content({name: arrays[name] for name in given})
            alike.setdefault(key, []).append(at)
        tokens, groups = tokens_of(span, samples), list(alike.values())
        groups.sort(key=lambda group: (tokens[group[0]], beside[group[0]]))
        places = np.empty(len(samples), np.int64)
        for number, group in enumerate(groups):
            places[group] = number
        firsts = np.asarray([group[0] for group in groups], np.int64)
        found.append(Entries(firsts, places, beside[firsts], count))
    return found


@dataclass(frozen=True)
class LinkedBlueprint:
    """What the guards of several spans are built from.

    Attributes:
        spans: in the original model.
        parts: of each span, by itself.
        entries: of each span.
    """

    spans: tuple[LinkedSpan, ...]
    parts: tuple[RowsBlueprint, ...]
    entries: tuple[Entries, ...]

    @property
    def lengths(self) -> Integers:
        """Tokens of each stored input, in all spans, i64[n]."""
        each = [part.lengths[own.places] for part, own in zip(self.parts, self.entries, strict=True)]
        total: Integers = np.sum(each, axis=0)
        return total

    def tensors(self, scratch: Path, notes: list[str]) -> list[StoredTensor]:
        """The memo data."""
        return [
            replace(tensor, name=_own(number, tensor.name))
            for number, part in enumerate(self.parts)
            for tensor in part.tensors(scratch, notes)
        ]

    def insert(self, copy: Copy, tensors: Mapping[str, ir.TensorProtocol], apart: bool = True) -> None:
        """Guard a copy of the original model."""
        guards = []
        for number, part in enumerate(self.parts):
            own = {str(name): tensors[name] for name in tensors if name.startswith(_own(number, ""))}
            guards.append(
                part.guard({f"memo/{name.removeprefix(_own(number, ''))}": own[name] for name in own})
            )
        LinkedInserter(copy.model, copy.twin(self.spans), guards, copy.shapes if apart else None).run()
        add_operators(copy.model)
        prune(copy.model)  # what a graft has, nobody reads

    def guarded(self) -> list[GuardedSite]:
        """The guards, as the manifest lists them."""
        return [
            replace(guard, name=guard_name(number))
            for number, part in enumerate(self.parts)
            for guard in part.guarded()
        ]


class LinkedInserter(RepeatsInserter):
    """Guards several spans of one model, which is changed."""

    def __init__(
        self,
        model: ir.Model,
        spans: Sequence[LinkedSpan],
        guards: Sequence[RowsGuard],
        shapes: Mapping[str, Shape] | None,
    ) -> None:
        super().__init__(model, spans[0], guards[0], shapes)
        self.spans, self.guards, self.number = spans, guards, 0
        self.found: dict[int, ir.Value] = {}  # what each guard so far reuses: entries, i64[B]
        self.answers: dict[ir.Value, ir.Value] = {}  # and what takes the place of its span's result

    def run(self) -> None:
        """Insert the guards, in the order in which the spans end: a span ends after those that it reads."""
        place = {node: at for at, node in enumerate(self.graph)}
        for number in sorted(range(len(self.spans)), key=lambda at: place[self.spans[at].region[-1]]):
            span = self.spans[number]
            self.number, self.name, self.guard = number, guard_name(number), self.guards[number]
            self.span = replace(span, input=self.answers.get(span.input, span.input))
            super().run()
            self.found[number] = self.entry
            self.answers[span.result] = self.answer

    def region(self) -> list[ir.Node]:
        """That of the span as it was found: what it reads is conditional by now."""
        return list(self.spans[self.number].region)

    def begin(self) -> list[ir.Value]:
        """Its input, and the results of the spans before it."""
        return [self.span.input, *self.answers.values()]

    def request(
        self, b: Builder, mask: ir.Value | None, positions: ir.Value | None, hidden: ir.Value
    ) -> tuple[ir.Value, ir.Value]:
        """The lengths [B] and segment weights of a request in this span: others have other lengths."""
        assert positions is None, "such a span has none"
        own = Builder(f"{b.prefix}/request", self.opset)
        lengths, weights = emit_segments(own, mask, hidden)
        b.nodes.extend(own.nodes)
        return lengths, weights

    def kinds(self, b: Builder) -> ir.Value:
        """Length and entries of the spans that are read, as one number; none where one is computed.

        The batches of two spans may differ, which then is no repeat: nothing is stored of such requests.
        """
        kinds, none = self.length, b.i64(NO_ENTRY)
        for read in self.spans[self.number].reads:
            entry = self.found[read]
            batch, entries = b.dim(self.length, 0), self.guards[read].lengths.shape.numpy()[0]
            same = b.op("Equal", b.dim(entry, 0), batch)
            filled = b.op("Concat", entry, b.op("Expand", none, batch), axis=0)
            beside = b.op("Slice", filled, b.i64(0), batch)
            known = b.op("GreaterOrEqual", beside, b.const(0, np.int64))
            number = b.op("Add", b.op("Mul", kinds, b.const(entries, np.int64)), beside)
            kinds = b.op("Where", b.op("And", same, known), number, none)
        return kinds


def _own(number: int, name: str) -> str:
    """The name of a tensor of a span, from that which it has where there is one span."""
    return f"memo/{guard_name(number)}/{name.removeprefix('memo/')}"
