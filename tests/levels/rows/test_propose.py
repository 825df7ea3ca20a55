"""The level `rows` is chosen and set by the promise, like every other; timing is left out."""

from __future__ import annotations

import json
import sys

import numpy as np
import onnx_ir as ir
import pytest
from support import assert_identical, fixture, original, raced, random_samples, variants, write_samples
from support_rows import Built, open_pair

import onnx_memo
from onnx_memo.levels.rows.trial import RowsTrial
from onnx_memo.levels.ways import NothingPays
from onnx_memo.proof.measure import Measure
from onnx_memo.proof.metrics import cosine

TOLERANCE = 0.05


def make(folder, level="rows", tolerance=TOLERANCE, samples=None, **options):
    data = write_samples(folder / "data.npz", samples or variants(240, seed=1))
    return onnx_memo.optimize(
        fixture("bert"), data, folder / "bundle", tolerance=tolerance, level=level, **options
    )


@pytest.fixture(scope="module")
def decided(tmp_path_factory):
    """A bundle that was decided once, without timing."""
    folder = tmp_path_factory.mktemp("decided")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RowsTrial, "race", lambda self, samples, original, strictness: raced(0.1))
        patch.setattr(sys.modules["onnx_memo.pipeline"], "PAYS", 1e9)
        return make(folder, level="auto")


@pytest.fixture
def pair(decided, mode):
    return open_pair(Built(decided.path, fixture("bert"), variants(240, seed=1)), mode)


def error(want, have) -> float:
    """Of the pooled output, as the metric has it."""
    return cosine(want[0], have[0], np.ones(want.shape[1], np.bool_))


def test_rows_are_chosen_where_they_save_most(decided):
    (site,) = decided.manifest.sites
    assert (site.name, site.level, site.lookup) == ("encoder", "rows", True)
    assert site.threshold > 0
    assert decided.manifest.predicted["hit_rate"] > 0.5
    assert 140 < decided.manifest.entries <= 168  # the distinct inputs of store and fit part


def test_unseen_requests_keep_the_tolerance_and_run_fewer_rows(pair):
    errors, rows = [], []
    for request in variants(120, seed=2):
        answer = pair.ask(request)
        errors.append(error(pair.want(request), answer.outputs[0]))
        rows.append(answer.ran / 16 if answer.hit else 1.0)
    assert np.mean(np.asarray(errors) <= TOLERANCE) >= 0.95
    assert np.mean(rows) < 0.8
    assert max(errors) > 0


def test_stored_requests_are_repeats(pair):
    """Those of the store and the fit part; the held-out ones are not stored."""
    exact = 0
    for request in pair.stored[:40]:
        answer = pair.ask(request)
        if answer.hit and not len(answer.rows):
            exact += pair.error(request) <= 1e-6
    assert exact >= 20


def test_strictness_0_gives_the_originals_bits(pair):
    for request in variants(20, seed=3):
        for strictness in (0.0, -1.0, np.nan):
            answer = pair.ask(request, strictness)
            assert not answer.hit
            assert_identical(answer.outputs, pair.before.run(None, request))


def test_a_stricter_setting_runs_more_rows(pair):
    """Of all requests together: what a row that runs turns out to change may spare others."""
    before = 0.0
    for strictness in (5.0, 1.0, 0.7, 0.5, 0.3, 0.1, 0.01):
        answers = [pair.ask(request, strictness) for request in variants(20, seed=3)]
        ran = float(np.mean([answer.ran / 16 if answer.hit else 1.0 for answer in answers]))
        assert ran >= before
        before = ran


def test_a_tighter_tolerance_never_loosens_the_bound(decided, tmp_path, everything_pays):
    strict = make(tmp_path, tolerance=TOLERANCE / 4)
    assert strict.manifest.sites[0].threshold <= decided.manifest.sites[0].threshold


@pytest.mark.parametrize(("fast", "channels"), [(True, 8), (False, 32)])
def test_what_reuses_nothing_runs_in_the_fastest_way_in_8_bits_that_keeps_the_promise(
    tmp_path, monkeypatch, everything_pays, fast, channels
):
    """Rows that run share its weights, where the native library is there."""
    likely, said = Measure.likely, iter([fast])
    monkeypatch.setattr("onnx_memo.precision.whole.library_path", lambda: "library.so")
    monkeypatch.setattr(Measure, "likely", lambda *given: next(said, True) and likely(*given))
    model = ir.load(make(tmp_path).path / "model.onnx")
    (size,) = model.graph.initializers["memo/int8/0.channels"].shape
    assert size == channels


def test_the_report_is_written(decided):
    text = (decided.path / "report.html").read_text()
    assert "<svg" in text
    assert "rows" in text


def test_unrelated_inputs_do_not_pay_and_the_numbers_say_why(tmp_path, monkeypatch):
    monkeypatch.setattr(RowsTrial, "race", lambda self, samples, original, strictness: raced(1.0))
    samples = random_samples(original(fixture("bert")), [16] * 240, seed=1)
    with pytest.raises(NothingPays) as nothing:
        make(tmp_path, tolerance=1e-9, samples=samples)
    told = str(nothing.value)
    assert told.startswith("rows: ")
    assert "at the tolerance 1e-09 (cosine) the best takes 1.000 of the original's time" in told
    assert "reuses 0% of the fit part and runs 100% of the rows" in told
    assert "of the requests are so near to an entry of their length" in told
    assert "larger tolerance, would change that" in told
    ways = nothing.value.as_json()["alternatives"]
    assert all(way["level"].startswith("rows") for way in ways)
    assert not (tmp_path / "bundle").exists()


def test_nothing_pays_as_json(tmp_path, cli):
    """Every level that was tried is named."""
    data = write_samples(tmp_path / "data.npz", variants(240, seed=1))
    common = ["optimize", fixture("bert"), "--data", data, "-o", tmp_path / "b"]
    outcome = cli(*common, "--tolerance", "1e-9", "--json")
    assert outcome.code == 3
    assert outcome.err.count("\n") == 1
    told = json.loads(outcome.out)
    assert told["pays"] is False
    assert "rows: " in told["reason"]
    assert "output and probs: " in told["reason"]
    levels = " ".join(way["level"] for way in told["alternatives"])
    assert "rows" in levels
    assert "output" in levels


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--sites", "0", "--level", "rows"], "--sites does not go with --level rows"),
        (["--threshold", "0.1", "--level", "rows"], "--threshold does not go with --level rows"),
    ],
)
def test_options_that_do_not_go_with_rows(tmp_path, cli, options, said):
    data = write_samples(tmp_path / "data.npz", variants(5, seed=1))
    outcome = cli("optimize", fixture("bert"), "--data", data, "-o", tmp_path / "b", *options)
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert said in outcome.err
    assert outcome.out == ""


def test_a_model_that_allows_no_rows_says_why(tmp_path, cli):
    samples = random_samples(original(fixture("deberta_v2_conv")), [8, 9], seed=1)
    data = write_samples(tmp_path / "data.npz", samples)
    common = ["optimize", fixture("deberta_v2_conv"), "--data", data, "-o", tmp_path / "b"]
    outcome = cli(*common, "--level", "rows", "--tolerance", "0.1")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert (
        "does not allow the level 'rows': '/encoder/conv/conv/Conv' (Conv) is not known to work row by row"
        in outcome.err
    )
    assert "try --level auto" in outcome.err
    assert not (tmp_path / "b").exists()
