"""The study of splits on answers that are made up: what a pool remembers, and what is said of a promise."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from onnx_memo.data.samples import Samples
from onnx_memo.levels.rows.search import BOUNDS
from onnx_memo.levels.tried import Tried
from onnx_memo.proof.decisions import Label
from onnx_memo.proof.goal import Goal
from onnx_memo.proof.measure import Judged, Seen
from onnx_memo.proof.promise import Promise
from onnx_memo.proof.values import label_value
from tools import study_splits
from tools.study_splits import GRID, KEEPS, STEP, Pool, Result

COUNT = 1500
LABEL = Label(label_value("logits"))
GOAL = Goal(Promise(0.0), None, decision=LABEL)


def requests() -> Samples:
    return Samples([{"x": np.asarray([[at]])} for at in range(COUNT)], [1] * COUNT, None)


def pool_of(share_changed) -> Pool:
    """All requests are reused; what share of them gets another label is a function of the bound."""
    pool = Pool(SimpleNamespace(), requests(), None, GOAL, True)

    def at(strictness: float, advance) -> Tried:
        rng = np.random.default_rng(0)  # the same ones, and more of them, at looser bounds
        changed = rng.random(COUNT) < share_changed(strictness * GRID[0])
        seen = Seen.of([Judged(float(one)) for one in changed])
        return Tried(np.ones(COUNT, np.bool_), np.full(COUNT, 0.2), seen, seen, np.zeros(COUNT))

    pool._sweep = SimpleNamespace(at=at)
    return pool


def result(pool: Pool, keep: float, seed: int) -> Result:
    mixed = np.random.default_rng(seed).permutation(COUNT)
    return study_splits._result(GOAL, keep, requests(), np.split(mixed, [150, 450]), [pool])


def test_a_bound_is_rounded_to_the_grid():
    asked = []
    pool = pool_of(lambda bound: asked.append(bound) or 0.0)
    some = requests().take([3, 1])
    for bound in (0.1, 0.1 * STEP**0.4, 0.1 * STEP**0.4):
        assert len(pool.at(bound, some).hits) == 2
    assert len(asked) == 1, "what was run is remembered"
    assert asked[0] == pytest.approx(0.1, rel=STEP - 1)
    assert GRID[0] > max(BOUNDS) and GRID[-1] < min(BOUNDS)


@pytest.mark.parametrize("keep", KEEPS)
def test_a_promise_holds_where_few_decisions_change(keep):
    found = [result(pool_of(lambda bound: 0.2 * bound), keep, seed) for seed in range(10)]
    assert sum(one.kept >= keep for one in found) >= 9
    assert any(one.reuses for one in found)
    assert all(one.ratio < 1 for one in found if one.reuses)


def test_where_decisions_change_at_every_bound_nothing_is_reused():
    assert result(pool_of(lambda bound: 0.3), 0.95, 0) == Result(0.95, False, 1.0, 1.0, 0.0)


def test_the_table_counts_the_splits_in_which_a_promise_held():
    results = [
        {"keep": 0.95, "reuses": True, "kept": kept, "ratio": 0.5, "hit_rate": 1.0} for kept in (0.94, 0.97)
    ]
    text = study_splits._table({"logs": [*results, {**results[0], "keep": 0.99, "kept": 1.0}]})
    assert "| log lines: neighbours | 0.95 | 2 | 94.0% | 95.5% | 1 of 2 | 0.50 |" in text
    assert "| log lines: neighbours | 0.99 | 1 | 100.0% | 100.0% | 1 of 1 | 0.50 |" in text
