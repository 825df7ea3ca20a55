"""Races: what they measure, and how far that is uncertain."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_memo.sessions import Raced, race


def test_every_request_runs_everywhere_in_every_round_and_who_goes_first_changes():
    ran: list[tuple[str, int]] = []
    runners = [lambda feeds, name=name: ran.append((name, feeds["at"])) for name in "ab"]
    raced = race(runners, [{"at": 0}, {"at": 1}, {"at": 2}], 2)
    assert raced.seconds.shape == (2, 3, 2)
    assert (raced.seconds > 0).all()
    assert ran[:6] == [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2), ("b", 2)]
    assert ran[6:] == [("b", 0), ("a", 0), ("a", 1), ("b", 1), ("b", 2), ("a", 2)]


def test_of_several_nobody_always_follows_the_same_one():
    ran: list[str] = []
    runners = [lambda feeds, name=name: ran.append(name) for name in "abc"]
    race(runners, [{}] * 6, 1)
    turns = ["".join(ran[at : at + 3]) for at in range(0, 18, 3)]
    assert turns == ["abc", "bca", "cab", "acb", "bac", "cba"]


def test_the_ratio_is_of_totals_and_the_noise_half_the_range_of_rounds():
    seconds = np.array([[[1.0, 0.2], [3.0, 0.2]], [[1.0, 0.4], [3.0, 0.4]], [[1.0, 0.3], [3.0, 0.3]]])
    raced = Raced(seconds)
    assert raced.ratio == pytest.approx(0.6 / 4)
    assert raced.noise == pytest.approx((0.8 / 4 - 0.4 / 4) / 2)
    assert raced.medians.tolist() == [[1.0, 0.3], [3.0, 0.3]]


def test_one_round_knows_no_noise():
    assert Raced(np.ones((1, 2, 2))).noise == 0
