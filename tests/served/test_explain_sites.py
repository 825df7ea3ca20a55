"""What is explained at the levels of single attention blocks, and at the command line."""

from __future__ import annotations

import json

import pytest
from support import LEVELS, assert_identical, memoized, original, random_samples, write_samples

import onnx_memo
from onnx_memo.served import explanation as say


@pytest.mark.parametrize("level", LEVELS)
def test_stored_inputs_are_reused_at_every_site_and_others_nowhere(made, level, mode):
    one = made("bert", level)
    native = mode == "native"
    stored = onnx_memo.explain(one.bundle, arrays=one.samples[4], native=native)
    assert stored.outcome == say.REUSED
    assert all(lookup.reused and lookup.distance <= lookup.threshold for lookup in stored.lookups)
    for length, outcome in ((9, say.TOO_FAR), (10, say.OTHER_LENGTH)):
        (request,) = random_samples(original(one.model), [length], seed=99)
        other = onnx_memo.explain(one.bundle, arrays=request, native=native)
        assert (other.outcome, other.error) == (outcome, 0)
        assert not any(lookup.reused for lookup in other.lookups)
        assert_identical(
            memoized(one.bundle, mode).run(None, request), original(one.model).run(None, request)
        )


def test_the_command_explains_a_line_draws_it_and_finds_the_worst(made, cli, tmp_path):
    one = made("bert", "rows")
    unseen = random_samples(original(one.model), [10], seed=99)
    data = write_samples(tmp_path / "data.npz", [*one.samples[:2], *unseen])
    picture = tmp_path / "picture.svg"
    line = cli("explain", one.bundle, "--data", data, "--line", 2, "--picture", picture, "--json")
    assert json.loads(line.out)["outcome"] == say.REPEAT
    assert picture.read_text().startswith("<svg")
    assert "input 2: repeat" in cli("explain", one.bundle, "--data", data, "--line", 2).out
    worst = json.loads(cli("explain", one.bundle, "--data", data, "--json").out)
    assert worst["outcomes"] == {say.REPEAT: 2, say.OTHER_LENGTH: 1}
    assert [each["place"] for each in worst["missed"]] == ["input 3"]


def test_what_names_no_request_is_answered_in_a_line(made, cli, tmp_path):
    bundle, data = made("bert", "rows").bundle, made("bert", "rows").data
    for options in (
        (),
        ("--line", 1),
        ("--data", data, "--line", 99),
        ("--data", data, "--sample", data),
        ("--data", data, "--line", 1, "--picture", tmp_path / "picture.png"),
    ):
        outcome = cli("explain", bundle, *options)
        assert (outcome.code, outcome.err.count("\n")) == (2, 1)
