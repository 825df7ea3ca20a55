"""Decide whether and how strictly to guard a model at the level `rows`.

1. Store and fit part are run through the encoder and captured; key network and correction are fitted to the
   store part.
2. On the fit part, with the store part as the store, the loosest bound is sought at which the tolerance is
   kept, for the products of the rows that run in int8, some of them in int8, and in floats. The fastest is
   taken.
3. That bound, stricter ones and a slightly looser one are tested on the held-out part, with all entries, from
   strict to loose, until the proof fails (`onnx_memo.proof.sequence`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from onnx_memo.data.parts import Parts
from onnx_memo.data.samples import Samples
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.job import Job
from onnx_memo.keys.learned import fit_learned, sketch
from onnx_memo.keys.network import KeyNetwork
from onnx_memo.levels.base import PAYS, Brief, Proposal, SiteFigures, StrictnessPoint, Verdict, compact_tables
from onnx_memo.levels.inserter import LITERAL
from onnx_memo.levels.literal import RADIUS
from onnx_memo.levels.rows.blueprint import EPSILON, LIMIT, RowsBlueprint, RowsSettings
from onnx_memo.levels.rows.capture import RowsCapture, capture_rows
from onnx_memo.levels.rows.correction import fit_corrections, neighbour_pairs
from onnx_memo.levels.rows.influence import write_influence
from onnx_memo.levels.rows.layout import rows_footprint
from onnx_memo.levels.rows.quantize import EXACT, Int8Product, int8_products
from onnx_memo.levels.rows.search import BOUNDS, EXACT_MISSES, TESTED, Search, Tested, prove
from onnx_memo.levels.rows.trial import RowsTrial
from onnx_memo.levels.tried import Original, Tried, run_original
from onnx_memo.levels.ways import Alternative, NothingPays
from onnx_memo.operators.spec import MOST_CHANGE
from onnx_memo.precision.whole import NO_PRODUCTS, Whole
from onnx_memo.runtime import library_path
from onnx_memo.store.budget import Budget, within

MARGIN = 2.0  # of the key distance that inputs of the sample have to their nearest others
ROUNDED = (
    "requests that reuse nothing run with products in 8 bits: only at memo_strictness 0 is an answer the "
    "original's, bit for bit"
)
COMPACT = (
    "compact: the original's weights are left out, so that requests that reuse nothing run in 8 bits; at "
    "memo_strictness 0 all do, by standard nodes"
)

Floats = npt.NDArray[np.float64]


def propose_rows(brief: Brief, exact_misses: bool = False) -> Proposal:
    """Find the bound that saves most time within the tolerance.

    Args:
        brief: what to decide for; the model has an encoder.
        exact_misses: whether what reuses nothing has to run the original.

    Raises:
        MemoError: `max_bytes` holds not a single input.
        NothingPays: with the reason.
    """
    job, parts = brief.job, brief.parts
    if job.compact and next(brief.rounding.wholes(), None) is None:
        raise NothingPays(NO_PRODUCTS)
    if job.max_bytes is not None:
        size = rows_footprint(job.opened, compact_tables(job))
        budget = Budget(job.opened, parts.stored, size, job.max_bytes, job.progress)
        parts = within(parts, budget, job.notes)
    fit = run_original(job, parts.fit, job.progress("running the fit part", len(parts.fit)))
    learned = learn_rows(job, parts)
    ways = _search(brief, parts, fit, learned, exact_misses)
    alternatives = [alternative for way in ways for alternative in way.search.seen()]
    kept = [way for way in ways if way.bound is not None]
    if not kept:
        raise NothingPays(ways[0].search.why_not(), alternatives)
    best = _simplest(kept, job.notes)

    def prove(tried: Sequence[Alternative]) -> Verdict:
        return _prove(brief, parts, learned.captured, best, tried)

    return Proposal("rows", best.ratio, alternatives, prove)


@dataclass(frozen=True)
class Learned:
    """What was captured of store and fit part, and learned of the store part.

    Attributes:
        settings: with the loosest bound and the original's products.
    """

    captured: RowsCapture
    settings: RowsSettings


def learn_rows(job: Job, parts: Parts) -> Learned:
    """Run store and fit part; fit key network, influence and correction to the store part."""
    advance = job.progress("capturing rows", len(parts.stored))
    tables = compact_tables(job)
    captured = capture_rows(job.opened, parts.stored, job.scratch, advance, tables=tables)
    network = fit_rows_key(captured, parts.in_store)
    keys = network(captured.means)
    advance = job.progress("learning influence", len(keys))
    write_influence(captured, keys, parts.in_store, EPSILON, MOST_CHANGE, advance)
    entries = np.flatnonzero(parts.in_store)
    pairs = entries[neighbour_pairs(keys[entries], captured.lengths[entries])]
    advance = job.progress("fitting corrections", len(pairs) * len(captured.stages))
    corrections = fit_corrections(captured, pairs, EPSILON, LIMIT, advance)
    radius = key_radius(keys[entries], captured.lengths[entries])
    return Learned(captured, RowsSettings(network, corrections, BOUNDS[-1], (), radius, compact=tables))


@dataclass(frozen=True)
class _Way:
    """A precision of the products of the rows that run, and its best bound; None: none keeps the promise."""

    search: Search
    settings: RowsSettings
    bound: float | None

    @property
    def ratio(self) -> float:
        """The time to expect at that bound, relative to the original's."""
        assert self.bound is not None
        return self.search.ratios[self.bound]

    @property
    def noise(self) -> float:
        """How far that is uncertain."""
        assert self.bound is not None
        return self.search.noises[self.bound]


