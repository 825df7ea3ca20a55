"""Weights in int8, for the products of the rows that run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from onnx_memo.capture import open_session
from onnx_memo.graph import flow
from onnx_memo.graph.encoder import Encoder
from onnx_memo.graph.rows_guard import whole_products
from onnx_memo.runtime import session_options

# Not 127: processors without VNNI add two products of a byte and a weight in 16 bits, which must not overflow
# (2 * 255 * 64 < 2^15). So a bundle computes the same wherever it goes.
MOST = 64

Int8 = npt.NDArray[np.int8]
Floats = npt.NDArray[np.float32]


def quantized_weights(model: ir.Model, path: Path, encoder: Encoder) -> list[tuple[Int8, Floats]]:
    """The weights of `whole_products` as i8[K, M], and the scales f32[M] of their columns.

    Args:
        model: the one at `path`, in which `encoder` was found. All outputs but the weights are removed.
        path: its file.
        encoder: whose weights are wanted.
    """
    wanted = [node.inputs[1] for node in whole_products(encoder, flow.constant_nodes(model.graph))]
    weights = {
        value: value.const_value.numpy() for value in wanted if value and value.const_value is not None
    }
    computed = list(dict.fromkeys(value for value in wanted if value and value not in weights))
    if computed:  # from weights that are stored in another form
        model.graph.outputs[:] = computed
        RemoveUnusedNodesPass()(model)
        session = open_session(model, path.parent, session_options(native=False, threads=1))
        weights.update(zip(computed, session.run(None, {}), strict=True))
    return [quantize(weights[value]) for value in wanted if value is not None]


def quantize(weight: npt.NDArray[np.float32]) -> tuple[Int8, Floats]:
    """A weight [K, M] as int8, column by column, without a zero point: weight = int8 * scales."""
    scales = np.maximum(np.abs(weight).max(axis=0, initial=0.0) / MOST, np.finfo(np.float32).tiny)
    return np.rint(weight / scales).astype(np.int8), scales.astype(np.float32)
