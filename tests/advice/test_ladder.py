"""The ladder of promises: which setting stands for each, and which promise is recommended."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_memo.advice import ladder as ladders
from onnx_memo.advice.ladder import Rung, ladder
from onnx_memo.advice.run import chosen_of
from onnx_memo.levels.explored import Explored, Setting
from onnx_memo.proof.answer import Answer
from onnx_memo.proof.choice import Wish, decision_of
from onnx_memo.proof.goal import Goal
from onnx_memo.proof.measure import Distance, Judged, Kept, Seen
from onnx_memo.proof.promise import Promise
from onnx_memo.sessions import Raced
from onnx_memo.timing import Measured, Times

REQUESTS, HELD_OUT = 100, 300
LOGITS = Answer({"logits": np.array([[1.0, 0.0]])})
TIMES = Times(*[Measured(1.0, 0.0)] * 3)


def setting(strictness: float, error: float, changed: int) -> Setting:
    """All requests have the error; of `changed` the decision is another."""
    errors = Seen.of([Judged(error)] * REQUESTS)
    decided = Seen.of([Judged(float(at < changed)) for at in range(REQUESTS)])
    return Setting(strictness, np.ones(REQUESTS, np.bool_), errors, decided)


class Model(Explored):
    """Runs nothing: a setting's time is what the race below gives it."""

    def runner(self, setting: Setting):
        return (self.level, setting.strictness)


FLOAT = Model("rows in float", [setting(0.0, 0, 0), setting(0.5, 0.004, 2), setting(1.0, 0.03, 30)], None, 10)
INT8 = Model("rows in int8", [setting(0.2, 0.004, 4), setting(0.6, 0.008, 20)], None, 20)
SECONDS = {
    "original": 10.0,
    ("rows in float", 0.0): 9.9,
    ("rows in float", 0.5): 5.0,
    ("rows in float", 1.0): 1.0,
}
SECONDS |= {("rows in int8", 0.2): 4.0, ("rows in int8", 0.6): 2.0}


@pytest.fixture
def rungs(monkeypatch):
    def race(runners, requests, rounds, advance=None) -> Raced:
        assert len({*runners}) == len(runners), "nothing is raced twice"
        return Raced(np.array([[[SECONDS[one] for one in runners]] * len(requests)] * rounds))

    monkeypatch.setattr(ladders, "race", race)
    goal = Goal(Promise(0.0), Distance(), decision=decision_of(Wish("label"), LOGITS))
    _, found = ladder(goal, [FLOAT, INT8], "original", [{}] * REQUESTS, HELD_OUT)
    return {rung.name: rung for rung in found}


def test_exact_is_what_has_no_error(rungs):
    assert (rungs["exact"].ratio.value, rungs["exact"].error) == (pytest.approx(0.99), 0)


@pytest.mark.parametrize(
    ("tolerance", "level", "ratio"),
    [("0.0005", "rows in float", 0.99), ("0.005", "rows in int8", 0.4), ("0.01", "rows in int8", 0.2)],
)
def test_of_the_loosest_settings_within_a_tolerance_the_fastest_is_taken(rungs, tolerance, level, ratio):
    rung = rungs[f"--tolerance {tolerance}"]
    assert (rung.level, rung.ratio.value) == (level, pytest.approx(ratio))


def test_a_decision_has_to_be_kept_as_often_as_the_held_out_part_would_have_to_prove(rungs):
    """300 prove 95 % with 9 failures, 3 %: so 2 of 100 may be changed, and not 4."""
    assert rungs["--keep 0.95"].level == "rows in float"
    assert [str(kept) for kept in rungs["--keep 0.95"].kept] == ["the label stays: 98.0% (98 of 100)"]
    assert rungs["--keep 0.9"].level == "rows in int8"


def test_the_loosest_tolerance_takes_the_loosest_setting(rungs):
    assert rungs["--tolerance 0.05"].ratio.value == pytest.approx(0.1)


# ---- What is recommended


def rung(ratio: float, *options: str, spread: float = 0.01, kept: bool = True) -> Rung:
    stays = [Kept("the label stays", 98, 100)] if kept else []
    return Rung(options, "rows in float", Measured(ratio, spread), TIMES, 0.5, 0.0, stays, 10)


def test_the_decision_kept_is_recommended():
    exact, keep, fast = rung(0.9), rung(0.4, "--keep", "0.95"), rung(0.1, "--tolerance", "0.05")
    chosen, why = chosen_of([exact, fast, keep], "")
    assert chosen is keep
    assert why.startswith("'--keep 0.95' keeps the promise in 0.400 ")
    assert "the label stays: 98.0% (98 of 100)" in why


def test_literal_repeats_are_recommended_where_more_gains_nothing():
    exact, keep = rung(0.405), rung(0.4, "--keep", "0.95")
    chosen, why = chosen_of([exact, keep], "")
    assert chosen is exact
    assert "literal repeats" in why


def test_without_a_decision_it_is_a_tolerance():
    chosen, _ = chosen_of([rung(0.9, kept=False), rung(0.4, "--tolerance", "0.01", kept=False)], "")
    assert chosen is not None
    assert chosen.options == ("--tolerance", "0.01")


def test_a_gain_within_the_spread_is_none():
    chosen, why = chosen_of([rung(0.9, "--keep", "0.95", spread=0.2)], "")
    assert chosen is None
    assert "nothing pays" in why


def test_where_nothing_pays_that_is_said_with_the_reason():
    chosen, why = chosen_of([rung(1.01), rung(0.99, "--keep", "0.95")], "")
    assert chosen is None
    assert why.startswith("nothing pays: '--keep 0.95' would take 0.990")
    assert chosen_of([], "rows: no request has as many tokens") == (
        None,
        "nothing pays: rows: no request has as many tokens",
    )
