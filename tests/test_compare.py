"""Side by side: the figures that `bench` gives, and what they mean."""

from __future__ import annotations

import json
from dataclasses import asdict, astuple

import numpy as np
import onnx_ir as ir
import pytest
from support import MODES, changed, join, memoized, original, random_samples, write_samples

import onnx_memo
from onnx_memo import MemoError, compare
from onnx_memo.compare import errors_by_row
from onnx_memo.proof import metrics
from onnx_memo.proof.measure import Kept

PROMISED = {"baseline_ms", "memo_ms", "ratio", "hit_rate", "sites", "outputs", "requests", "library"}


def bench(made, name: str, data=None, mode: str = "stock", level: str = "output", **options):
    source = made(name, level)
    return onnx_memo.bench(
        source.model, source.bundle, data or source.data, rounds=1, native=mode == "native", **options
    )


@pytest.mark.parametrize("mode", MODES)
def test_a_report_of_stored_inputs(made, mode):
    report = bench(made, "bert", mode=mode)
    assert set(report.to_dict()) >= PROMISED
    assert report.requests == len(made("bert").samples)
    assert report.hit_rate == 1.0
    assert report.sites == {"attention.0": 1.0, "attention.1": 1.0, "attention.2": 1.0}
    assert report.library == mode
    assert min(report.baseline_ms, report.memo_ms, report.ratio) > 0
    assert json.loads(json.dumps(report.to_dict())) == report.to_dict()


def test_every_float_output_has_error_and_cosine(made):
    outputs = bench(made, "bert").outputs
    assert list(outputs) == ["last_hidden_state"]
    assert list(outputs["last_hidden_state"]) == ["relative", "cosine"]
    relative, cosine = outputs["last_hidden_state"]["relative"], outputs["last_hidden_state"]["cosine"]
    assert 0 < relative.mean <= relative.p95 <= relative.worst < 0.003
    assert 1 >= cosine.mean >= cosine.p95 >= cosine.worst > 0.9999


def test_unseen_inputs_miss_and_are_exact(made, tmp_path):
    unseen = random_samples(original(made("bert").model), [5, 9, 23], seed=99)
    report = bench(made, "bert", write_samples(tmp_path / "unseen.npz", unseen))
    assert report.hit_rate == 0.0
    assert report.outputs["last_hidden_state"]["relative"].worst == 0.0
    assert report.outputs["last_hidden_state"]["cosine"].worst == pytest.approx(1)


def test_half_of_the_inputs_hit(made, tmp_path):
    unseen = random_samples(original(made("bert").model), [5, 9], seed=99)
    data = write_samples(tmp_path / "mixed.npz", [*made("bert").samples[:2], *unseen])
    assert bench(made, "bert", data).hit_rate == 0.5
    assert set(bench(made, "bert", data).sites.values()) == {0.5}


def test_of_a_batch_the_rows_that_hit_count(made, tmp_path):
    unseen = random_samples(original(made("bert").model), [9], seed=99)
    data = write_samples(tmp_path / "mixed.npz", [*made("bert").samples[:3], *unseen])
    report = bench(made, "bert", data, batch=2)
    assert (report.requests, report.batch, report.hit_rate) == (2, 2, 0.75)


@pytest.mark.parametrize("mode", MODES)
def test_rows_that_run_are_counted(made, mode, tmp_path):
    stored = bench(made, "bert", mode=mode, level="rows")
    assert (stored.hit_rate, stored.rows_run, stored.sites) == (1.0, 0.0, {"encoder": 1.0})
    assert stored.outputs["last_hidden_state"]["relative"].worst < 1e-6
    assert json.loads(json.dumps(stored.to_dict())) == stored.to_dict()
    unseen = random_samples(original(made("bert").model), [5, 9], seed=99)
    data = write_samples(tmp_path / "mixed.npz", [*made("bert").samples[:2], *unseen])
    mixed = bench(made, "bert", data, mode, level="rows")
    assert (mixed.hit_rate, mixed.rows_run) == (0.5, 0.5)
    assert bench(made, "bert").rows_run is None


@pytest.mark.parametrize("mode", MODES)
def test_batches_of_what_is_stored_run_no_row(made, mode):
    report = bench(made, "bert", mode=mode, level="rows", batch=2)
    assert (report.hit_rate, report.rows_run) == (1.0, 0.0)
    assert report.outputs["last_hidden_state"]["relative"].worst < 1e-6


