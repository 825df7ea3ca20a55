"""An opened model: searched once, copied for each change, and never changed itself."""

from __future__ import annotations

import contextlib
from dataclasses import fields, is_dataclass
from typing import Any

import onnx_ir as ir
import pytest
from support import (
    ATTENTION,
    assert_identical,
    changed,
    fixture,
    mixing_rows,
    open_model,
    original,
    random_samples,
)
from support_rows import ENCODERS

from onnx_memo.graph.encoder import NoEncoder, find_encoder
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.graph.shapes import ShapeTable
from onnx_memo.graph.sites import find_sites


def content(model: ir.Model) -> bytes:
    return ir.to_proto(model).SerializeToString()


def same(one: Any, other: Any) -> bool:
    """Whether two findings are the same, in the same model or by name."""
    if isinstance(one, ir.Value | ir.Node):
        return one is other
    if isinstance(one, dict):
        return len(one) == len(other) and all(key in other and same(v, other[key]) for key, v in one.items())
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(same, one, other))
    if is_dataclass(one):
        return all(same(getattr(one, field.name), getattr(other, field.name)) for field in fields(one))
    return bool((one == other).all()) if hasattr(one, "all") else one == other


@pytest.mark.parametrize("name", ATTENTION)
def test_twins_are_what_a_search_of_the_copy_finds(name):
    opened = OpenedModel(fixture(name))
    copy = opened.copy()
    found = find_sites(copy.model)
    assert same([copy.twin(site) for site in opened.findings.sites], found.sites)
    if name in ENCODERS:
        assert same(copy.twin(opened.encoder), find_encoder(copy.model, found))


@pytest.mark.parametrize("name", ATTENTION)
def test_a_copy_computes_the_same_bits(name):
    before = original(fixture(name))
    after = open_model(OpenedModel(fixture(name)).copy().model)
    for request in random_samples(before, [1, 9], seed=1):
        assert_identical(after.run(None, request), before.run(None, request))


@pytest.mark.parametrize("name", ATTENTION)
def test_neither_searches_nor_changes_of_a_copy_change_the_model(name):
    opened = OpenedModel(fixture(name))
    before = content(opened.model)
    assert opened.findings.sites
    with contextlib.suppress(NoEncoder):
        assert opened.encoder
    copy = opened.copy()
    assert content(copy.model) == before
    copy.model.graph.outputs.clear()
    for node in list(copy.model.graph)[::-1]:
        copy.model.graph.remove(node, safe=False)
    assert content(opened.model) == before


def test_a_copy_keeps_what_belongs_to_the_model(tmp_path):
    def described(model: ir.Model) -> None:
        model.metadata_props["made by"] = "a test"
        model.producer_name, model.ir_version = "somebody", 9

    opened = OpenedModel(changed("bert", tmp_path / "m.onnx", described))
    model = opened.copy().model
    assert model.metadata_props["made by"] == "a test"
    assert (model.producer_name, model.ir_version) == ("somebody", 9)
    assert model.opset_imports == opened.model.opset_imports
    weights = opened.model.graph.initializers
    shared = [
        model.graph.initializers[name].const_value is value.const_value for name, value in weights.items()
    ]
    assert all(shared), "tensors are not copied"


def test_why_there_is_no_encoder_is_found_once_and_said_again(tmp_path, monkeypatch):
    opened = OpenedModel(changed("bert", tmp_path / "model.onnx", mixing_rows))
    with pytest.raises(NoEncoder) as first:
        _ = opened.encoder
    monkeypatch.setattr("onnx_memo.graph.opened.find_encoder", lambda *_: pytest.fail("searched again"))
    with pytest.raises(NoEncoder, match="works across rows") as second:
        _ = opened.encoder
    assert str(first.value) == str(second.value)


@pytest.mark.parametrize("name", [*ATTENTION, "llama"])
def test_shapes_are_inferred_once_a_size(name, monkeypatch):
    """And the weights are no part of what inference is given."""
    asked, sizes = [], []
    infer, at = ShapeTable._infer, ShapeTable.at

    def inferred(table, proto):
        sizes.append(proto.ByteSize())
        return infer(table, proto)

    def read(table, length, *, follow=False):
        asked.append((length, follow))
        return at(table, length, follow=follow)

    monkeypatch.setattr(ShapeTable, "_infer", inferred)
    monkeypatch.setattr(ShapeTable, "at", read)
    opened = OpenedModel(fixture(name))
    assert opened.findings.sites
    with contextlib.suppress(NoEncoder):
        assert opened.encoder
    lengths = {length for length, _ in asked}
    assert len(asked) > len(lengths)
    assert len(sizes) <= 3 * len(lengths), "once as it is, and as often as sizes lead to further ones"
    assert max(sizes) < fixture(name).stat().st_size
