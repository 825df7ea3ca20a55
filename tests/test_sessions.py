"""Why a request does not run is found by trying what runs in its place."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import parser
from onnxruntime import InferenceSession
from support import assert_identical, fixture, join, open_nodes, original, random_samples

import onnx_memo
from onnx_memo.errors import MOST_LETTERS, MemoError, reason_of
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.runtime import session_options
from onnx_memo.sessions import open_session, run_model


def why(session, feeds) -> str:
    with pytest.raises(MemoError, match=r"^the model cannot run input 3 ") as refused:
        run_model(session, feeds, 2)
    assert "\n" not in str(refused.value)
    return str(refused.value).partition("): ")[2]


@pytest.mark.parametrize("length", [65, 66, 200])
@pytest.mark.parametrize("name", ["bert", "bert_dynamo"])
def test_too_long_a_request_is_told_from_the_limit(name, length):
    session = original(fixture(name))
    (feeds,) = random_samples(session, [length], seed=0)
    assert f"longer than the model allows: {length} tokens, and the model runs at most 64;" in why(
        session, feeds
    )


def parsed(text: str) -> InferenceSession:
    return InferenceSession(parser.parse_model(text).SerializeToString(), providers=["CPUExecutionProvider"])


def test_a_length_that_the_exporter_has_left_out_is_told_with_the_next_one():
    session = parsed(
        """<ir_version: 8, opset_import: ["" : 17]> g (int64[B, L] x) => (int64[B, N, 8] y) {
          eights = Constant <value = int64[3] {0, -1, 8}> ()
          y = Reshape (x, eights)
        }"""
    )
    told = why(session, {"x": np.arange(11, dtype=np.int64)[None]})
    assert told.startswith("it has 11 tokens, and the next length that the model runs is 16: ")
    assert "export it with a free length" in told


def test_what_runs_a_single_token_alone_has_no_limit():
    session = parsed(
        """<ir_version: 8, opset_import: ["" : 17]> g (int64[B, L] x) => (int64[M, L] y) {
          one = Constant <value = int64[2] {-1, 1}> ()
          columns = Reshape (x, one)
          y = Gather <axis = 0> (x, columns)
        }"""
    )
    assert "at most" not in why(session, {"x": np.arange(3, dtype=np.int64)[None]})


def test_numbers_that_a_model_does_not_know_are_told_with_the_input():
    session = original(fixture("gpt2"))
    (feeds,) = random_samples(session, [9], seed=0)
    feeds["input_ids"][0, 4] = 70
    assert why(session, feeds).startswith("'input_ids' holds numbers up to 70, and the model does not know")


def test_where_nothing_else_runs_the_runtime_is_quoted_from_the_start_of_a_word():
    x = ir.val("x", ir.DataType.FLOAT, ["n", "m"])
    weight = ir.node("Constant", [], {"value": ir.tensor(np.zeros((4, 4), np.float32))})
    weight.outputs[0].name = "w"
    product = ir.node("MatMul", [x, weight.outputs[0]])
    product.outputs[0].name, product.outputs[0].type = "y", ir.TensorType(ir.DataType.FLOAT)
    session = open_nodes([x], [weight, product], product.outputs, 17)
    assert why(session, {"x": np.zeros((1, 0), np.float32)}).startswith("ONNX Runtime says: ")


def test_a_request_of_several_rows_is_told_as_well():
    session = original(fixture("bert"))
    feeds = join(random_samples(session, [65, 3], seed=0))
    assert "65 tokens, and the model runs at most 64" in why(session, feeds)


# ---- Models that do not load


def test_a_model_in_memory_that_does_not_load_is_told_in_one_line(tmp_path):
    x, made = ir.val("x", ir.DataType.FLOAT, ["n"]), ir.node("Unheard", [ir.val("x")], domain="own")
    made.replace_input_with(0, x)
    made.outputs[0].name, made.outputs[0].type = "y", ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph([x], made.outputs, nodes=[made], opset_imports={"": 17, "own": 1}, name="g")
    with pytest.raises(MemoError, match=r"^ONNX Runtime [\d.]+ cannot load the model: .*Unheard") as refused:
        open_session(ir.Model(graph, ir_version=8), tmp_path, onnx_memo.session_options(native=False))
    assert "\n" not in str(refused.value)


# ---- What others' errors say


def test_the_first_cause_says_why():
    error = RuntimeError("calling something")
    error.__cause__ = ValueError("why")
    assert reason_of(error) == "why"


def test_a_short_reason_is_one_line():
    assert reason_of(ValueError("a\n  b")) == "a b"
    assert reason_of(ValueError()) == "ValueError"


def test_of_a_long_reason_the_end_stays_in_whole_words():
    told = reason_of(ValueError("first " + "word " * 200 + "last"))
    assert told.startswith("... word word")
    assert told.endswith("word last")
    assert MOST_LETTERS - 6 <= len(told.removeprefix("... ")) <= MOST_LETTERS
    assert len(reason_of(ValueError("x" * 1000))) == MOST_LETTERS + 4


@pytest.mark.parametrize("name", ["bert", "forms/bert-fp16"])
def test_weights_that_no_message_can_hold_are_given_to_the_runtime_as_they_are(name, monkeypatch):
    opened = OpenedModel(fixture(name))
    monkeypatch.setattr("onnx_memo.sessions.MOST_IN_A_MESSAGE", 0)
    monkeypatch.setattr("onnx_memo.sessions.SMALL", 256)
    sizes = []
    monkeypatch.setattr("onnx_memo.sessions.ort.InferenceSession", _counting(sizes))
    session = open_session(opened.model, opened.folder, session_options(native=False, threads=1))
    weights = [value.const_value.nbytes for value in opened.model.graph.initializers.values()]
    assert sizes[0] <= len(ir.to_proto(opened.model).SerializeToString()) - 0.8 * max(weights)
    before = original(fixture(name))
    for request in random_samples(before, [3, 9], seed=1):
        assert_identical(session.run(None, request), before.run(None, request))


@pytest.mark.parametrize("large", [True, False])
def test_of_a_large_model_on_trial_they_are_mapped_from_a_file_that_goes_at_once(
    tmp_path, monkeypatch, large
):
    """What is given in memory the runtime copies."""
    opened, places = OpenedModel(fixture("bert")), []
    monkeypatch.setattr("onnx_memo.sessions.MOST_IN_A_MESSAGE", 0)
    monkeypatch.setattr("onnx_memo.sessions.SMALL", 256)
    monkeypatch.setattr("onnx_memo.sessions.in_files", lambda: large)

    def looking(content, *arguments, **named):
        places.extend(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
        return InferenceSession(content, *arguments, **named)

    monkeypatch.setattr("onnx_memo.sessions.ort.InferenceSession", looking)
    session = open_session(opened.model, tmp_path, session_options(native=False, threads=1), scratch=True)
    weights = [value.const_value.nbytes for value in opened.model.graph.initializers.values()]
    assert len(places) == large and sum(places) >= 0.9 * large * sum(weights)
    assert not list(tmp_path.iterdir())
    before = original(fixture("bert"))
    for request in random_samples(before, [3, 9], seed=1):
        assert_identical(session.run(None, request), before.run(None, request))


def _counting(sizes):
    def opened(content, *arguments, **named):
        if isinstance(content, bytes):
            sizes.append(len(content))
        return InferenceSession(content, *arguments, **named)

    return opened
