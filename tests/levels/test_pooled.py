"""Models that pool their states themselves, as sentence encoders do: their encoder ends before that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from support import (
    assert_identical,
    changed,
    fixture,
    join,
    memoized,
    original,
    random_samples,
    variants,
    write_samples,
)
from support_precision import exact_products
from support_rows import opened

import onnx_memo

LENGTHS = (3, 5, 9, 9, 16, 23)


class Head:
    """Adds nodes behind a model's states [B, L, d]."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        (self.states,) = model.graph.outputs
        (self.mask,) = (value for value in model.graph.inputs if value.name == "attention_mask")

    def op(self, op_type: str, *inputs: ir.Value, **attributes: int) -> ir.Value:
        node = ir.node(op_type, list(inputs), attributes)
        self.model.graph.append(node)
        return node.outputs[0]

    def const(self, value: object, dtype: type = np.int64) -> ir.Value:
        node = ir.node("Constant", [], {"value": ir.tensor(np.asarray(value, dtype))})
        self.model.graph.append(node)
        return node.outputs[0]

    def total(self, value: ir.Value) -> ir.Value:
        return self.op("ReduceSum", value, self.const([1]), keepdims=0)

    def real(self, spread: bool) -> ir.Value:
        """1 for real tokens, [B, L, 1], or spread to the shape of the states."""
        wide = self.op("Unsqueeze", self.mask, self.const([-1]))
        if spread:
            wide = self.op("Expand", wide, self.op("Shape", self.states))
        return self.op("Cast", wide, to=ir.DataType.FLOAT.value)

    def mean(self, spread: bool) -> ir.Value:
        real = self.real(spread)
        total = self.total(self.op("Mul", self.states, real))
        count = self.op("Clip", self.total(real), self.const(1e-9, np.float32))
        return self.op("Div", total, count)

    def most(self) -> ir.Value:
        there = self.op("Equal", self.real(spread=False), self.const(1, np.float32))
        kept = self.op("Where", there, self.states, self.const(-1e9, np.float32))
        return self.op("ReduceMax", kept, axes=[1], keepdims=0)

    def first(self) -> ir.Value:
        return self.op("Gather", self.states, self.const(0), axis=1)

    def normal(self, value: ir.Value) -> ir.Value:
        length = self.op("ReduceL2", value, axes=[1], keepdims=1)
        return self.op("Div", value, self.op("Max", length, self.const(1e-12, np.float32)))

    def finish(self, *values: ir.Value) -> None:
        for number, value in enumerate(values):
            if value is not self.states:
                value.name, value.type = f"pooled.{number}", self.states.type
                value.shape = ir.Shape([None, 32])
        self.model.graph.outputs[:] = values


HEADS: dict[str, Callable[[Head], None]] = {
    "a mean, its mask spread": lambda head: head.finish(head.mean(spread=True)),
    "a mean": lambda head: head.finish(head.mean(spread=False)),
    "a normalized mean": lambda head: head.finish(head.normal(head.mean(spread=True))),
    "a maximum": lambda head: head.finish(head.most()),
    "a normalized first row": lambda head: head.finish(head.normal(head.first())),
    "first row and mean": lambda head: head.finish(head.first(), head.mean(spread=False)),
    "states and mean": lambda head: head.finish(head.states, head.mean(spread=True)),
}
every_head = pytest.mark.parametrize("head", HEADS)


@pytest.fixture
def model(tmp_path: Path, head: str) -> Path:
    return changed("bert", tmp_path / "model.onnx", lambda model: HEADS[head](Head(model)))


@every_head
def test_the_encoder_ends_where_the_head_begins(model):
    encoder = opened(model).encoder
    assert encoder.output.name == "last_hidden_state"
    assert len(encoder.cores) == 3


@every_head
def test_repeats_are_reused_and_others_are_the_originals(model, tmp_path, mode):
    stored = random_samples(original(fixture("bert")), LENGTHS, seed=1)
    data = write_samples(tmp_path / "data.npz", stored)
    bundle = onnx_memo.optimize(model, data, tmp_path / "bundle")
    assert {site.level for site in bundle.manifest.sites} == {"rows"}
    assert onnx_memo.bench(model, bundle.path, data, native=mode == "native", rounds=1).hit_rate == 1
    after, before = memoized(bundle.path, mode), original(model)
    for request in (stored[2], join(stored[2:3], padded=20)):
        for have, want in zip(after.run(None, request), before.run(None, request), strict=True):
            want = want * request["attention_mask"][..., None] if want.ndim == 3 else want
            np.testing.assert_allclose(have, want, atol=2e-3)
    for request in random_samples(before, LENGTHS, seed=2):
        assert_identical(after.run(None, request), before.run(None, request))


@every_head
@pytest.mark.usefixtures("everything_pays")
def test_they_run_in_8_bits(model, tmp_path, mode):
    if not exact_products(mode):
        pytest.skip("products of bytes are not exact on this processor: the original runs")
    data = write_samples(tmp_path / "data.npz", variants(240, seed=1, changes=8))
    options = {"tolerance": 0.1, "metric": "relative", "level": "int8"}
    bundle = onnx_memo.optimize(model, data, tmp_path / "bundle", **options)
    after, before = memoized(bundle.path, mode), original(model)
    some = variants(3, seed=5, changes=8)
    for request in (*some, join(some, padded=40)):
        have, want = after.run(None, request)[-1], before.run(None, request)[-1]
        errors = np.linalg.norm(have - want, axis=-1) / np.linalg.norm(want, axis=-1)
        assert 0 < errors.max() <= 0.2
