"""Without a tolerance: reuse what was stored, for inputs that repeat it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from onnx_memo.data.parts import content
from onnx_memo.data.samples import Samples
from onnx_memo.errors import MemoError
from onnx_memo.graph.sites import Site
from onnx_memo.keys.fixed import fit_keys
from onnx_memo.levels.decide import Choice
from onnx_memo.levels.rows.capture import capture_rows
from onnx_memo.levels.rows.footprint import rows_budget
from onnx_memo.levels.rows.layout import RowsBlueprint, RowsSettings
from onnx_memo.levels.sites.capture import Capture, capture
from onnx_memo.levels.sites.layout import Plan, SitesBlueprint
from onnx_memo.progress import Progress
from onnx_memo.store.budget import Budget, footprint

# Key distances are scaled to about 1 between two inputs of the sample (`onnx_memo.keys.fixed`). Repeats
# of a stored input come within 0.01 even below guards that return half precision.
NEAR_EXACT = 0.02


def reuse_repeats(
    path: Path,
    samples: Samples,
    max_bytes: int | None,
    scratch: Path,
    notes: list[str],
    progress: Progress,
) -> RowsBlueprint:
    """Store the encoder's output for each input, for requests that repeat one literally.

    Args:
        path: the model, which has an encoder.
        samples: the inputs.
        max_bytes: the most that the memo data may take; None: no bound.
        scratch: an empty folder for captured tensors.
        notes: what people should know is added to them.
        progress: told of the steps.

    Raises:
        MemoError: `max_bytes` holds not a single input, or the model cannot run one.
    """
    stored, counts = _distinct(samples, notes)
    if max_bytes is not None:
        stored = _affordable(
            rows_budget(path, stored, max_bytes, progress, literal=True), stored, counts, notes
        )
    captured = capture_rows(path, stored, scratch, progress("running the inputs", len(stored)), literal=True)
    return RowsBlueprint(captured, RowsSettings(fit_keys(captured.means), None, 0.0))


def reuse_near(
    path: Path,
    choice: Choice,
    threshold: float | None,
    samples: Samples,
    max_bytes: int | None,
    scratch: Path,
    notes: list[str],
    progress: Progress,
) -> SitesBlueprint:
    """Guard all sites at one level, each with a lookup of its own, for what lies within `threshold`.

    Args as for `reuse_repeats`, and
        choice: the sites and their level (`auto`: `output`).
        threshold: key distance below which an entry counts; None: near-exact repeats.

    Raises:
        MemoError: `max_bytes` holds not a single input, no site can be stored, or the model cannot run one.
    """
    sites, level = choice.sites, "output" if choice.level == "auto" else choice.level
    stored, counts = _distinct(samples, notes)
    if max_bytes is not None:
        budget = Budget(path, sites[0], stored, footprint(sites, [level], False), max_bytes, progress)
        stored = _affordable(budget, stored, counts, notes)
    captured = capture(path, sites, level, stored, scratch, progress("running the inputs", len(stored)))
    kept = _storable(sites, captured, notes)
    advance = progress("fitting keys", len(kept))
    networks = {}
    for site in kept:
        networks[site.name] = fit_keys(captured.means(site))
        advance()
    plan = Plan({site.name: level for site in kept}, shared=False)
    by_name = {site.name: site for site in kept}
    distance = NEAR_EXACT if threshold is None else threshold
    return SitesBlueprint(plan, by_name, {level: captured}, networks, distance)


def _distinct(samples: Samples, notes: list[str]) -> tuple[Samples, npt.NDArray[np.int64]]:
    """Each distinct sample once, shortest first (the store's order), and how often each occurs."""
    places: dict[tuple[bytes, ...], list[int]] = {}
    for at, arrays in enumerate(samples.arrays):
        places.setdefault(content(arrays), []).append(at)
    order = sorted(places.values(), key=lambda numbers: samples.size(numbers[0]))
    if len(order) < len(samples):
        notes.append(f"{len(samples) - len(order)} inputs repeat others and are stored once")
    return samples.take(numbers[0] for numbers in order), np.asarray([len(numbers) for numbers in order])


def _affordable(budget: Budget, stored: Samples, counts: npt.NDArray[np.int64], notes: list[str]) -> Samples:
    kept = np.flatnonzero(budget.fill(counts, counts > 0))
    if len(kept) < len(counts):
        notes.append(budget.note(len(kept)))
    return stored.take(kept.tolist())


def _storable(sites: Sequence[Site], captured: Capture, notes: list[str]) -> list[Site]:
    notes.extend(f"{name} is not guarded: {reason}" for name, reason in captured.unfit.items())
    kept = [site for site in sites if site.name not in captured.unfit]
    if not kept:
        raise MemoError("no site can be stored: " + "; ".join(captured.unfit.values()))
    return kept
