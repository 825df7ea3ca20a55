"""All layers as a whole: found where no single rows can be run, if nothing but input and mask decides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from support import fixture, input_named, original, random_samples
from support_encoder import encoder_model
from support_rows import ENCODERS, SPANS, opened

from onnx_memo.graph import flow
from onnx_memo.graph.encoder import Encoder
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.graph.span import Span

# Of all rows of a sequence the mean.
OTHERS = {"others": np.random.default_rng(1).standard_normal((64, 8)).astype(np.float32)}
MEAN = "  b0 = ReduceMean <axes = [1]> (h3_0)\n  between = Add (h3_0, b0)\n"


def span_of(path: Path, **parts) -> Span | None:
    return OpenedModel(encoder_model(path / "m.onnx", **parts)).span


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_is_its_own_span(name):
    assert opened(fixture(name)).span is opened(fixture(name)).encoder


@pytest.mark.parametrize("name", SPANS)
def test_it_reaches_from_the_first_states_to_the_last_ones(name):
    model = opened(fixture(name))
    span, sites = model.span, model.findings.sites
    assert span is not None and not isinstance(span, Encoder)
    assert (span.output.name, span.width, span.heads, span.mask) == (
        "last_hidden_state",
        32,
        4,
        sites[0].mask,
    )
    assert span.boundary == (span.input,)
    assert {site.softmax for site in sites} <= set(span.region)
    assert span.share is not None and span.share > 0.9


@pytest.mark.parametrize("name", SPANS)
def test_nothing_but_input_and_mask_decides(name):
    span = opened(fixture(name)).span
    assert flow.sources(span.output, (span.input,)) == {span.mask}


def test_what_mixes_rows_between_the_layers_belongs_to_it(tmp_path):
    span = span_of(tmp_path, between=MEAN)
    assert span is not None and not isinstance(span, Encoder)
    assert (span.input.name, span.output.name) == ("hidden_0", "last_hidden_state")
    assert "/b0" in {node.name for node in span.region}


def test_what_reads_more_behind_it_stays_outside(tmp_path):
    tail = "  c0 = Gather (others, input_ids)\n  last_hidden_state = Add (final, c0)\n"
    span = span_of(tmp_path, between=MEAN, tail=tail, constants=OTHERS)
    assert span is not None and span.output.name == "h3_1"


@pytest.mark.parametrize(
    "between",
    [
        # The tokens themselves, besides the states that were made of them.
        "  b0 = ReduceMean <axes = [1]> (h3_0)\n  b1 = Gather (others, input_ids)\n  b2 = Add (h3_0, b1)\n"
        "  between = Add (b2, b0)\n",
        "  b0 = RandomNormalLike (h3_0)\n  b1 = ReduceMean <axes = [1]> (b0)\n  between = Add (h3_0, b1)\n",
    ],
)
def test_there_is_none_where_something_else_decides(tmp_path, between):
    model = OpenedModel(encoder_model(tmp_path / "m.onnx", between=between, constants=OTHERS))
    assert model.span is None


def test_a_model_without_attention_has_none():
    assert opened(fixture("no_attention")).span is None


def test_inner_values_that_are_outputs_leave_none(tmp_path):
    """A branch would hide them."""
    model = ir.load(encoder_model(tmp_path / "m.onnx", between=MEAN))
    inner = next(value for node in model.graph for value in node.outputs if value.name == "m3_0")
    inner.type, inner.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([None] * 3)
    model.graph.outputs.append(inner)
    ir.save(model, tmp_path / "inner.onnx")
    assert OpenedModel(tmp_path / "inner.onnx").span is None


@pytest.mark.parametrize("name", SPANS)
def test_a_copy_has_it_where_the_original_has(name):
    model = opened(fixture(name))
    copy = model.copy()
    twin = copy.twin(model.span)
    assert [node.name for node in twin.region] == [node.name for node in model.span.region]
    assert (
        twin.mask is input_named(copy.model, "attention_mask") and twin.result is copy.model.graph.outputs[0]
    )


def test_the_fixtures_depend_on_order_and_mask():
    """So that a repeat is not easily hit by chance."""
    for name in SPANS:
        session = original(fixture(name))
        (request,) = random_samples(session, [9], seed=1)
        turned = request | {"input_ids": request["input_ids"][:, ::-1]}
        before, after = (session.run(None, feeds)[0] for feeds in (request, turned))
        assert np.abs(before - after[:, ::-1]).max() > 0.1
