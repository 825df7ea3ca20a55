"""A small encoder as ONNX Runtime's optimizer leaves it, and taken apart by the rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from support_plain import OPSET, noise

from onnx_memo.graph.plain.form import plain_form
from onnx_memo.graph.plain.rule import MICROSOFT

HIDDEN, HEADS, WORDS = 64, 4, 64


class Fused:
    """Builds a model of two layers; what a layer's attention is, the caller says."""

    def __init__(self, opset: int = OPSET) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, *shape: int, scale: float = 0.2) -> str:
        return self.array(noise(*shape, seed=len(self.weights), scale=scale))

    def array(self, array: np.ndarray) -> str:
        name = f"weight.{len(self.weights)}"
        self.weights.append(onnx.numpy_helper.from_array(array, name))
        return name

    def op(
        self, op: str, *inputs: str, domain: str = MICROSOFT, outputs: int = 1, **attributes: Any
    ) -> list[str]:
        names = [f"{op}.{len(self.nodes)}.{at}" for at in range(outputs)]
        node = onnx.helper.make_node(op, inputs, names, names[0], domain=domain, **attributes)
        self.nodes.append(node)
        return names

    def standard(self, op: str, *inputs: str, **attributes: Any) -> str:
        return self.op(op, *inputs, domain="", **attributes)[0]

    def linear(self, x: str, width: int = HIDDEN) -> str:
        product = self.standard("MatMul", x, self.weight(HIDDEN, width))
        return self.standard("Add", product, self.weight(width))

    def model(
        self, attend: Callable[[Fused, str, str], str], dtype: int = onnx.TensorProto.INT32
    ) -> ir.Model:
        """The model, of embeddings, and layers with `attend(self, hidden, lengths)` in them."""
        tables = [self.weight(*shape) for shape in ((WORDS, HIDDEN), (64, HIDDEN), (2, HIDDEN))]
        scales = [self.weight(HIDDEN, scale=1), self.weight(HIDDEN)]
        ids = ("input_ids", "token_type_ids")
        hidden, lengths = self.op(
            "EmbedLayerNormalization", *ids, *tables, *scales, "attention_mask", outputs=2, epsilon=1e-5
        )
        for _ in range(2):
            context = attend(self, hidden, lengths)
            output = self.standard("MatMul", context, self.weight(HIDDEN, HIDDEN))
            hidden = self._normalized(output, hidden)
            inner = self.standard("MatMul", hidden, self.weight(HIDDEN, 64))
            inner = self.op("BiasGelu", inner, self.weight(64))[0]
            hidden = self._normalized(self.standard("MatMul", inner, self.weight(64, HIDDEN)), hidden)
        graph = onnx.helper.make_graph(
            [*self.nodes, onnx.helper.make_node("Identity", [hidden], ["last_hidden_state"])],
            "fused",
            [
                onnx.helper.make_tensor_value_info(name, dtype, ["batch", "length"])
                for name in (*ids, "attention_mask")
            ],
            [
                onnx.helper.make_tensor_value_info(
                    "last_hidden_state", onnx.TensorProto.FLOAT, ["batch", "length", HIDDEN]
                )
            ],
            self.weights,
        )
        opsets = [onnx.helper.make_opsetid("", self.opset), onnx.helper.make_opsetid(MICROSOFT, 1)]
        return ir.from_proto(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10))

    def _normalized(self, x: str, residual: str) -> str:
        rest = (self.weight(HIDDEN, scale=1), self.weight(HIDDEN), self.weight(HIDDEN))
        return self.op("SkipLayerNormalization", x, residual, *rest, epsilon=1e-5)[0]


def take_apart(model: ir.Model) -> ir.Model:
    """The same model, with every node in plain operators for which there is a rule."""
    plain = plain_form(model)
    return model if plain is None else plain.model
