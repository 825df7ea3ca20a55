"""The memo data of the level `rows`, and the guard that reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.graph.encoder import find_encoder
from onnx_memo.keys.fixed import KeyNetwork
from onnx_memo.levels.rows.capture import RowsCapture
from onnx_memo.levels.rows.guard import NAME, RowsGuard, StageData, insert_rows_guard
from onnx_memo.levels.rows.quantize import Int8Product
from onnx_memo.levels.sites.guard import Lookup
from onnx_memo.levels.sites.layout import LOOKUP_PARTS, lookup_tensors
from onnx_memo.store import data as store
from onnx_memo.store.bundle import GuardedSite

EPSILON = 0.02  # relative change of a row above which it has changed; stored rows are rounded to 5e-4
LITERAL = 0.002  # the same, where only literal repeats are reused
LIMIT = 0.8  # share of rows up to which running them alone is worth it,
INT8_LIMIT = 0.95  # and if their products are int8
INT8_PARTS = ("weight", "scales", "smooth")
RADIUS = 1e6  # key distance up to which an entry is looked at: any, where nothing was learned of distances
EXCLUDED = 1e15  # each number of a key that is never found


@dataclass(frozen=True)
class RowsSettings:
    """What the guard is set to, beside what was captured.

    Attributes:
        network: makes the keys.
        corrections: f32[d, d] before each stage but the first, and at the encoder's output
            (`correction`); None: only literal repeats are reused, and neither keys nor values
            of the cores are stored.
        bound: predicted relative change up to which a row does not run.
        radius: key distance beyond which an entry is none.
        int8: the products of the rows that run; None or empty: the original's.
    """

    network: KeyNetwork
    corrections: Sequence[npt.NDArray[np.float32]] | None
    bound: float
    int8: Sequence[Int8Product | None] = ()
    radius: float = RADIUS

    @property
    def limit(self) -> float:
        """The share of rows up to which running them alone is worth it."""
        if self.corrections is None:
            return 0.0
        return INT8_LIMIT if self.int8 else LIMIT


@dataclass(frozen=True)
class RowsBlueprint:
    """What the guard of an encoder is built from."""

    captured: RowsCapture
    settings: RowsSettings

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each entry, i64[N]."""
        return self.captured.lengths

    def tensors(self, scratch: Path, notes: list[str]) -> list[store.StoredTensor]:
        """The memo data."""
        return rows_tensors(self.captured, self.settings, scratch, notes)

    def insert(self, model: ir.Model, tensors: Mapping[str, ir.TensorProtocol]) -> None:
        """Guard `model`, which is changed."""
        insert_rows(model, self.captured, self.settings, tensors)

    def guarded(self) -> list[GuardedSite]:
        """The guard, as the manifest tells it."""
        heads = self.captured.heads[0][0]
        bound = self.settings.bound if self.settings.corrections is not None else 0.0
        return [
            GuardedSite(NAME, "", "rows", bound, True, heads, self.captured.width, self.captured.share),
        ]


def rows_tensors(
    captured: RowsCapture,
    settings: RowsSettings,
    scratch: Path,
    notes: list[str],
    allowed: npt.NDArray[np.bool_] | None = None,
) -> list[store.StoredTensor]:
    """All tensors of the guard. Entries that are not `allowed` are stored and never found (for trials)."""
    lengths, width = captured.lengths, captured.width
    squares = np.square(lengths)
    keys = settings.network(captured.means)
    if allowed is not None:
        keys = np.where(allowed[:, None], keys, np.float32(EXCLUDED))
    tensors = [
        store.from_array("memo/lengths", lengths),
        store.from_array("memo/offsets/rows", store.offsets_of(lengths)),
    ]
    tensors += lookup_tensors(NAME, settings.network, keys, lengths, scratch, notes)
    tokens = int(lengths.sum())
    shapes: dict[str, tuple[npt.DTypeLike, tuple[int, ...]]] = {
        "final": (np.float32, (tokens, width)),
        **{f"states.{stage}": (np.float16, (tokens, width)) for stage in range(len(captured.stages))},
    }
    if settings.corrections is None:  # what changed is never reused: one matrix of zeros serves all
        tensors.append(store.from_array("memo/offsets/squares", np.zeros_like(squares)))
        zeros = np.zeros(int(squares.max()), np.float16)
        tensors += [store.from_array(f"memo/{NAME}/{kind}", zeros) for kind in ("influence.0", "rollout")]
    else:
        tensors.append(store.from_array("memo/offsets/squares", store.offsets_of(squares)))
        kinds = ["rollout", *(f"influence.{stage}" for stage in range(len(captured.stages)))]
        kinds += [f"past.{stage}" for stage in range(1, len(captured.stages))]
        shapes |= dict.fromkeys(kinds, (np.float16, (int(squares.sum()),)))
        for stage, correction in enumerate(settings.corrections, 1):
            tensors.append(store.from_array(f"memo/{NAME}/correction.{stage}", correction))
        for layer, (heads, key_width, value_width) in enumerate(captured.heads):
            shapes[f"keys.{layer}"] = (np.float16, (tokens, heads * key_width))
            shapes[f"values.{layer}"] = (np.float16, (tokens, heads * value_width))
    for number, product in enumerate(settings.int8):
        if product is not None:
            parts = ((part, getattr(product, part)) for part in INT8_PARTS)
            tensors += [store.from_array(f"memo/{NAME}/{part}.{number}", array) for part, array in parts]
    for kind, (dtype, shape) in shapes.items():
        tensors.append(store.from_file(f"memo/{NAME}/{kind}", dtype, shape, captured.path(kind)))
    return tensors


def insert_rows(
    model: ir.Model,
    captured: RowsCapture,
    settings: RowsSettings,
    tensors: Mapping[str, ir.TensorProtocol],
) -> None:
    """Guard the encoder of `model`, which is changed; the guard reads `tensors` by their names."""
    encoder = find_encoder(model)
    assert not isinstance(encoder, str), "it was captured"
    insert_rows_guard(model, encoder, _guard(captured, settings, tensors))


def _guard(
    captured: RowsCapture, settings: RowsSettings, tensors: Mapping[str, ir.TensorProtocol]
) -> RowsGuard:
    def own(name: str, value: float) -> ir.TensorProtocol:
        return ir.tensor(np.float32(value), name=f"memo/{NAME}/{name}")

    def stored(name: str) -> ir.TensorProtocol:
        return tensors[f"memo/{NAME}/{name}"]

    runs = settings.corrections is not None
    layers = range(len(captured.heads)) if runs else ()
    later = range(1, len(captured.stages)) if runs else ()
    parts = {part: stored(part) for part in LOOKUP_PARTS}
    return RowsGuard(
        lookup=Lookup(**parts, threshold=own("radius", settings.radius)),
        lengths=tensors["memo/lengths"],
        offsets=tensors["memo/offsets/rows"],
        squares=tensors["memo/offsets/squares"],
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
        keys=[stored(f"keys.{layer}") for layer in layers],
        values=[stored(f"values.{layer}") for layer in layers],
        int8=[
            None if product is None else [stored(f"{part}.{number}") for part in INT8_PARTS]
            for number, product in enumerate(settings.int8)
        ],
        epsilon=own("epsilon", EPSILON if runs else LITERAL),
        bound=own("bound", settings.bound),
        limit=own("limit", settings.limit),
    )
