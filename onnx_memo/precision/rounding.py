"""Round a product's weights to 8 bits so that the product, not each weight, is kept.

GPTQ (Frantar et al., 2022, arXiv 2210.17323): weights are rounded one input channel after the other, and what
each rounding does to the product is made up for by the channels that follow. How channels go together in the
sample (the sum of x x^T) says how. The largest channels stay apart in floats (LLM.int8:
Dettmers et al., 2022, arXiv 2208.07339), since they would leave the others of a row few of the 256 steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnx_memo.operators.spec import GROUP, PANEL

MOST = 127  # steps of a weight on either side of zero
DAMPING = 0.01  # of the mean of the diagonal: what the sample did not show is not relied on
BLOCK = 64  # channels that are made up for at once
STEP = 256  # columns of a matrix that are factored at once

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Rounded:
    """A product in 8 bits, as `MemoProduct` takes it.

    Attributes:
        packed: i8[P, K / 4, 48, 4].
        sums: i32[M], of each column's weights.
        scales: f32[M].
        bias: f32[M].
        channels: i64[O], rising: those that stay apart.
        apart: f32[O, M], their weights.
    """

    packed: npt.NDArray[np.int8]
    sums: npt.NDArray[np.int32]
    scales: Floats
    bias: Floats
    channels: npt.NDArray[np.int64]
    apart: Floats


def round_product(
    weight: Floats, bias: Floats, together: Doubles, channels: npt.NDArray[np.int64]
) -> Rounded:
    """Round a weight [K, M], K a multiple of 4.

    Args:
        weight: of the product.
        bias: f32[M].
        together: f64[K, K], the sum of x x^T over rows of the sample, each with a weight.
        channels: i64[O], rising: those that stay apart.
    """
    rest = np.setdiff1d(np.arange(len(weight)), channels)
    scales = np.maximum(np.abs(weight[rest]).max(axis=0, initial=0.0) / MOST, np.finfo(np.float32).tiny)
    whole = np.zeros(weight.shape, np.int8)
    whole[rest] = _whole(weight[rest] / scales, _feedback(together[np.ix_(rest, rest)]))
    return Rounded(
        packed=pack(whole),
        sums=whole.sum(axis=0, dtype=np.int32),
        scales=scales.astype(np.float32),
        bias=bias.astype(np.float32),
        channels=channels.astype(np.int64),
        apart=np.ascontiguousarray(weight[channels], np.float32),
    )


def gptq(weight: Floats, together: Doubles) -> npt.NDArray[np.int8]:
    """Whole numbers from -127 to 127 for weights [K, M] in that range.

    In the form without an inverse (LDLQ: Chee et al., 2023, arXiv 2307.13304, which shows it to be the same):
    with `together` = U D U^T, U upper triangular with ones on its diagonal, channel k is rounded after the
    sum over channels j before it of U[j, k] times what the rounding of j left over is added.

    Args:
        weight: divided by the columns' scales.
        together: f64[K, K], the sum of x x^T.
    """
    return _whole(weight, _feedback(together.copy()))


def _whole(weight: Floats, feedback: Floats) -> npt.NDArray[np.int8]:
    """The same, by what each channel's rounding does to those after it."""
    whole = np.zeros(weight.shape, np.int8)
    left = np.zeros(weight.shape, np.float32)  # what rounding left over
    for begin in range(0, len(weight), BLOCK):
        end = min(begin + BLOCK, len(weight))
        wanted = weight[begin:end] + feedback[:begin, begin:end].T @ left[:begin]
        for channel in range(begin, end):
            at = channel - begin
            now = wanted[at] + feedback[begin:channel, channel] @ left[begin:channel]
            rounded = np.clip(np.rint(now), -MOST, MOST)
            whole[channel] = rounded
            left[channel] = weight[channel] - rounded
    return whole


def packed_shape(inner: int, columns: int) -> tuple[int, int, int, int]:
    """The shape of a packed matrix [K, M]."""
    return -(-columns // PANEL), inner // GROUP, PANEL, GROUP


def bytes_to_round(inner: int, columns: int) -> int:
    """What rounding a product [K, M] takes in memory, about: its factor, and some copies of the weight."""
    return 12 * inner**2 + 16 * inner * columns


def pack(whole: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """A matrix [K, M] in panels of columns, i8[P, K / 4, 48, 4], zeros beyond M."""
    inner, columns = whole.shape
    panels, *_ = packed_shape(inner, columns)
    padded = np.zeros((inner, panels * PANEL), np.int8)
    padded[:, :columns] = whole
    grouped = padded.reshape(inner // GROUP, GROUP, panels, PANEL)
    return np.ascontiguousarray(grouped.transpose(2, 0, 3, 1))


def _feedback(together: Doubles) -> Floats:
    """The upper triangular factor with ones on its diagonal, f32[K, K]; `together` is overwritten.

    Cholesky's method by blocks of columns, the last ones first: of 5,120 channels the matrix takes 200 MiB,
    and LAPACK would want two more of it.
    """
    count = len(together)
    diagonal = np.einsum("ii->i", together)
    diagonal += max(DAMPING * float(diagonal.mean()) if count else 0.0, np.finfo(np.float64).tiny)
    feedback = np.zeros((count, count), np.float32)
    for end in range(count, 0, -STEP):
        begin = max(end - STEP, 0)
        block, above = together[begin:end, begin:end], together[:begin, begin:end]
        upper = np.linalg.cholesky(block[::-1, ::-1])[::-1, ::-1]
        above[...] = np.linalg.solve(upper, above.T).T  # above = factor @ upper.T
        for column in range(0, begin, STEP):
            beside = slice(column, min(column + STEP, begin))
            together[: beside.stop, beside] -= above[: beside.stop] @ above[beside].T
        scale = np.einsum("ii->i", upper)
        feedback[:begin, begin:end] = above / scale
        feedback[begin:end, begin:end] = upper / scale
    return feedback
