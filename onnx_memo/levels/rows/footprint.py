"""How much the level `rows` stores, for a memo data file of limited size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from onnx_memo.data.samples import Samples
from onnx_memo.graph.encoder import Encoder, find_encoder
from onnx_memo.graph.load import load_model
from onnx_memo.graph.sites import find_sites
from onnx_memo.graph.stages import find_stages
from onnx_memo.keys import fixed as keys
from onnx_memo.keys import learned as learn
from onnx_memo.levels.sites.layout import LOOKUP_PARTS
from onnx_memo.operators.spec import SEGMENTS
from onnx_memo.progress import Progress
from onnx_memo.store import data as store
from onnx_memo.store.budget import Budget, Footprint, most_tokens

Integers = npt.NDArray[np.int64]


def rows_footprint(encoder: Encoder, literal: bool, longest: int) -> Footprint:
    """What the guard of `encoder` stores; `literal`: only for literal repeats, without keys and values.

    `longest`: tokens of the longest input. For literal repeats one matrix of that size serves all.
    """
    width = encoder.width
    reduced = keys.REDUCED_WIDTH if literal else learn.REDUCED_WIDTH
    network = 4 * (width * reduced + SEGMENTS * reduced * keys.KEY_WIDTH + keys.KEY_WIDTH)
    stages = 1 if literal else len(find_stages(encoder))
    payloads = 4 if literal else 3 + 4 * stages + 2 * len(encoder.cores)
    tensors = 4 + len(LOOKUP_PARTS) + payloads
    cores = 0 if literal else sum(core.heads * (core.key_width + core.value_width) for core in encoder.cores)

    def each(lengths: Integers) -> Integers:
        # The index takes up to three times the keys.
        copies = 4 if store.largest_group(lengths) > store.EXACT_SEARCH else 1
        rows = lengths * (2 * width * stages + 4 * width + 2 * cores)
        # Of each stage the influence, and the rollout up to its end.
        squares = 0 if literal else 4 * stages * np.square(lengths)
        total: Integers = rows + squares + 24 + copies * keys.KEY_WIDTH * 4
        return total

    fixed = network + store.ALIGNMENT * (tensors + 1)
    if literal:
        fixed += 4 * longest**2
    else:
        fixed += 4 * width * width * stages + _int8_bytes(encoder)
    return Footprint(fixed, each)


def rows_budget(
    path: Path, samples: Samples, max_bytes: int, progress: Progress, *, literal: bool = False
) -> Budget:
    """The inputs that a memo data file of at most `max_bytes` can hold, at the level `rows`."""
    model = load_model(path)
    site = find_sites(model).sites[0]
    encoder = find_encoder(model)
    assert not isinstance(encoder, str), "the level was chosen for this model"
    longest = int(most_tokens(samples, site.length).max())
    return Budget(path, site, samples, rows_footprint(encoder, literal, longest), max_bytes, progress)


def _int8_bytes(encoder: Encoder) -> int:
    """What the weights of all products take in int8, with their scales, each tensor aligned."""
    total = 0
    for node in encoder.steps:
        weight = node.inputs[1] if node.op_type == "MatMul" else None
        if weight is not None and weight.shape is not None and len(weight.shape) == 2:
            rows, columns = weight.shape.numpy()
            total += rows * columns + 4 * (rows + columns) + 3 * store.ALIGNMENT
    return total
