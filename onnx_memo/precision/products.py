"""The products of an encoder's form in 8 bits, rounded for the sample."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.data.samples import Samples
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.mapped import zeros
from onnx_memo.precision.chains import Chains
from onnx_memo.precision.form import Form, Task
from onnx_memo.precision.observe import Observed, observe
from onnx_memo.precision.rounding import Rounded, bytes_to_round, packed_shape, round_product
from onnx_memo.precision.stretches import constants
from onnx_memo.progress import Progress
from onnx_memo.threads import MOST, side_by_side

ROOM = 1 << 29  # bytes that products which are rounded at the same time may take


def round_products(
    opened: OpenedModel, chains: Chains, samples: Samples, apart: int, progress: Progress
) -> dict[ir.Value, Rounded]:
    """The products of the form, by its keys, in order; rounded for rows like those of `samples`.

    Of each product so many channels stay `apart` in floats, or all if it has fewer.
    """
    tasks = Form(opened.encoder, chains).tasks()
    read = list(dict.fromkeys(task.x for task in tasks))
    seen = observe(opened, samples, read, progress)
    known = constants(opened, [value for task in tasks for value in task.constants])
    advance = progress("rounding products", len(tasks))

    def rounded(task: Task) -> Rounded:
        observed = seen[task.x]
        return round_product(
            task.weight(known), task.bias(known), observed.together, largest(observed, apart)
        )

    inner = [int(opened.encoder.shapes[task.x][-1]) for task in tasks]
    columns = [sum(len(part.columns) for part in task.parts) for task in tasks]
    places = zeros(list(map(packed_shape, inner, columns)), np.int8)
    most = ROOM // max(map(bytes_to_round, inner, columns), default=1)
    results = side_by_side(rounded, tasks, min(max(most, 1), MOST))
    found = {}
    for task, place, made in zip(tasks, places, results, strict=True):
        place[...] = made.packed
        found[task.key] = replace(made, packed=place)
        advance()
    return found


def largest(observed: Observed, count: int) -> npt.NDArray[np.int64]:
    """The channels whose fourth powers are largest, i64[count], rising.

    What counts is the range of a row without them. Peaks tell less of it: they may be of a single row.
    """
    return np.sort(np.argsort(observed.fourth)[::-1][:count]).astype(np.int64)
