"""What is explained at the level `rows`, against traces of other sessions on the same bundle."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from support import Arrays, assert_identical, join, memoized, random_samples
from support_rows import BOUND, Built, RowsPair, changed_at, made_rows, open_pair

import onnx_memo
from onnx_memo import Explanation
from onnx_memo.errors import MemoError
from onnx_memo.levels.padding import miss_where_padded
from onnx_memo.operators.reference.rows import memo_rows
from onnx_memo.proof.metrics import cosine
from onnx_memo.served import explanation as say
from onnx_memo.store.bundle import write_manifest
from onnx_memo.store.data import memo_data
from onnx_memo.store.manifest import GuardedSite, Manifest


def bundle_of(built: Built, folder: Path, change=lambda model: None, bound: float = BOUND) -> Path:
    """A bundle with its manifest, its model changed."""
    folder.mkdir()
    model = ir.load(built.bundle / "model.onnx")
    change(model)
    ir.save(model, folder / "model.onnx")
    shutil.copyfile(memo_data(built.bundle), folder / memo_data(built.bundle).name)
    guard = GuardedSite("encoder", "", "rows", bound, True, 2, 8, None)
    write_manifest(folder, Manifest("0", "model", len(built.samples), 0, [guard], [], {}))
    return folder


def setting(name: str, value: float):
    """Changes what a guard is set to."""

    def change(model: ir.Model) -> None:
        found = model.graph.initializers[f"memo/encoder/{name}"]
        found.const_value = ir.tensor(np.float32(value), name=found.name)

    return change


@pytest.fixture
def built(rows_root) -> Built:
    return made_rows("bert", rows_root, learned=True)


@pytest.fixture
def pair(built, mode) -> RowsPair:
    return open_pair(built, mode)


@pytest.fixture
def bundle(built, tmp_path) -> Path:
    return bundle_of(built, tmp_path / "bundle")


def explained(bundle: Path, request: Arrays, mode: str) -> Explanation:
    return onnx_memo.explain(bundle, arrays=request, native=mode == "native")


def assert_original_ran(one: Explanation, bundle: Path, pair: RowsPair, request: Arrays, mode: str) -> None:
    assert not one.reused
    assert one.error == 0
    assert not one.lookups[0].reused
    assert_identical(memoized(bundle, mode).run(None, request), pair.before.run(None, request))


# ---- Reused


def test_a_repeat_runs_nothing(bundle, pair, built, mode):
    for at, request in enumerate(built.samples):
        one = explained(bundle, request, mode)
        assert pair.ask(request).hit and not len(pair.ask(request).rows)
        assert (one.outcome, one.reused, one.rows.ran, one.rows.share) == (say.REPEAT, True, 0, 0)
        assert one.lookups[0].nearest == at
        assert one.lookups[0].distance < 1e-3
        assert one.error < 1e-6


@pytest.mark.parametrize("strict", [1.0, 0.1, 0.02])
@pytest.mark.parametrize("places", [(0,), (4, 9), (22,), (3, 4, 5, 21)])
def test_the_rows_that_run_are_those_of_a_watched_session(built, pair, mode, places, strict, tmp_path):
    bundle = bundle_of(built, tmp_path / "bundle", setting("bound", BOUND * strict))
    request = changed_at(built.samples[8], *places)
    one, watched = explained(bundle, request, mode), pair.ask(request, strict)
    assert watched.hit
    assert one.outcome == say.SOME_ROWS
    rows = one.rows
    assert [at for at, row in enumerate(rows.rows) if row.layer is not None] == watched.rows.tolist()
    assert rows.share == pytest.approx(watched.ran / 23)
    assert [at for at, row in enumerate(rows.rows) if row.why == say.CHANGED] == list(places)
    for row in rows.rows:
        assert (row.layer is not None) == (row.change > rows.epsilon or row.predicted > rows.bound)
        assert (row.why == say.KEPT) == (row.layer is None)
    for stage in rows.stages:
        ran = [row for row in rows.rows if row.layer is not None and row.layer <= stage.first]
        assert len(ran) == stage.ran


def test_some_of_these_rows_join_in_a_later_stage(built, mode, tmp_path):
    """Else the test before this one would say nothing of stages."""
    layers = set()
    for strict in (0.02, 0.05, 0.1, 0.2, 0.5, 1.0):
        bundle = bundle_of(built, tmp_path / f"{strict}", setting("bound", BOUND * strict))
        for at in range(23):
            one = explained(bundle, changed_at(built.samples[8], at), mode)
            layers |= {row.layer for row in one.rows.rows if row.why == say.MOVED}
            if len(layers) > 1:
                return
    raise AssertionError(f"rows that are moved all join before the same layer: {layers}")


def test_changes_and_predictions_are_those_of_the_reference(bundle, built, mode, tmp_path):
    """`MemoRows` in NumPy, fed with what another session's copy of the operator reads."""
    request = changed_at(built.samples[8], 4, 9)
    one = explained(bundle, request, mode)
    model = ir.load(bundle / "model.onnx")
    (node,) = (node for node in model.graph if node.op_type == "MemoRows")
    for at, value in enumerate(node.inputs):
        copy = ir.node("Identity", [value])
        copy.outputs[0].name, copy.outputs[0].type = f"read.{at}", value.type or _TYPES[at]
        model.graph.append(copy)
        model.graph.outputs.append(copy.outputs[0])
    traced = tmp_path / "traced"
    traced.mkdir()
    shutil.copyfile(memo_data(bundle), traced / memo_data(bundle).name)
    ir.save(model, traced / "model.onnx")
    read = memoized(traced, mode).run([f"read.{at}" for at in range(10)], request)
    rows, _, hit, all_hit, change, predicted = memo_rows(*read)
    assert hit.tolist() == [all_hit] == [True]
    assert [row.change for row in one.rows.rows] == pytest.approx(change[0].tolist(), rel=1e-4)
    first = [row for row in one.rows.rows if row.layer == 0]
    assert len(first) == len(rows)
    assert [row.predicted for row in first] == pytest.approx(predicted[0, rows].tolist(), rel=1e-4)


