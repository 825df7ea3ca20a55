"""Which attention blocks follow from the same states, and so repeat what is stored once these do."""

from __future__ import annotations

import pytest
from support import fixture
from support_rows import opened

from onnx_memo.graph.groups import groups_of


def grouped(name: str, *numbers: int) -> list[tuple[str, list[str]]]:
    """The states of each group of a fixture's sites (those of `numbers`, or all), and its sites."""
    model = opened(fixture(name))
    sites = [site for at, site in enumerate(model.findings.sites) if not numbers or at in numbers]
    groups = groups_of(sites, model.shapes)
    return [(str(group.states.name), [site.name for site in group.sites]) for group in groups]


@pytest.mark.parametrize("name", ["bert", "bert_dynamo", "distilbert", "mpnet", "deberta_v2", "xlm"])
def test_all_layers_of_an_encoder_follow_from_the_first_hidden_states(name):
    sites = opened(fixture(name)).findings.sites
    assert grouped(name) == [(sites[0].hidden.name, [site.name for site in sites])]


@pytest.mark.parametrize(
    ("name", "residual"), [("gpt2", "/Add_output_0"), ("vit", "/embeddings/Add_output_0")]
)
def test_where_a_layer_begins_with_a_normalization_they_follow_from_what_goes_into_it(name, residual):
    assert grouped(name) == [(residual, ["attention.0", "attention.1"])]


def test_a_group_may_begin_behind_the_first_layer():
    ((states, names),) = grouped("bert", 1, 2)
    assert names == ["attention.1", "attention.2"]
    assert states == opened(fixture("bert")).findings.sites[1].hidden.name


@pytest.mark.parametrize("name", ["forms/bart-dynamo", "forms/clip-torchscript"])
def test_two_towers_and_decoders_have_groups_of_their_own(name):
    """One begins with other inputs, or reads what the other gives."""
    assert [names for _, names in grouped(name)] == [["attention.0"], ["attention.1"]]
