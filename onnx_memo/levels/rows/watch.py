"""Watch a model that is guarded at the level `rows`: which rows it runs, and whether they alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.graph.probe import add_outputs
from onnx_memo.levels.rows.guard import HIT, ROWS


@dataclass(frozen=True)
class Watched:
    """What one run of a watched model gave.

    Attributes:
        outputs: those of the original.
        rows: which rows ran in the last stage, i64[R], each as sequence * L + token.
        ran: how many they are, the mean over the layers.
        hit: whether they alone ran; if not, they are none.
    """

    outputs: list[npt.NDArray[Any]]
    rows: npt.NDArray[np.int64]
    ran: float
    hit: bool


class Watch:
    """Makes a guarded model tell more, and reads what it tells."""

    def __init__(self, model: ir.Model) -> None:
        """Add outputs to `model`, behind its own."""
        values = {str(value.name): value for node in model.graph for value in node.outputs}
        stages = [name for name in values if name == ROWS or name.startswith(f"{ROWS}.")]
        add_outputs(model, [values[name] for name in stages], ir.DataType.INT64)
        add_outputs(model, [values[HIT]], ir.DataType.BOOL)
        layers = max(sum(node.op_type == "MemoAttention" for node in model.graph.all_nodes()), 1)
        firsts = [0, *(int(name.removeprefix(f"{ROWS}.")) for name in stages[1:])]
        self.shares = np.diff([*firsts, layers]) / layers

    def read(self, results: Sequence[npt.NDArray[Any]]) -> Watched:
        """What a run of all outputs gave, as they are in `results`."""
        own = len(results) - len(self.shares) - 1
        *rows, hit = results[own:]
        ran = float(self.shares @ [len(of_stage) for of_stage in rows])
        return Watched(list(results[:own]), rows[-1], ran, bool(hit))
