"""One operator, as ONNX Runtime computes it and as its rule writes it in plain operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from onnx_memo.graph.build import Builder
from onnx_memo.graph.plain.rule import MICROSOFT
from onnx_memo.graph.plain.rules import rule_of

Arrays = dict[str, np.ndarray]
OPSET = 17
EXACT = 1e-5  # relative to the largest number of a result


def noise(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return (scale * np.random.default_rng([seed, *shape]).standard_normal(shape)).astype(np.float32)


class OneNode:
    """A model of one node; what it reads is named by the inputs' numbers.

    Args:
        op: the operator, of ONNX Runtime's own domain or of `domain`.
        inputs: what it reads, in order; None where nothing is given.
        constants: the numbers of the inputs that are initializers.
        free: sizes that are named instead, by number: of the inputs' axes of that size.
        outputs: how many there are.
    """

    def __init__(
        self,
        op: str,
        inputs: list[np.ndarray | None],
        *,
        constants: tuple[int, ...] = (),
        free: dict[int, str] | None = None,
        outputs: int = 1,
        domain: str = MICROSOFT,
        opset: int = OPSET,
        **attributes: Any,
    ) -> None:
        given = {f"in.{at}": array for at, array in enumerate(inputs) if array is not None}
        fixed = {f"in.{at}" for at in constants} & set(given)
        names = [f"in.{at}" if array is not None else "" for at, array in enumerate(inputs)]
        node = onnx.helper.make_node(
            op, names, [f"out.{at}" for at in range(outputs)], "one", domain=domain, **attributes
        )
        graph = onnx.helper.make_graph(
            [node],
            "graph",
            [_described(name, array, free or {}) for name, array in given.items() if name not in fixed],
            [onnx.helper.make_empty_tensor_value_info(f"out.{at}") for at in range(outputs)],
            [onnx.numpy_helper.from_array(given[name], name) for name in sorted(fixed)],
        )
        opsets = [onnx.helper.make_opsetid("", opset), onnx.helper.make_opsetid(MICROSOFT, 1)]
        self.proto = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
        self.feeds: Arrays = {name: array for name, array in given.items() if name not in fixed}

    def run(self) -> list[np.ndarray | None]:
        """What ONNX Runtime computes."""
        return run(self.proto, self.feeds)

    @property
    def node(self) -> ir.Node:
        """The node, of a model of its own."""
        (node,) = ir.from_proto(self.proto).graph
        return node

    def plain(self) -> ir.Model:
        """The model with the plain form in place of the node; outputs that are not made are left out."""
        model = ir.from_proto(self.proto)
        (node,) = model.graph
        b, made = taken_apart(node, model.opset_imports[""])
        for value in list(model.graph.outputs):
            model.graph.outputs.remove(value)
        for old, new in zip(node.outputs, made, strict=False):
            if new is not None:
                last = ir.node("Identity", [new])
                last.outputs[0].name = old.name
                b.nodes.append(last)
                model.graph.outputs.append(last.outputs[0])
                old.name = f"{old.name}/was"
        model.graph.remove(node)
        model.graph.extend(b.nodes)
        return model

    def run_plain(self) -> dict[str, np.ndarray]:
        """What the plain form computes, by the outputs' names."""
        model = self.plain()
        names = [str(value.name) for value in model.graph.outputs]
        proto = ir.to_proto(model)
        onnx.checker.check_model(_typed(proto))
        assert {node.domain for node in model.graph} == {""}
        return dict(zip(names, run(_typed(proto), self.feeds), strict=True))

    def check(self, rows: np.ndarray | None = None, made: int = 1) -> None:
        """Both make the same of the first `made` outputs; `rows` [B, L] tells which rows of them count."""
        wanted, have = self.run(), self.run_plain()
        for at in range(made):
            close(have[f"out.{at}"], wanted[at], rows)


def taken_apart(
    node: ir.Node, opset: int = OPSET, prefix: str = "plain"
) -> tuple[Builder, Sequence[ir.Value | None]]:
    """What the rule of a node writes, and what it puts in place of the node's outputs."""
    b = Builder(prefix, opset)
    rule = rule_of(node, opset)
    assert rule is not None
    return b, rule(b, node)


def close(have: np.ndarray, want: np.ndarray, rows: np.ndarray | None = None) -> None:
    """Two results are the same; `rows` [B, L] tells which rows of them count."""
    assert have.shape == want.shape and have.dtype == want.dtype
    if rows is not None:
        have, want = have[rows], want[rows]
    assert np.isfinite(want).all()
    assert np.abs(have - want).max() <= EXACT * np.abs(want).max()


def _described(name: str, array: np.ndarray, free: dict[int, str]) -> onnx.ValueInfoProto:
    kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    return onnx.helper.make_tensor_value_info(name, kind, [free.get(size, size) for size in array.shape])


def _typed(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Outputs need types, which inference knows."""
    return onnx.shape_inference.infer_shapes(proto)


def run(proto: onnx.ModelProto, feeds: Arrays) -> list[np.ndarray | None]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
    return session.run(None, feeds)
