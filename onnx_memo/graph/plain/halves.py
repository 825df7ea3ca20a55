"""A model of half precision as ONNX Runtime computes it: most of it in floats.

On a CPU few operators have kernels of half precision. ONNX Runtime casts what the others read, and rounds
what they make only where that is read in half precision; and it fuses what it can before and after that. In
a branch it would round and fuse elsewhere, so that the same nodes give other bits. So the model is taken from
what ONNX Runtime makes of it, with all its optimizations, and written so that none of them finds anything
more to do.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime as ort

from onnx_memo.errors import MemoError, reason_of
from onnx_memo.graph.build import Builder, register
from onnx_memo.graph.convert import CONVERTED, converted
from onnx_memo.graph.plain.form import unused_prefix, values_of
from onnx_memo.graph.prune import prune
from onnx_memo.runtime import EXTERNAL_FOLDER, session_options

CAST = "InsertedPrecisionFreeCast_"  # what ONNX Runtime puts before the name of a value that it casts
# These write layouts of the processor at hand, and find the same again in what is saved without them.
LAYOUTS = ("NchwcTransformer", "NhwcTransformer")
TYPES = {
    "tensor(float)": ir.TensorType(ir.DataType.FLOAT),
    "tensor(float16)": ir.TensorType(ir.DataType.FLOAT16),
}
LARGE = 1024  # numbers in a tensor from which on it is kept in half precision if it may be
FLOAT, HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16


def as_computed(path: Path, model: ir.Model) -> ir.Model:
    """The model at `path` with all casts in it, for the bits that ONNX Runtime makes of it here.

    Args:
        path: the file.
        model: what was read from it.

    Raises:
        MemoError: ONNX Runtime does not load the model.
    """
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder, "model.onnx")
        try:
            _save_optimized(path, saved)
            types = _types(saved)
        except Exception as error:  # ONNX Runtime's errors share no public base class
            raise MemoError(
                f"'{path}' is of half precision, and how ONNX Runtime computes it could not be seen "
                f"({reason_of(error)}): name the model in floats"
            ) from error
        computed = ir.load(saved)
        if CONVERTED in model.meta:
            computed = converted(path, computed, saved)
        graph = computed.graph
        for value in (value for node in graph for value in node.outputs):
            value.type = value.type or types.get(str(value.name))
        _keep_casts(graph)
        _take_weights(graph, model.graph)  # while the folder is there
    used = {node.domain for node in graph.all_nodes()}
    imports = {domain: version for domain, version in computed.opset_imports.items() if domain in used}
    computed.opset_imports.clear()
    computed.opset_imports.update(imports | model.opset_imports)
    computed.metadata_props.update(model.metadata_props)
    computed.meta.update(model.meta)
    computed.ir_version, computed.producer_name = model.ir_version, model.producer_name
    prune(computed)  # ONNX Runtime leaves some casts that nothing reads
    graph.sort()
    return computed


def _save_optimized(path: Path, saved: Path) -> None:
    """Let ONNX Runtime save what it makes of the model at `path`."""
    options = session_options(native=False, threads=1)
    options.optimized_model_filepath = str(saved)
    apart = "session.optimized_model_external_initializers_"
    options.add_session_config_entry(f"{apart}file_name", f"{saved.name}.data")
    options.add_session_config_entry(f"{apart}min_size_in_bytes", str(4 * LARGE))
    ort.InferenceSession(path, options, providers=["CPUExecutionProvider"], disabled_optimizers=list(LAYOUTS))


def _types(saved: Path) -> Mapping[str, ir.TensorType]:
    """The types of floats in a model that ONNX Runtime saved, which does not state all of them."""
    proto = onnx.load(saved, load_external_data=False)
    known = {value.name for value in proto.graph.output}
    names = {name for node in proto.graph.node for name in node.output if name} - known
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(names))
    options = session_options(native=False, threads=1)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry(EXTERNAL_FOLDER, str(saved.parent))
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return {made.name: TYPES[made.type] for made in session.get_outputs() if made.type in TYPES}


def _take_weights(graph: ir.Graph, original: ir.Graph) -> None:
    """Let a graph that ONNX Runtime saved read its weights from where the original has them.

    Most are in floats there, and take twice the room. What loses nothing by it is kept in half precision, and
    a node makes floats of it, which ONNX Runtime runs once, when it loads the model.
    """
    halves = dict[bytes, ir.TensorProtocol]()
    for value in original.initializers.values():
        if (tensor := value.const_value) is not None and tensor.dtype == HALF and tensor.size >= LARGE:
            halves[_digest(tensor.numpy())] = tensor
    widened = list[tuple[ir.Value, npt.NDArray[np.float16]]]()
    for inner in (graph, *graph.subgraphs()):
        for name, value in inner.initializers.items():
            tensor, same = value.const_value, original.initializers.get(name)
            assert tensor is not None, "what is saved is whole"
            array, half = tensor.numpy(), None
            if same is not None and same.const_value is not None and _equal(array, same.const_value.numpy()):
                value.const_value = same.const_value
                continue
            if inner is graph and not value.is_graph_input() and not value.is_graph_output():
                half = _halved(array)
            if half is None:
                value.const_value = ir.tensor(array.copy(), name=name)  # the file that holds it will be gone
            else:
                widened.append((value, half))
    taken = {str(value.name) for value in values_of(graph)}
    b = Builder(unused_prefix(taken), graph.opset_imports[""])
    for value, half in widened:
        name = str(value.name)
        del graph.initializers[name]
        found = halves.get(_digest(half))
        known = None if found is None else graph.initializers.get(str(found.name))
        if known is not None and known.const_value is found:
            source = known
        elif found is not None and found.name not in taken:
            source = register(graph, found)
        else:
            source = register(graph, ir.tensor(half, name=f"{b.prefix}/{name}"))
        cast = b.op("Cast", source, name=name, to=FLOAT.value)
        cast.type, cast.shape = value.type, value.shape
        value.replace_all_uses_with(cast)
    graph.insert_before(graph[0], b.nodes)


def _keep_casts(graph: ir.Graph) -> None:
    """Let ONNX Runtime go on to cast in every request what it casts in every request; `graph` is changed.

    It inserts its casts after constants were folded, so that those of scales and the like remain. In what it
    saved they would be folded, and the scales fused with products, which rounds otherwise. A condition that
    only a request tells keeps it from that.
    """
    b = Builder(unused_prefix(str(value.name) for value in values_of(graph)), graph.opset_imports[""])
    given = next((value for value in graph.inputs if not value.is_initializer()), None)
    if given is None:  # then all of it is constant
        return
    asked = b.op("Cast", b.op("Size", given), to=ir.DataType.BOOL.value)
    for node in [node for node in graph if node.op_type == "Cast"]:
        source, (made,) = node.inputs[0], node.outputs
        if source is None or not source.is_initializer() or source.is_graph_input() or source.dtype != HALF:
            continue
        readers = list(made.uses())
        kept = b.op("Where", asked, made, made)
        kept.type, kept.shape = made.type, made.shape
        for reader, at in readers:
            reader.replace_input_with(at, kept)
    graph.extend(b.nodes)


def _halved(array: npt.NDArray[Any]) -> npt.NDArray[np.float16] | None:
    """Many floats in half precision; None where that would lose something, or they are few."""
    if array.dtype != np.float32 or array.size < LARGE:
        return None
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    return half if _equal(half.astype(np.float32), array) else None


def _equal(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def _digest(array: npt.NDArray[Any]) -> bytes:
    return hashlib.sha256(f"{array.shape}".encode() + array.tobytes()).digest()
