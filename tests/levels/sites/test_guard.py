"""What the rewrite does to a model, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from support import (
    ATTENTION,
    LEVELS,
    assert_identical,
    changed,
    fixture,
    join,
    memoized,
    node_named,
    original,
    random_samples,
    write_samples,
)

import onnx_memo
from onnx_memo.graph.load import load_model
from onnx_memo.graph.sites import find_sites
from onnx_memo.operators.spec import DOMAIN

LENGTHS = (3, 9, 9, 14)


def guarded(bundle: Path) -> ir.Model:
    return ir.load(bundle / "model.onnx")


def ifs(model: ir.Model) -> list[ir.Node]:
    """Those that stand in the place of a region."""
    return [node for node in model.graph if node.op_type == "If" and node.name.endswith("/if")]


def branch(node: ir.Node, name: str) -> ir.Graph:
    return node.attributes[name].as_graph()


def own_nodes(graph: ir.Graph) -> list[ir.Node]:
    """Those of the original model."""
    return [node for node in graph if not node.name.startswith("memo/")]


def shapes(values) -> list[tuple]:
    return [(v.name, v.dtype, str(v.shape)) for v in values]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ATTENTION)
def test_inputs_and_outputs_keep_names_order_and_types(made, name, level):
    before, after = ir.load(fixture(name)), guarded(made(name, level).bundle)
    required = [value for value in after.graph.inputs if not value.is_initializer()]
    assert shapes(required) == shapes(before.graph.inputs)
    assert [value.name for value in after.graph.inputs][len(required) :] == ["memo_strictness"]
    assert shapes(after.graph.outputs) == shapes(before.graph.outputs)


@pytest.mark.parametrize("name", ATTENTION)
def test_the_regions_nodes_are_moved_not_copied(made, name):
    model = load_model(fixture(name))
    after = guarded(made(name).bundle)
    moved = [node.name for site in find_sites(model).sites for node in site.region]
    inside = [node.name for guard in ifs(after) for node in own_nodes(branch(guard, "else_branch"))]
    outside = [node.name for node in own_nodes(after.graph)]
    assert inside == moved
    assert sorted([*inside, *outside]) == sorted(node.name for node in model.graph)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ATTENTION)
def test_every_tensor_stays_in_the_main_graph(made, name, level):
    after = guarded(made(name, level).bundle)
    for guard in ifs(after):
        for attribute in ("then_branch", "else_branch"):
            assert not branch(guard, attribute).initializers
            assert not branch(guard, attribute).inputs


@pytest.mark.parametrize("level", LEVELS)
def test_a_branch_folds_no_weight(made, level):
    """A constant node over a weight would become a second copy of it."""
    for guard in ifs(guarded(made("bert", level).bundle)):
        for node in branch(guard, "else_branch"):
            weights = [v for v in node.inputs if v is not None and v.is_initializer()]
            assert node.op_type != "Transpose" or not weights


@pytest.mark.parametrize(("level", "operator"), [("output", "MemoFetch"), ("probs", "MemoContext")])
def test_a_hit_only_fetches(made, level, operator):
    for guard in ifs(guarded(made("bert", level).bundle)):
        nodes = list(branch(guard, "then_branch"))
        assert nodes[-1].op_type == operator
        assert {node.op_type for node in nodes[:-1]} <= {"Shape", "Gather", "Constant"}


def test_the_memo_data_is_external_and_the_rest_is_not(made):
    for name, value in guarded(made("bert").bundle).graph.initializers.items():
        outside = isinstance(value.const_value, ir.ExternalTensor)
        assert outside == (name.startswith("memo/") and not name.endswith(("/radius", "/epsilon")))


@pytest.mark.parametrize("level", LEVELS)
def test_every_memo_operator_comes_with_a_body(made, level):
    model = guarded(made("bert", level).bundle)
    used = {node.op_type for node in model.graph.all_nodes() if node.domain == DOMAIN}
    assert {"MemoSegments", "MemoLookup", "MemoFetch"} <= used
    assert used <= {function.name for function in model.functions.values() if function.domain == DOMAIN}


def test_lengths_are_computed_once_for_all_sites(made):
    """The request's own nodes stand before the first guard alone."""
    names = [node.name for node in guarded(made("bert").bundle).graph]
    assert any(name.startswith("memo/request.0/") for name in names)
    assert not any(name.startswith("memo/request.1/") for name in names)


def test_chosen_sites_alone_are_guarded(tmp_path, made):
    source = made("bert")
    result = onnx_memo.optimize(source.model, source.data, tmp_path / "b", sites="0,2")
    assert [site.name for site in result.manifest.sites] == ["attention.0", "attention.2"]
    assert len(ifs(guarded(result.path))) == 2


