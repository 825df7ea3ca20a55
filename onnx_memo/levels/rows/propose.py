"""Decide whether and how strictly to guard a model at the level `rows`.

1. Store and fit part are run through the encoder and captured; key network and correction are fitted to the
   store part.
2. On the fit part, with the store part as the store, the loosest bound is sought at which the tolerance is
   kept, for the products of the rows that run in int8, some of them in int8, and in floats. The fastest is
   taken.
3. That bound, stricter ones and a slightly looser one are tested on the held-out part, with all entries, from
   strict to loose, until the proof fails (`onnx_memo.proof.promise`).
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_memo.data.parts import Parts
from onnx_memo.keys.fixed import KeyNetwork
from onnx_memo.keys.learned import fit_learned, sketch
from onnx_memo.levels.base import PAYS, NothingPays, Proposal, Verdict
from onnx_memo.levels.rows.capture import RowsCapture, capture_rows
from onnx_memo.levels.rows.correction import fit_corrections, neighbour_pairs
from onnx_memo.levels.rows.footprint import rows_budget
from onnx_memo.levels.rows.influence import write_influence
from onnx_memo.levels.rows.layout import EPSILON, LIMIT, RADIUS, RowsBlueprint, RowsSettings
from onnx_memo.levels.rows.quantize import Int8Product, int8_products
from onnx_memo.levels.rows.search import BOUNDS, TESTED, Search, prove
from onnx_memo.levels.rows.trial import RowsTrial, Tried, run_original
from onnx_memo.operators.spec import MOST_CHANGE
from onnx_memo.progress import Progress
from onnx_memo.proof.goal import Goal

MARGIN = 2.0  # of the key distance that inputs of the sample have to their nearest others
EXACT = 0.025  # relative error up to which a product is exact in int8

Floats = npt.NDArray[np.float64]


def propose_rows(
    path: Path,
    parts: Parts,
    goal: Goal,
    original_us: float,
    scratch: Path,
    progress: Progress,
    *,
    max_bytes: int | None,
    notes: list[str],
) -> Proposal:
    """Find the bound that saves most time within the tolerance.

    Args:
        path: the original model, which has an encoder.
        parts: the sample.
        goal: the promise.
        original_us: microseconds that the original takes for a request.
        scratch: a folder for captured tensors.
        progress: told of the steps.
        max_bytes: the most that the memo data may take; None: no bound.
        notes: what people should know is added to them.

    Raises:
        MemoError: `max_bytes` holds not a single input.
        NothingPays: with the reason.
    """
    if max_bytes is not None:
        parts = parts.within(rows_budget(path, parts.stored, max_bytes, progress), notes)
    fit = run_original(path, parts.fit, progress("running the fit part", len(parts.fit)))
    advance = progress("capturing rows", len(parts.stored))
    captured = capture_rows(path, parts.stored, scratch, advance)
    network = fit_rows_key(captured, parts.in_store)
    keys = network(captured.means)
    advance = progress("learning influence", len(keys))
    write_influence(captured, keys, parts.in_store, EPSILON, MOST_CHANGE, advance)
    entries = np.flatnonzero(parts.in_store)
    pairs = entries[neighbour_pairs(keys[entries], captured.lengths[entries])]
    advance = progress("fitting corrections", len(pairs) * len(captured.stages))
    corrections = fit_corrections(captured, pairs, EPSILON, LIMIT, advance)
    radius = key_radius(keys[entries], captured.lengths[entries])
    searches: list[tuple[Search, float | None, RowsSettings]] = []
    for precision, products in _precisions(int8_products(path, parts.stored)):
        settings = RowsSettings(network, corrections, BOUNDS[-1], products, radius)
        trial = RowsTrial(path, captured, settings, parts.in_store)
        search = Search(goal, parts, fit, trial, precision, progress)
        found = [(bound, search.ratios[bound]) for search, bound, _ in searches if bound]
        kept = max((bound for bound, _ in found), default=None)
        best = min((ratio for _, ratio in found), default=PAYS)
        searches.append((search, search.loosest(kept, best), settings))
        del search.trial  # a session holds the model's weights
        if searches[-1][1] == BOUNDS[-1]:
            break  # slower products could not save more
    alternatives = [way for search, _, _ in searches for way in search.seen()]
    evidence: dict[str, Any] = {"alternatives": [asdict(way) for way in alternatives]}
    ways = [(search.ratios[bound], search, bound, settings) for search, bound, settings in searches if bound]
    if not ways:
        raise NothingPays(searches[0][0].why_not(), evidence)
    ratio, search, bound, settings = min(ways, key=lambda one: one[0])

    wanted = replace(settings, bound=bound)

    def proven() -> Verdict:
        verdict = _prove(path, parts, goal, captured, wanted, progress)
        return replace(
            verdict,
            chosen=search.name(bound),
            ratio=ratio,
            alternatives=alternatives,
            sites=[_site_row(search.tried[bound], ratio, original_us)],
        )

    return Proposal("rows", ratio, alternatives, proven)


def _prove(
    path: Path,
    parts: Parts,
    goal: Goal,
    captured: RowsCapture,
    settings: RowsSettings,
    progress: Progress,
) -> Verdict:
    """The settings' bound, or what of it the held-out part proves."""
    advance = progress("running the held-out part", len(parts.held_out))
    held_out = run_original(path, parts.held_out, advance)
    trial = RowsTrial(path, captured, replace(settings, bound=settings.bound * max(TESTED)), None)
    calibration, results = prove(goal, parts.held_out, held_out, trial, progress)
    if calibration.threshold is None or not calibration.hit_rate:
        first = calibration.steps[0]
        raise NothingPays(
            f"at the strictest bound tried, {first.threshold * settings.bound:.3g}, {first.hits} of "
            f"{calibration.requests} held-out requests were reused, {first.failures} of them outside the "
            "tolerance: more inputs in the sample, or a larger tolerance, would change that",
            {},
        )
    scale = calibration.threshold  # of the bound
    tried, tolerance = results[scale], goal.promise.tolerance
    points = [{"strictness": 0.0, **Tried.none(len(parts.held_out)).point(tolerance)}]
    points += [{"strictness": at / scale, **results[at].point(tolerance)} for at in TESTED if at <= scale]
    return Verdict(
        blueprint=RowsBlueprint(captured, replace(settings, bound=settings.bound * scale)),
        parts=parts,
        chosen="",
        ratio=1.0,
        alternatives=[],
        calibration=calibration,
        hits=tried.hits,
        distances=np.where(tried.hits, tried.rows, np.inf),
        errors=tried.errors,
        token_errors=tried.token_errors,
        rows=tried.rows,
        threshold=None,
        strictness=points,
        sites=[],
    )


