"""The level `rows` where attention is no core: the rows that run ask as the model has it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from support import assert_identical, fixture, join, original, random_samples, variants, write_samples
from support_encoder import SCORES, mixing_model
from support_rows import TINY, Built, build, changed_at, made_rows, open_pair

import onnx_memo
from onnx_memo.graph.cores import Mixing
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.levels.rows import blueprint as rows_blueprint
from onnx_memo.levels.rows.attention import count_layers

LENGTHS = (1, 5, 9, 9, 16, 23)
HALF = 2e-3  # where rows run over stored rows of half precision
IN_BYTES = 0.05  # relative


@pytest.fixture(params=SCORES)
def built(request, tmp_path, monkeypatch):
    """One layer: what a changed row is computed of is there, in half precision."""
    model = mixing_model(tmp_path / "model.onnx", request.param, layers=1)
    return build_of(model, tmp_path, monkeypatch)


def build_of(model, folder, monkeypatch, **how) -> Built:
    monkeypatch.setattr(rows_blueprint, "LIMIT", 2.0)
    monkeypatch.setattr(rows_blueprint, "INT8_LIMIT", 2.0)
    samples = random_samples(original(model), LENGTHS, seed=1)
    build(model, samples, folder / "bundle", **how)
    return Built(folder / "bundle", model, samples)


def test_a_changed_row_asks_what_is_stored_of_all_others(built, mode):
    pair = open_pair(built, mode)
    for request, tokens in ((pair.stored[4], (3,)), (pair.stored[5], (0, 11, 22)), (pair.stored[0], (0,))):
        near = changed_at(request, *tokens)
        answer, want = pair.ask(near), pair.want(near)
        assert answer.hit and set(answer.rows) >= set(tokens)
        have, want = (values[0, list(tokens)] for values in (answer.outputs[0], want))
        assert np.abs(have - want).max() <= HALF * np.abs(want).max()
        assert np.abs(have - pair.want(request)[0, list(tokens)]).max() > 10 * HALF * np.abs(want).max()


def test_padding_is_not_asked(built, mode):
    """One of these models scales its scores by the length with padding: so the original is asked, too."""
    pair = open_pair(built, mode)
    request = join([changed_at(pair.stored[4], 3)], padded=20)
    answer, want = pair.ask(request), pair.want(request)[0, 3]
    assert answer.hit and 3 in answer.rows and answer.rows.max() < 16
    assert np.abs(answer.outputs[0][0, 3] - want).max() <= HALF * np.abs(want).max()
    assert not answer.outputs[0][0, 16:].any()


@pytest.mark.parametrize("scores", SCORES)
def test_more_rows_join_and_ask_in_later_layers(tmp_path, monkeypatch, mode, scores):
    model = mixing_model(tmp_path / "model.onnx", scores, layers=3)
    pair = open_pair(build_of(model, tmp_path, monkeypatch), mode)
    near = changed_at(pair.stored[5], 7)
    assert pair.error(near, TINY) <= HALF
    answers = [pair.ask(near, strictness) for strictness in (1.0, 0.3, 0.1, 0.03)]
    assert any(answer.hit and answer.ran < len(answer.rows) for answer in answers)


@pytest.mark.parametrize("scores", SCORES)
def test_rows_in_8_bits(tmp_path, monkeypatch, mode, scores):
    model = mixing_model(tmp_path / "model.onnx", scores, layers=3)
    pair = open_pair(build_of(model, tmp_path, monkeypatch, in_bytes=True), mode)
    near = changed_at(pair.stored[5], 7)
    answer = pair.ask(near, TINY)
    if answer.hit:  # the products are exact here
        assert 0 < pair.error(near, TINY) <= IN_BYTES


def test_a_tolerance_is_kept_there(tmp_path, everything_pays):
    """As of any encoder: a bound is found and proven, and the bundle is checked."""
    data = write_samples(tmp_path / "data.npz", variants(240, seed=1))
    made = onnx_memo.optimize(
        fixture("deberta_v2"), data, tmp_path / "b", level="rows", tolerance=0.05
    ).manifest
    (site,) = made.sites
    assert site.level == "rows" and site.threshold > 0
    assert made.predicted["hit_rate"] > 0.9
    assert not any("literal repeats alone" in note for note in made.notes)


def test_a_batch_reuses_repeats_alone(rows_root):
    """What else a batch holds is the original's: rows that ask are those of one sequence."""
    for mode in ("stock", "native"):
        pair = open_pair(made_rows("deberta_v2", rows_root), mode)
        batch = join([pair.stored[4], changed_at(pair.stored[8], 3)])
        answer, (want,) = pair.ask(batch), pair.before.run(None, batch)
        assert answer.hits.tolist() == [True, False]
        assert_identical([answer.outputs[0][1]], [want[1]])
        n = pair.stored[4]["input_ids"].shape[1]
        np.testing.assert_allclose(answer.outputs[0][0, :n], want[0, :n], atol=1e-6 * np.abs(want).max())


def test_the_layers_are_counted(rows_root):
    meetings = OpenedModel(fixture("deberta_v2")).encoder.meetings
    assert all(isinstance(meeting, Mixing) for meeting in meetings)
    model = ir.load(made_rows("deberta_v2", rows_root).bundle / "model.onnx")
    assert count_layers(model) == len(meetings)
