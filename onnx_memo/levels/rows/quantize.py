"""Weights in int8, for the products of the rows that run.

All channels of an activation have the same steps, so a few large ones would leave the others few of the 256.
Therefore each channel is divided by a number first, and the weights are multiplied with it: the root of the
channel's peak over that of its weights (SmoothQuant: Xiao et al., 2022, arXiv 2211.10438).

The steps are those that the sample asks for, where a product is exact enough with them, as behind
normalizations: that takes no time, and ONNX Runtime fuses what follows. Else each row has its own, which
reach as far to either side of zero as the sample's rows do: behind activations that is not the same. A step
that is found for all rows of a request at once would make an answer depend on what else is in its batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.data.samples import Samples
from onnx_memo.graph import flow
from onnx_memo.graph.copies import Copy
from onnx_memo.graph.encoder import Encoder
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.graph.packed import Steps, whole_products
from onnx_memo.graph.probe import add_outputs
from onnx_memo.graph.prune import prune
from onnx_memo.runtime import session_options
from onnx_memo.sessions import open_session, run_model
from onnx_memo.threads import side_by_side

# Not 127: processors without VNNI add two products of a byte and a weight in 16 bits, which must not overflow
# (2 * 255 * 64 < 2^15). So a bundle computes the same wherever it goes.
MOST = 64
LOOKED_AT = 32  # samples whose activations are looked at,
JUDGED = 8  # and by how many of them a product is judged
EXACT = 0.025  # relative error up to which a product is exact in int8
# Where each row has its own steps: how far they may reach below zero, for 1 above it.
BY_ROW = tuple(Steps.between(-below, 1.0, by_row=True) for below in (1.0, 0.5, 0.25, 0.125))

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Int8Product:
    """A product x @ W in int8: (x * smooth) @ (weight * scales), where weight is int8.

    Attributes:
        weight: i8[K, M].
        scales: f32[M], of the columns.
        smooth: f32[K], of the channels of x; the same for all products of one x.
        first: the number of the first product of the same x, under which `smooth` is stored once for all.
        steps: how rows of x * smooth become bytes; the same for all products of one x.
        error: relative L2 error of the product, the mean over some samples.
    """

    weight: npt.NDArray[np.int8]
    scales: Floats
    smooth: Floats
    steps: Steps
    first: int = 0
    error: float = 0.0


def int8_products(opened: OpenedModel, samples: Samples) -> list[Int8Product]:
    """The `whole_products` of a model's encoder, in int8, for activations like those of `samples`."""
    copy = opened.copy()
    products = _products(copy, opened.encoder)
    sources = list(dict.fromkeys(node.inputs[0] for node in products))
    add_outputs(copy.model, [source for source in sources if source is not None])
    place = {value: at for at, value in enumerate(copy.model.graph.outputs)}
    session = open_session(copy.model, opened.folder, session_options(native=False, threads=1))
    runs = []
    for number in range(0, len(samples), max(1, len(samples) // LOOKED_AT)):
        results = run_model(session, samples.arrays[number], number)
        runs.append({source: _flat(results[place[source]]) for source in sources if source is not None})
    weights = _weights(opened)

    def quantized(source: ir.Value) -> dict[int, Int8Product]:
        numbers = [at for at, node in enumerate(products) if node.inputs[0] is source]
        rows = [run[source] for run in runs]
        peaks = np.max([np.abs(x).max(axis=0) for x in rows], axis=0)
        widest = np.max([np.abs(weights[at]).max(axis=1) for at in numbers], axis=0)
        channel = np.sqrt(np.maximum(peaks, 1e-5) / np.maximum(widest, 1e-5)).astype(np.float32)
        fixed = _steps(rows, channel)
        own = {at: replace(quantize(weights[at], channel, fixed), first=numbers[0]) for at in numbers}
        judged = rows[1::2] or rows  # by those that did not say how far steps reach
        judged = judged[:: max(1, len(judged) // JUDGED)]

        def with_errors(steps: Steps) -> dict[int, Int8Product]:
            made = {at: replace(product, steps=steps) for at, product in own.items()}
            errors = {at: [product_error(made[at], x, weights[at]) for x in judged] for at in numbers}
            return {at: replace(made[at], error=float(np.mean(errors[at]))) for at in numbers}

        judged_fixed = with_errors(_steps(rows[::2], channel))
        if _worst(judged_fixed) <= EXACT:
            return {at: replace(product, steps=fixed) for at, product in judged_fixed.items()}
        return min(map(with_errors, BY_ROW), key=_worst)

    made = {at: product for own in side_by_side(quantized, runs[0]) for at, product in own.items()}
    return [made[at] for at in range(len(products))]


def _worst(products: Mapping[int, Int8Product]) -> float:
    return max(product.error for product in products.values())


def _steps(rows: Sequence[Floats], channel: Floats) -> Steps:
    """Steps that reach from the least number of all rows to the greatest.

    Not beyond, for what later rows may hold: steps that are a tenth longer cost others more than is cut.
    """
    even = [x / channel for x in rows]
    return Steps.between(float(min(x.min() for x in even)), float(max(x.max() for x in even)))


def quantize(weight: Floats, channel: Floats, steps: Steps) -> Int8Product:
    """A product with the weight [K, M], whose input channels are divided by `channel` [K] first."""
    scaled = weight * channel[:, None]
    peaks = np.abs(scaled).max(axis=0, initial=0.0)
    scales = np.maximum(peaks / MOST, np.finfo(np.float32).tiny)
    whole = np.rint(scaled / scales).astype(np.int8)
    return Int8Product(whole, scales.astype(np.float32), (1 / channel).astype(np.float32), steps)


def product_error(product: Int8Product, x: Floats, weight: Floats) -> float:
    """The relative L2 error of the product for rows x [n, K]."""
    even, steps = x * product.smooth, product.steps
    peaks = np.ones((len(x), 1), np.float32)
    if steps.by_row:
        up, down = even.max(axis=1, keepdims=True) / steps.high, even.min(axis=1, keepdims=True) / steps.low
        peaks = np.maximum(np.maximum(up, down), np.finfo(np.float32).tiny).astype(np.float32)
    places = np.clip(np.rint(even / peaks / np.float32(steps.step)) + steps.zero, 0, 255)
    read = (places - steps.zero) * np.float32(steps.step) * peaks
    want = x @ weight
    have = read @ (product.weight * product.scales)
    return float(np.linalg.norm(have - want) / max(float(np.linalg.norm(want)), 1e-30))


def _flat(rows: npt.NDArray[np.float32]) -> Floats:
    return rows.reshape(-1, rows.shape[-1])


def _products(copy: Copy, encoder: Encoder) -> list[ir.Node]:
    return whole_products(copy.twin(encoder), flow.constant_nodes(copy.model.graph))


def _weights(opened: OpenedModel) -> list[Floats]:
    """The weights of all products; those that are stored in another form are computed."""
    copy = opened.copy()
    wanted = [node.inputs[1] for node in _products(copy, opened.encoder)]
    known = {value: value.const_value.numpy() for value in wanted if value and value.const_value is not None}
    computed = list(dict.fromkeys(value for value in wanted if value and value not in known))
    if computed:
        copy.model.graph.outputs[:] = computed
        prune(copy.model)
        copy.model.graph.inputs.clear()
        session = open_session(copy.model, opened.folder, session_options(native=False, threads=1))
        known.update(zip(computed, session.run(None, {}), strict=True))
    return [known[value] for value in wanted if value is not None]
