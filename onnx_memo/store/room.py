"""How much disk `optimize` needs, so that a full one is noticed before the work begins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from onnx_memo.data.samples import Samples
from onnx_memo.graph.encoder import find_encoder
from onnx_memo.graph.load import external_files
from onnx_memo.graph.sites import LEVELS, find_sites
from onnx_memo.graph.stages import MOST_STAGES
from onnx_memo.keys.learned import SKETCH_WIDTH
from onnx_memo.levels.decide import Choice
from onnx_memo.levels.rows.footprint import rows_footprint
from onnx_memo.operators.spec import SEGMENTS
from onnx_memo.proof.goal import Goal
from onnx_memo.store.budget import footprint, most_tokens


def bytes_needed(
    path: Path,
    model: ir.Model,
    choice: Choice,
    goal: Goal | None,
    samples: Samples,
    max_bytes: int | None,
) -> int:
    """An upper bound of what the captured tensors and the bundle take together, in bytes.

    `model` is the one at `path`, as it was searched for what `choice` holds.
    """
    lengths = most_tokens(samples, find_sites(model).sites[0].length)
    total, count = 0, len(lengths)
    if choice.rows:
        encoder = find_encoder(model)
        assert not isinstance(encoder, str), "the level was chosen for this model"
        total += _twice(rows_footprint(encoder, goal is None, int(lengths.max())).total(lengths), max_bytes)
        total += count * SEGMENTS * encoder.width * 4
        total += 0 if goal is None else 2 * MOST_STAGES * int(np.square(lengths).sum())  # the stages' reach
    if choice.sites and (goal is not None or not choice.rows):
        sites = choice.sites
        levels = [choice.level] if choice.level in LEVELS else list(LEVELS) if goal else ["output"]
        lengths = np.maximum(lengths, max((site.length or 0 for site in sites), default=0))
        for level in levels:
            total += _twice(footprint(sites, [level], False).total(lengths), max_bytes)
            total += count * len(sites) * SKETCH_WIDTH * 4
        total += count * SEGMENTS * 4 * sum(site.width for site in sites)
    weights = sum((path.parent / name).stat().st_size for name in external_files(model))
    return total + 2 * weights + 2 * path.stat().st_size


def _twice(size: int, max_bytes: int | None) -> int:
    """Captured, and in the bundle."""
    return 2 * (size if max_bytes is None else min(size, max_bytes))
