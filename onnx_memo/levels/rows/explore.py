"""Run the fit part at bounds from strict to loose, with the products in int8 and in floats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from onnx_memo.levels.base import Brief
from onnx_memo.levels.explored import Explored, Setting
from onnx_memo.levels.rows.blueprint import RowsBlueprint
from onnx_memo.levels.rows.layout import rows_footprint
from onnx_memo.levels.rows.propose import learn_rows, precisions
from onnx_memo.levels.rows.search import BOUNDS
from onnx_memo.levels.rows.trial import RowsTrial, run_original

EVERY = 5  # of the bounds one is tried
LITERAL = 1e-9  # a strictness at which only what is stored literally is reused


def explore_rows(brief: Brief) -> Sequence[Explored]:
    """What the level does at each of some bounds; the capture is shared by all.

    Raises:
        MemoError: the model cannot run an input.
    """
    job, parts = brief.job, brief.parts
    fit = run_original(job.opened, parts.fit, job.progress("running the fit part", len(parts.fit)))
    learned = learn_rows(job, parts)
    size = int(rows_footprint(job.opened, None).total(learned.captured.lengths))
    found = []
    ways = precisions(job.opened, parts.stored)
    for precision, products in dict([ways[-1], ways[0]]).items():  # the exact one, and the fast one
        settings = replace(learned.settings, int8=products)
        blueprint = RowsBlueprint(job.opened.encoder, learned.captured, settings, parts.in_store)
        trial = RowsTrial(job.opened, blueprint)
        bounds = [bound / BOUNDS[-1] for bound in BOUNDS[::EVERY]]
        strict = [LITERAL, *bounds] if not products else bounds
        advance = job.progress(f"trying rows in {precision}", len(strict) * len(parts.fit))
        tried = []
        for strictness in strict:
            came = trial.run(parts.fit, fit, strictness, brief.goal, advance)
            tried.append(Setting(strictness, came.hits, came.seen, came.decided))
        found.append(Explored(f"rows in {precision}", tried, trial.session, size))
    return found
