"""Watch a model that is guarded at the level `rows`: which rows it runs, and whether it runs only those."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.graph.probe import add_outputs
from onnx_memo.levels.base import Reuse
from onnx_memo.levels.literal import hit_name
from onnx_memo.levels.rows.attention import count_layers
from onnx_memo.levels.rows.repeats import HIT, NAME, ROWS, rows_name
from onnx_memo.store.manifest import GuardedSite


@dataclass(frozen=True)
class Watched:
    """What one run of a watched model gave.

    Attributes:
        outputs: those of the original.
        rows: which rows ran in the last stage, i64[R], each as sequence * L + token.
        lengths: real tokens of each sequence, i64[B].
        ran: how many they are, the mean over the layers.
        hits: of which sequences only such rows ran, bool[B]; the others ran in whole.
    """

    outputs: list[npt.NDArray[Any]]
    rows: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    ran: float
    hits: npt.NDArray[np.bool_]

    @property
    def hit(self) -> bool:
        """Whether there are sequences, and all hit."""
        return len(self.hits) > 0 and bool(self.hits.all())


class RowsWatch:
    """Makes a guarded model give more, and reads what it gives."""

    def __init__(self, model: ir.Model) -> None:
        """Add outputs to `model`, after its own."""
        values = {str(value.name): value for node in model.graph for value in node.outputs}
        stages = [name for name in values if name == ROWS or name.startswith(f"{ROWS}.")]
        operator = values[ROWS].producer()
        assert operator is not None and operator.inputs[2] is not None, "MemoRows reads the lengths"
        add_outputs(model, [values[name] for name in stages], ir.DataType.INT64)
        add_outputs(model, [operator.inputs[2]], ir.DataType.INT64)
        add_outputs(model, [values[HIT]], ir.DataType.BOOL)
        layers = max(count_layers(model), 1)
        firsts = [0, *(int(name.removeprefix(f"{ROWS}.")) for name in stages[1:])]
        self.shares = np.diff([*firsts, layers]) / layers

    def watched(self, results: Sequence[npt.NDArray[Any]]) -> Watched:
        """What a run of all outputs gave, as they are in `results`."""
        own = len(results) - len(self.shares) - 2
        *rows, lengths, hits = results[own:]
        ran = float(self.shares @ [len(of_stage) for of_stage in rows])
        return Watched(list(results[:own]), rows[-1], lengths, ran, hits)

    def read(self, results: Sequence[npt.NDArray[Any]]) -> Reuse:
        """As `onnx_memo.levels.base.Watch` has it."""
        watched = self.watched(results)
        lengths = np.maximum(watched.lengths, 0)
        ran = watched.ran + float(lengths[~watched.hits].sum())
        return Reuse({NAME: watched.hits}, ran / max(int(lengths.sum()), 1))


class RepeatsWatch:
    """The same of guards for literal repeats, each of a span of its own."""

    def __init__(self, model: ir.Model, guards: Sequence[GuardedSite]) -> None:
        """Add outputs to `model`, after its own."""
        values = {str(value.name): value for node in model.graph for value in node.outputs}
        self.names = [guard.name for guard in guards]
        for name in self.names:
            operator = values[rows_name(name)].producer()
            assert operator is not None, "MemoRows gives the rows"
            lengths = operator.inputs[2]
            assert lengths is not None, "it reads the lengths"
            add_outputs(model, [lengths], ir.DataType.INT64)
            add_outputs(model, [values[hit_name(name)]], ir.DataType.BOOL)

    def read(self, results: Sequence[npt.NDArray[Any]]) -> Reuse:
        """As `onnx_memo.levels.base.Watch` has it."""
        own = results[len(results) - 2 * len(self.names) :]
        lengths, hits = [np.maximum(each, 0) for each in own[0::2]], own[1::2]
        ran = sum(int(each[~reused].sum()) for each, reused in zip(lengths, hits, strict=True))
        return Reuse(
            dict(zip(self.names, hits, strict=True)), ran / max(sum(int(each.sum()) for each in lengths), 1)
        )