def test_pictures_can_be_compared_too(made):
    assert bench(made, "vit").hit_rate == 1.0


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

WIDTH = 32  # of the fixture's hidden states


def with_more_outputs(model: ir.Model) -> None:
    """The hidden states in other types, those of the first token, and as classes: `half`, `double`, ..."""
    (states,) = model.graph.outputs
    first = ir.node("Constant", [], {"value": ir.tensor(np.asarray(0))})
    model.graph.append(first)
    nodes = {
        "half": ir.node("Cast", [states], {"to": ir.DataType.FLOAT16}),
        "double": ir.node("Cast", [states], {"to": ir.DataType.DOUBLE}),
        "pooled": ir.node("Gather", [states, first.outputs[0]], {"axis": 1}),
        "classes": ir.node("ArgMax", [states], {"axis": 2, "keepdims": 1}),
    }
    shapes = {"pooled": [None, WIDTH], "classes": [None, None, 1]}
    types = [ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.FLOAT, ir.DataType.INT64]
    for (name, node), element in zip(nodes.items(), types, strict=True):
        node.outputs[0].name, node.outputs[0].type = name, ir.TensorType(element)
        node.outputs[0].shape = ir.Shape(shapes.get(name, [None, None, WIDTH]))
        model.graph.append(node)
        model.graph.outputs.append(node.outputs[0])


@pytest.fixture(scope="module")
def erring(tmp_path_factory):
    """A bundle that reuses whatever has the same length, of a model with outputs of many kinds."""
    folder = tmp_path_factory.mktemp("erring")
    model = changed("bert", folder / "model.onnx", with_more_outputs)
    stored, unseen = (random_samples(original(model), [9, WIDTH], seed) for seed in (1, 2))
    data = write_samples(folder / "data.npz", stored)
    onnx_memo.optimize(model, data, folder / "bundle", level="output", threshold=1e6)
    asked = write_samples(folder / "unseen.npz", unseen)
    report = onnx_memo.bench(model, folder / "bundle", asked, rounds=1, batch=2, native=False)
    request = join(unseen)
    outputs = [s.run(None, request) for s in (original(model), memoized(folder / "bundle", "stock"))]
    names = [value.name for value in original(model).get_outputs()]
    return report, *(dict(zip(names, values, strict=True)) for values in outputs)


def test_outputs_of_all_float_types_are_compared_and_no_others(erring):
    report, want, _ = erring
    assert report.hit_rate == 1.0
    assert list(report.outputs) == ["last_hidden_state", "half", "double", "pooled"]
    assert {name: want[name].dtype for name in ("half", "double")} == {"half": "f2", "double": "f8"}
    exact = report.outputs["last_hidden_state"]["relative"]
    assert exact.worst > 0.01
    assert report.outputs["double"]["relative"] == exact
    assert asdict(report.outputs["half"]["relative"]) == pytest.approx(asdict(exact), rel=0.01)


def test_a_pooled_output_as_wide_as_the_padded_length_has_no_padding(erring):
    report, want, have = erring
    assert want["pooled"].shape == (2, WIDTH)  # and the longest request has as many tokens
    errors = [metrics.relative(want["pooled"][row], have["pooled"][row]) for row in range(2)]
    beyond_the_first_9 = np.abs(want["pooled"] - have["pooled"])[0, 9:]
    assert beyond_the_first_9.max() > 0
    assert report.outputs["pooled"]["relative"].worst == max(errors)
    assert report.outputs["pooled"]["relative"].mean == pytest.approx(np.mean(errors))


def test_the_errors_are_those_that_a_tolerance_is_about(erring):
    report, want, have = erring
    masks = np.arange(WIDTH) < np.asarray([[9], [WIDTH]])
    name = "last_hidden_state"
    cosines = [1 - metrics.cosine(want[name][row], have[name][row], masks[row]) for row in range(2)]
    assert report.outputs[name]["cosine"].worst == min(cosines)
    assert report.outputs[name]["cosine"].p95 == min(cosines)  # one that occurred
    assert report.outputs[name]["cosine"].mean == pytest.approx(np.mean(cosines))


def of_rows(metric, want, have, mask=None) -> list[float]:
    return errors_by_row(metric, np.asarray(want, np.float64), np.asarray(have, np.float64), mask)


def test_relative_errors_of_known_pairs():
    want = [[3, 4], [3, 4], [3, 4]]
    assert of_rows(metrics.relative, want, [[3, 4], [3, 4.5], [0, 0]]) == pytest.approx([0, 0.1, 1])


