"""Bundles made to keep decisions: on requests that nobody has seen, as often as was asked for."""

from __future__ import annotations

import re

import numpy as np
import onnx_ir as ir
import pytest
from support import changed, fixture, memoized, nothing_left_in, original, variants, write_samples
from support_classes import classifying

import onnx_memo
from onnx_memo.errors import MemoError
from onnx_memo.proof.answer import Answer
from onnx_memo.proof.choice import Wish, decision_of
from onnx_memo.proof.ranking import pairs_in_order, top_kept

KEEP = 0.9


def kept_by(notes, what) -> float:
    """What the notes say that is kept."""
    (said,) = (note for note in notes if note.startswith(f"held out, {what}"))
    return float(re.findall(r": ([\d.]+)%", said)[0]) / 100


def make(tmp_path, model, **options):
    data = write_samples(tmp_path / "data.npz", variants(240, seed=1))
    return onnx_memo.optimize(model, data, tmp_path / "bundle", keep=KEEP, **options)


def kept(model, bundle, decision) -> tuple[float, float]:
    """Of unseen requests: the share whose decision stays, and the share whose answer is another one."""
    before, after = original(model), memoized(bundle, "stock")
    name = before.get_outputs()[0].name

    def answer(feeds) -> Answer:
        return Answer({name: before.run(None, feeds)[0]}, feeds["attention_mask"][0] != 0, feeds)

    sample = [answer(feeds) for feeds in variants(240, seed=1)]
    measure = decision_of(Wish(decision), sample[0])
    measure = measure.against([measure.remembered(one) for one in sample], [])
    stays, moved = [], []
    for feeds in variants(120, seed=2):
        want, have = answer(feeds), after.run(None, feeds)[0]
        stays.append(measure.error(want, {name: have}) == 0)
        moved.append(not np.array_equal(want.outputs[name], have))
    return float(np.mean(stays)), float(np.mean(moved))


@pytest.mark.usefixtures("everything_pays")
def test_the_nearest_neighbour_stays(tmp_path):
    made = make(tmp_path, fixture("bert"), level="rows")
    stays, moved = kept(fixture("bert"), made.path, "neighbours")
    assert stays >= KEEP - 0.05  # among all of the sample; the proof was among what is stored
    assert moved > 0
    notes = made.manifest.notes
    assert any(note.startswith("the decision is which of ") for note in notes)
    assert kept_by(notes, "the nearest neighbour") >= KEEP
    assert kept_by(notes, "of the ten nearest") > 0.5


@pytest.mark.usefixtures("everything_pays")
def test_a_tolerance_that_blurs_neighbours_is_warned_of_in_the_first_line(tmp_path, cli):
    data = write_samples(tmp_path / "data.npz", variants(240, seed=1))
    made = onnx_memo.optimize(fixture("bert"), data, tmp_path / "bundle", tolerance=1.0, level="rows")
    assert 0 < kept_by(made.manifest.notes, "the nearest neighbour") < 1
    shown = cli("inspect", made.path).out
    assert shown.startswith("warning: the tolerance 1 is more than a fifth of")


@pytest.mark.usefixtures("everything_pays")
@pytest.mark.parametrize("level", ["rows", "output"])
@pytest.mark.parametrize("decision", [None, "label"])
def test_the_best_class_stays(tmp_path, level, decision):
    model = changed("bert", tmp_path / "model.onnx", classifying)
    made = make(tmp_path, model, level=level, decision=decision)
    stays, moved = kept(model, made.path, "label")
    assert stays >= KEEP
    assert moved > 0
    assert "the decision is the label by output 'logits'" in made.manifest.notes
    assert kept_by(made.manifest.notes, "the label stays") >= KEEP


def scoring(model: ir.Model) -> None:
    """One number, `score` [B, 1]: the first of the first token's states."""
    classifying(model)
    (logits,) = model.graph.outputs
    which = ir.node("Constant", [], {"value": ir.tensor(np.arange(1))})
    score = ir.node("Gather", [logits, which.outputs[0]], {"axis": 1})
    logits.name = "classes"
    score.outputs[0].name, score.outputs[0].type = "score", logits.type
    score.outputs[0].shape = ir.Shape([None, 1])
    model.graph.extend([which, score])
    model.graph.outputs[0] = score.outputs[0]


def first_state(outputs, inputs) -> float:
    assert inputs["input_ids"].shape == outputs["last_hidden_state"].shape[:2]
    return float(outputs["last_hidden_state"][0, 0, 0])


@pytest.mark.usefixtures("everything_pays")
@pytest.mark.parametrize("level", ["rows", "output"])
@pytest.mark.parametrize("decide", [None, first_state])
def test_the_order_stays(tmp_path, level, decide):
    """By an output of one number, or by a function of the user's own."""
    model = fixture("bert") if decide else changed("bert", tmp_path / "model.onnx", scoring)
    made = make(tmp_path, model, level=level, decide=decide)
    before, after = original(model), memoized(made.path, "stock")
    requests = variants(200, seed=2)
    want, have = (
        np.asarray([np.ravel(session.run(None, feeds)[0])[0] for feeds in requests], np.float64)
        for session in (before, after)
    )
    assert not np.array_equal(want, have)
    kept, pairs = pairs_in_order(want, have)
    assert kept / pairs >= KEEP
    kept, size = top_kept(want, have)
    assert kept >= KEEP * size - 2  # of 20
    assert kept_by(made.manifest.notes, "pairs of requests stay in order") >= KEEP


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"tolerance": 0.1}, "--tolerance, a distance, or --keep, a share of decisions, but not both"),
        ({"metric": "cosine"}, "--metric goes with --tolerance"),
        ({"within": 0.9}, "--within goes with --tolerance"),
        ({"decision": "taste"}, "there is no decision 'taste': choose neighbours, ten-neighbours, label"),
        ({"slack": 0.9}, "--slack takes a factor of at least 1"),
        ({"outputs": ["a", "b"]}, "a decision is about one output: give --output once"),
        ({"threshold": 0.1}, "give --tolerance or --keep"),
        ({"keep": 1.0}, "--keep takes a share above 0 and below 1"),
        ({"keep": 0.9999}, "too few for this promise"),
        ({"decision": "label", "decide": first_state}, "a decision by its name, or decide, a function"),
        ({"keep": None, "decision": "label"}, "--decision says what --keep keeps: give --keep too"),
        ({"keep": None, "slack": 2.0}, "--slack says what --keep keeps: give --keep too"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, options, reason):
    data = write_samples(tmp_path / "data.npz", variants(240, seed=1))
    with nothing_left_in(tmp_path), pytest.raises(MemoError, match=reason):
        onnx_memo.optimize(fixture("bert"), data, tmp_path / "b", **{"keep": KEEP} | options)
