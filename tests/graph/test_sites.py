"""Attention is found whole in every architecture, and nothing else is taken for it."""

from __future__ import annotations

from dataclasses import fields

import onnx_ir as ir
import pytest
from support import ATTENTION, LEVELS, changed, fix_sizes, fixture, node_named, original, random_samples

import onnx_memo
from onnx_memo.graph import flow
from onnx_memo.graph.load import load_model
from onnx_memo.graph.probe import add_outputs
from onnx_memo.graph.site import Findings, Site
from onnx_memo.graph.sites import find_sites
from onnx_memo.sessions import open_session

LAYERS = {"bert": 3}
FIXED_LENGTH = {"vit": 17}


def find(name: str) -> tuple[ir.Model, Findings]:
    model = load_model(fixture(name))
    return model, find_sites(model)


def values_of(site: Site) -> list[ir.Value]:
    content = [getattr(site, field.name) for field in fields(site)]
    return [value for value in content if isinstance(value, ir.Value)]


@pytest.mark.parametrize("name", ATTENTION)
def test_every_layer_is_a_site(name):
    _, findings = find(name)
    assert [site.name for site in findings.sites] == [f"attention.{i}" for i in range(LAYERS.get(name, 2))]
    assert findings.refusals == []


@pytest.mark.parametrize("name", ATTENTION)
def test_a_site_knows_its_sizes(name):
    for site in find(name)[1].sites:
        assert (site.heads, site.width, site.output_width, site.context_width) == (4, 32, 32, 32)
        assert site.length == FIXED_LENGTH.get(name)
        assert site.levels == ("probs", "output")
        assert site.why_no_probs is None


@pytest.mark.parametrize("name", ATTENTION)
def test_a_site_knows_its_mask(name):
    for site in find(name)[1].sites:
        assert (site.mask.name if site.mask else None) == (None if name == "vit" else "attention_mask")


@pytest.mark.parametrize("name", ATTENTION)
def test_every_value_of_a_site_is_one_of_the_model(name):
    model, findings = find(name)
    known = {*model.graph.inputs, *(value for node in model.graph for value in node.outputs)}
    for site in findings.sites:
        assert known.issuperset(values_of(site))
        assert len(values_of(site)) == 6 + (site.mask is not None)


@pytest.mark.parametrize("name", ATTENTION)
def test_values_hold_at_run_time_what_the_site_says(name):
    model, findings = find(name)
    site = findings.sites[-1]
    add_outputs(model, values_of(site))
    request = random_samples(original(fixture(name)), [9], seed=0)[0]
    session = open_session(model, fixture(name).parent, onnx_memo.session_options(native=False))
    names = [output.name for output in session.get_outputs()]
    run = dict(zip(names, session.run(None, request), strict=True))
    length = site.length or 9
    assert run[site.hidden.name].shape == (1, length, site.width)
    assert run[site.output.name].shape == (1, length, site.output_width)
    assert run[site.values.name].shape == (1, length, site.context_width)
    assert run[site.merged_context.name].shape == (1, length, site.context_width)
    probabilities = run[site.probabilities.name].reshape(site.heads, length, length)
    assert abs(probabilities.sum(axis=-1) - 1).max() < 1e-5


@pytest.mark.parametrize("name", ATTENTION)
def test_a_region_holds_the_attention_and_ends_at_its_cuts(name):
    model, findings = find(name)
    for site in findings.sites:
        region = set(site.region)
        assert site.softmax in region
        assert site.output.producer() in region
        assert site.hidden.producer() not in region
        assert flow.sources(site.output, (site.hidden,)) <= {site.mask}
        assert [node for node in model.graph if node in region] == list(site.region)


@pytest.mark.parametrize("name", [name for name in ATTENTION if name != "vit"])
def test_shares_are_parts_of_the_models_work(name):
    shares = [site.share for site in find(name)[1].sites]
    assert all(0.1 < share < 0.5 for share in shares)
    assert sum(shares) < 1


def test_the_projections_bias_stays_behind_the_cut():
    """It fuses with the residual and the normalization behind it."""
    site = find("bert")[1].sites[0]
    assert site.output.producer().op_type == "MatMul"
    assert [reader.op_type for reader, _ in site.output.uses()] == ["Add"]


def test_heads_that_share_their_values_have_no_level_probs():
    sites = find("llama")[1].sites
    assert [(site.levels, site.why_no_probs) for site in sites] == [
        (("output",), "heads share their values (grouped queries)")
    ] * 2


