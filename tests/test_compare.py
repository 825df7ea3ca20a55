"""Side by side: the figures that `bench` gives, and what they mean."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support import MODES, original, random_samples, write_samples

import onnx_memo
from onnx_memo import MemoError
from onnx_memo.compare import cosine_of, relative_error

PROMISED = {"baseline_ms", "memo_ms", "ratio", "hit_rate", "sites", "outputs", "requests", "library"}


def bench(made, name: str, data=None, mode: str = "stock", level: str = "output", **options):
    source = made(name, level)
    return onnx_memo.bench(
        source.model, source.bundle, data or source.data, rounds=1, native=mode == "native", **options
    )


@pytest.mark.parametrize("mode", MODES)
def test_a_report_of_stored_inputs(made, mode):
    report = bench(made, "bert", mode=mode)
    assert set(report) >= PROMISED
    assert report["requests"] == len(made("bert").samples)
    assert report["hit_rate"] == 1.0
    assert report["sites"] == {"attention.0": 1.0, "attention.1": 1.0, "attention.2": 1.0}
    assert report["library"] == mode
    assert min(report["baseline_ms"], report["memo_ms"], report["ratio"]) > 0
    assert json.loads(json.dumps(report)) == report


def test_every_float_output_has_error_and_cosine(made):
    outputs = bench(made, "bert")["outputs"]
    assert list(outputs) == ["last_hidden_state"]
    for measure in ("relative", "cosine"):
        assert set(outputs["last_hidden_state"][measure]) == {"mean", "p95", "worst"}
    relative, cosine = outputs["last_hidden_state"]["relative"], outputs["last_hidden_state"]["cosine"]
    assert 0 < relative["mean"] <= relative["p95"] <= relative["worst"] < 0.003
    assert 1 >= cosine["mean"] >= cosine["p95"] >= cosine["worst"] > 0.9999


def test_unseen_inputs_miss_and_are_exact(made, tmp_path):
    unseen = random_samples(original(made("bert").model), [5, 9, 23], seed=99)
    report = bench(made, "bert", write_samples(tmp_path / "unseen.npz", unseen))
    assert report["hit_rate"] == 0.0
    assert report["outputs"]["last_hidden_state"]["relative"]["worst"] == 0.0
    assert report["outputs"]["last_hidden_state"]["cosine"]["worst"] == pytest.approx(1)


def test_half_of_the_inputs_hit(made, tmp_path):
    unseen = random_samples(original(made("bert").model), [5, 9], seed=99)
    data = write_samples(tmp_path / "mixed.npz", [*made("bert").samples[:2], *unseen])
    assert bench(made, "bert", data)["hit_rate"] == 0.5
    assert set(bench(made, "bert", data)["sites"].values()) == {0.5}


def test_a_batch_counts_when_all_its_rows_hit(made, tmp_path):
    unseen = random_samples(original(made("bert").model), [9], seed=99)
    data = write_samples(tmp_path / "mixed.npz", [*made("bert").samples[:3], *unseen])
    report = bench(made, "bert", data, batch=2)
    assert (report["requests"], report["batch"], report["hit_rate"]) == (2, 2, 0.5)


@pytest.mark.parametrize("mode", MODES)
def test_rows_that_run_are_counted(made, mode, tmp_path):
    stored = bench(made, "bert", mode=mode, level="rows")
    assert (stored["hit_rate"], stored["rows_run"], stored["sites"]) == (1.0, 0.0, {"encoder": 1.0})
    assert stored["outputs"]["last_hidden_state"]["relative"]["worst"] < 1e-6
    assert json.loads(json.dumps(stored)) == stored
    unseen = random_samples(original(made("bert").model), [5, 9], seed=99)
    data = write_samples(tmp_path / "mixed.npz", [*made("bert").samples[:2], *unseen])
    mixed = bench(made, "bert", data, mode, level="rows")
    assert (mixed["hit_rate"], mixed["rows_run"]) == (0.5, 0.5)
    assert bench(made, "bert")["rows_run"] is None


@pytest.mark.parametrize("mode", MODES)
def test_batches_run_rows_in_the_native_library_alone(made, mode):
    report = bench(made, "bert", mode=mode, level="rows", batch=2)
    reused = mode == "native"
    assert (report["hit_rate"], report["rows_run"]) == ((1.0, 0.0) if reused else (0.0, 1.0))


def test_pictures_can_be_compared_too(made):
    assert bench(made, "vit")["hit_rate"] == 1.0


@pytest.mark.parametrize("option", ["batch", "rounds", "threads"])
def test_numbers_below_one_are_refused(made, option):
    source = made("bert")
    with pytest.raises(MemoError, match="numbers of at least 1"):
        onnx_memo.bench(source.model, source.bundle, source.data, **{option: 0})


def test_a_bundle_of_another_model_is_refused(made):
    with pytest.raises(MemoError):
        onnx_memo.bench(made("distilbert").model, made("bert").bundle, made("distilbert").data, rounds=1)
    with pytest.raises(MemoError):
        onnx_memo.bench(made("bert").model, made("vit").bundle, made("bert").data, rounds=1)


# ---- The measures


def vectors(*pairs: list[float]) -> list[np.ndarray]:
    return [np.array(v, np.float64) for v in pairs]


def test_relative_error_of_known_pairs():
    assert relative_error(*vectors([3, 4], [3, 4])) == 0
    assert relative_error(*vectors([3, 4], [3, 4.5])) == pytest.approx(0.1)
    assert relative_error(*vectors([3, 4], [0, 0])) == 1


def test_cosine_of_known_pairs():
    assert cosine_of(*vectors([1, 0], [5, 0])) == 1
    assert cosine_of(*vectors([1, 0], [0, 2])) == 0
    assert cosine_of(*vectors([1, 1], [-2, -2])) == pytest.approx(-1)
    assert cosine_of(*vectors([0, 0], [0, 0])) == 1
    assert cosine_of(*vectors([0, 0], [1, 0])) == 0