def _simplest(ways: Sequence[_Way], notes: list[str]) -> _Way:
    """The fastest way, or a simpler one that is slower by no more than the measurement is uncertain.

    `ways` come from fast products to exact ones, which are the simpler: the original's own.
    """
    fastest = min(ways, key=lambda way: way.ratio)
    best = next(way for way in reversed(ways) if way.ratio - fastest.ratio <= way.noise + fastest.noise)
    if best is not fastest:
        notes.append(
            f"products in {best.search.precision} are taken: {fastest.search.precision} was faster by "
            f"{best.ratio - fastest.ratio:.3f} of the original's time, no more than the timing is uncertain"
        )
    return best


def _search(brief: Brief, parts: Parts, fit: Original, learned: Learned, exact_misses: bool) -> list[_Way]:
    """Search a bound for each precision, from fast to exact, as long as a slower one could save more."""
    job, ways = brief.job, list[_Way]()
    fast = precisions(brief, parts.stored)
    misses = None if exact_misses else _misses_in_bytes(brief, parts, fit, learned, fast[0][1])
    if job.compact and misses is None:
        raise NothingPays(
            "--compact leaves out the original, and with products in 8 bits wherever nothing is reused the "
            "fit part does not keep the tolerance"
        )
    for precision, way in fast:
        settings = way(learned.settings, misses)
        blueprint = RowsBlueprint(job.opened.encoder, learned.captured, settings, parts.in_store)
        search = Search(brief.goal, parts, fit, RowsTrial(job.opened, blueprint), precision, job.progress)
        found = [way for way in ways if way.bound is not None]
        kept = max((way.bound for way in found if way.bound is not None), default=None)
        best = min((way.ratio for way in found), default=PAYS)
        ways.append(_Way(search, settings, search.loosest(kept, best)))
        search.end()
        if ways[-1].bound == BOUNDS[-1]:
            break  # slower products could not save more
    return ways


def _misses_in_bytes(brief: Brief, parts: Parts, fit: Original, learned: Learned, way: Way) -> Whole | None:
    """What runs requests that reuse nothing in 8 bits; the fit part keeps the promise where all do so."""
    opened, goal, captured = brief.job.opened, brief.goal, learned.captured
    for whole in brief.rounding.wholes():
        settings = way(learned.settings, whole)
        trial = RowsTrial(opened, RowsBlueprint(opened.encoder, captured, settings, parts.in_store))
        advance = brief.job.progress("trying products in 8 bits", len(parts.fit))
        tried = trial.run(parts.fit, fit, LITERAL, goal, advance)
        if goal.judge.likely(tried.seen, goal.promise, len(parts.held_out)):
            return whole
        del trial  # before the next one: a session holds the model's weights
    return None


