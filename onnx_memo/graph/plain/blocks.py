"""Rules for weights in few bits, with a scale for each block of them: constants that are computed when read.

What is written is the weight in floats, as it is multiplied or looked up: an initializer that knows its
shape. Sizes follow from attributes and from the tensors, and are compared before anything is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.graph.plain.integers import constant, inputs_of, needed
from onnx_memo.graph.plain.rule import MICROSOFT, Kept, Rules

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[Any]

SMALLEST_BLOCK = 16  # a block has a power of two of weights
# MatMulBnb4: what its 4 bits stand for, times the peak of the block. From bitsandbytes: floats of one bit of
# sign, two of exponent and one of fraction, by the largest of them; and quantiles of the normal distribution.
FP4 = np.array([0, 1 / 192, 2 / 3, 1, 1 / 3, 1 / 2, 1 / 6, 1 / 4], np.float32)
NF4 = np.array(
    (
        *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635),
        *(-0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725),
        *(0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941),
        *(0.7229568362236023, 1.0),
    ),
    np.float32,
)
CODES = {0: np.concatenate([FP4, -FP4]), 1: NF4}  # by `quant_type`


def _matmul_nbits(b: Builder, node: ir.Node) -> Sequence[ir.Value]:
    """Of a weight [N, K], each row in blocks: N x blocks x bytes of a block."""
    rows, columns, block = _size(node, "N"), _size(node, "K"), _block(node)
    bits = _bits(node)
    if node.attributes.get_int("weight_prepacked", 0):
        raise Kept("its weight is packed for one kind of processor")
    left, weight, scales, zeros, group, bias = inputs_of(node, 6)
    blocks = -(-columns // block)
    packed = _tensor(weight, "weight", (rows, blocks, block * bits // 8))
    factors = _tensor(scales, "scales", (rows, blocks), (rows * blocks,))
    offsets = None
    if zeros is not None and zeros.dtype == ir.DataType.UINT8:
        size = -(-blocks * bits // 8)
        offsets = _tensor(zeros, "zero points", (rows, size), (rows * size,))
    elif zeros is not None:
        offsets = _tensor(zeros, "zero points", (rows, blocks), (rows * blocks,))
    block_of = np.arange(columns) // block
    if group is not None:
        block_of = _tensor(group, "groups", (columns,), (blocks * block,)).numpy()[:columns]
        if block_of.min() < 0 or block_of.max() >= blocks:
            raise Kept("its groups are none of its blocks")

    def compute() -> Floats:
        numbers = _unpacked(packed.numpy().reshape(rows, -1), bits)[:, :columns].astype(np.float32)
        factor = factors.numpy().reshape(rows, blocks).astype(np.float32)
        offset = np.full((rows, blocks), 2 ** (bits - 1), np.float32)
        if offsets is not None:
            given = offsets.numpy().reshape(rows, -1)
            offset = _unpacked(given, bits) if offsets.dtype == ir.DataType.UINT8 else given
            offset = offset.astype(np.float32)
        return np.ascontiguousarray(((numbers - offset[:, block_of]) * factor[:, block_of]).T)

    product = b.op("MatMul", needed(left), b.weight(compute, (columns, rows)))
    return [product if bias is None else b.op("Add", product, bias)]


def _matmul_bnb4(b: Builder, node: ir.Node) -> Sequence[ir.Value]:
    """Of a weight [N, K] in blocks of its numbers one after the other; the first of two in the high bits."""
    rows, columns, block = _size(node, "N"), _size(node, "K"), _block(node)
    kind = node.attributes.get_int("quant_type", -1)
    if kind not in CODES:
        raise Kept(f"its type {kind} of 4 bits is not known")
    if not node.attributes.get_int("transB", 1):
        raise Kept("its weight is not transposed")
    count = rows * columns
    left, weight, scales = inputs_of(node, 3)
    packed = _tensor(weight, "weight", (-(-count // 2),))
    peaks = _tensor(scales, "peaks", (-(-count // block),))

    def compute() -> Floats:
        numbers = CODES[kind][_unpacked(packed.numpy(), 4).reshape(-1, 2)[:, ::-1].ravel()[:count]]
        peak = _spread(peaks.numpy(), 0, block, count).astype(np.float32)
        return np.ascontiguousarray((numbers * peak).reshape(rows, columns).T)

    return [b.op("MatMul", needed(left), b.weight(compute, (columns, rows)))]


def _gather_block_quantized(b: Builder, node: ir.Node) -> Sequence[ir.Value]:
    """Of a table in blocks along one axis."""
    data, indices, scales, zeros = inputs_of(node, 4)
    table = _tensor(data, "table")
    if not table.dtype.is_integer():
        raise Kept(f"its table is of the type {table.dtype.name}")
    block, rank = _block(node, 128), len(table.shape)
    axis, looked_up = (node.attributes.get_int(*name) for name in (("quantize_axis", 1), ("gather_axis", 0)))
    if not (-rank <= axis < rank and -rank <= looked_up < rank):
        raise Kept("its axes are none of its table's")
    axis %= rank
    shape = list(table.shape.numpy())
    bits = _bits(node) if table.dtype == ir.DataType.UINT8 else 8  # others are unpacked already
    if bits < 8 and axis != rank - 1:
        raise Kept("its table is not packed along the last axis")
    shape[axis] = shape[axis] * 8 // bits
    blocks = [*shape[:axis], -(-shape[axis] // block), *shape[axis + 1 :]]
    factors = _tensor(scales, "scales", blocks)
    packed = [*blocks[:axis], -(-blocks[axis] * bits // 8), *blocks[axis + 1 :]]
    offsets = None if zeros is None else _tensor(zeros, "zero points", packed)

    def compute() -> Floats:
        numbers, offset = table.numpy(), np.zeros((), np.float32)
        if table.dtype == ir.DataType.UINT8:
            numbers, offset = _unpacked(numbers, bits), np.full((), 2 ** (bits - 1), np.float32)
        if offsets is not None:
            given = offsets.numpy()
            given = _unpacked(given, bits) if bits < 8 else given
            offset = _spread(given, axis, block, shape[axis])
        factor = _spread(factors.numpy(), axis, block, shape[axis])
        return _difference(numbers, offset) * factor

    return [b.op("Gather", b.weight(compute, shape), needed(indices), axis=looked_up)]


def in_blocks(
    b: Builder, tensor: ir.TensorProtocol, scale: ir.Value, zero: ir.Value | None, axis: int, block: int
) -> ir.Value:
    """The floats of `tensor` with a scale for each `block` along `axis`, or for each place of it (0), or one.

    Raises:
        Kept: sizes do not fit, or scales are no constants.
    """
    shape = list(tensor.shape.numpy())
    factors = _tensor(scale, "scales")
    offsets = None if zero is None else _tensor(zero, "zero points", factors.shape.numpy())
    single = factors.size == 1
    if not single:
        if not -len(shape) <= axis < len(shape) or block < 0:
            raise Kept(f"its axis {axis} is none of its weight's")
        axis %= len(shape)
        blocks = [*shape[:axis], -(-shape[axis] // block), *shape[axis + 1 :]] if block else [shape[axis]]
        _tensor(scale, "scales", blocks)

    def along(numbers: Numbers) -> Numbers:
        if single:
            return numbers.reshape(())
        if block:
            return _spread(numbers, axis, block, shape[axis])
        return numbers.reshape(-1, *[1] * (len(shape) - axis - 1))

    def compute() -> Floats:
        offset = np.zeros((), np.float32) if offsets is None else along(offsets.numpy())
        return _difference(tensor.numpy(), offset) * along(factors.numpy()).astype(np.float32)

    return b.weight(compute, shape)


def _unpacked(packed: Numbers, bits: int) -> Numbers:
    """The numbers of `bits` bits along the last axis of bytes, the first in the low bits."""
    parts = [packed >> shift & 2**bits - 1 for shift in range(0, 8, bits)]
    return np.stack(parts, axis=-1).reshape(*packed.shape[:-1], -1)


def _spread(numbers: Numbers, axis: int, block: int, size: int) -> Numbers:
    """For each of `size` places along an axis the number of its block."""
    return numbers.take(np.arange(size) // block, axis)


def _difference(numbers: Numbers, offset: Numbers) -> Floats:
    return numbers.astype(np.float32) - offset.astype(np.float32)


def _tensor(value: ir.Value | None, what: str, *shapes: Sequence[int]) -> ir.TensorProtocol:
    """The tensor of a constant, of one of these shapes (of any, if there are none)."""
    tensor = constant(value)
    if tensor is None:
        raise Kept(f"its {what} are no constant")
    shape = tensor.shape.numpy()
    if shapes and shape not in [tuple(shape) for shape in shapes]:
        raise Kept(f"its {what} are {list(shape)}, and its attributes ask for {list(shapes[0])}")
    return tensor


def _size(node: ir.Node, name: str) -> int:
    size = node.attributes.get_int(name, 0)
    if size < 1:
        raise Kept(f"its {name} is {size}")
    return size


def _block(node: ir.Node, default: int = 0) -> int:
    block = node.attributes.get_int("block_size", default)
    if block < SMALLEST_BLOCK or block & block - 1:
        raise Kept(f"its blocks are of {block}: no power of two from {SMALLEST_BLOCK} on")
    return block


def _bits(node: ir.Node) -> int:
    bits = node.attributes.get_int("bits", 4)
    if bits not in (2, 4, 8):
        raise Kept(f"its weights have {bits} bits")
    return bits


RULES: Rules = {
    (MICROSOFT, "MatMulNBits"): _matmul_nbits,
    (MICROSOFT, "MatMulBnb4"): _matmul_bnb4,
    (MICROSOFT, "GatherBlockQuantized"): _gather_block_quantized,
}
