"""A model of half precision as ONNX Runtime computes it: most of it in floats.

On a CPU few operators have kernels of half precision. ONNX Runtime casts what the others read, and rounds
what they make only where that is read in half precision. In a branch it rounds all that they make, so that
the same nodes give other bits. So the casts are taken from what ONNX Runtime makes of the model, and stand in
it from then on.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx_ir.passes.common import ShapeInferencePass

from onnx_memo.errors import MemoError, reason_of
from onnx_memo.graph.shapes import without_weights
from onnx_memo.runtime import session_options

CAST = "InsertedPrecisionFreeCast_"  # what ONNX Runtime puts before the name of a value that it casts


def as_computed(path: Path, model: ir.Model) -> ir.Model:
    """The model at `path` with all casts in it, for the bits that ONNX Runtime makes of it here.

    Raises:
        MemoError: ONNX Runtime does not load the model without its weights.
    """
    proto, weights = without_weights(model)
    options = session_options(native=False, threads=1)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder, "model.onnx")
        options.optimized_model_filepath = str(saved)
        try:
            ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors share no public base class
            raise MemoError(
                f"'{path}' is of half precision, and how ONNX Runtime computes it could not be seen "
                f"({reason_of(error)}): name the model in floats"
            ) from error
        computed = ir.from_proto(onnx.load(saved))
    graph = computed.graph
    for value in [value for value in graph.inputs if value.name in weights]:
        graph.inputs.remove(value)
        value.const_value = weights[str(value.name)]
        graph.register_initializer(value)
    computed.opset_imports.clear()
    computed.opset_imports.update(model.opset_imports)
    computed.metadata_props.update(model.metadata_props)
    computed.meta.update(model.meta)
    computed.ir_version, computed.producer_name = model.ir_version, model.producer_name
    graph.sort()
    _state_types(computed)
    return computed


def _state_types(model: ir.Model) -> None:
    """Give values their types, not their shapes: with these ONNX Runtime optimizes in another way."""
    inferred = model.clone()
    ShapeInferencePass()(inferred)
    for node, same in zip(model.graph, inferred.graph, strict=True):
        for value, known in zip(node.outputs, same.outputs, strict=True):
            value.type = value.type or known.type