def _prove(
    brief: Brief, parts: Parts, captured: RowsCapture, way: _Way, alternatives: Sequence[Alternative]
) -> Verdict:
    """The way's bound, or what of it the held-out part proves."""
    job, goal, encoder, bound = brief.job, brief.goal, brief.job.opened.encoder, way.bound
    assert bound is not None, "it keeps the promise on the fit part"
    advance = job.progress("running the held-out part", len(parts.held_out))
    held_out = run_original(job, parts.held_out, advance, way.search.original.session)
    settings = _to_test(job.opened, captured, replace(way.settings, bound=bound * max(TESTED)))
    calibration, results = prove(goal, parts.held_out, held_out, settings, job.progress)
    if calibration.setting is None or not calibration.hit_rate:
        first = calibration.steps[0]
        raise NothingPays(
            f"at the strictest bound tried, {first.setting * bound:.3g}, {first.hits} of "
            f"{calibration.requests} held-out requests were reused, and "
            f"{goal.unproven(first.failures, results[0].decided)}: more inputs in the sample, or a larger "
            "tolerance, would change that"
        )
    proven = sum(step.p_value <= goal.promise.delta for step in calibration.steps) - 1
    trial, scale = settings[proven].trial, settings[proven].scale  # of the bound
    tried, tolerance = results[proven], goal.promise.tolerance
    if trial.rounds:
        job.notes.append(COMPACT if job.compact else ROUNDED)
    points = [StrictnessPoint(0.0, Tried.nothing_reused(held_out, goal).point(tolerance))]
    if job.compact:  # what runs there was not measured
        points = []
    points += [
        StrictnessPoint(one.scale / scale, seen.point(tolerance))
        for one, seen in zip(settings[: proven + 1], results, strict=False)
        if one.trial is trial
    ]
    taken = replace(way.settings, bound=bound * scale, misses_in_bytes=trial.rounds)
    return Verdict(
        blueprint=RowsBlueprint(encoder, captured, taken),
        goal=goal,
        parts=parts,
        chosen=way.search.name(bound),
        ratio=way.ratio,
        alternatives=alternatives,
        calibration=calibration,
        hits=tried.hits,
        distances=np.where(tried.hits, tried.rows, np.inf),
        errors=tried.errors,
        token_errors=tried.token_errors,
        decided=tried.decided,
        rows=tried.rows,
        threshold=None,
        strictness=points,
        sites=[_site_figures(way.search.tried[bound], way.ratio, brief.original_us)],
    )


def _to_test(opened: OpenedModel, captured: RowsCapture, loosest: RowsSettings) -> list[Tested]:
    """What is tested on the held-out part, from strict to loose.

    Where misses run in 8 bits they err at every bound, and the held-out part may not prove the strictest. So
    two settings come before in which they run the original, unless its weights are left out.
    """
    trial = RowsTrial(opened, RowsBlueprint(opened.encoder, captured, loosest))
    settings = [Tested(trial, scale) for scale in TESTED]
    if loosest.misses_in_bytes and loosest.compact is None:
        exact = replace(loosest, misses_in_bytes=False)
        before = RowsTrial(opened, RowsBlueprint(opened.encoder, captured, exact))
        settings = [Tested(before, scale) for scale in EXACT_MISSES] + settings
    return settings


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


# Makes settings for products of a kind from those of the original's; and of what runs misses in 8 bits.
Way = Callable[[RowsSettings, Whole | None], RowsSettings]


def precisions(brief: Brief, stored: Samples) -> list[tuple[str, Way]]:
    """The ways to do the products of the rows that run, from fast to exact.

    With the native library that is `MemoProduct`. By standard nodes its body takes longer than what ONNX
    Runtime makes of one scale for all rows. Without the original's weights there is no other way.
    """

    def floats(settings: RowsSettings, misses: Whole | None) -> RowsSettings:
        return replace(settings, whole=misses, misses_in_bytes=misses is not None)

    fast = None if library_path() is None else next(brief.rounding.wholes(), None)
    if fast is not None:

        def in_bytes(settings: RowsSettings, misses: Whole | None) -> RowsSettings:
            whole = fast if misses is None else misses  # one for both
            return replace(settings, whole=whole, rows_in_bytes=True, misses_in_bytes=misses is not None)

        return [("int8", in_bytes)] if brief.job.compact else [("int8", in_bytes), ("float", floats)]

    def by_nodes(products: Sequence[Int8Product | None]) -> Way:
        return lambda settings, misses: replace(floats(settings, misses), int8=products)

    products = int8_products(brief.job.opened, stored)
    exact = [product if product.error <= EXACT else None for product in products]
    ways = [("int8", by_nodes(products))] if products else []
    if None in exact:
        ways.append(("int8 where that is exact", by_nodes(exact)))
    return [*ways, ("float", floats)]


def fit_rows_key(captured: RowsCapture, in_store: npt.NDArray[np.bool_]) -> KeyNetwork:
    """The key network: distances of keys estimate how far the states at the encoder's input are apart."""
    entries = np.flatnonzero(in_store)
    sketches = np.stack(
        [sketch(captured.states(0)[captured.tokens(int(at))].astype(np.float32)) for at in entries]
    )
    size = max(float(np.sqrt(np.square(sketches, dtype=np.float64).sum(axis=1).mean())), 1e-30)
    return fit_learned(captured.means[entries], sketches / np.float32(size), captured.lengths[entries])


def _site_figures(tried: Tried, ratio: float, original_us: float) -> SiteFigures:
    """The encoder as the report's only site, by rows: they take most of its time."""
    hit_rate, ran = tried.hit_rate, tried.mean_rows_of_hits
    return SiteFigures(
        name="encoder",
        level="rows",
        hit_rate=hit_rate,
        saving_us=hit_rate * original_us,
        overhead_us=max(ratio - 1 + hit_rate, 0.0) * original_us,
        reason=f"a request that is reused runs {ran:.1%} of its rows",
    )
