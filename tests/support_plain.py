"""Models of a few operators, and what the rules make of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx_ir.passes.common import RemoveUnusedNodesPass

from onnx_memo.graph.build import Builder
from onnx_memo.graph.plain.rules import MICROSOFT, RULES

Arrays = dict[str, np.ndarray]


def model_of(
    nodes: list[onnx.NodeProto],
    feeds: Arrays,
    weights: Arrays,
    opset: int = 17,
    outputs: tuple[str, ...] = ("y",),
) -> ir.Model:
    """A model that reads `feeds`, of any sizes, beside weights."""
    inputs = [
        onnx.helper.make_tensor_value_info(
            name,
            onnx.helper.np_dtype_to_tensor_dtype(array.dtype),
            [f"{name}_{axis}" for axis in range(array.ndim)],
        )
        for name, array in feeds.items()
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        inputs,
        [onnx.helper.make_empty_tensor_value_info(name) for name in outputs],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [onnx.helper.make_opsetid("", opset), onnx.helper.make_opsetid(MICROSOFT, 1)]
    return ir.from_proto(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10))


def plain_form(model: ir.Model) -> ir.Model:
    """The model with all its operators taken apart, as far as there are rules."""
    model = model.clone()
    todo = list(model.graph)
    for number, node in enumerate(todo):
        rule, b = RULES.get((node.domain, node.op_type)), Builder(f"plain/{number}", model.opset_imports[""])
        results = rule(b, node) if rule is not None else None
        if results is None:
            continue
        todo.extend(b.nodes)
        for value in b.initializers:
            model.graph.register_initializer(value)
        for old, new in zip(node.outputs, results, strict=True):
            assert new is not None
            if old.is_graph_output():
                new = b.op("Identity", new)
                model.graph.outputs[model.graph.outputs.index(old)] = new
                new.name, old.name = old.name, f"{old.name}/old"
            ir.convenience.replace_all_uses_with(old, new)
        model.graph.insert_before(node, b.nodes)
        model.graph.remove(node, safe=True)
    RemoveUnusedNodesPass()(model)
    return model


def operators(model: ir.Model) -> list[str]:
    """The operators of a model, in order, without what moves data and what makes constants."""
    return [node.op_type for node in model.graph if node.op_type not in ("Identity", "Constant")]


def run(model: ir.Model, feeds: Arrays, optimized: bool = True) -> Any:
    """What ONNX Runtime computes."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    content = ir.to_proto(model).SerializeToString()
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"]).run(None, feeds)


def node(
    op_type: str, inputs: str, outputs: str = "y", domain: str = "", **attributes: Any
) -> onnx.NodeProto:
    """A node; names are separated by blanks, and `_` stands for an input that is left out."""
    given = ["" if name == "_" else name for name in inputs.split()]
    return onnx.helper.make_node(op_type, given, outputs.split(), domain=domain, **attributes)


def both(model: ir.Model, feeds: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """The first output of a model, and of its plain form."""
    return run(model, feeds)[0], run(plain_form(model), feeds)[0]
