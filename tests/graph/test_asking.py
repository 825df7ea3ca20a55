"""What rows that ask need: followed back from the context, node by node."""

from __future__ import annotations

import pytest
from support_encoder import SCORES, mixing_model

from onnx_memo.graph.asking import Asking
from onnx_memo.graph.cores import Mixing
from onnx_memo.graph.opened import OpenedModel

# Of the second the term is made of queries: their product stands between the scores and the softmax.
ASKED = dict.fromkeys(SCORES, "q_0") | {"with terms of queries": "hidden_0"}
MASKED = "  s2_{n} = Add (s1_{n}, bias)\n"


def mixing_of(folder, scores: str) -> Mixing:
    (meeting,) = OpenedModel(mixing_model(folder / "m.onnx", scores, layers=1)).encoder.meetings
    assert isinstance(meeting, Mixing)
    return meeting


def asking_of(folder, scores: str) -> Asking:
    found = mixing_of(folder, scores).asking
    assert found is not None
    return found


def axes(asking: Asking) -> dict[str, int | None]:
    """Where the rows that ask stand in what each node makes."""
    return {str(step.node.outputs[0].name): step.axis for step in asking.steps}


@pytest.mark.parametrize("scores", SCORES)
def test_queries_ask_and_keys_and_values_are_kept_as_their_products_give_them(tmp_path, scores):
    asking = asking_of(tmp_path, scores)
    assert [value.name for value in asking.asking] == [ASKED[scores]]
    assert sorted(str(value.name) for value in asking.kept) == ["k0_0", "v0_0"]


def test_distances_are_asked_on_the_axis_where_they_meet(tmp_path):
    """A query's along rows of the index, a key's along its columns; the product of each makes no others."""
    found = axes(asking_of(tmp_path, "with terms of distances"))
    assert {name: found[name] for name in ("qt_0", "ks_0", "kt2_0", "p_0", "c_0")} == {
        "qt_0": 2,
        "ks_0": 3,
        "kt2_0": 2,
        "p_0": 2,
        "c_0": 2,
    }
    assert found["k_0"] is None and found["kt_0"] is None
    assert not {"qd_0", "kd_0"} & set(found)
    picked = [step for step in asking_of(tmp_path, "with terms of distances").steps if step.product]
    assert [step.product.node.outputs[0].name for step in picked] == ["qd_0", "kd_0"]


@pytest.mark.parametrize(
    ("scores", "why"),
    [
        ("  s1_{n} = CumSum (s0_{n}, i1)\n" + MASKED, "'/s1_0' (CumSum) is not known to keep rows apart"),
        ("  s1_{n} = LogSoftmax <axis = 2> (s0_{n})\n" + MASKED, "'/s1_0' (LogSoftmax) works across rows"),
        (
            "  a_{n} = Split <axis = 2> (s0_{n})\n  s1_{n} = Concat <axis = 2> (a_{n})\n" + MASKED,
            "'/s1_0' (Concat) joins rows that ask",
        ),
    ],
)
def test_rows_that_need_each_other_do_not_ask_alone(tmp_path, scores, why):
    mixing = mixing_of(tmp_path, scores)
    assert mixing.asking is None
    assert mixing.why_no_rows is not None and mixing.why_no_rows.startswith(f"attention.0: {why}")


def test_what_a_row_needs_of_all_others_is_kept(tmp_path):
    """What is taken of all queries is made of all of them."""
    scores = "  t_{n} = ReduceMax <axes = [2]> (s0_{n})\n  s1_{n} = Sub (s0_{n}, t_{n})\n" + MASKED
    asking = asking_of(tmp_path, scores)
    assert [value.name for value in asking.asking] == ["q_0"]
    assert sorted(str(value.name) for value in asking.kept) == ["k0_0", "q0_0", "v0_0"]
