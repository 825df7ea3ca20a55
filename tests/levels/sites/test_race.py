"""Plans are raced: what the profile prefers, and a simpler one where more gains nothing measurable."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from support import raced

from onnx_memo.levels.sites import race
from onnx_memo.levels.sites.choose import Candidate
from onnx_memo.levels.sites.plan import Plan


def plan_of(sites: int, ratio: float) -> Candidate:
    return Candidate(
        Plan(dict.fromkeys(map(str, range(sites)), "output"), True), ratio, 0.5, 1.0, np.zeros(1), None
    )


def run(monkeypatch, candidates, measured):
    """`measured`: what a race of the plan with so many sites gives."""
    notes: list[str] = []
    asked: list[int] = []

    def ask(brief, parts, candidate, captures):
        asked.append(len(candidate.plan.levels))
        return raced(*measured[asked[-1]])

    monkeypatch.setattr(race, "_race", ask)
    brief = SimpleNamespace(job=SimpleNamespace(notes=notes))
    chosen, known = race.race_plans(brief, None, candidates, {})
    assert len(known) == len(candidates)
    return len(chosen.plan.levels), chosen.ratio, asked, notes


def test_the_ratio_is_the_one_that_was_measured(monkeypatch):
    """The profile's savings may exceed the time that a small model takes at all."""
    assert run(monkeypatch, [plan_of(3, 0.0), plan_of(1, 0.5)], {3: (0.4, 0.01)}) == (3, 0.4, [3], [])


def test_a_simpler_plan_is_taken_where_more_sites_gain_nothing_measurable(monkeypatch):
    plans = [plan_of(6, 0.50), plan_of(2, 0.51), plan_of(4, 0.505), plan_of(1, 0.9)]
    sites, ratio, asked, notes = run(monkeypatch, plans, {6: (0.5, 0.02), 2: (0.515, 0.0)})
    assert (sites, ratio, asked) == (2, 0.515, [6, 2])
    (note,) = notes
    assert "gained no more than the timing is uncertain (0.500 of the original's time, for 0.515)" in note


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_and_not_where_they_do(monkeypatch, noise):
    plans = [plan_of(6, 0.50), plan_of(2, 0.51)]
    sites, ratio, _, notes = run(monkeypatch, plans, {6: (0.5, noise), 2: (0.6, 0.0)})
    assert (sites, ratio, notes) == (6, 0.5, [])