def test_cosine_errors_of_known_pairs():
    want = [[1, 0], [1, 0], [1, 1], [0, 0], [0, 0]]
    have = [[5, 0], [0, 2], [-2, -2], [0, 0], [1, 0]]
    assert of_rows(metrics.cosine, want, have) == pytest.approx([0, 1, 2, 0, 1])


def test_padding_of_outputs_with_tokens_is_left_out():
    want = [[[1, 0], [0, 1]], [[1, 0], [0, 1]]]
    have = [[[1, 0], [9, 9]], [[1, 0], [9, 9]]]
    mask = np.asarray([[True, False], [True, True]])
    first, second = of_rows(metrics.relative, want, have, mask)
    assert first == 0 < second


def test_without_a_mask_all_tokens_are_real_and_averaged():
    """Errors that cancel in the mean are none for the cosine."""
    assert of_rows(metrics.cosine, [[[1, 1], [1, 1]]], [[[2, 0], [0, 2]]]) == pytest.approx([0])


def test_an_answer_that_is_not_a_number_is_as_wrong_as_can_be_and_is_valid_json(made, monkeypatch):
    """Where the original has numbers."""
    run_model = compare.run_model
    ran = []

    def spoiled(session, feeds, number):
        """The bundle, the second session, begins with an answer that is no number."""
        first_of_second = bool(ran) and all(session is not one for one in ran) and len({*map(id, ran)}) == 1
        ran.append(session)
        outputs = run_model(session, feeds, number)
        return [np.full_like(output, np.nan) for output in outputs] if first_of_second else outputs

    monkeypatch.setattr(compare, "run_model", spoiled)
    report = bench(made, "bert")
    outputs = report.outputs["last_hidden_state"]
    assert (outputs["relative"].worst, outputs["cosine"].worst) == (1e30, -1)
    assert report.kept[0].kept == report.kept[0].of - 1
    assert np.isfinite([*astuple(outputs["relative"]), *astuple(outputs["cosine"])]).all()


# ---- What is decided with the answers


def test_misses_keep_their_nearest_neighbours(made, tmp_path):
    unseen = random_samples(original(made("bert").model), [5, 9, 23], seed=99)
    report = bench(made, "bert", write_samples(tmp_path / "unseen.npz", unseen))
    assert report.kept[0] == Kept("the nearest neighbour stays", 3, 3)
    (said,) = (note for note in report.notes if note.startswith("the decision is"))
    assert "which of 3 inputs" in said and "output 'last_hidden_state'" in said
    assert not any(note.startswith("warning") for note in report.notes), "no tolerance was asked for"


def test_answers_that_find_another_neighbour_are_counted(made, tmp_path):
    """The bundle reuses whatever has the same length: those of one length get one answer."""
    folder = tmp_path
    stored, unseen = (
        random_samples(original(made("bert").model), [9] * count, seed) for count, seed in ((1, 1), (6, 2))
    )
    data = write_samples(folder / "data.npz", stored)
    onnx_memo.optimize(made("bert").model, data, folder / "bundle", level="output", threshold=1e6)
    asked = write_samples(folder / "unseen.npz", unseen)
    one_by_one, batches = (
        onnx_memo.bench(
            made("bert").model, folder / "bundle", asked, rounds=1, batch=batch, native=False
        ).kept
        for batch in (1, 4)
    )
    assert one_by_one[0].of == 6
    assert one_by_one[0].kept < 6
    assert batches == one_by_one


def test_of_many_inputs_the_first_are_looked_at_and_that_is_said(made, monkeypatch):
    monkeypatch.setattr(compare, "MOST_ANSWERS", 4)
    report = bench(made, "bert")
    assert "what is decided is judged by the first 4 inputs" in report.notes
    assert any("which of 4 inputs of the sample is nearest" in note for note in report.notes)


def test_one_input_has_no_neighbours(made, tmp_path):
    data = write_samples(tmp_path / "one.npz", made("bert").samples[:1])
    assert bench(made, "bert", data).kept == []


def test_a_request_is_a_hit_if_all_its_rows_are(made, tmp_path):
    unseen = random_samples(original(made("bert").model), [9], seed=99)
    data = write_samples(tmp_path / "mixed.npz", [*made("bert").samples[:3], *unseen])
    latency = bench(made, "bert", data, batch=2).latency
    assert {name: group.requests for name, group in latency.items()} == {"all": 2, "hits": 1, "misses": 1}