def refusal(findings: Findings) -> str:
    (refused,) = findings.refusals
    return refused.reason


def test_a_classifiers_softmax_is_no_attention():
    _, findings = find("no_attention")
    assert findings.sites == []
    assert "shape [3, 10], not [batch, heads, rows, columns]" in refusal(findings)


def test_cross_attention_is_refused():
    _, findings = find("cross_attention")
    assert findings.sites == []
    assert findings.refusals[0].name == "/Softmax"
    assert refusal(findings)


FIRST = "/encoder/layer.0/attention/self"


def first_refusal(path) -> str:
    findings = find_sites(load_model(path))
    assert [site.softmax.name for site in findings.sites] == [
        f"/encoder/layer.{layer}/attention/self/Softmax" for layer in (1, 2)
    ]
    assert findings.refusals[0].name == f"{FIRST}/Softmax"
    return refusal(findings)


def test_keys_and_values_from_another_input_are_refused(tmp_path):
    def take_memory(model: ir.Model) -> None:
        memory = ir.val("memory", ir.DataType.FLOAT, ["batch_size", "memory_length", 32])
        model.graph.inputs.append(memory)
        for part in ("key", "value"):
            node_named(model, f"{FIRST}/{part}/MatMul").replace_input_with(0, memory)

    reason = first_refusal(changed("bert", tmp_path / "model.onnx", take_memory))
    assert "depends on the input 'input_ids' past its hidden states 'memory'" in reason


def test_an_input_read_inside_attention_is_refused(tmp_path):
    def add_bias(model: ir.Model) -> None:
        bias = ir.val("bias", ir.DataType.FLOAT, [1])
        model.graph.inputs.append(bias)
        softmax = node_named(model, f"{FIRST}/Softmax")
        sum_ = ir.node("Add", [softmax.inputs[0], bias])
        sum_.outputs[0].name = "biased"
        model.graph.insert_before(softmax, sum_)
        softmax.replace_input_with(0, sum_.outputs[0])

    reason = first_refusal(changed("bert", tmp_path / "model.onnx", add_bias))
    assert "depends on the input 'bias' past its hidden states" in reason


def test_a_second_mask_is_refused(tmp_path):
    def add_mask(model: ir.Model) -> None:
        multiply(model, node_named(model, f"{FIRST}/Softmax"), ("Unsqueeze", [1, 2]))

    reason = first_refusal(changed("bert", tmp_path / "model.onnx", add_mask))
    assert "two masks: 'attention_mask', 'second_mask'" in reason


def test_a_softmax_over_another_axis_is_refused(tmp_path):
    def turn(model: ir.Model) -> None:
        node_named(model, f"{FIRST}/Softmax").attributes["axis"] = ir.AttrInt64("axis", 2)

    reason = first_refusal(changed("bert", tmp_path / "model.onnx", turn))
    assert "over axis 2, not over the last one" in reason


def test_attention_that_returns_its_probabilities_is_refused(tmp_path):
    """They would have to be computed all the same."""

    def return_probabilities(model: ir.Model) -> None:
        (value,) = node_named(model, f"{FIRST}/Softmax").outputs
        value.type = ir.TensorType(ir.DataType.FLOAT)
        value.shape = ir.Shape([None] * 4)
        model.graph.outputs.append(value)

    reason = first_refusal(changed("bert", tmp_path / "model.onnx", return_probabilities))
    assert "also used outside the block" in reason


# ---- Fixed lengths

SAME_AS = {"a length of its own": 14, "heads": 4, "width": 32, "layers": 2}
# A picture has no mask; and a batch of one alone does not make a static export of DeBERTa's scores.
NOT_FIXED = {("vit", None), ("vit", 1), ("deberta_v2", 1)}


@pytest.mark.parametrize("length", SAME_AS.values(), ids=SAME_AS)
@pytest.mark.parametrize(
    ("name", "batch"),
    [(name, batch) for name in ATTENTION for batch in (None, 1) if (name, batch) not in NOT_FIXED],
)
def test_a_mask_of_fixed_length_is_found(tmp_path, name, batch, length):
    model = changed(name, tmp_path / "model.onnx", lambda model: fix_sizes(model, length, batch))
    found, free = find_sites(load_model(model)), find(name)[1]
    assert found.refusals == []
    for site, want in zip(found.sites, free.sites, strict=True):
        assert (site.mask.name, site.length, bool(site.why_no_level)) == (
            "attention_mask",
            length,
            batch == 1,
        )
        assert site.levels == (() if site.why_no_level else want.levels)
        for field in ("softmax", "hidden", "output", "values", "merged_context"):
            assert getattr(site, field).name == getattr(want, field).name


