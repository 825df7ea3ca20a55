"""What the rows that products read look like in the sample: how large channels are, how they go together.

Each request counts the same, however many rows it has, as it does in a promise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.data.samples import Samples
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.graph.probe import add_outputs
from onnx_memo.mapped import zeros
from onnx_memo.progress import Progress
from onnx_memo.runtime import session_options
from onnx_memo.sessions import open_session, run_model
from onnx_memo.threads import side_by_side

REQUESTS = 256  # of the sample, that are run, at most
TOGETHER = 1024  # rows that are added up at a time

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Observed:
    """Of rows x, the sums over requests of the mean over their rows.

    Attributes:
        fourth: of each channel's fourth power, f64[K].
        together: of x x^T, f64[K, K].
    """

    fourth: Doubles
    together: Doubles


class _Watched:
    """Rows of one value, added up some hundreds at a time: each time a matrix [K, K] is read and written."""

    def __init__(self, waiting: Floats, together: Doubles) -> None:
        """`waiting` has room for so many rows as are added up at a time; `together` is zero."""
        self.together = together
        self.fourth = np.zeros(len(together))
        self._waiting, self._count = waiting, 0

    def add(self, rows: Floats) -> None:
        """The rows of one request, [n, K]."""
        share = 1 / max(len(rows), 1)
        self.fourth += share * np.square(np.square(rows, dtype=np.float64)).sum(axis=0)
        rows = rows * np.float32(np.sqrt(share))
        while len(rows):
            more = rows[: len(self._waiting) - self._count]
            rows = rows[len(more) :]
            self._waiting[self._count : self._count + len(more)] = more
            self._count += len(more)
            if self._count == len(self._waiting):
                self.sum_up()

    def sum_up(self) -> None:
        rows, self._count = self._waiting[: self._count], 0
        self.together += rows.T @ rows


def observe(
    opened: OpenedModel, samples: Samples, values: Sequence[ir.Value], progress: Progress
) -> dict[ir.Value, Observed]:
    """Run some of the samples, and look at `values` of the model's encoder, rows by channels."""
    copy = opened.copy()
    twins = copy.twin(list(values))
    add_outputs(copy.model, twins)
    place = {value: at for at, value in enumerate(copy.model.graph.outputs)}
    session = open_session(copy.model, opened.folder, session_options(native=False, threads=1))
    channels = [int(opened.encoder.shapes[value][-1]) for value in values]
    waiting = zeros([(TOGETHER, count) for count in channels], np.float32)
    together = zeros([(count, count) for count in channels], np.float64)
    watched = {value: _Watched(*own) for value, *own in zip(values, waiting, together, strict=True)}
    numbers = range(0, len(samples), -(-len(samples) // REQUESTS))
    advance = progress("looking at what products read", len(numbers))
    runs = side_by_side(lambda number: run_model(session, samples.arrays[number], number), numbers)
    for results in runs:
        for value, twin in zip(values, twins, strict=True):
            rows = results[place[twin]]
            watched[value].add(rows.reshape(-1, rows.shape[-1]))
        advance()
    found = {}
    for value, one in watched.items():
        one.sum_up()
        found[value] = Observed(one.fourth, one.together)
    return found
