"""What is explained at the levels of single attention blocks, and at the command line."""

from __future__ import annotations

import json
import shutil

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from support import LEVELS, assert_identical, memoized, original, random_samples, write_samples

import onnx_memo
from onnx_memo.served import explanation as say
from onnx_memo.store.bundle import read_bundle, write_manifest
from onnx_memo.store.data import memo_data


@pytest.mark.parametrize("level", LEVELS)
def test_stored_inputs_are_reused_at_every_site_and_others_nowhere(made, level, mode):
    one = made("bert", level)
    native = mode == "native"
    stored = onnx_memo.explain(one.bundle, arrays=one.samples[4], native=native)
    assert stored.outcome == say.REUSED
    assert all(lookup.reused and lookup.distance <= lookup.threshold for lookup in stored.lookups)
    for length, outcome in ((9, say.NO_REPEAT), (10, say.OTHER_LENGTH)):
        (request,) = random_samples(original(one.model), [length], seed=99)
        other = onnx_memo.explain(one.bundle, arrays=request, native=native)
        assert (other.outcome, other.error) == (outcome, 0)
        assert not any(lookup.reused for lookup in other.lookups)
        assert_identical(
            memoized(one.bundle, mode).run(None, request), original(one.model).run(None, request)
        )


def test_of_blocks_that_look_up_on_their_own_some_may_reuse(made, mode, tmp_path):
    """One lookup takes nothing any more; what each of them found, a session says that gives it."""
    one = made("bert", "output")
    source = onnx_memo.optimize(one.model, one.data, tmp_path / "b", level="output", threshold=0.02).path
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    shutil.copyfile(memo_data(source), bundle / memo_data(source).name)
    model = ir.load(source / "model.onnx")
    lookups = [node for node in model.graph if node.op_type == "MemoLookup"]
    assert len(lookups) > 1
    never = ir.Value(name="never", const_value=ir.tensor(np.float32(-1), name="never"))
    model.graph.register_initializer(never)
    lookups[1].replace_input_with(4, never)
    ir.save(model, bundle / "model.onnx")
    write_manifest(bundle, read_bundle(source))
    entries = [node.outputs[0] for node in lookups]
    for entry in entries:
        entry.type = ir.TensorType(ir.DataType.INT64)
    model.graph.outputs.extend(entries)
    ir.save(model, bundle / "traced.onnx")
    session = ort.InferenceSession(bundle / "traced.onnx", onnx_memo.session_options(native=mode == "native"))
    for request in one.samples[:3]:
        seen = [int(found[0]) for found in session.run([str(each.name) for each in entries], request)]
        told = onnx_memo.explain(bundle, arrays=request, native=mode == "native")
        assert told.outcome == say.PARTLY
        assert f"{len(lookups) - 1} of {len(lookups)} lookups" in told.reason
        assert [lookup.reused for lookup in told.lookups] == [entry >= 0 for entry in seen]
        assert [lookup.reused for lookup in told.lookups].index(False) == 1
        assert {at for at in seen if at >= 0} == {told.lookups[0].nearest}


def test_the_command_explains_a_line_draws_it_and_finds_the_worst(made, cli, tmp_path):
    one = made("bert", "rows")
    unseen = random_samples(original(one.model), [10], seed=99)
    data = write_samples(tmp_path / "data.npz", [*one.samples[:2], *unseen])
    picture = tmp_path / "picture.svg"
    line = cli("explain", one.bundle, "--data", data, "--line", 2, "--picture", picture, "--json")
    assert json.loads(line.out)["outcome"] == say.REPEAT
    assert picture.read_text().startswith("<svg")
    assert "input 2: repeat" in cli("explain", one.bundle, "--data", data, "--line", 2).out
    worst = json.loads(cli("explain", one.bundle, "--data", data, "--json").out)
    assert worst["outcomes"] == {say.REPEAT: 2, say.OTHER_LENGTH: 1}
    assert [each["place"] for each in worst["missed"]] == ["input 3"]


def test_what_names_no_request_is_answered_in_a_line(made, cli, tmp_path):
    bundle, data = made("bert", "rows").bundle, made("bert", "rows").data
    for options in (
        (),
        ("--line", 1),
        ("--data", data, "--line", 99),
        ("--data", data, "--sample", data),
        ("--data", data, "--line", 1, "--sample", tmp_path / "none.npz"),
        ("--data", data, "--line", 1, "--picture", tmp_path / "picture.png"),
    ):
        outcome = cli("explain", bundle, *options)
        assert (outcome.code, outcome.err.count("\n")) == (2, 1)
