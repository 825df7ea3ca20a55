"""`screen`: all inputs through a bundle, the best of them through the original."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from support import changed, fixture, original, scoring, variants, write_samples

import onnx_memo
from onnx_memo import MemoError, ranking

COUNT, TOP = 200, 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of one number, a bundle that errs (it reuses what is merely near), and inputs to rank."""
    folder = tmp_path_factory.mktemp("screen")
    model = changed("bert", folder / "model.onnx", scoring)
    stored = write_samples(folder / "stored.npz", variants(60, seed=1))
    onnx_memo.optimize(model, stored, folder / "bundle", level="output", threshold=0.5)
    write_samples(folder / "data.npz", variants(COUNT, seed=2))
    return folder


@pytest.fixture(scope="module")
def truth(folder):
    session = original(folder / "model.onnx")
    return np.asarray([session.run(None, feeds)[0][0, 0] for feeds in variants(COUNT, seed=2)])


def screen(folder, **options):
    options = {"top": TOP, "keep": 0.8, "native": False} | options
    return onnx_memo.screen(folder / "model.onnx", folder / "bundle", folder / "data.npz", **options)


def test_the_best_are_found_and_all_of_them_have_the_originals_score(folder, truth):
    found = screen(folder)
    numbers = [one.number - 1 for one in found.ranking]
    assert [one.score for one in found.ranking] == pytest.approx(truth[numbers])
    assert sorted((one.score for one in found.ranking), reverse=True) == [one.score for one in found.ranking]
    best = np.argsort(-truth, kind="stable")[:TOP]
    assert np.isin(best, numbers).mean() >= 0.8
    assert found.confirmed < COUNT
    assert found.ratio > found.fast_ratio > 0


def test_the_bundle_scores_all_and_the_original_those_that_are_confirmed(folder, truth):
    found = screen(folder)
    known = np.isfinite(found.scores)
    assert known.sum() == found.confirmed
    assert found.scores[known] == pytest.approx(truth[known])
    assert np.isfinite(found.fast).all()
    assert np.abs(found.fast - truth).max() > 1e-3  # the bundle does err here
    assert [one.fast for one in found.ranking] == [found.fast[one.number - 1] for one in found.ranking]


def test_the_lowest_can_be_wanted(folder, truth):
    found = screen(folder, lowest=True)
    numbers = [one.number - 1 for one in found.ranking]
    assert np.isin(np.argsort(truth, kind="stable")[:TOP], numbers).mean() >= 0.8
    assert [one.score for one in found.ranking] == pytest.approx(np.sort(truth[numbers]))
    assert found.scores[numbers] == pytest.approx(truth[numbers])


def test_a_function_of_outputs_and_inputs_is_a_score(folder, truth):
    found = screen(folder, score=lambda outputs, inputs: -outputs["score"][0, 0], lowest=True)
    assert [one.number for one in found.ranking] == [one.number for one in screen(folder).ranking]
    by_input = screen(folder, score=lambda outputs, inputs: float(inputs["input_ids"].sum()))
    assert by_input.confirmed == len({*_drawn(by_input), *np.argsort(-by_input.fast, kind="stable")[:TOP]})


def _drawn(found):
    return np.random.default_rng(0).choice(found.inputs, found.calibrated, replace=False)


def test_a_share_of_the_inputs_can_be_wanted_and_drawn(folder):
    found = screen(folder, top=0.2, calibration=0.45)
    assert (len(found.ranking), found.calibrated, found.inputs) == (TOP, 90, COUNT)


def test_what_is_drawn_depends_on_the_seed_alone(folder):
    known = [np.isfinite(screen(folder, seed=seed).scores) for seed in (0, 0, 1)]
    assert np.array_equal(known[0], known[1])
    assert not np.array_equal(known[0], known[2])


def test_every_input_runs_once_in_each_model(folder, monkeypatch):
    runs: Counter[tuple[int, int]] = Counter()
    answer = ranking._answer

    def counted(pair, session, at):
        runs[id(session), at] += 1
        return answer(pair, session, at)

    monkeypatch.setattr(ranking, "_answer", counted)
    found = screen(folder)
    assert (
        sum(runs.values()) == COUNT + found.confirmed + 3
    )  # the first of a session, and what outputs are like
    assert max(count for (_, at), count in runs.items() if at) == 1


