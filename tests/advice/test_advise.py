"""Advice on real models, by the command and in Python."""

from __future__ import annotations

import json

import pytest
from support import fixture, variants, write_samples

import onnx_memo
from onnx_memo.advice import run
from onnx_memo.errors import MemoError


@pytest.fixture
def data(tmp_path):
    return write_samples(tmp_path / "data.npz", variants(240, seed=1))


@pytest.mark.parametrize(("model", "level"), [("bert", "rows in "), ("deberta_v2_conv", "output")])
def test_a_ladder_goes_from_exact_to_loose(data, model, level):
    """Of a model that allows `rows`, and of one that does not."""
    advice = onnx_memo.advise(fixture(model), data)
    names = [rung.name for rung in advice.rungs]
    assert "--tolerance 0.05" in names and "--keep 0.9" in names
    tolerances = [rung for rung in advice.rungs if rung.name.startswith("--tolerance")]
    assert len(tolerances) == 7
    for rung in tolerances:
        assert rung.error <= float(rung.options[1])
        assert [kept.of for kept in rung.kept] == [advice.requests, 10 * advice.requests]
        if rung.level == "the original":  # models of this size gain little
            assert (rung.ratio.value, rung.hit_rate, rung.error, rung.bytes) == (1, 0, 0, 0)
        else:
            assert rung.level.startswith(level)
            assert rung.hit_rate > 0 and rung.bytes > 0
    assert len(json.loads(json.dumps(advice.to_dict()))["rungs"]) == len(advice.rungs)
    assert "<table" in advice._repr_html_()


def test_nothing_is_left_behind_and_nothing_is_warned_of_that_nobody_asked_for(tmp_path, data, cli):
    shown = cli("advise", fixture("bert"), "--data", data, "--page", tmp_path / "advice.html")
    assert (shown.code, shown.err) == (0, "")
    assert {path.name for path in tmp_path.iterdir()} == {"data.npz", "advice.html"}
    assert "warning" not in shown.out
    page = (tmp_path / "advice.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>") and "<svg" in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")


def test_a_command_is_recommended_or_the_reason_given(data, cli):
    advice = json.loads(cli("advise", fixture("bert"), "--data", data, "--json").out)
    if advice["command"] is None:
        assert advice["why"].startswith("nothing pays: ")
    else:
        assert advice["command"].startswith("onnx-memo optimize ")
        assert str(data) in advice["command"]


def test_the_command_asks_for_all_that_was_asked_for(data, tmp_path, monkeypatch):
    """Here the last rung is taken, whatever it saves."""
    (tmp_path / "small.onnx").write_bytes(fixture("bert").read_bytes())
    monkeypatch.setattr(run, "chosen_of", lambda rungs, reason: (rungs[-1], "it is the last"))
    asked = {"decision": "neighbours", "slack": 1.5, "mask": "attention_mask", "allow_unknown": True}
    asked["file"] = "small.onnx"
    advice = onnx_memo.advise(tmp_path, data, outputs=["last_hidden_state"], **asked)
    for option in (
        "--decision neighbours",
        "--slack 1.5",
        "--file small.onnx",
        "--mask attention_mask",
        "--allow-unknown",
        "--output last_hidden_state",
        "--keep 0.9 -o bundle",
    ):
        assert option in advice.command
    assert "the directory's 'small.onnx' is taken; outputs: 'last_hidden_state'" in advice.notes


def test_too_few_inputs_are_told(tmp_path, cli):
    data = write_samples(tmp_path / "few.npz", variants(50, seed=1))
    refused = cli("advise", fixture("bert"), "--data", data)
    assert refused.code == 2
    assert "give at least 197" in refused.err


def test_a_page_that_is_no_page_is_refused(data, cli, tmp_path):
    refused = cli("advise", fixture("bert"), "--data", data, "--page", tmp_path / "advice.pdf")
    assert refused.code == 2
    assert "name a file that ends in .html" in refused.err


def test_a_page_that_could_not_be_written_is_refused_before_anything_runs(data, cli, tmp_path):
    refused = cli("advise", tmp_path / "no model.onnx", "--data", data, "--page", tmp_path / "no" / "a.html")
    assert refused.code == 2
    assert f"there is no folder '{tmp_path / 'no'}'" in refused.err


def test_an_output_that_is_not_there_is_named(data, cli):
    refused = cli("advise", fixture("bert"), "--data", data, "--output", "nope")
    assert refused.code == 2
    assert "the model has no output 'nope': it has last_hidden_state" in refused.err


def test_a_decision_that_does_not_suit_is_refused(data):
    with pytest.raises(MemoError, match="--decision likelihood needs token logits"):
        onnx_memo.advise(fixture("bert"), data, decision="likelihood")
