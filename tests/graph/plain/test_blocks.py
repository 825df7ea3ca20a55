"""Weights in few bits become constants in floats, of the same numbers."""

from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from support_quantized import both, model_of, node, operators, plain_form

from onnx_memo.graph.plain.rule import MICROSOFT, Kept

RNG = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, np.float32)


def bytes_of(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, np.uint8)


def scales(*shape: int) -> np.ndarray:
    return RNG.uniform(0.01, 0.1, shape).astype(np.float32)


def same(model: ir.Model, feeds: dict[str, np.ndarray]) -> None:
    original, plain = both(model, feeds)
    np.testing.assert_allclose(plain, original, rtol=1e-5, atol=1e-5 * np.abs(original).max())


# ---- MatMulNBits


def nbits(
    bits: int, block: int, rows: int, columns: int, /, **changed: Any
) -> tuple[ir.Model, dict[str, np.ndarray]]:
    """A product with a weight [rows, columns]; `changed` replaces attributes and weights."""
    blocks = -(-columns // block)
    weights = {"w": bytes_of(rows, blocks, block * bits // 8), "s": scales(rows, blocks)}
    attributes = {"N": rows, "K": columns, "bits": bits, "block_size": block}
    for name, value in changed.items():
        (weights if isinstance(value, np.ndarray) else attributes)[name] = value
    names = [name if name in weights else "_" for name in ("w", "s", "z", "g", "bias")]
    while names[-1] == "_":
        names.pop()
    product = node("MatMulNBits", " ".join(["x", *names]), domain=MICROSOFT, **attributes)
    feeds = {"x": floats(2, 5, columns)}
    return model_of([product], feeds, weights), feeds


@pytest.mark.parametrize(
    ("bits", "zeros"),  # ONNX Runtime refuses floats with 8 bits
    [*itertools.product((2, 4, 8), ("none", "packed")), (2, "floats"), (4, "floats")],
)
@pytest.mark.parametrize(("rows", "columns", "block"), [(8, 32, 32), (7, 33, 16), (5, 80, 32), (16, 16, 128)])
def test_a_product_with_a_weight_in_few_bits(bits, rows, columns, block, zeros):
    blocks = -(-columns // block)
    changed = {
        "none": {},
        "packed": {"z": bytes_of(rows, -(-blocks * bits // 8))},
        "floats": {"z": RNG.uniform(0, 2**bits, (rows, blocks)).astype(np.float32)},
    }[zeros]
    model, feeds = nbits(bits, block, rows, columns, **changed)
    same(model, feeds)
    assert operators(plain_form(model)) == ["MatMul"]


def test_a_product_with_a_bias_and_lists_for_matrices():
    model, feeds = nbits(4, 16, 6, 40, s=scales(18), z=bytes_of(12), bias=floats(6), accuracy_level=1)
    same(model, feeds)
    assert operators(plain_form(model)) == ["MatMul", "Add"]


@pytest.mark.parametrize("size", [40, 48])
def test_a_product_with_groups_in_any_order(size):
    model, feeds = nbits(4, 16, 6, 40, g=RNG.integers(0, 3, size).astype(np.int32))
    same(model, feeds)


def test_the_weight_is_not_computed_before_it_is_read():
    model, _ = nbits(4, 16, 6, 40)
    found = plain_form(model)
    (weight,) = [v for v in found.graph.initializers.values() if v.name.startswith("plain")]
    assert isinstance(weight.const_value, ir.LazyTensor)
    assert weight.shape == (40, 6)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"N": 2**40}, "its weight are"),
        ({"K": 0}, "its K is 0"),
        ({"block_size": 24}, "its blocks are of 24"),
        ({"block_size": 8}, "its blocks are of 8"),
        ({"block_size": 2**62}, "its weight are"),
        ({"bits": 3}, "its weights have 3 bits"),
        ({"s": scales(6, 4)}, "its scales are"),
        ({"z": bytes_of(6, 4)}, "its zero points are"),
        ({"g": np.full(40, 3, np.int32)}, "its groups are none of its blocks"),
        ({"g": np.full(40, -1, np.int32)}, "its groups are none of its blocks"),
        ({"weight_prepacked": 1}, "is packed for one kind of processor"),
    ],
)
def test_a_weight_that_does_not_fit_is_kept(changed, reason):
    model, _ = nbits(4, 16, 6, 40, **changed)
    with pytest.raises(Kept, match=reason):
        plain_form(model)


def test_a_weight_that_is_given_is_kept():
    product = node("MatMulNBits", "x w s", domain=MICROSOFT, N=6, K=16, bits=4, block_size=16)
    feeds = {"x": floats(2, 16), "w": bytes_of(6, 1, 8), "s": scales(6, 1)}
    with pytest.raises(Kept, match="its weight are no constant"):
        plain_form(model_of([product], feeds, {}))


def test_a_weight_that_a_caller_may_replace_is_kept():
    model, _ = nbits(4, 16, 6, 40)
    model.graph.inputs.append(model.graph.initializers["w"])
    with pytest.raises(Kept, match="its weight are no constant"):
        plain_form(model)


# ---- MatMulBnb4


def bnb4(
    kind: int, block: int, rows: int, columns: int, /, **changed: Any
) -> tuple[ir.Model, dict[str, np.ndarray]]:
    count = rows * columns
    weights = {"w": bytes_of(-(-count // 2)), "s": scales(-(-count // block))}
    attributes = {"N": rows, "K": columns, "quant_type": kind, "block_size": block} | changed
    product = node("MatMulBnb4", "x w s", domain=MICROSOFT, **attributes)
    feeds = {"x": floats(2, 5, columns)}
    return model_of([product], feeds, weights), feeds


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize(("rows", "columns", "block"), [(8, 32, 32), (7, 33, 16), (5, 80, 64), (16, 16, 256)])
def test_a_product_with_a_weight_in_bitsandbytes(kind, rows, columns, block):
    model, feeds = bnb4(kind, block, rows, columns)
    same(model, feeds)
    assert operators(plain_form(model)) == ["MatMul"]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"quant_type": 2}, "its type 2 of 4 bits is not known"),
        ({"transB": 0}, "its weight is not transposed"),
        ({"N": 8}, "its weight are"),
        ({"block_size": 32}, "its peaks are"),
    ],
)
def test_a_weight_in_bitsandbytes_that_does_not_fit_is_kept(changed, reason):
    model, _ = bnb4(1, 16, 7, 33, **changed)
    with pytest.raises(Kept, match=reason):
        plain_form(model)


# ---- GatherBlockQuantized


def gather(
    table: np.ndarray, factors: np.ndarray, zeros: np.ndarray | None = None, **attributes: int
) -> tuple[ir.Model, dict[str, np.ndarray]]:
    weights = {"t": table, "s": factors} | ({} if zeros is None else {"z": zeros})
    looked_up = node(
        "GatherBlockQuantized", "t i s" + (" z" if zeros is not None else ""), domain=MICROSOFT, **attributes
    )
    feeds = {"i": RNG.integers(-4, 4, (2, 3))}
    return model_of([looked_up], feeds, weights, opset=21), feeds


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("zeros", [False, True])
def test_a_lookup_in_a_table_of_bytes(bits, zeros):
    table, factors = bytes_of(9, 40 * bits // 8), scales(9, 3)
    given = bytes_of(9, -(-3 * bits // 8)) if zeros else None
    model, feeds = gather(table, factors, given, bits=bits, block_size=16)
    same(model, feeds)
    assert operators(plain_form(model)) == ["Gather"]


@pytest.mark.parametrize("dtype", [ml_dtypes.int4, ml_dtypes.uint4])
@pytest.mark.parametrize(("looked_up", "axis"), [(0, 1), (1, 0), (0, -1), (1, 2), (2, 1)])
@pytest.mark.parametrize("zeros", [False, True])
def test_a_lookup_in_a_table_of_four_bits(dtype, looked_up, axis, zeros):
    shape = [6, 36, 20]
    blocks = [*shape]
    blocks[axis] = -(-shape[axis] // 16)
    numbers = RNG.integers(0, 8, shape).astype(dtype)
    given = RNG.integers(0, 8, blocks).astype(dtype) if zeros else None
    model, feeds = gather(
        numbers, scales(*blocks), given, gather_axis=looked_up, quantize_axis=axis, block_size=16
    )
    same(model, feeds)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"quantize_axis": 2}, "its axes are none"),
        ({"gather_axis": -3}, "its axes are none"),
        ({"quantize_axis": 0, "gather_axis": 1}, "not packed along the last axis"),
        ({"block_size": 32}, "its scales are"),
        ({"bits": 5}, "have 5 bits"),
    ],
)
def test_a_table_that_does_not_fit_is_kept(changed, reason):
    model, _ = gather(bytes_of(9, 20), scales(9, 3), **{"block_size": 16, **changed})
    with pytest.raises(Kept, match=reason):
        plain_form(model)
