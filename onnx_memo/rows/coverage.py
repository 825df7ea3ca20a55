"""How much the level `rows` stores, for a memo data file of limited size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from onnx_memo import learn, store
from onnx_memo.coverage import Budget, Footprint
from onnx_memo.graph.encoder import Encoder, find_encoder
from onnx_memo.graph.load import load_model
from onnx_memo.graph.operators import SEGMENTS
from onnx_memo.graph.sites import find_sites
from onnx_memo.inputs import Samples
from onnx_memo.keys import KEY_WIDTH
from onnx_memo.plan import LOOKUP_PARTS
from onnx_memo.progress import Progress

Integers = npt.NDArray[np.int64]


def rows_footprint(encoder: Encoder, literal: bool) -> Footprint:
    """What the guard of `encoder` stores; `literal`: only for literal repeats, without keys and values."""
    width = encoder.width
    network = 4 * (width * learn.REDUCED_WIDTH + SEGMENTS * learn.REDUCED_WIDTH * KEY_WIDTH + KEY_WIDTH)
    payloads = 4 if literal else 4 + 2 * len(encoder.cores)
    tensors = 4 + len(LOOKUP_PARTS) + payloads
    cores = 0 if literal else sum(core.heads * (core.key_width + core.value_width) for core in encoder.cores)

    def each(lengths: Integers) -> Integers:
        # The index takes up to three times the keys.
        copies = 4 if store.largest_group(lengths) > store.EXACT_SEARCH else 1
        rows = lengths * (2 * width + 4 * width + 2 * cores)
        total: Integers = rows + 4 * np.square(lengths) + 24 + copies * KEY_WIDTH * 4
        return total

    fixed = network + (0 if literal else 4 * width * width) + store.ALIGNMENT * (tensors + 1)
    return Footprint(fixed, each)


def rows_budget(
    path: Path, samples: Samples, max_bytes: int, progress: Progress, *, literal: bool = False
) -> Budget:
    """The inputs that a memo data file of at most `max_bytes` can hold, at the level `rows`."""
    model = load_model(path)
    site = find_sites(model).sites[0]
    encoder = find_encoder(model)
    assert not isinstance(encoder, str), "the level was chosen for this model"
    return Budget(path, site, samples, rows_footprint(encoder, literal), max_bytes, progress)