# ---- Masks


def masked_with(dtype: ir.DataType, path: Path) -> Path:
    """BERT whose mask is of another type; its first use casts it to floats all the same."""

    def change(model: ir.Model) -> None:
        (mask,) = (value for value in model.graph.inputs if value.name == "attention_mask")
        todo = [mask]
        while todo:
            value = todo.pop()
            value.type = ir.TensorType(dtype)
            todo += [o for node, _ in value.uses() if node.op_type == "Unsqueeze" for o in node.outputs]

    return changed("bert", path, change)


@pytest.mark.parametrize("dtype", [ir.DataType.BOOL, ir.DataType.INT32, ir.DataType.FLOAT])
def test_masks_come_in_any_type(tmp_path, mode, dtype):
    model = masked_with(dtype, tmp_path / "model.onnx")
    before = original(model)

    def typed(request):
        return request | {"attention_mask": request["attention_mask"].astype(dtype.numpy())}

    stored = [typed(sample) for sample in random_samples(before, LENGTHS, seed=1)]
    data = write_samples(tmp_path / "data.npz", stored)
    after = memoized(onnx_memo.optimize(model, data, tmp_path / "bundle", level="output").path, mode)
    batch = typed(join(stored[1:4]))
    assert not np.array_equal(after.run(None, batch)[0], before.run(None, batch)[0])
    padded = typed(join(stored[1:4], side="left"))  # the last is as long as the batch: it is reused
    want, have = before.run(None, padded), after.run(None, padded)
    assert_identical([output[:2] for output in have], [output[:2] for output in want])
    assert not np.array_equal(have[0][2], want[0][2])
    (other,) = map(typed, random_samples(before, [9], seed=2))
    assert_identical(after.run(None, other), before.run(None, other))


@pytest.mark.parametrize("value", [0.5, 1.5, np.nan, -1.0])
def test_a_mask_of_other_numbers_misses(tmp_path, mode, value):
    model = masked_with(ir.DataType.FLOAT, tmp_path / "model.onnx")
    before = original(model)
    (stored,) = random_samples(before, [9], seed=1)
    stored["attention_mask"] = stored["attention_mask"].astype(np.float32)
    data = write_samples(tmp_path / "data.npz", [stored])
    options = {"threshold": 1e30}
    after = memoized(onnx_memo.optimize(model, data, tmp_path / "bundle", **options).path, mode)
    for token in (0, 8):
        request = {name: array.copy() for name, array in stored.items()}
        request["attention_mask"][0, token] = value
        assert_identical(after.run(None, request), before.run(None, request))


# ---- Values that are needed elsewhere too

PROJECTION = "/encoder/layer.0/attention/output/dense/MatMul"


def returning(value_of, name: str, path: Path) -> Path:
    """BERT that also returns a value from inside its first attention block."""

    def add(model: ir.Model) -> None:
        value = value_of(model)
        value.type = ir.TensorType(ir.DataType.FLOAT)
        value.shape = ir.Shape([None] * 3)
        model.graph.outputs.append(value)
        value.name = name

    return changed("bert", path, add)


def assert_same_on_misses_and_near_on_hits(model: Path, folder: Path, mode: str, level: str) -> None:
    before = original(model)
    stored = random_samples(before, LENGTHS, seed=1)
    bundle = onnx_memo.optimize(
        model, write_samples(folder / "x.npz", stored), folder / "bundle", level=level
    ).path
    after = memoized(bundle, mode)
    assert [o.name for o in after.get_outputs()] == [o.name for o in before.get_outputs()]
    for request in random_samples(before, LENGTHS, seed=2):
        assert_identical(after.run(None, request), before.run(None, request))
    for request in [*stored, join(stored[1:3])]:
        for have, want in zip(after.run(None, request), before.run(None, request), strict=True):
            np.testing.assert_allclose(have, want, atol=0.05)


def test_a_site_output_that_the_model_returns_keeps_its_name(tmp_path, mode):
    model = returning(lambda m: node_named(m, PROJECTION).outputs[0], "projected", tmp_path / "m.onnx")
    assert_same_on_misses_and_near_on_hits(model, tmp_path, mode, "output")


@pytest.mark.parametrize("level", LEVELS)
def test_values_that_the_model_returns_are_still_produced(tmp_path, mode, level):
    """Present values of a cache, for one: their projection then stays outside the guard."""

    def projected_values(model: ir.Model) -> ir.Value:
        return node_named(model, "/encoder/layer.0/attention/self/value/MatMul").outputs[0]

    model = returning(projected_values, "present_values", tmp_path / "m.onnx")
    assert_same_on_misses_and_near_on_hits(model, tmp_path, mode, level)
