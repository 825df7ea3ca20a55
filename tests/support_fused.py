"""A small encoder as ONNX Runtime's optimizer leaves it, and taken apart by the rules."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from support_plain import OPSET, noise, taken_apart

from onnx_memo.graph.plain.rule import MICROSOFT, Kept
from onnx_memo.graph.plain.rules import rule_of

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
    """The same model, with every node in plain operators for which there is a rule.

    In rounds: ONNX's inference knows the shapes of what plain operators make, and some rules ask for them.
    """
    for round_ in itertools.count():
        model = ir.from_proto(onnx.shape_inference.infer_shapes(ir.to_proto(model)))
        nodes = [node for node in model.graph if rule_of(node, model.opset_imports[""]) is not None]
        kept = [reason for node in nodes if (reason := _replace(model, node, f"plain.{round_}.{node.name}"))]
        if not kept:
            return model
        assert len(kept) < len(nodes), kept
    raise AssertionError


def _replace(model: ir.Model, node: ir.Node, prefix: str) -> Kept | None:
    """Put the plain form in a node's place; returns why not, if it is kept."""
    try:
        b, made = taken_apart(node, model.opset_imports[""], prefix)
    except Kept as reason:
        return reason
    model.graph.insert_before(node, b.nodes)
    for old, new in zip(node.outputs, made, strict=False):
        if new is not None and old.is_graph_output():
            new.name, new.type, new.shape, old.name = old.name, old.type, old.shape, f"{old.name}/was"
        if new is not None:
            old.replace_all_uses_with(new, replace_graph_outputs=True)
    model.graph.remove(node, safe=True)
    return None
