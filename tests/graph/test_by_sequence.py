"""What a region reads, taken of some sequences of a batch: the same as it reads of these alone."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from support import open_model

from onnx_memo.graph import flow
from onnx_memo.graph.build import Builder
from onnx_memo.graph.by_sequence import Reads, read_instead, reads_by_sequence
from onnx_memo.graph.shapes import LENGTHS, ShapeTable

WIDTH = 4


class Small:
    """x f32[B, L, 4], mask i64[B, L] -> inputs. A region is made of what is written after `begin_region`."""

    def __init__(self, batch: int | str = "batch") -> None:
        self.b = Builder("small", 17)
        self.x = ir.val("x", ir.DataType.FLOAT, [batch, "length", WIDTH])
        self.mask = ir.val("mask", ir.DataType.INT64, [batch, "length"])
        table = ir.tensor(np.arange(2048 * WIDTH, dtype=np.float32).reshape(2048, WIDTH), name="table")
        self.table = ir.val("table", ir.DataType.FLOAT, [2048, WIDTH], const_value=table)

    def begin_region(self) -> None:
        self.before = len(self.b.nodes)

    def model(self, result: ir.Value) -> ir.Model:
        result.type = ir.TensorType(ir.DataType.FLOAT)
        inputs = [self.x, self.mask]
        graph = ir.Graph(
            inputs, [result], nodes=self.b.nodes, initializers=[self.table], opset_imports={"": 17}
        )
        return ir.Model(graph, ir_version=8)

    def reads(self, model: ir.Model) -> Reads | None:
        region, constant = self.b.nodes[self.before :], flow.constant_nodes(model.graph)
        shapes = ShapeTable(model).at(LENGTHS[0], follow=True)
        return reads_by_sequence(model.graph, region, [self.x], constant, shapes)


def request(batch: int, length: int = 5) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(batch)
    mask = (np.arange(length) < rng.integers(1, length + 1, (batch, 1))).astype(np.int64)
    return {"x": rng.standard_normal((batch, length, WIDTH), np.float32), "mask": mask}


def taken(small: Small, model: ir.Model, numbers: list[int]) -> ir.Model:
    """The model whose region stands in a branch, and reads all of the sequences `numbers` alone."""
    reads = small.reads(model)
    assert reads is not None
    b = Builder("taken", 17)
    own = reads.of(b, b.i64(*numbers))
    region, (result,) = small.b.nodes[small.before :], model.graph.outputs
    read_instead(region, own)
    model.graph.outputs.clear()
    model.graph.remove(region)
    other, main = Builder("other", 17), Builder("main", 17)
    same = ir.Graph([], [other.op("Identity", small.x)], nodes=other.nodes, name="other")
    branch = ir.Graph([], [result], nodes=[*b.nodes, *region], name="taken")
    some = main.op(
        "Greater", main.op("Size", small.x), main.const(0, np.int64)
    )  # no constant: it stays an If
    chosen = main.op("If", some, then_branch=branch, else_branch=same)
    chosen.type = result.type
    model.graph.extend(main.nodes)
    model.graph.outputs.append(chosen)
    return model


@pytest.mark.parametrize("numbers", [[0], [2, 0], [0, 1, 2], [1, 1, 1, 1], []])
@pytest.mark.parametrize("how", ["mask", "mask made before", "sizes of x", "sizes of what is made of x"])
def test_a_region_gives_for_taken_sequences_what_it_gives_for_all(numbers, how):
    small = Small()
    b = small.b
    wide = b.op("Unsqueeze", b.op("Cast", small.mask, to=1), b.i64(2))
    made = b.op("Add", small.x, b.op("Gather", small.table, small.mask, axis=0))
    size = b.op("Shape", small.x if how == "sizes of x" else made)
    shape = b.op("Concat", b.op("Slice", size, b.i64(0), b.i64(2)), b.i64(2, 2), axis=0)
    small.begin_region()
    match how:
        case "mask":
            result = b.op("Mul", small.x, b.op("Unsqueeze", b.op("Cast", small.mask, to=1), b.i64(2)))
        case "mask made before":
            result = b.op("Mul", small.x, wide)
        case _:
            result = b.op("Reshape", small.x, shape)
    whole = small.model(result)
    feeds = request(3)
    (want,) = open_model(whole).run(None, feeds)
    (have,) = open_model(taken(small, whole, numbers)).run(None, feeds)
    np.testing.assert_array_equal(have, want[numbers])


def test_one_mask_stands_for_all():
    small = Small()
    small.begin_region()
    cast = small.b.op("Unsqueeze", small.b.op("Cast", small.mask, to=1), small.b.i64(2))
    model = small.model(small.b.op("Mul", small.x, cast))
    feeds = request(3) | {"mask": np.array([[1, 1, 0, 1, 0]])}
    (want,) = open_model(model).run(None, feeds)
    (have,) = open_model(taken(small, model, [2, 1])).run(None, feeds)
    np.testing.assert_array_equal(have, want[[2, 1]])


def test_sizes_may_be_as_many_as_the_sequences_by_chance():
    """The shape of x is three numbers, and the batch that shapes are inferred for is three."""
    small = Small()
    shape = small.b.op("Shape", small.x)
    small.begin_region()
    model = small.model(small.b.op("Expand", small.x, shape))
    reads = small.reads(model)
    assert reads is not None
    assert (reads.sizes, reads.begin) == ((shape.producer(),), (small.x,))


def test_a_table_is_not_read_again_but_what_was_read_is_taken():
    small = Small()
    read = small.b.op("Gather", small.table, small.mask, axis=0)
    small.begin_region()
    reads = small.reads(small.model(small.b.op("Add", small.x, read)))
    assert reads is not None
    assert set(reads.begin) == {small.x, read}
    assert not reads.again


def test_what_comes_from_a_table_by_sizes_alone_cannot_be_taken():
    small = Small()
    b = small.b
    end = b.op("Squeeze", b.dim(small.x, 1))
    places = b.op("Range", b.const(0, np.int64), end, b.const(1, np.int64))
    read = b.op("Gather", small.table, places, axis=0)
    small.begin_region()
    assert small.reads(small.model(b.op("Add", small.x, read))) is None


@pytest.mark.parametrize("kind", ["RandomNormalLike", "Bernoulli"])
def test_what_is_drawn_is_not_drawn_again(kind):
    small = Small()
    floats = small.b.op("Reshape", small.x, small.b.i64(-1))
    drawn = small.b.op(kind, floats)
    small.begin_region()
    some = small.b.op("Slice", drawn, small.b.i64(0), small.b.i64(WIDTH))
    assert small.reads(small.model(small.b.op("Add", small.x, some))) is None


@pytest.mark.parametrize("batch", [1, 8])
def test_a_fixed_batch_is_not_taken_apart(batch):
    small = Small(batch)
    small.begin_region()
    assert small.reads(small.model(small.b.op("Relu", small.x))) is None


def test_what_rounds_all_sequences_with_one_scale_is_not_taken_apart():
    small = Small()
    b = small.b
    small.begin_region()
    rounded, scale, zero = b.ops("DynamicQuantizeLinear", small.x, names=["rounded", "scale", "zero"])
    assert small.reads(small.model(b.op("DequantizeLinear", rounded, scale, zero))) is None


def test_branches_of_a_region_read_what_is_taken():
    small = Small()
    then, other = Builder("then", 17), Builder("other", 17)
    small.begin_region()
    doubled, same = then.op("Add", small.x, small.x), other.op("Identity", small.x)
    branches = {
        name: ir.Graph([], [value], nodes=own.nodes, name=name)
        for name, own, value in (("then_branch", then, doubled), ("else_branch", other, same))
    }
    model = small.model(small.b.op("If", small.b.const(True, np.bool_), **branches))
    feeds = request(3)
    (have,) = open_model(taken(small, model, [2])).run(None, feeds)
    np.testing.assert_array_equal(have, 2 * feeds["x"][[2]])
