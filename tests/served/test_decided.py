"""What is said of the decision about one request: labels, scores, nearest inputs."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_memo.proof.answer import Answer
from onnx_memo.proof.choice import Wish, decision_of
from onnx_memo.proof.decisions import Neighbours
from onnx_memo.served.decided import decided, decision_about, known_by
from onnx_memo.served.explanation import Decided
from onnx_memo.store.manifest import Promised


def answer(name: str, output: object, **inputs: object) -> Answer:
    arrays = {key: np.asarray(value) for key, value in inputs.items()}
    return Answer({name: np.asarray(output, np.float32)}, inputs=arrays)


def told(want: Answer, have: Answer, others: dict[str, Answer] | None = None, wish: Wish = Wish()):  # noqa: B008
    measure = decision_of(wish, want)
    known = None if others is None else known_by(measure, lambda: others.items())
    return decided(measure, want, have.outputs, known)


@pytest.mark.parametrize(("scores", "stays"), [([0, 3, 2], True), ([0, 2, 3], False)])
def test_a_label_needs_no_other_input(scores, stays):
    want = answer("logits", [[0, 5, 1]])
    after = f"class {int(np.argmax(scores))}"
    assert told(want, answer("logits", [scores])) == Decided(
        "label", "output 'logits'", "class 1", after, stays
    )


def test_labels_of_tokens_are_counted():
    want = answer("logits", [[[0, 1], [1, 0], [0, 1]]])
    one = told(want, answer("logits", [[[0, 1], [0, 1], [0, 1]]]), wish=Wish("label"))
    assert (one.before, one.after, one.stays) == ("the classes of 3 tokens", "1 other", False)


def test_whether_a_rank_stays_takes_other_inputs():
    want, have = answer("score", [[2.5]]), answer("score", [[2.6]])
    alone = told(want, have)
    assert (alone.decision, alone.before, alone.after, alone.stays) == ("ranking", "2.5", "2.6", None)


@pytest.mark.parametrize(
    ("score", "after", "stays"),
    [
        (2.75, "2.75, above 2 of 3 inputs of the sample", True),
        (3.25, "3.25, above 3 of 3 inputs of the sample", False),
    ],
)
def test_a_rank_is_among_the_sample(score, after, stays):
    others = {str(number): answer("score", [[number]]) for number in (1, 2, 3)}
    one = told(answer("score", [[2.5]]), answer("score", [[score]]), others)
    assert one.before == "2.5, above 2 of 3 inputs of the sample"
    assert (one.after, one.stays) == (after, stays)


def test_a_likelihood_is_a_sum_of_log_probabilities():
    """Of two tokens of which each of four is as likely: 2 log 1/4."""
    want = answer("logits", np.zeros((1, 2, 4)), input_ids=[[1, 3]])
    one = told(want, want)
    assert (one.decision, one.before) == ("likelihood", f"{2 * np.log(0.25):.6g}")


NORTH, EAST, BETWEEN = [[1.0, 0.0]], [[0.0, 1.0]], [[0.8, 0.6]]


@pytest.mark.parametrize(("have", "found", "stays"), [([[0.9, 0.6]], "north", True), (EAST, "east", False)])
def test_what_is_nearest_is_named(have, found, stays):
    others = {"north": answer("states", NORTH), "east": answer("states", EAST)}
    one = told(answer("states", BETWEEN), answer("states", have), others)
    assert (one.decision, one.before, one.stays) == ("neighbours", "0.2 away: north", stays)
    assert one.after.endswith(f" away: {found}")


def test_an_input_is_no_neighbour_of_itself():
    others = {
        name: answer("states", at) for name, at in (("self", BETWEEN), ("north", NORTH), ("east", EAST))
    }
    want = answer("states", BETWEEN)
    assert told(want, want, others).before == "0.2 away: north"


@pytest.mark.parametrize("others", [None, {"a": answer("states", NORTH), "b": answer("states", NORTH)}])
def test_without_inputs_that_differ_nothing_is_nearest(others):
    want = answer("states", BETWEEN)
    assert told(want, want, others) is None


@pytest.mark.parametrize(
    ("metric", "tolerance", "decision"),
    [
        ("ten-neighbours", None, "ten-neighbours"),  # as promised
        ("cosine", 0.01, "label"),  # as the outputs suggest: a distance is promised
        ("likelihood", None, None),  # by a function or inputs that a bundle does not hold
    ],
)
def test_the_decision_is_the_one_that_is_promised(metric, tolerance, decision):
    found = decision_about(Promised(metric, tolerance, 0.95, 0.95), answer("logits", [[1, 2]]))
    assert (found and found.name) == decision


def test_a_decision_is_about_what_was_asked_for():
    want = Answer({name: np.asarray([[1.0, 2.0, 3.0]]) for name in ("one", "two")})
    promised = Promised("neighbours", None, 0.95, 0.95, outputs=["two"], slack=1.5)
    found = decision_about(promised, want)
    assert isinstance(found, Neighbours)
    assert (found.slack, found.value.what) == (1.5, "output 'two'")
    default = decision_about(Promised("neighbours", None, 0.95, 0.95), want)
    assert isinstance(default, Neighbours)
    assert (default.slack, default.value.what) == (1.1, "output 'one'")
    gone = Promised("neighbours", None, 0.95, 0.95, outputs=["three"])
    assert decision_about(gone, want) is None, "a stranger's manifest may name anything"


def test_nothing_is_decided_without_an_output_that_suits():
    assert decision_about(None, Answer({"flag": np.asarray([True])})) is None
