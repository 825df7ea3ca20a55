"""MemoProduct: rows times a constant matrix, in 8 bits, each row in 255 steps of its own range."""

from __future__ import annotations

import numpy as np

from onnx_memo.operators.reference.common import Floats, Integers, Integers32, SignedBytes, check_fit
from onnx_memo.operators.spec import LEAST_WIDTH, STEPS

LEAST = np.float32(LEAST_WIDTH)


def memo_product(
    x: Floats,
    packed: SignedBytes,
    sums: Integers32,
    scales: Floats,
    bias: Floats,
    channels: Integers,
    apart: Floats,
) -> Floats:
    """The product of x [..., K] and the matrix, in f32 [..., M].

    Shapes: packed [P, K / 4, 48, 4], sums, scales and bias [M], channels [O], apart [O, M]. Raises ValueError
    if they do not fit, or the channels do not rise.
    """
    check_fit(packed.ndim == 4 and packed.shape[1] * 4 == x.shape[-1], x, packed)
    columns = len(scales)
    fits = packed.shape[2:] == (48, 4) and packed.shape[0] == -(-columns // 48)
    check_fit(fits and sums.shape == bias.shape == scales.shape, packed, sums, scales, bias)
    check_fit(apart.shape == (*channels.shape, columns), channels, apart)
    if len(channels) and (channels[0] < 0 or channels[-1] >= x.shape[-1] or (np.diff(channels) <= 0).any()):
        raise ValueError(f"channels {channels.tolist()} do not rise from 0 to below {x.shape[-1]}")
    weight = packed.transpose(1, 3, 0, 2).reshape(x.shape[-1], -1)[:, :columns].astype(np.int32)
    rest = x.copy()
    rest[..., channels] = 0
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite breaks its row
        low, high = (
            least(axis=-1, keepdims=True) if x.shape[-1] else np.zeros((*x.shape[:-1], 1), np.float32)
            for least in (rest.min, rest.max)
        )
        width = np.maximum(high - low, LEAST)
        width[~np.isfinite(width)] = np.nan
        whole = np.nan_to_num(np.clip(np.rint((rest - low) * (np.float32(STEPS) / width)), 0, STEPS))
        total = (whole.astype(np.int32) @ weight).astype(np.float32) * (width / np.float32(STEPS))
        y: Floats = (total + low * sums.astype(np.float32)) * scales + bias + x[..., channels] @ apart
    return y