def key_radius(keys: npt.NDArray[np.float32], lengths: npt.NDArray[np.int64]) -> float:
    """The key distance beyond which a request is unlike the sample: twice what any input of it has.

    Args:
        keys: of the store part, [n, k].
        lengths: i64[n]; only inputs of one length are compared.
    """
    farthest = 0.0
    for length in np.unique(lengths):
        group = keys[lengths == length].astype(np.float64)
        if len(group) > 1:
            squares = np.square(group).sum(axis=1)
            squared = squares[:, None] + squares - 2 * group @ group.T
            np.fill_diagonal(squared, np.inf)
            farthest = max(farthest, float(squared.min(axis=1).max()))
    return MARGIN * float(np.sqrt(farthest)) if farthest > 0 else RADIUS


def _precisions(products: list[Int8Product]) -> list[tuple[str, list[Int8Product | None]]]:
    """The ways to do the products of the rows that run, from fast to exact."""
    exact = [product if product.error <= EXACT else None for product in products]
    ways: list[tuple[str, list[Int8Product | None]]] = [("int8", list(products))]
    if None in exact:
        ways.append(("int8 where that is exact", exact))
    return [*ways, ("float", [])] if products else [("float", [])]


def fit_rows_key(captured: RowsCapture, in_store: npt.NDArray[np.bool_]) -> KeyNetwork:
    """The key network: distances of keys estimate how far the states at the encoder's input are apart."""
    entries = np.flatnonzero(in_store)
    sketches = np.stack(
        [sketch(captured.states(0)[captured.tokens(int(at))].astype(np.float32)) for at in entries]
    )
    size = max(float(np.sqrt(np.square(sketches, dtype=np.float64).sum(axis=1).mean())), 1e-30)
    return fit_learned(captured.means[entries], sketches / np.float32(size), captured.lengths[entries])


def _site_row(tried: Tried, ratio: float, original_us: float) -> dict[str, Any]:
    """The encoder as the report's only site, by rows: they take most of its time."""
    hit_rate, ran = tried.hit_rate, tried.mean_rows_of_hits
    return {
        "name": "encoder",
        "level": "rows",
        "hit_rate": hit_rate,
        "saving_us": hit_rate * original_us,
        "overhead_us": max(ratio - 1 + hit_rate, 0.0) * original_us,
        "reason": f"a request that is reused runs {ran:.1%} of its rows",
    }
