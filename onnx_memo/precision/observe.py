"""What the rows that products read look like in the sample: channels' peaks, and how these go together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.data.samples import Samples
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.graph.probe import add_outputs
from onnx_memo.runtime import session_options
from onnx_memo.sessions import open_session, run_model
from onnx_memo.threads import side_by_side

REQUESTS = 256  # of the sample, that are run, at most
TOGETHER = 1024  # rows that are added up at a time

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Observed:
    """Of rows [n, K]: the largest absolute value of each channel, f32[K]; the sum of x x^T, f64[K, K]."""

    peaks: Floats
    together: npt.NDArray[np.float64]


class _Watched:
    """Rows of one value, added up some hundreds at a time: each time a matrix [K, K] is read and written."""

    def __init__(self) -> None:
        self.rows: list[Floats] = []
        self.waiting = 0
        self.peaks: Floats | None = None
        self.together: npt.NDArray[np.float64] | None = None

    def add(self, rows: Floats) -> None:
        self.rows.append(rows)
        self.waiting += len(rows)
        if self.waiting >= TOGETHER:
            self.sum_up()

    def sum_up(self) -> None:
        if not self.rows:
            return
        rows = np.concatenate(self.rows)
        self.rows, self.waiting = [], 0
        peaks, together = np.abs(rows).max(axis=0), (rows.T @ rows).astype(np.float64)
        self.peaks = peaks if self.peaks is None else np.maximum(self.peaks, peaks)
        self.together = together if self.together is None else self.together + together


def observe(
    opened: OpenedModel, samples: Samples, values: Sequence[ir.Value], advance: Callable[[], None]
) -> dict[ir.Value, Observed]:
    """Run some of the samples, and look at `values` of the model's encoder, rows by channels."""
    copy = opened.copy()
    twins = copy.twin(list(values))
    add_outputs(copy.model, twins)
    place = {value: at for at, value in enumerate(copy.model.graph.outputs)}
    session = open_session(copy.model, opened.path.parent, session_options(native=False, threads=1))
    watched = {value: _Watched() for value in values}
    numbers = range(0, len(samples), -(-len(samples) // REQUESTS))
    runs = side_by_side(lambda number: run_model(session, samples.arrays[number], number), numbers)
    for results in runs:
        for value, twin in zip(values, twins, strict=True):
            rows = results[place[twin]]
            watched[value].add(rows.reshape(-1, rows.shape[-1]))
        advance()
    found = {}
    for value, one in watched.items():
        one.sum_up()
        assert one.peaks is not None and one.together is not None, "a sample is not empty"
        found[value] = Observed(one.peaks, one.together)
    return found
