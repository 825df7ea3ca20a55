"""The accuracy before and after, by true labels: of the held-out part in `optimize`, of all in `bench`."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from support import changed, fixture, memoized, original, scoring, variants, write_samples
from support_classes import CLASSES, classifying

import onnx_memo
from onnx_memo.data.parts import split_samples
from onnx_memo.proof.promise import Promise

KEEP, COUNT = 0.6, 240
NAMES = [f"class {number}" for number in range(CLASSES)]


@pytest.fixture
def model(tmp_path) -> Path:
    """A classifier with the names of its classes beside it."""
    names = {str(number): name for number, name in enumerate(NAMES)}
    (tmp_path / "config.json").write_text(json.dumps({"id2label": names}))
    return changed("bert", tmp_path / "model.onnx", classifying)


def chosen(session, requests) -> np.ndarray:
    return np.asarray([int(session.run(None, feeds)[0][0].argmax()) for feeds in requests])


def labelled(folder: Path, model: Path, *, named: bool = False, **changes: object) -> tuple[Path, np.ndarray]:
    """Requests with their true labels: what the model says, but for every third, which it has wrong."""
    requests = variants(COUNT, seed=1)
    truth = chosen(original(model), requests)
    truth[::3] = (truth[::3] + 1) % CLASSES
    data = write_samples(folder / "data.npz", requests)
    with np.load(data) as archive:
        arrays = dict(archive)
    arrays["y"] = np.asarray(NAMES)[truth] if named else truth
    np.savez(data, **arrays | changes)
    return data, truth


@pytest.mark.usefixtures("everything_pays")
@pytest.mark.parametrize(
    ("level", "named", "asked"),
    [
        ("rows", True, {"keep": KEEP}),
        ("output", False, {"keep": KEEP, "decision": "label"}),
        ("rows", False, {"tolerance": 1.9, "within": KEEP}),
    ],
)
def test_optimize_tells_it_of_the_held_out_part_alone(tmp_path, model, cli, level, named, asked):
    data, truth = labelled(tmp_path, model, named=named)
    made = onnx_memo.optimize(model, data, tmp_path / "bundle", labels="y", level=level, **asked)
    held_out = split_samples(COUNT, Promise(0.0, KEEP)).held_out
    requests = [variants(COUNT, seed=1)[at] for at in held_out]
    models = original(model), memoized(made.path, "stock")
    before, after = (chosen(session, requests) == truth[held_out] for session in models)
    found = made.accuracy
    assert (found.column, found.requests) == ("y", math.ceil(0.3 * COUNT))
    assert found.before.value == pytest.approx(before.mean())
    assert found.after.value == pytest.approx(after.mean())
    assert (found.lost, found.gained) == ((before & ~after).sum(), (~before & after).sum())
    assert found.lost > 0  # a promise so loose that answers are others
    told = made.to_dict()["accuracy"]
    assert told["difference"]["low"] <= told["difference"]["value"] <= told["difference"]["high"]
    sentence = f"accuracy by 'y', {found.requests} requests: {found.before.value:.1%} ("
    assert sentence in re.sub(r"\s+", " ", cli("inspect", made.path).out)
    assert sentence in made._repr_html_().replace("&#x27;", "'")
    page = made.report.read_text(encoding="utf-8")
    assert "Accuracy by the true labels in y" in page
    assert f"the bundle alone on {found.gained}: {found.verdict}." in page
    assert "y" not in [value.name for value in models[1].get_inputs()]


def test_without_labels_nothing_is_said_of_it(tmp_path, model, cli):
    data, _ = labelled(tmp_path, model)
    made = onnx_memo.optimize(model, data, tmp_path / "bundle")
    assert made.accuracy is None
    assert "accuracy by" not in cli("inspect", made.path).out
    assert onnx_memo.bench(model, made.path, data, rounds=1).accuracy is None


@pytest.mark.parametrize("batch", [1, 7])
def test_bench_tells_it_of_all_inputs(tmp_path, model, cli, batch):
    """A bundle that reuses far too much, and that is seen."""
    data, truth = labelled(tmp_path, model, named=True)
    stored = write_samples(tmp_path / "stored.npz", variants(40, seed=2))
    bundle = onnx_memo.optimize(model, stored, tmp_path / "bundle", level="output", threshold=10.0).path
    requests = variants(COUNT, seed=1)
    models = original(model), memoized(bundle, "stock")
    before, after = (chosen(session, requests) == truth for session in models)
    found = onnx_memo.bench(model, bundle, data, rounds=1, batch=batch, labels="y")
    assert found.accuracy.requests == COUNT
    assert found.accuracy.before.value == pytest.approx(before.mean())
    assert found.accuracy.after.value == pytest.approx(after.mean())
    assert (found.accuracy.lost, found.accuracy.gained) == ((before & ~after).sum(), (~before & after).sum())
    assert "the bundle is right less often" in found._repr_html_()
    options = ("--data", data, "--rounds", 1, "--labels", "y")
    told = json.loads(cli("bench", model, bundle, *options, "--json").out)["accuracy"]
    assert told["before"]["value"] == pytest.approx(before.mean())
    assert "the bundle is right less often" in re.sub(r"\s+", " ", cli("bench", model, bundle, *options).out)


def refused(cli, because: str, *arguments: object) -> None:
    came = cli(*arguments)
    assert came.code == 2
    assert re.search(because, came.err), came.err
    assert came.err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "because"),
    [
        (
            [],
            "--labels tells the accuracy on the held-out part: give --tolerance or --keep too",
        ),
        (["--keep", 0.9, "--decision", "neighbours"], "leave out --decision neighbours, or --labels"),
        (["--tolerance", 0.1, "--decision", "ranking"], "leave out --decision ranking, or --labels"),
    ],
)
def test_labels_go_with_the_decision_label_on_a_held_out_part(tmp_path, model, cli, options, because):
    data, _ = labelled(tmp_path, model)
    out = tmp_path / "bundle"
    refused(cli, because, "optimize", model, "--data", data, "-o", out, "--labels", "y", *options)
    assert not out.exists()


def test_labels_do_not_go_with_a_function(tmp_path, model):
    data, _ = labelled(tmp_path, model)
    with pytest.raises(onnx_memo.MemoError, match="leave out decide, a function, or --labels"):
        onnx_memo.optimize(model, data, tmp_path / "b", keep=KEEP, decide=lambda o, i: 1, labels="y")


@pytest.mark.parametrize(
    ("truth", "because"),
    [
        (np.full(COUNT, "class 5"), "input 1 holds 'class 5' in 'y', which is no class of the model"),
        (
            np.arange(COUNT) // 200 * 5,
            "input 201 of the data has the class 5 in 'y', and output 'logits'",
        ),
    ],
)
def test_a_label_that_the_model_does_not_have_is_named(tmp_path, model, cli, truth, because):
    data, _ = labelled(tmp_path, model)
    out = tmp_path / "bundle"
    onnx_memo.optimize(model, data, out)
    data, _ = labelled(tmp_path, model, y=truth)
    ends = ("--data", data, "--labels", "y")
    refused(cli, because, "bench", model, out, *ends)
    refused(cli, because, "optimize", model, "-o", tmp_path / "other", "--keep", KEEP, *ends)
    assert not (tmp_path / "other").exists()


def test_a_model_that_chooses_for_each_token_has_no_such_accuracy(tmp_path, model, cli):
    data, _ = labelled(tmp_path, model)
    onnx_memo.optimize(fixture("bert"), data, tmp_path / "bundle")
    because = "output 'last_hidden_state' gives a class for each token: leave --labels out"
    ends = ("--data", data, "--labels", "y")
    refused(cli, because, "bench", fixture("bert"), tmp_path / "bundle", *ends)
    refused(cli, because, "optimize", fixture("bert"), "-o", tmp_path / "b", "--keep", KEEP, *ends)


def test_a_model_without_classes_has_no_such_accuracy(tmp_path, model, cli):
    data, _ = labelled(tmp_path, model)
    model = changed("bert", tmp_path / "scores.onnx", scoring)
    onnx_memo.optimize(model, data, tmp_path / "bundle")
    because = "an output that holds classes, and there is none among: score"
    ends = ("--data", data, "--labels", "y")
    refused(cli, f"--labels tells of the best class: .*{because}", "bench", model, tmp_path / "bundle", *ends)
    refused(cli, because, "optimize", model, "-o", tmp_path / "b", "--keep", KEEP, *ends)
