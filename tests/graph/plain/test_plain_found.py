"""In models of fused operators, taken apart, attention is found, and so is the encoder."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from support_fused import HEADS, HIDDEN, Fused, take_apart
from support_plain import run

from onnx_memo.graph.encoder import NoEncoder, find_encoder
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.graph.sites import find_sites
from onnx_memo.precision.chains import find_chains

WIDTH = HIDDEN // HEADS


def attention(m: Fused, hidden: str, mask: str, **attributes: object) -> str:
    weights = m.weight(HIDDEN, 3 * HIDDEN), m.weight(3 * HIDDEN)
    return m.op("Attention", hidden, *weights, mask, num_heads=HEADS, **attributes)[0]


def with_lengths(m: Fused, hidden: str, lengths: str) -> str:
    return attention(m, hidden, lengths)


def with_raw_mask(m: Fused, hidden: str, lengths: str) -> str:
    return attention(m, hidden, "attention_mask")


def causal_with_raw_mask(m: Fused, hidden: str, lengths: str) -> str:
    return attention(m, hidden, "attention_mask", unidirectional=1)


def causal_with_lengths(m: Fused, hidden: str, lengths: str) -> str:
    return attention(m, hidden, lengths, unidirectional=1)


def with_relative_positions(m: Fused, hidden: str, lengths: str) -> str:
    length = m.standard("Shape", hidden, start=1, end=2)
    begins, axes = m.array(np.array([0, 0])), m.array(np.array([2, 3]))
    ends = m.standard("Concat", length, length, axis=0)
    bias = m.standard("Slice", m.weight(1, HEADS, 64, 64), begins, ends, axes)
    weights = m.weight(HIDDEN, 3 * HIDDEN), m.weight(3 * HIDDEN)
    return m.op("Attention", hidden, *weights, lengths, "", bias, num_heads=HEADS)[0]


def heads_apart(m: Fused, hidden: str, lengths: str) -> str:
    products = [m.standard("MatMul", hidden, m.weight(HIDDEN, HIDDEN)) for _ in range(3)]
    bias = m.weight(3 * HIDDEN)
    return m.op("MultiHeadAttention", *products, bias, "attention_mask", num_heads=HEADS)[0]


def heads_with_lengths(m: Fused, hidden: str, lengths: str) -> str:
    parts = [m.linear(hidden) for _ in range(3)]
    return m.op("MultiHeadAttention", *parts, "", lengths, num_heads=HEADS)[0]


def grouped(m: Fused, hidden: str, lengths: str) -> str:
    parts = m.linear(hidden), m.linear(hidden, HIDDEN // 2), m.linear(hidden, HIDDEN // 2)
    one = m.array(np.array(1, np.int32))
    last = m.standard("Sub", lengths, one)
    total = m.standard("Cast", m.standard("Shape", hidden, start=1, end=2), to=onnx.TensorProto.INT32)
    angles = np.outer(np.arange(64), 0.5 ** np.arange(WIDTH // 2)).astype(np.float32)
    tables = m.array(np.cos(angles)), m.array(np.sin(angles))
    return m.op(
        "GroupQueryAttention",
        *(*parts, "", "", last, total, *tables),
        num_heads=HEADS,
        kv_num_heads=HEADS // 2,
        do_rotary=1,
    )[0]


def standard(m: Fused, hidden: str, lengths: str) -> str:
    axes = m.array(np.array([1, 2]))
    truths = m.standard("Cast", "attention_mask", to=onnx.TensorProto.BOOL)
    mask = m.standard("Unsqueeze", truths, axes)
    length = m.standard("Shape", hidden, start=1, end=2)
    one = m.array(np.array([1]))
    mask = m.standard("Expand", mask, m.standard("Concat", one, one, length, one, axis=0))
    parts = [m.linear(hidden) for _ in range(3)]
    return m.standard("Attention", *parts, mask, q_num_heads=HEADS, kv_num_heads=HEADS)


FORMS = {
    form.__name__: form
    for form in (
        with_lengths,
        with_raw_mask,
        causal_with_raw_mask,
        causal_with_lengths,
        with_relative_positions,
        heads_apart,
        heads_with_lengths,
        grouped,
        standard,
    )
}
OF_LENGTHS = (
    "with_lengths",
    "causal_with_lengths",
    "with_relative_positions",
    "heads_with_lengths",
    "grouped",
)
GROUPED = ("grouped",)


def fused(form: str) -> ir.Model:
    return Fused(23 if form == "standard" else 17).model(FORMS[form])


def request() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    lengths = np.array([5, 9, 1])
    return {
        "input_ids": rng.integers(0, 64, (3, 9)).astype(np.int32),
        "token_type_ids": rng.integers(0, 2, (3, 9)).astype(np.int32),
        "attention_mask": (np.arange(9) < lengths[:, None]).astype(np.int32),
    }


@pytest.mark.parametrize("form", FORMS)
def test_every_layer_is_a_site(form):
    findings = find_sites(take_apart(fused(form)))
    assert findings.refusals == []
    assert [site.name for site in findings.sites] == ["attention.0", "attention.1"]
    for site in findings.sites:
        assert (site.heads, site.width, site.output_width) == (HEADS, HIDDEN, HIDDEN)
        assert site.mask is not None and site.mask.name == "attention_mask"
        assert site.levels == (("output",) if form in GROUPED else ("probs", "output"))


@pytest.mark.parametrize("form", FORMS)
def test_masks_that_are_counted_are_noted(form):
    notes = find_sites(take_apart(fused(form))).notes
    assert len(notes) == (form in OF_LENGTHS)
    assert all("counts the ones of its mask 'attention_mask'" in note for note in notes)


@pytest.mark.parametrize("form", FORMS)
def test_the_encoder_is_found_with_all_its_layers(form):
    model = take_apart(fused(form))
    encoder = find_encoder(model, find_sites(model))
    assert len(encoder.cores) == 2
    for core in encoder.cores:
        assert core.scale == pytest.approx(WIDTH**-0.5)
        assert (core.heads, core.key_width, core.value_width) == (HEADS, WIDTH, WIDTH)


@pytest.mark.parametrize("form", FORMS)
def test_the_model_computes_the_same(form):
    real = request()["attention_mask"].astype(bool)
    want, have = (run(ir.to_proto(model), request())[0] for model in (fused(form), take_apart(fused(form))))
    assert np.abs(want - have)[real].max() <= 1e-5 * np.abs(want).max()


@pytest.mark.parametrize("form", FORMS)
def test_what_runs_in_8_bits_finds_its_chains(form, tmp_path):
    """Projections, activations, and normalizations with their residuals and biases."""
    ir.save(take_apart(fused(form)), tmp_path / "model.onnx")
    found = find_chains(OpenedModel(tmp_path / "model.onnx"))
    chains = list(found.chains.values())
    assert sum(chain.norm is not None and chain.linear.bias is not None for chain in chains) == 4
    assert [chain.activation for chain in chains if chain.activation] == ["Gelu", "Gelu"]
    assert len(found.contexts) == 2
    assert len(found.projections) == (0 if form in GROUPED else 2)


@pytest.mark.parametrize("opset", [14, 18, 21])
@pytest.mark.parametrize("form", [with_lengths, heads_apart])
def test_other_opsets_have_the_same(form, opset, tmp_path):
    """Below 17 normalizations are single operators."""
    ir.save(take_apart(Fused(opset).model(form)), tmp_path / "model.onnx")
    opened = OpenedModel(tmp_path / "model.onnx")
    assert len(opened.findings.sites) == 2
    found = find_chains(opened)
    assert sum(chain.norm is not None for chain in found.chains.values()) == 4
    assert len(found.projections) == 2


def test_cross_attention_is_not_taken():
    def crossed(m: Fused, hidden: str, lengths: str) -> str:
        other = m.standard("Gather", m.weight(64, HIDDEN), "token_type_ids")
        parts = m.linear(hidden), m.linear(other), m.linear(other)
        return m.op("MultiHeadAttention", *parts, num_heads=HEADS)[0]

    model = take_apart(Fused().model(crossed))
    findings = find_sites(model)
    assert findings.sites == []
    with pytest.raises(NoEncoder):
        find_encoder(model, findings)