def multiply(model: ir.Model, node: ir.Node, *steps: tuple[str, list[int]]) -> None:
    """Multiply the result of `node` with what `steps` make of a new input `second_mask` [batch, length].

    A step is an operator with its second input: axes, a shape or indices.
    """
    mask = ir.val("second_mask", ir.DataType.FLOAT, model.graph.inputs[0].shape)
    model.graph.inputs.append(mask)
    value, nodes = mask, []
    for at, (op, ints) in enumerate(steps):
        numbers = ir.node("Constant", [], {"value_ints": ints})
        nodes += [numbers, ir.node(op, [value, numbers.outputs[0]], {"axis": 1} if op == "Gather" else {})]
        numbers.outputs[0].name, nodes[-1].outputs[0].name = f"numbers.{at}", f"step.{at}"
        value = nodes[-1].outputs[0]
    product = ir.node("Mul", [node.outputs[0], value])
    product.outputs[0].name = "masked"
    node.outputs[0].replace_all_uses_with(product.outputs[0])
    product.replace_input_with(0, node.outputs[0])
    model.graph.insert_after(node, [*nodes, product])


SCORES, CONTEXT = f"{FIRST}/MatMul", f"{FIRST}/Reshape_3"


@pytest.mark.parametrize(
    ("length", "where", "steps"),
    [
        (4, SCORES, [("Unsqueeze", [2, 3])]),  # of heads
        (3, SCORES, [("Gather", [0]), ("Unsqueeze", [2, 3])]),  # of layers
        (3, SCORES, [("Gather", [0]), ("Unsqueeze", [2, 3]), ("Expand", [1, 1, 3, 3])]),
        (32, CONTEXT, [("Unsqueeze", [1])]),  # of the width
        (14, SCORES, [("Unsqueeze", [1, 3])]),  # of queries alone
        (14, SCORES, [("Unsqueeze", [1, 2])]),  # of keys, but a score of 0 is no attention of 0
        (14, CONTEXT, [("Unsqueeze", [2])]),  # of positions, but not of the scores
    ],
)
def test_what_is_no_mask_of_keys_is_refused_at_that_length(tmp_path, length, where, steps):
    """The shape tells nothing: [batch, 4] is both the length and the number of heads."""

    def change(model: ir.Model) -> None:
        fix_sizes(model, length)
        multiply(model, node_named(model, where), *steps)

    reason = first_refusal(changed("bert", tmp_path / "model.onnx", change))
    assert "depends on the input 'second_mask' past its hidden states" in reason


def test_a_second_mask_of_keys_is_one(tmp_path):
    """So what is refused above is refused for what it does."""

    def change(model: ir.Model) -> None:
        fix_sizes(model, 4)
        multiply(model, node_named(model, f"{FIRST}/Softmax"), ("Unsqueeze", [1, 2]))

    reason = first_refusal(changed("bert", tmp_path / "model.onnx", change))
    assert "two masks: 'attention_mask', 'second_mask'" in reason


@pytest.mark.parametrize("batch", [2, 8])
def test_a_fixed_batch_of_more_than_one_is_refused(tmp_path, batch):
    """Samples run one by one."""
    model = changed("bert", tmp_path / "model.onnx", lambda model: fix_sizes(model, 14, batch))
    assert find_sites(load_model(model)).sites == []


def test_a_picture_alone_is_a_batch_of_one(tmp_path):
    model = changed("vit", tmp_path / "model.onnx", lambda model: fix_sizes(model, 0, 1))
    found = find_sites(load_model(model))
    assert [(site.heads, site.length, site.levels) for site in found.sites] == [(4, 17, ())] * 2


def test_inspect_tells_the_same(tmp_path):
    told = onnx_memo.inspect(fixture("bert"))
    _, findings = find("bert")
    assert [site.name for site in told.sites] == [site.name for site in findings.sites]
    assert [site.nodes for site in told.sites] == [len(site.region) for site in findings.sites]
    assert {site.mask for site in told.sites} == {"attention_mask"}
    assert {site.levels for site in told.sites} == {tuple(reversed(LEVELS))}
