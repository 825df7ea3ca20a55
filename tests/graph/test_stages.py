"""Where rows may join: before a layer, at the one value that all that follows is made of."""

from __future__ import annotations

import pytest
from support import fixture
from support_encoder import encoder_model
from support_rows import ENCODERS

from onnx_memo.graph.encoder import find_encoder
from onnx_memo.graph.load import load_model
from onnx_memo.graph.sites import find_sites
from onnx_memo.graph.stages import find_stages


def stages_of(path):
    model = load_model(path)
    encoder = find_encoder(model, find_sites(model))
    return encoder, find_stages(encoder)


@pytest.mark.parametrize("name", ENCODERS)
def test_every_layer_of_a_small_encoder_is_a_stage(name):
    encoder, stages = stages_of(fixture(name))
    assert [stage.layer for stage in stages] == list(range(len(encoder.meetings)))
    assert stages[0].states is encoder.input
    assert len({stage.states for stage in stages}) == len(stages)
    for stage in stages:
        assert encoder.shapes[stage.states][-1] == encoder.width


@pytest.mark.parametrize(("layers", "firsts"), [(1, [0]), (4, [0, 1, 2, 3]), (6, [0, 2, 4]), (9, [0, 3, 6])])
def test_there_are_at_most_four(tmp_path, layers, firsts):
    _, stages = stages_of(encoder_model(tmp_path / "m.onnx", layers=layers))
    assert [stage.layer for stage in stages] == firsts
    assert [stage.states.name for stage in stages[1:]] == [f"h3_{first - 1}" for first in firsts[1:]]


def test_the_states_are_the_last_that_the_layer_reads(tmp_path):
    path = encoder_model(tmp_path / "m.onnx", between="  half = Tanh (h3_0)\n  between = Neg (half)\n")
    _, stages = stages_of(path)
    assert [stage.states.name for stage in stages] == ["hidden_0", "between"]


@pytest.mark.parametrize(
    ("read_again", "states"),
    [("h3_0", ["hidden_0", "h3_0"]), ("m3_0", ["hidden_0", "m3_0"]), ("hidden_0", ["hidden_0"])],
)
def test_what_bypasses_a_layer_must_be_what_all_else_is_made_of(tmp_path, read_again, states):
    """Read again at the end, it would be of other rows than those that joined."""
    path = encoder_model(tmp_path / "m.onnx", tail=f"  last_hidden_state = Add (final, {read_again})\n")
    _, stages = stages_of(path)
    assert [stage.states.name for stage in stages] == states
