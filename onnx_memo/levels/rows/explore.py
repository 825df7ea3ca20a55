"""The fit part at bounds from strict to loose, with the products in int8 and in floats."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from onnx_memo.levels.base import Brief
from onnx_memo.levels.explored import Explored, Setting, nothing_reused
from onnx_memo.levels.inserter import LITERAL
from onnx_memo.levels.rows.blueprint import RowsBlueprint
from onnx_memo.levels.rows.layout import rows_footprint
from onnx_memo.levels.rows.propose import learn_rows, precisions
from onnx_memo.levels.rows.search import BOUNDS
from onnx_memo.levels.rows.trial import RowsTrial, Sweep
from onnx_memo.levels.tried import Original, run_original

GRID = tuple(bound / BOUNDS[-1] for bound in BOUNDS)


def explore_rows(brief: Brief, exact_misses: bool = False) -> Sequence[Explored]:
    """What the level does at bounds, with fast products first; all share one capture, of the store part.

    With `exact_misses`, what reuses nothing runs the original with fast products, too.

    Raises:
        MemoError: the model cannot run an input.
    """
    job, parts = brief.job, brief.parts.store_part()
    original = run_original(job, parts.fit, job.progress("running the fit part", len(parts.fit)))
    learned = learn_rows(job, parts)
    stored = int(rows_footprint(job.opened).total(learned.captured.lengths))
    size = stored * len(brief.parts.stored) // len(parts.stored)
    literal = nothing_reused(brief.goal, original.answers, float(original.seconds.mean()))
    found: list[Explored] = []
    ways = precisions(brief, parts.stored)
    wholes = iter(()) if exact_misses else brief.rounding.wholes()
    misses = next((whole for whole in wholes if not whole.coarse), None)
    for precision, way in dict([ways[-1], ways[0]]).items():  # the exact one, and the fast one
        # The exact one runs the original where nothing is reused, and so keeps whatever can be kept.
        settings = way(learned.settings, misses if way is ways[0][1] else None)
        blueprint = RowsBlueprint(job.opened.encoder, learned.captured, settings, parts.in_store)
        trial = RowsTrial(job.opened, blueprint)
        attempt = _attempt(brief, f"rows in {precision}", trial, original)
        if not found and parts.fit_known.any():
            literal = attempt(LITERAL)
        found.append(Explored(f"rows in {precision}", GRID, attempt, literal, trial.session, size))
    return found[::-1]


def _attempt(brief: Brief, level: str, trial: RowsTrial, original: Original) -> Callable[[float], Setting]:
    fit = brief.parts.fit
    sweep = Sweep(trial, fit, original, brief.goal)

    def attempt(strictness: float) -> Setting:
        advance = brief.job.progress(f"trying {level}, bound {strictness * BOUNDS[-1]:.2g}", len(fit))
        came = sweep.at(strictness, advance)
        cost = float(came.seconds.mean())
        return Setting(strictness, came.hits, came.seen, came.decided, cost, trial.rounds)

    return attempt
