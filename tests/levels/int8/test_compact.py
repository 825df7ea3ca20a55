"""A bundle without the original's weights: a fraction of the size, and all that runs, runs in 8 bits."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from support import (
    changed,
    fixture,
    join,
    memoized,
    original,
    relative_errors,
    variants,
    write_samples,
)
from support_precision import exact_products
from support_rows import opened

import onnx_memo
from onnx_memo.errors import MemoError
from onnx_memo.levels.inserter import STRICTNESS
from onnx_memo.precision.tables import find_tables
from onnx_memo.store.data import WEIGHTS, memo_data
from onnx_memo.verify import Unfit

TOLERANCE = 0.1
WORDS = "embeddings.word_embeddings.weight"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_samples(tmp_path_factory.mktemp("data") / "data.npz", variants(240, seed=1, changes=8))


@pytest.fixture(autouse=True)
def small_tables(monkeypatch, everything_pays):
    """The fixtures' tables are small."""
    monkeypatch.setattr("onnx_memo.precision.tables.LEAST", 512)


def make(model: Path, data: Path, folder: Path, **options) -> onnx_memo.Result:
    options = {"tolerance": TOLERANCE, "metric": "relative", "compact": True, "level": "int8"} | options
    return onnx_memo.optimize(model, data, folder / "bundle", **options)


def floats_of(bundle: Path) -> int:
    """The largest constant of floats that its model holds or reads."""
    model = ir.load(bundle / "model.onnx")
    graphs = (model.graph, *model.graph.subgraphs())
    tensors = [value.const_value for graph in graphs for value in graph.initializers.values()]
    return max(tensor.size for tensor in tensors if tensor is not None and tensor.dtype == ir.DataType.FLOAT)


@pytest.mark.parametrize("name", ["bert", "bert_dynamo", "distilbert"])
def test_no_matrix_of_floats_is_left(data, tmp_path, mode, name):
    bundle = make(fixture(name), data, tmp_path).path
    assert floats_of(bundle) <= 8 * 128  # the channels apart of the widest product
    after, before = memoized(bundle, mode), original(fixture(name))
    names = {value.name for value in before.get_inputs()}
    for request in [*variants(5, seed=5, changes=8), join(variants(3, seed=6, changes=8))]:
        request = {key: array for key, array in request.items() if key in names}
        for strictness in (1.0, 0.0):
            extra = {STRICTNESS: np.full((), strictness, np.float32)}
            (have,), (want,) = after.run(None, request | extra), before.run(None, request)
            assert 0 < max(relative_errors(request, have, want)) <= TOLERANCE


@pytest.mark.parametrize(("least", "files"), [(512, 0), (1 << 18, 1)])
def test_of_weights_in_other_files_what_is_read_is_left(data, tmp_path, monkeypatch, least, files):
    """Where no table is large enough to be rounded, that of words."""
    monkeypatch.setattr("onnx_memo.precision.tables.LEAST", least)
    model = ir.load(fixture("bert"))
    ir.save(model, tmp_path / "model.onnx", external_data="model.data", size_threshold_bytes=64)
    bundle = make(tmp_path / "model.onnx", data, tmp_path).path
    left = list(bundle.glob(f"{WEIGHTS}-*.data"))
    assert len(left) == files
    assert sum(file.stat().st_size for file in left) < (tmp_path / "model.data").stat().st_size / 2
    request = variants(1, seed=5, changes=8)[0]
    sessions = (memoized(bundle, "stock"), original(fixture("bert")))
    (have,), (want,) = (session.run(None, request) for session in sessions)
    assert max(relative_errors(request, have, want)) <= TOLERANCE


def test_it_says_so(data, tmp_path, cli):
    options = ["--data", data, "-o", tmp_path / "bundle", "--tolerance", TOLERANCE, "--metric", "relative"]
    shown = cli("optimize", fixture("bert"), *options, "--level", "int8", "--compact")
    assert shown.code == 0, shown.err
    told = " ".join(shown.out.split())
    assert "compact: the original's weights are left out" in told
    assert "in 8 bits at every memo_strictness" in told
    assert json.loads(cli("inspect", tmp_path / "bundle", "--json").out)["compact"] is True


