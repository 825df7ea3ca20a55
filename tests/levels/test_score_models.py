"""A model that gives a score, as rerankers do: the tolerance is about scores and their order."""

from __future__ import annotations

import numpy as np
import pytest
from support import changed, memoized, original, scoring, variants, write_samples

import onnx_memo
from onnx_memo.proof.scores import SCORE_METRICS, scores_of


@pytest.fixture
def model(tmp_path):
    return changed("bert", tmp_path / "model.onnx", scoring)


@pytest.fixture
def data(tmp_path):
    return write_samples(tmp_path / "data.npz", variants(240, seed=1))


@pytest.mark.usefixtures("everything_pays")
@pytest.mark.parametrize(
    ("level", "metric", "measured", "tolerance"),
    [
        ("rows", None, "spread", 0.1),
        ("rows", "spread", "spread", 0.1),
        ("rows", "order", "order", 0.05),
        ("output", None, "spread", 2.0),
        ("output", "order", "order", 0.6),
    ],
)
def test_unseen_scores_keep_the_tolerance(tmp_path, model, data, level, metric, measured, tolerance):
    made = onnx_memo.optimize(model, data, tmp_path / "b", tolerance=tolerance, metric=metric, level=level)
    assert made.manifest.predicted["hit_rate"] > 0
    (note,) = (note for note in made.manifest.notes if "is one number" in note)
    assert note.startswith("output 'score' is one number: its error is measured against the ")
    before, after = original(model), memoized(made.path, "stock")
    unseen = variants(120, seed=2)
    pairs = [(before.run(None, feeds)[0], after.run(None, feeds)[0]) for feeds in unseen]
    scores = scores_of(want for want, _ in pairs)
    errors = np.asarray([SCORE_METRICS[measured](want[0], have[0], None, scores) for want, have in pairs])
    assert np.mean(errors <= tolerance) >= 0.93  # these scores are others than those of the proof
    assert errors.max() > 0


@pytest.mark.usefixtures("everything_pays")
def test_a_tolerance_that_an_angle_would_keep_is_not_kept_by_scores(tmp_path, model, data):
    """Every sign is right here, and yet not everything may be reused."""
    strict = onnx_memo.optimize(model, data, tmp_path / "strict", tolerance=0.002, level="rows")
    loose = onnx_memo.optimize(model, data, tmp_path / "loose", tolerance=2.0, level="rows")
    assert strict.manifest.sites[0].threshold < loose.manifest.sites[0].threshold


def test_bench_measures_scores_and_their_order(tmp_path, model, data, cli):
    onnx_memo.optimize(model, data, tmp_path / "b")
    asked = write_samples(tmp_path / "asked.npz", variants(20, seed=3))
    assert set(onnx_memo.bench(model, tmp_path / "b", asked, rounds=1).outputs["score"]) == {
        "relative",
        "spread",
        "order",
    }
    shown = cli("bench", model, tmp_path / "b", "--data", asked, "--rounds", "1").out
    assert "in standard deviations" in shown
    assert "pairs that change order" in shown
    assert "cosine" not in shown
