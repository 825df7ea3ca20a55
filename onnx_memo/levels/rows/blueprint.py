"""The guard of an encoder, built from what was captured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.graph.copies import Copy
from onnx_memo.graph.span import Span
from onnx_memo.keys.network import KeyNetwork
from onnx_memo.levels import literal
from onnx_memo.levels.lookup import LENGTHS, PARTS, Lookup, found_only, lookup_contents
from onnx_memo.levels.rows.capture import RowsCapture
from onnx_memo.levels.rows.guard import insert_rows_guard
from onnx_memo.levels.rows.layout import (
    OFFSETS,
    SQUARES,
    captured_specs,
    int8_names,
    literal_layout,
    rows_layout,
    stored_name,
)
from onnx_memo.levels.rows.quantize import Int8Product
from onnx_memo.levels.rows.reads import InBytes, RowsGuard, StageData
from onnx_memo.levels.rows.repeats import NAME
from onnx_memo.precision.tables import Tables
from onnx_memo.precision.whole import Whole
from onnx_memo.store.data import StoredTensor, offsets_of
from onnx_memo.store.manifest import GuardedSite

EPSILON = 0.02  # relative change of a row above which it has changed; stored rows are rounded to 5e-4
LIMIT = 0.8  # share of rows up to which running them alone is worth it,
INT8_LIMIT = 0.95  # and if their products are int8


@dataclass(frozen=True)
class RowsSettings:
    """What the guard is set to, beside what was captured.

    Attributes:
        network: makes the keys.
        corrections: f32[d, d] before each stage but the first, and at the encoder's output; None: literal
            repeats alone are reused, and neither keys nor values of the cores are stored.
        bound: predicted relative change up to which a row does not run.
        radius: key distance beyond which an entry is none.
        int8: the products of the rows that run, by standard nodes; None or empty: the original's.
        whole: the encoder in 8 bits, if anything runs so:
        rows_in_bytes: the rows that run,
        misses_in_bytes: requests that reuse nothing.
        compact: the original's tables in 8 bits, if its other weights are left out; then all runs in 8 bits.
    """

    network: KeyNetwork
    corrections: Sequence[npt.NDArray[np.float32]] | None
    bound: float
    int8: Sequence[Int8Product | None] = ()
    radius: float = literal.RADIUS
    whole: Whole | None = None
    rows_in_bytes: bool = False
    misses_in_bytes: bool = False
    compact: Tables | None = None

    @property
    def limit(self) -> float:
        """The share of rows up to which running them alone is worth it."""
        if self.corrections is None:
            return 0.0
        return INT8_LIMIT if self.int8 or self.rows_in_bytes else LIMIT


@dataclass(frozen=True)
class RowsBlueprint:
    """What the guard of an encoder is built from.

    Attributes:
        span: in the original model; an encoder, where rows run.
        allowed: which entries may be found, bool[N]; None: all. A trial stores the others all the same.
        kinds: what each entry must have in common with a request, i64[N], rising; None: its length.
    """

    span: Span
    captured: RowsCapture
    settings: RowsSettings
    allowed: npt.NDArray[np.bool_] | None = None
    kinds: npt.NDArray[np.int64] | None = None

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each entry, i64[N]."""
        return self.captured.lengths

    def tensors(self, scratch: Path, notes: list[str]) -> list[StoredTensor]:
        """The memo data."""
        captured, settings, form = self.captured, self.settings, self.captured.form
        lengths, network = captured.lengths, settings.network
        reduced = network.reduction.shape[1]
        contents = self._shared(scratch, notes)
        if settings.corrections is None:
            longest = int(lengths.max())
            layout = literal_layout(form, reduced, longest)
            contents[SQUARES] = np.zeros_like(lengths)
            for kind in ("influence.0", "rollout"):
                contents[stored_name(kind)] = np.zeros(longest**2, np.float16)
        else:
            int8 = [
                None if product is None else (*product.weight.shape, product.first)
                for product in settings.int8
            ]
            layout = rows_layout(form, reduced, int8)
            contents[SQUARES] = offsets_of(np.square(lengths))
            for stage, correction in enumerate(settings.corrections, 1):
                contents[stored_name(f"correction.{stage}")] = correction
            for number, product in enumerate(settings.int8):
                if product is not None:
                    names = int8_names(number, product.first)
                    contents |= zip(names, (product.weight, product.scales, product.smooth), strict=True)
        whole = [] if settings.whole is None else settings.whole.tensors()
        tables = [] if settings.compact is None else settings.compact.tensors()
        return layout.holding(contents, lengths) + whole + tables

    def _shared(self, scratch: Path, notes: list[str]) -> dict[str, npt.NDArray[Any] | Path]:
        """What is stored in any case: lengths, offsets, the lookup, and what was captured."""
        captured, lengths, network = self.captured, self.captured.lengths, self.settings.network
        keys = found_only(network(captured.means), self.allowed)
        stored = [spec.name.removeprefix(stored_name("")) for spec in captured_specs(captured.form)]
        kinds = lengths if self.kinds is None else self.kinds
        return {
            LENGTHS: kinds,
            OFFSETS: offsets_of(lengths),
            **lookup_contents(NAME, network, keys, kinds, scratch, notes),
            **{stored_name(kind): captured.path(kind) for kind in stored},
        }

    def insert(self, copy: Copy, tensors: Mapping[str, ir.TensorProtocol], apart: bool = True) -> None:
        """Guard a copy of the original model."""
        settings, in_bytes = self.settings, None
        if settings.whole is not None:
            read, compact = settings.whole.in_copy(copy, tensors), settings.compact is not None
            in_bytes = InBytes(read, settings.rows_in_bytes, settings.misses_in_bytes, compact)
        if settings.compact is not None:
            settings.compact.insert(copy, tensors)
        shapes = copy.shapes if apart else None
        insert_rows_guard(copy.model, copy.twin(self.span), self.guard(tensors), in_bytes, shapes)

    def guarded(self) -> list[GuardedSite]:
        """The guard, as the manifest lists it."""
        bound = self.settings.bound if self.settings.corrections is not None else 0.0
        return [
            GuardedSite(
                NAME, "", "rows", bound, True, self.span.heads, self.captured.width, self.captured.share
            ),
        ]

    def guard(self, tensors: Mapping[str, ir.TensorProtocol]) -> RowsGuard:
        """What the guard reads, of `tensors` by their names in the memo data."""
        captured, settings = self.captured, self.settings

        def own(name: str, value: float) -> ir.TensorProtocol:
            return ir.tensor(np.float32(value), name=stored_name(name))

        def stored(name: str) -> ir.TensorProtocol:
            return tensors[stored_name(name)]

        runs = settings.corrections is not None
        later = range(1, len(captured.stages)) if runs else ()
        parts = {part: stored(part) for part in PARTS}
        return RowsGuard(
            lookup=Lookup(**parts, threshold=own("radius", settings.radius)),
            lengths=tensors[LENGTHS],
            offsets=tensors[OFFSETS],
            squares=tensors[SQUARES],
            stored=stored("states.0"),
            influence=stored("influence.0"),
            stages=[
                StageData(
                    stored=stored(f"states.{stage}"),
                    influence=stored(f"influence.{stage}"),
                    past=stored(f"past.{stage}"),
                    correction=stored(f"correction.{stage}"),
                )
                for stage in later
            ],
            final=stored("final"),
            rollout=stored("rollout"),
            correction=stored(f"correction.{len(captured.stages)}") if runs else None,
            kept=[[stored(kind) for kind, _ in kept] for kept in captured.kept] if runs else [],
            int8=[
                None
                if product is None
                else ([tensors[name] for name in int8_names(number, product.first)], product.steps)
                for number, product in enumerate(settings.int8)
            ],
            epsilon=own("epsilon", EPSILON if runs else literal.EPSILON),
            bound=own("bound", settings.bound),
            limit=own("limit", settings.limit),
        )