def test_nothing_claims_to_know_what_the_original_gives(data, tmp_path, cli):
    """The report shows nothing at the strictness 0, where the original would run; `explain` refuses."""
    made = make(fixture("bert"), data, tmp_path)
    refused = cli("explain", made.path, "--data", data, "--line", 3)
    assert refused.code == 2
    assert refused.err.count("\n") == 1
    assert "is compact: without the original's weights" in refused.err
    page = (made.path / "report.html").read_text()
    assert re.findall(r'data-label="strictness">([^<]*)<', page) == ["1"]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"tolerance": None, "metric": None}, "--compact leaves out the original's weights.*--tolerance or"),
        ({"level": "output"}, "--level output does not go with --compact"),
        ({"level": "auto", "sites": "0"}, "--sites does not go with --compact"),
        ({"level": "auto", "threshold": 0.1}, "--threshold does not go with --compact"),
        (
            {"level": "auto", "exact_misses": True},
            "--exact-misses asks for the original, which --compact leaves out",
        ),
    ],
)
def test_what_does_not_go_with_it_is_refused(data, tmp_path, options, why):
    with pytest.raises(MemoError, match=why):
        make(fixture("bert"), data, tmp_path, **options)
    assert not (tmp_path / "bundle").exists()


def test_where_padding_counts_it_is_refused(data, tmp_path):
    model = ir.load(fixture("bert"))
    (states,) = model.graph.outputs
    axes = ir.node("Constant", [], {"value": ir.tensor(np.asarray([1]))})
    mean = ir.node("ReduceMean", [states], {"axes": [1], "keepdims": 0})
    mean.outputs[0].name, mean.outputs[0].type = "mean", states.type
    model.graph.extend([axes, mean])
    model.graph.outputs[0] = mean.outputs[0]
    ir.save(model, tmp_path / "model.onnx")
    with pytest.raises(MemoError, match=r"depend on what is in padding.*leave --compact out"):
        make(tmp_path / "model.onnx", data, tmp_path)


@pytest.mark.skipif(not exact_products("stock"), reason="only one of the ways runs on this processor")
def test_a_way_that_answers_otherwise_is_found(data, tmp_path, monkeypatch):
    from onnx_memo.operators.bodies.product import multiply_halves

    def wrong(b, steps, matrix, zero):
        return b.op("Mul", multiply_halves(b, steps, matrix, zero), b.const(1.2, np.float32))

    monkeypatch.setattr("onnx_memo.levels.whole.multiply_halves", wrong)
    with pytest.raises(Unfit, match=r"the two ways in which it runs in 8 bits are .* leave --compact out"):
        make(fixture("bert"), data, tmp_path)
    assert not (tmp_path / "bundle").exists()


def test_what_the_memo_data_may_take_is_kept_or_nothing_is_written(data, tmp_path, cli):
    options = ["--data", data, "-o", tmp_path / "bundle", "--tolerance", TOLERANCE, "--metric", "relative"]
    options = ["optimize", fixture("bert"), *options, "--level", "int8", "--compact", "--max-bytes"]
    refused = cli(*options, 100_000)
    assert (refused.code, refused.err.count("\n")) == (3, 1)
    (least,) = re.findall(
        r"--max-bytes 100000 does not hold the weights in 8 bits: give at least (\d+)", refused.err
    )
    assert cli(*options, int(least) - 1).code == 3
    made = cli(*options, least)
    assert made.code == 0, made.err
    assert memo_data(tmp_path / "bundle").stat().st_size <= int(least)


# ---- Tables


def words_too(model: ir.Model, reads: bool) -> None:
    """The table of words is the head's weight as well, or else holds an infinity."""
    table = max(
        model.graph.initializers.values(), key=lambda value: len(value.uses()) and value.const_value.size
    )
    if not reads:
        numbers = table.const_value.numpy().copy()
        numbers[3, 3] = np.inf
        table.const_value = ir.tensor(numbers, name=table.name)
        return
    (states,) = model.graph.outputs
    turned = ir.node("Transpose", [table])
    head = ir.node("MatMul", [states, turned.outputs[0]])
    head.outputs[0].name, head.outputs[0].type = "logits", states.type
    model.graph.extend([turned, head])
    model.graph.outputs[0] = head.outputs[0]


@pytest.mark.parametrize("reads", [True, False])
def test_a_table_of_which_more_than_rows_is_read_stays_and_one_that_is_not_finite(tmp_path, reads):
    found = {str(table.name) for table in find_tables(opened(fixture("bert"))).gathers}
    model = changed("bert", tmp_path / "model.onnx", lambda model: words_too(model, reads))
    left = {str(table.name) for table in find_tables(opened(model)).gathers}
    assert found == left | {WORDS} != left