def test_rows_are_numbered_as_in_the_file(folder, tmp_path):
    """Inputs that cannot be used are left out, and the others keep their numbers."""
    with np.load(folder / "data.npz") as archive:
        arrays = {name: archive[name].copy() for name in archive.files}
    arrays["attention_mask"][:3, 0] = 0
    np.savez(tmp_path / "data.npz", **arrays)
    found = onnx_memo.screen(
        folder / "model.onnx", folder / "bundle", tmp_path / "data.npz", top=TOP, keep=0.8, native=False
    )
    assert found.inputs == COUNT - 3
    assert min(one.number for one in found.ranking) > 3
    assert any("3 inputs left out" in note for note in found.notes)
    for one in found.ranking:
        assert one.score == found.scores[one.number - 4]


def test_the_time_is_held_against_that_of_scoring_all_with_the_original(folder):
    """Inputs of one length: what the original did of its work is the share that it scored."""
    found = screen(folder)
    assert found.ratio - found.fast_ratio == pytest.approx(found.confirmed / COUNT)


# ---- What is said


def test_what_was_found_is_valid_json_and_a_page(folder):
    found = screen(folder)
    made = json.loads(json.dumps(found.to_dict()))
    assert made["ranking"][0].keys() == {"number", "score", "fast"}
    assert not {"scores", "fast"} & made.keys()
    shown = found._repr_html_()
    assert f"The top {TOP} of {COUNT} inputs" in shown
    assert "and 20 more" in shown
    assert "with 95% confidence at least 80% of the true top are among them; to expect are" in shown


def test_a_fast_score_of_no_use_is_said_to_be(folder):
    calls = []

    def score(outputs, inputs):
        calls.append(1)
        number = float(outputs["score"][0, 0])
        return -number if len(calls) <= COUNT else number

    found = screen(folder, score=score)
    assert found.confirmed > 0.9 * COUNT
    assert found.ratio > found.fast_ratio


# ---- What is refused


@pytest.mark.parametrize("top", [0, COUNT, 1.5, -0.5, True, np.nan, np.inf])
def test_a_top_is_a_count_or_a_share(folder, top):
    with pytest.raises(MemoError, match="top takes a count from 1 to 199, or a share below 1, not"):
        screen(folder, top=top)


def test_a_proof_that_takes_too_many_inputs_is_refused_with_what_to_do(folder):
    with pytest.raises(MemoError) as refused:
        screen(folder, top=10, keep=0.95)
    assert str(refused.value) == (
        "to prove 0.95 of the top 10 of 200 inputs, the original had to score more than half of them at "
        "random: draw 190 (calibration=190); give more inputs; or ask for a larger top, whose best come "
        "first, or for a smaller keep or confidence (docs/calibration.md)"
    )


def test_more_can_be_drawn_than_are_worth_it_where_that_is_asked_for(folder):
    assert len(screen(folder, top=10, keep=0.95, calibration=190).ranking) == 10


def test_a_calibration_that_is_too_small_is_refused(folder):
    with pytest.raises(MemoError, match=r"20 inputs drawn at random cannot prove 0.8 of the top 40 of 200"):
        screen(folder, calibration=20)


@pytest.mark.parametrize("number", [np.nan, np.inf, np.ones(2), None, "7"])
def test_a_score_that_is_no_number_is_refused(folder, number):
    with pytest.raises(MemoError, match="the score of input 1 is no finite number but"):
        screen(folder, score=lambda outputs, inputs: number)


def test_threads_are_at_least_one(folder):
    with pytest.raises(MemoError, match="threads takes a number of at least 1"):
        screen(folder, threads=0)


def test_a_bundle_of_another_model_is_refused(folder):
    with pytest.raises(MemoError, match="was made from another model"):
        onnx_memo.screen(fixture("bert"), folder / "bundle", folder / "data.npz", top=TOP)


@pytest.mark.parametrize(
    ("score", "said"),
    [
        ("perplexity", "no score 'perplexity': take 'likelihood', or give a function"),
        ("likelihood", "needs token logits.*; or give a score, a function of outputs and inputs"),
    ],
)
def test_a_score_that_the_model_does_not_give_is_refused(folder, score, said):
    with pytest.raises(MemoError, match=said):
        screen(folder, score=score)
