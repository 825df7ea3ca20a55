"""Bundles made for a tolerance: decided on one part of the sample, proven on another."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime as ort
import pytest
from support import fixture, original, variants, write_samples

import onnx_memo
from onnx_memo.errors import MemoError
from onnx_memo.levels.ways import NothingPays
from onnx_memo.proof.metrics import METRICS


def make(tmp_path, **options):
    data = write_samples(tmp_path / "data.npz", variants(240, seed=1))
    return onnx_memo.optimize(fixture("bert"), data, tmp_path / "bundle", **options)


def errors_of(bundle, requests, metric) -> np.ndarray:
    """The error of each request, by the metric's own definition."""
    before = original(fixture("bert"))
    after = ort.InferenceSession(str(bundle / "model.onnx"), onnx_memo.session_options(threads=1))
    found = []
    for feeds in requests:
        (want,), (have,) = (session.run(None, feeds) for session in (before, after))
        found.append(METRICS[metric](want[0], have[0], feeds["attention_mask"][0] != 0))
    return np.asarray(found)


# Metric, level and tolerance. By `relative` and `argmax` they are so tight that more than one request in 20
# would be outside if failures were not counted. Classes are the 32 numbers of a hidden state.
CASES = [
    ("cosine", "output", 0.05),
    ("cosine", "rows", 0.01),
    ("cosine", "auto", 0.01),
    ("relative", "output", 0.1),
    ("relative", "rows", 0.1),
    ("relative", "auto", 0.1),
    ("argmax", "output", 0.5),
    ("argmax", "rows", 0.2),
    ("argmax", "auto", 0.2),
]


@pytest.mark.usefixtures("everything_pays")
@pytest.mark.parametrize(("metric", "level", "tolerance"), CASES)
def test_unseen_requests_keep_the_tolerance(tmp_path, metric, level, tolerance):
    result = make(tmp_path, tolerance=tolerance, metric=metric, level=level)
    assert result.manifest.predicted["hit_rate"] > 0
    assert "<svg" in (result.path / "report.html").read_text()
    unseen = variants(120, seed=2)
    errors = errors_of(result.path, unseen, metric)
    assert np.mean(errors <= tolerance) >= 0.95
    assert errors.max() > 0  # something that is not stored is reused
    data = write_samples(tmp_path / "unseen.npz", unseen)
    report = onnx_memo.bench(fixture("bert"), result.path, data, rounds=1)
    assert report.predicted == result.manifest.predicted
    assert report.hit_rate > 0
    if metric == "relative":
        assert report.outputs["last_hidden_state"]["relative"].p95 <= tolerance


def test_every_metric_is_tried():
    assert {metric for metric, _, _ in CASES} == set(METRICS)


@pytest.mark.usefixtures("everything_pays")
def test_one_lookup_serves_all_guards(tmp_path):
    result = make(tmp_path, tolerance=0.3, level="output")
    assert [site.lookup for site in result.manifest.sites] == [True] + [False] * (
        len(result.manifest.sites) - 1
    )


@pytest.mark.usefixtures("everything_pays")
def test_strictness_tightens_and_never_loosens(tmp_path, mode):
    result = make(tmp_path, tolerance=0.3, level="output")
    options = onnx_memo.session_options(native=mode == "native", threads=1)
    session = ort.InferenceSession(str(result.path / "model.onnx"), options)
    before = original(fixture("bert"))
    requests = variants(40, seed=3)
    reused = []
    for strictness in (None, 1.0, 5.0, np.inf, 0.6, 0.3, 0.0, -1.0, np.nan):
        extra = {} if strictness is None else {"memo_strictness": np.asarray(strictness, np.float32)}
        outputs = [session.run(None, feeds | extra)[0] for feeds in requests]
        wanted = [before.run(None, feeds)[0] for feeds in requests]
        reused.append({at for at in range(40) if not np.array_equal(outputs[at], wanted[at])})
    as_calibrated, one, five, infinite, some, few, none, negative, nan = reused
    assert as_calibrated == one == five == infinite
    assert as_calibrated >= some >= few >= none
    assert none == negative == nan == set()
    assert as_calibrated


def test_where_nothing_pays_nothing_is_written(tmp_path, cli):
    """No entry is near enough for such a tolerance."""
    data = write_samples(tmp_path / "data.npz", variants(240, seed=1))
    outcome = cli(
        "optimize", fixture("bert"), "--data", data, "-o", tmp_path / "b", "--tolerance", "1e-9", "--json"
    )
    assert outcome.code == 3
    assert outcome.err.count("\n") == 1
    assert "no bundle was written" in outcome.err
    assert json.loads(outcome.out)["pays"] is False
    assert list(tmp_path.iterdir()) == [data]


@pytest.mark.usefixtures("everything_pays")
def test_errors_beyond_the_tolerance_are_no_hits(tmp_path):
    with pytest.raises(NothingPays, match="larger tolerance, would change that"):
        make(tmp_path, tolerance=1e-9, level="output")


def test_too_few_inputs_say_how_many_are_needed(tmp_path):
    data = write_samples(tmp_path / "data.npz", variants(100, seed=1))
    with pytest.raises(MemoError, match=r"59 must be held out.*give at least 197"):
        onnx_memo.optimize(fixture("bert"), data, tmp_path / "bundle", tolerance=0.1)


def test_tolerance_and_threshold_exclude_each_other(tmp_path):
    with pytest.raises(MemoError, match="not both"):
        make(tmp_path, tolerance=0.1, threshold=0.1)


def test_an_output_that_is_not_there(tmp_path):
    with pytest.raises(MemoError, match="no output 'nonsense'"):
        make(tmp_path, tolerance=0.1, outputs=["nonsense"])
