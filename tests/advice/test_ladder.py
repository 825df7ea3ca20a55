"""The ladder of promises: which setting stands for each, and which promise is recommended."""

from __future__ import annotations

import re
from dataclasses import replace

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
from onnx_memo.proof.promise import Promise, requests_needed
from onnx_memo.sessions import Raced
from onnx_memo.timing import Measured, Times

REQUESTS, HELD_OUT = 100, 300
LOGITS = Answer({"logits": np.array([[1.0, 0.0]])})
TIMES = Times(*[Measured(1.0, 0.0)] * 3)


def setting(strictness: float, error: float, changed: int) -> Setting:
    """All requests have the error; of `changed` the decision is another."""
    errors = Seen.of([Judged(error)] * REQUESTS)
    decided = Seen.of([Judged(float(at < changed)) for at in range(REQUESTS)])
    return Setting(strictness, np.ones(REQUESTS, np.bool_), errors, decided, cost=1.0)


class Model(Explored):
    """Runs nothing: what comes of a setting is written down, and its time is what the race below gives it."""

    def __init__(self, level: str, settings: list[Setting], literal: Setting, size: int) -> None:
        self.asked: list[float] = []
        self.settings = {one.strictness: one for one in settings}
        super().__init__(level, sorted(self.settings), self.attempted, literal, None, size)

    def attempted(self, strictness: float) -> Setting:
        self.asked.append(strictness)
        return replace(self.settings[strictness], cost=SECONDS[self.level, strictness])

    def runner(self, setting: Setting):
        return (self.level, setting.strictness)


UNUSED = replace(setting(0.0, 0, 0), hits=np.zeros(REQUESTS, np.bool_), cost=10.0)
REPEATS = replace(setting(1e-9, 0, 0), hits=np.arange(REQUESTS) < 3, cost=9.7)


def models(literal: Setting) -> tuple[Model, Model]:
    """Products in int8 and in floats, with one setting tried of every EVERY: of the rest nothing is known."""
    int8 = Model("rows in int8", [setting(0.2, 0.004, 4), setting(0.6, 0.008, 20)], literal, 20)
    exact = [setting(0.1, 0, 0), setting(0.5, 0.004, 2), setting(1.0, 0.03, 30)]
    return int8, Model("rows in float", exact, literal, 10)


SECONDS = {
    "original": 10.0,
    ("rows in float", 1e-9): 9.7,
    ("rows in float", 0.1): 9.9,
    ("rows in float", 0.5): 5.0,
    ("rows in float", 1.0): 1.0,
}
SECONDS |= {
    ("rows in int8", at): time for at, time in [(0.1, 8.0), (0.2, 4.0), (0.5, 3.0), (0.6, 2.0), (1.0, 0.9)]
}
GOAL = Goal(Promise(0.0), Distance(), decision=decision_of(Wish("label"), LOGITS))


@pytest.fixture
def climbed(monkeypatch):
    """The rungs by their names, of models."""

    def race(runners, requests, rounds, advance=None) -> Raced:
        assert len({*runners}) == len(runners), "nothing is raced twice"
        return Raced(np.array([[[SECONDS[one] for one in runners]] * len(requests)] * rounds))

    monkeypatch.setattr(ladders, "race", race)
    monkeypatch.setattr(ladders, "EVERY", 1)

    def climb(found, goal=GOAL, held_out=HELD_OUT, notes=None):
        _, rungs = ladder(
            goal, found, "original", [{}] * REQUESTS, held_out, notes if notes is not None else []
        )
        return {rung.name: rung for rung in rungs}

    return climb


@pytest.fixture
def rungs(climbed):
    return climbed(models(REPEATS))


def test_exact_are_literal_repeats_alone(rungs):
    exact = rungs["exact"]
    assert (exact.ratio.value, exact.error, exact.hit_rate) == (pytest.approx(0.97), 0, 0.03)


def test_without_literal_repeats_exact_is_the_original_itself(climbed):
    exact = climbed(models(UNUSED))["exact"]
    assert (exact.level, exact.ratio.value, exact.ratio.spread, exact.bytes) == ("the original", 1, 0, 0)


def test_slower_products_are_not_tried_where_faster_ones_keep_what_is_left(climbed):
    """Here int8 keeps all promises at .5, and none at 1."""
    _, exact = models(UNUSED)
    kept = Model(
        "rows in int8", [setting(0.1, 0, 0), setting(0.5, 0.0001, 0), setting(1.0, 0.5, 90)], UNUSED, 20
    )
    climbed([kept, exact])
    assert exact.asked == [1.0], "a looser bound in floats may be faster, a stricter one not"


def test_around_where_a_decision_is_kept_the_settings_between_are_tried(climbed, monkeypatch):
    monkeypatch.setattr(ladders, "EVERY", 8)
    changed = [0] * 5 + [50] * 12
    settings = [setting((at + 1) / 17, at / 100, changed[at]) for at in range(17)]
    exact = Model("rows in float", settings, UNUSED, 10)
    for one in settings:
        monkeypatch.setitem(SECONDS, ("rows in float", one.strictness), 9 - 8 * one.strictness)
    rung = climbed([exact])["--keep 0.95"]
    assert rung.ratio.value == pytest.approx(0.9 - 0.8 * 5 / 17), "the loosest that keeps it"
    assert len(exact.asked) < len(settings)


def test_where_not_all_requests_are_timed_it_is_told(climbed, monkeypatch):
    notes: list[str] = []
    monkeypatch.setattr(ladders, "SECONDS", 0.0)
    climbed(models(UNUSED), notes=notes)
    assert notes == [f"the times are those of {ladders.LEAST} of the {REQUESTS} requests, evenly spread"]


def test_a_promise_that_so_few_cannot_prove_is_told(climbed, monkeypatch):
    notes: list[str] = []
    monkeypatch.setattr(ladders, "SECONDS", 1e9)
    rungs = climbed(models(UNUSED), held_out=100, notes=notes)
    assert "--keep 0.99" not in rungs
    assert "--keep 0.95" in rungs
    assert len(notes) == 1
    found = re.fullmatch(
        "--keep 0.99 cannot be proven with the 100 inputs that are held out of this sample, even if all "
        "decisions stay; it takes about ([0-9,]+) inputs",
        notes[0],
    )
    assert found is not None
    needed = int(found[1].replace(",", ""))
    assert requests_needed(Promise(0.0, 0.99)) <= 0.3 * needed < 1.2 * requests_needed(Promise(0.0, 0.99))


@pytest.mark.parametrize(
    ("tolerance", "level", "ratio"),
    [("0.0005", "rows in float", 0.97), ("0.005", "rows in int8", 0.4), ("0.01", "rows in int8", 0.2)],
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
