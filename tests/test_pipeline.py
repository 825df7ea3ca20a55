"""The pipeline as a whole: what is done once, and what stops it."""

from __future__ import annotations

from collections import Counter

import onnxruntime as ort
import pytest
from support import fixture, nothing_left_in, variants, write_samples

import onnx_memo
from onnx_memo import pipeline
from onnx_memo.graph import opened
from onnx_memo.levels.ways import NothingPays
from onnx_memo.proof.asked import Asked, goal_of


@pytest.fixture
def data(tmp_path):
    return write_samples(tmp_path / "data.npz", variants(240, seed=1))


@pytest.mark.usefixtures("everything_pays")
@pytest.mark.parametrize("level", ["auto", "rows", "output"])
@pytest.mark.parametrize("tolerance", [None, 0.3])
@pytest.mark.parametrize("max_bytes", [None, 1 << 30])
def test_a_model_is_loaded_and_searched_once(tmp_path, data, monkeypatch, level, tolerance, max_bytes):
    calls: Counter[str] = Counter()

    def count(name):
        function = getattr(opened, name)

        def counted(*arguments):
            calls[name] += 1
            return function(*arguments)

        monkeypatch.setattr(opened, name, counted)

    for name in ("load_model", "find_sites", "find_encoder"):
        count(name)
    options = {"level": level, "tolerance": tolerance, "max_bytes": max_bytes}
    onnx_memo.optimize(fixture("bert"), data, tmp_path / "bundle", **options)
    assert calls["load_model"] == calls["find_sites"] == 1
    assert calls["find_encoder"] == (level != "output")


@pytest.mark.usefixtures("everything_pays")
def test_a_bundle_that_turns_out_not_to_save_time_is_not_written(tmp_path, data, monkeypatch):
    """It is measured as it stands, after all that was predicted of it."""
    monkeypatch.setattr(pipeline, "PAYS", 0.0)
    with nothing_left_in(tmp_path), pytest.raises(NothingPays, match="not worth a bundle") as nothing:
        onnx_memo.optimize(fixture("bert"), data, tmp_path / "bundle", tolerance=0.3)
    told = nothing.value.as_json()
    assert told["predicted"]["ratio"] > 0
    assert told["alternatives"]


@pytest.mark.usefixtures("everything_pays")
def test_a_proposal_that_is_dropped_leaves_no_notes(tmp_path, data, monkeypatch):
    """Notes on what a level left out hold for its bundle alone."""
    from onnx_memo.levels import decide
    from onnx_memo.levels.rows.level import RowsUse

    def noted(use, brief, propose=RowsUse.propose):
        brief.job.notes.append("of a proposal that is dropped")
        return propose(use, brief)

    monkeypatch.setattr(RowsUse, "propose", noted)
    kept = onnx_memo.optimize(fixture("bert"), data, tmp_path / "rows", tolerance=0.3, level="rows")
    assert "of a proposal that is dropped" in kept.manifest.notes
    monkeypatch.setattr(decide, "min", lambda found, key: found[-1], raising=False)
    monkeypatch.setattr("onnx_memo.levels.sites.level.SitesLevel.reach", -1.0)
    other = onnx_memo.optimize(fixture("bert"), data, tmp_path / "output", tolerance=0.3)
    assert "of a proposal that is dropped" not in other.manifest.notes
    assert {site.level for site in other.manifest.sites} <= {"output", "probs"}


@pytest.fixture
def optimized(tmp_path):
    """BERT as ONNX Runtime's optimizer leaves it: shapes are lost at its fused operators."""
    options, path = ort.SessionOptions(), tmp_path / "optimized.onnx"
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath, options.log_severity_level = str(path), 3
    ort.InferenceSession(fixture("bert"), options, providers=["CPUExecutionProvider"])
    return path


def test_attention_that_is_not_guarded_is_named_and_no_share_is_made_up(
    tmp_path, data, optimized, cli, monkeypatch
):
    # As for an operator that nobody knows to take apart.
    monkeypatch.setattr("onnx_memo.graph.opened.plain_form", lambda _: None)
    made = onnx_memo.optimize(optimized, data, tmp_path / "bundle", max_bytes=1 << 20)
    assert [site.share for site in made.manifest.sites] == [None]
    (skipped,) = (note for note in made.manifest.notes if note.startswith("not memoized: "))
    for layer in (1, 2):
        assert f"'/encoder/layer.{layer}/attention/self/Softmax'" in skipped
    assert "not known after 'BiasGelu' (BiasGelu)" in skipped
    assert any("share of the model's work is guarded is not known" in note for note in made.manifest.notes)
    for shown in (cli("inspect", optimized).out, cli("inspect", tmp_path / "bundle").out):
        assert "unknown" in shown
        assert "100" not in shown


def test_a_model_of_which_all_is_known_has_no_such_notes(tmp_path, data):
    made = onnx_memo.optimize(fixture("bert"), data, tmp_path / "bundle", max_bytes=1 << 20)
    assert made.manifest.sites[0].share == 1
    assert not any("memoized" in note or "not known" in note for note in made.manifest.notes)


def test_what_counts_is_kept_in_the_manifest():
    goal = goal_of(Asked(tolerance=0.1, slack=1.5, outputs=("logits",)))
    assert goal is not None
    promised = pipeline._promised(goal, None)
    assert (promised.outputs, promised.slack) == (["logits"], 1.5)