F32, I64 = ir.TensorType(ir.DataType.FLOAT), ir.TensorType(ir.DataType.INT64)
_TYPES = [F32, I64, I64, None, None, I64, I64, F32, F32, F32]


def test_the_error_is_that_against_the_original(bundle, built, pair, mode):
    request = changed_at(built.samples[8], 4, 9)
    one = explained(bundle, request, mode)
    (want, *_), (have, *_) = pair.before.run(None, request), pair.ask(request).outputs
    assert one.differences[0].error == pytest.approx(cosine(want[0], have[0], np.ones(23, bool)), rel=1e-6)
    assert one.error > 0


# ---- The original runs


def test_no_stored_input_of_its_length(bundle, pair, mode):
    (request,) = random_samples(pair.before, [10], seed=5)
    one = explained(bundle, request, mode)
    assert (one.outcome, one.rows, one.lookups[0].nearest) == (say.OTHER_LENGTH, None, None)
    assert "10 rows" in one.reason
    assert_original_ran(one, bundle, pair, request, mode)


def test_the_nearest_is_too_far(built, pair, mode, tmp_path):
    request = changed_at(built.samples[8], 4, 9)
    distance = explained(bundle_of(built, tmp_path / "any"), request, mode).lookups[0].distance
    inside = bundle_of(built, tmp_path / "inside", setting("radius", distance * 1.001))
    assert explained(inside, request, mode).outcome == say.SOME_ROWS
    bundle = bundle_of(built, tmp_path / "outside", setting("radius", distance * 0.999))
    one = explained(bundle, request, mode)
    assert one.outcome == say.TOO_FAR
    assert one.lookups[0].distance == pytest.approx(distance)
    assert one.rows.changed == 2 and not one.rows.happened
    assert_original_ran(one, bundle, pair, request, mode)


def test_too_many_rows_would_run(built, pair, mode, tmp_path):
    request = changed_at(built.samples[8], 3, 4, 5, 21)
    would = explained(bundle_of(built, tmp_path / "any"), request, mode).rows.stages[0].ran
    at_it = bundle_of(built, tmp_path / "at", setting("limit", (would + 0.5) / 23))
    assert explained(at_it, request, mode).outcome == say.SOME_ROWS
    bundle = bundle_of(built, tmp_path / "below", setting("limit", (would - 0.5) / 23))
    one = explained(bundle, request, mode)
    assert (one.outcome, one.rows.ran, one.rows.happened) == (say.TOO_MANY, would, False)
    assert_original_ran(one, bundle, pair, request, mode)


def test_what_is_no_literal_repeat(rows_root, mode, tmp_path):
    built = made_rows("bert", rows_root, literal=True)
    bundle, pair = bundle_of(built, tmp_path / "bundle", bound=0.0), open_pair(built, mode)
    assert explained(bundle, built.samples[8], mode).outcome == say.REPEAT
    request = changed_at(built.samples[8], 4, 9)
    one = explained(bundle, request, mode)
    assert (one.outcome, one.rows.changed) == (say.NO_REPEAT, 2)
    assert_original_ran(one, bundle, pair, request, mode)


def test_masks_that_are_irregular_or_empty(bundle, built, pair, mode):
    hole, empty = ({k: v.copy() for k, v in built.samples[8].items()} for _ in range(2))
    hole["attention_mask"][0, 3] = 0
    empty["attention_mask"][0] = 0
    for request, outcome in ((hole, say.MASKED), (empty, say.EMPTY)):
        one = explained(bundle, request, mode)
        assert one.outcome == outcome
        assert_original_ran(one, bundle, pair, request, mode)


def test_padding_is_refused_only_where_it_counts(built, pair, mode, tmp_path):
    request = join([built.samples[8]], padded=30)
    plain = bundle_of(built, tmp_path / "plain")
    assert explained(plain, request, mode).outcome == say.REPEAT
    assert len(explained(plain, request, mode).rows.rows) == 23
    bundle = bundle_of(built, tmp_path / "bundle", lambda model: miss_where_padded(model, "attention_mask"))
    one = explained(bundle, request, mode)
    assert one.outcome == say.PADDED
    assert_original_ran(one, bundle, pair, request, mode)


# ---- Requests


def test_a_request_is_a_batch_of_one(bundle, built):
    with pytest.raises(MemoError, match="first axis is 1"):
        onnx_memo.explain(bundle, arrays=join(built.samples[:2]))
    with pytest.raises(MemoError, match="attention_mask"):
        onnx_memo.explain(bundle, arrays={"input_ids": built.samples[3]["input_ids"]})
    with pytest.raises(MemoError, match="name one request"):
        onnx_memo.explain(bundle)
