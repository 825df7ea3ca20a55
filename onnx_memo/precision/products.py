"""The products of an encoder's form in 8 bits, rounded for the sample."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.data.samples import Samples
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.precision.chains import Chains
from onnx_memo.precision.form import Form, Task
from onnx_memo.precision.observe import REQUESTS, Observed, observe
from onnx_memo.precision.rounding import Rounded, round_product
from onnx_memo.precision.stretches import constants
from onnx_memo.progress import Progress
from onnx_memo.threads import side_by_side

APART = 8  # channels of largest peak that stay in floats


def round_products(
    opened: OpenedModel, chains: Chains, samples: Samples, apart: Sequence[int], progress: Progress
) -> list[dict[ir.Value, Rounded]]:
    """The products of the form, by its keys, in order; rounded for rows like those of `samples`.

    One dictionary for each number of channels that stay `apart` in floats.
    """
    tasks = Form(opened.encoder, chains).tasks()
    read = list(dict.fromkeys(task.x for task in tasks))
    advance = progress("looking at what products read", min(len(samples), REQUESTS))
    seen = observe(opened, samples, read, advance)
    known = constants(opened, [value for task in tasks for value in task.constants])
    advance = progress("rounding products", len(tasks) * len(apart))

    def rounded(way: tuple[int, Task]) -> Rounded:
        count, task = way
        observed = seen[task.x]
        return round_product(
            task.weight(known), task.bias(known), observed.together, largest(observed, count)
        )

    ways = list(product(apart, tasks))
    found: dict[int, dict[ir.Value, Rounded]] = {count: {} for count in apart}
    for (count, task), made in zip(ways, side_by_side(rounded, ways), strict=True):
        found[count][task.key] = made
        advance()
    return list(found.values())


def largest(observed: Observed, count: int) -> npt.NDArray[np.int64]:
    """The channels of largest peak, i64[count], rising."""
    return np.sort(np.argsort(observed.peaks)[::-1][:count]).astype(np.int64)
