"""The choice of a plan: the best one, found with few trials."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from onnx_memo.levels.sites import choose
from onnx_memo.levels.sites.choose import Candidate, Chooser, nearest_entries
from onnx_memo.levels.sites.plan import Plan
from onnx_memo.progress import silent
from onnx_memo.proof.goal import Goal
from onnx_memo.proof.measure import Distance, Judged
from onnx_memo.proof.promise import Promise
from onnx_memo.proof.thresholds import loosest_threshold


class Law(Chooser):
    """A plan of k sites hits with the share hits[k - 1]; every site saves savings[its number]."""

    def __init__(self, hits, savings, usable=1.0):
        self.hits, self.savings, self.original_us, self.best, self.tried = hits, savings, 100.0, 0.0, []
        self.lengths = np.where(np.arange(100) < 100 * usable, 5, 6)
        self.in_store = np.ones(1, np.bool_)

    def saving(self, level, name):
        return self.savings[int(name)]

    def judge(self, plan, captures, progress):
        size = len(plan.levels)
        self.tried.append(size)
        saved = sum(self.savings[:size]) / self.original_us
        hits = self.hits[size - 1]
        return Candidate(plan, 1 - hits * saved, hits, 1.0, np.zeros(1), None)

    def search(self):
        plans = [
            Plan(dict.fromkeys(map(str, range(k)), "output"), True) for k in range(1, len(self.hits) + 1)
        ]
        captures = {"output": SimpleNamespace(lengths=np.asarray([5]))}
        return min(self._search(plans, captures, silent), key=lambda c: c.ratio)


@pytest.mark.parametrize("seed", range(40))
def test_the_best_plan_is_found(seed):
    rng = np.random.default_rng(seed)
    hits = np.sort(rng.random(12))[::-1].tolist()
    savings = (5 * rng.random(12)).tolist()
    law = Law(hits, savings)
    best = 1 - max(h * s for h, s in zip(hits, np.cumsum(savings) / 100, strict=True))
    assert law.search().ratio <= best + choose.BETTER
    assert len(law.tried) == len(set(law.tried))


@pytest.mark.parametrize(("hits", "most"), [([0.5] * 12, 3), ([1.0] * 12, 1), ([0.9] * 6 + [0.0] * 6, 5)])
def test_few_plans_are_tried(hits, most):
    law = Law(hits, [5.0] * 12)
    law.search()
    assert len(law.tried) <= most


def test_more_than_is_comparable_cannot_hit():
    """With entries for half of the requests, all of which hit, no other plan can save more."""
    law = Law([0.5] * 12, [5.0] * 12, usable=0.5)
    law.search()
    assert law.tried == [12]


@pytest.mark.parametrize("share", [0.0, 0.02, 0.1, 0.5, 1.0])
def test_requests_beyond_the_last_that_fails_are_not_run(share):
    """The threshold is the same as if all had been run."""
    rng = np.random.default_rng(1)
    distances = rng.permutation(100) / 100
    errors = np.where(rng.random(100) < share, 1.0, 0.0)
    ran = []

    class Given(Distance):
        def judge(self, want, have):
            return Judged(0.0 if have == "the original's" else errors[want.at])

    class Fixed(Chooser):
        def __init__(self):
            self.provable, self.original_us, self.held_out = Promise(0.5), 1.0, 100
            self.wanted = [SimpleNamespace(at=at, outputs="the original's", own=None) for at in range(100)]
            self.goal = Goal(Promise(0.5), Given())
            self.sites, self.costs = {"s": None}, {}
            self.requests = SimpleNamespace(arrays=list(range(100)), real=lambda at: None)

        def learn(self, plan, captures):
            return None

        def nearest(self, network, captured, site):
            return np.zeros(100, np.int64), distances

        def _trial(self, plan, captures):
            return SimpleNamespace(run=lambda at, entry, enabled: ran.append(at)), np.ones(1, np.bool_)

    found = Fixed().judge(Plan({"s": "output"}, True), {"output": None}, silent)
    want = loosest_threshold(Promise(0.5), distances, errors)
    assert found.most == want
    assert len(ran) == min(100, np.count_nonzero(distances <= want))


def test_the_nearest_entry_is_of_the_same_length():
    rng = np.random.default_rng(0)
    keys, queries = rng.standard_normal((60, 8)).astype(np.float32), rng.standard_normal((30, 8)).astype("f")
    key_lengths, lengths = rng.integers(3, 8, 60), rng.integers(3, 10, 30)
    queries[4], lengths[4] = keys[7], key_lengths[7]
    allowed = np.arange(60) % 3 > 0
    entries, distances = nearest_entries(queries, lengths, keys, key_lengths, allowed)
    for at in range(30):
        usable = np.flatnonzero(allowed & (key_lengths == lengths[at]))
        if not len(usable):
            assert entries[at] == -1
            assert distances[at] == np.inf
            continue
        every = np.linalg.norm(keys[usable] - queries[at], axis=1)
        assert entries[at] == usable[every.argmin()]
        assert distances[at] == pytest.approx(every.min(), rel=1e-5)
    assert (entries[4], distances[4]) == (7, 0.0)
