"""Models, requests and comparisons that the tests share.

A *sample* is one input of a model: its arrays by name, a batch of one, without padding.
A *request* is what a session is fed: one sample, or several joined into a batch.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

import onnx_memo
from onnx_memo.graph.build import Builder
from onnx_memo.graph.load import MAX_OPSET
from onnx_memo.operators.bodies import operator_functions
from onnx_memo.operators.spec import DOMAIN, OPERATORS, VERSION
from onnx_memo.sessions import Raced

Arrays = dict[str, np.ndarray]

ROOT = Path(__file__).parents[1]
FIXTURES = Path(__file__).parent / "fixtures"
ATTENTION = ("bert", "bert_dynamo", "distilbert", "gpt2", "deberta_v2", "mpnet", "xlm", "vit")
LEVELS = ("output", "probs")
OPSETS = (13, 17, 18, 21, MAX_OPSET)
MODES = (
    "stock",
    pytest.param(
        "native",
        marks=pytest.mark.skipif(onnx_memo.library_path() is None, reason="the native library is not built"),
    ),
)


def fixture(name: str) -> Path:
    return FIXTURES / f"{name}.onnx"


# ---- Sessions


def original(model: Path, threads: int = 1) -> ort.InferenceSession:
    """A session on a model as its exporter left it; on a fixture, the same one each time."""
    return _fixture_session(model.stem, threads) if model.parent == FIXTURES else _original(model, threads)


@functools.cache
def _fixture_session(name: str, threads: int) -> ort.InferenceSession:
    return _original(fixture(name), threads)


def _original(model: Path, threads: int) -> ort.InferenceSession:
    options = onnx_memo.session_options(native=False, threads=threads)
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def memoized(bundle: Path, mode: str, threads: int = 1) -> ort.InferenceSession:
    """A session on a bundle, with the native library (`native`) or without (`stock`)."""
    options = onnx_memo.session_options(native=mode == "native", threads=threads)
    return ort.InferenceSession(bundle / "model.onnx", options, providers=["CPUExecutionProvider"])


def raced(ratio: float, noise: float = 0.0) -> Raced:
    """A race of one request, of two rounds around a ratio."""
    return Raced(np.array([[[1.0, ratio - noise]], [[1.0, ratio + noise]]]))


def copied(bundle: Path, to: Path) -> Path:
    """A copy of a bundle whose files may be changed: those of a bundle are read-only."""
    return Path(shutil.copytree(bundle, to, copy_function=shutil.copyfile))


# ---- Samples and requests


def sample(session: ort.InferenceSession, length: int, rng: np.random.Generator, words: int = 64) -> Arrays:
    """A random sample of `length` tokens below `words`; pictures have their own size."""
    arrays: Arrays = {}
    for wanted in session.get_inputs():
        match wanted.name:
            case "input_ids" | "decoder_input_ids":
                arrays[wanted.name] = rng.integers(0, words, (1, length))
            case "attention_mask":
                arrays[wanted.name] = np.ones((1, length), np.int64)
            case "token_type_ids":
                arrays[wanted.name] = np.zeros((1, length), np.int64)
            case "position_ids":
                arrays[wanted.name] = np.arange(length)[None]
            case "pixel_values":
                known = zip(wanted.shape[1:], (3, 16, 16), strict=True)
                sides = [side if isinstance(side, int) else usual for side, usual in known]
                arrays[wanted.name] = rng.standard_normal((1, *sides), np.float32)
            case name:
                raise AssertionError(f"unknown input '{name}'")
    return arrays


def random_samples(
    session: ort.InferenceSession, lengths: Sequence[int], seed: int, words: int = 64
) -> list[Arrays]:
    rng = np.random.default_rng(seed)
    return [sample(session, int(length), rng, words) for length in lengths]


VARIANT_LENGTH = 16


def variants(count: int, seed: int, changes: int = 1) -> list[Arrays]:
    """Inputs of one length that differ from one parent in a few tokens."""
    parent = np.random.default_rng(0).integers(5, 60, VARIANT_LENGTH)
    rng = np.random.default_rng(seed)
    samples = []
    for _ in range(count):
        ids = parent.copy()
        ids[rng.choice(VARIANT_LENGTH, changes, replace=False)] = rng.integers(5, 60, changes)
        ones, zeros = np.ones((1, VARIANT_LENGTH), np.int64), np.zeros((1, VARIANT_LENGTH), np.int64)
        samples.append({"input_ids": ids[None], "attention_mask": ones, "token_type_ids": zeros})
    return samples


def join(samples: Sequence[Arrays], padded: int = 0, side: str = "right") -> Arrays:
    """One request of all samples, padded with zeros to the longest, or to `padded` tokens."""
    request: Arrays = {}
    for name, first in samples[0].items():
        rows = [s[name][0] for s in samples]
        if first.ndim != 2:
            request[name] = np.stack(rows)
            continue
        length = max(padded, *(len(row) for row in rows))
        gaps = [length - len(row) for row in rows]
        pads = [(gap, 0) if side == "left" else (0, gap) for gap in gaps]
        request[name] = np.stack([np.pad(row, pad) for row, pad in zip(rows, pads, strict=True)])
    return request


def write_samples(path: Path, samples: Sequence[Arrays]) -> Path:
    """An .npz file of the samples, as a user would bring it."""
    np.savez(path, **join(samples))
    return path


# ---- Comparisons


def assert_identical(have: Sequence[np.ndarray], want: Sequence[np.ndarray]) -> None:
    """Equal to the last bit, padding included."""
    for a, b in zip(have, want, strict=True):
        assert a.shape == b.shape
        assert a.tobytes() == b.tobytes(), f"differs by up to {np.abs(a - b).max()}"


def relative_errors(request: Arrays, have: np.ndarray, want: np.ndarray) -> list[float]:
    """The relative L2 error of each row of an output, over its real tokens."""
    errors = []
    for row in range(len(want)):
        real = request["attention_mask"][row] == 1 if "attention_mask" in request else slice(None)
        difference = np.linalg.norm(have[row][real] - want[row][real])
        errors.append(float(difference / np.linalg.norm(want[row][real])))
    return errors


@contextmanager
def nothing_left_in(folder: Path) -> Iterator[None]:
    """What happens inside neither adds, removes nor changes a file."""
    before = contents(folder)
    yield
    assert contents(folder) == before


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file below `folder` with its bytes, every folder with None."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


# ---- Single operators

ELEMENTS = {
    "f16": ir.DataType.FLOAT16,
    "f32": ir.DataType.FLOAT,
    "i8": ir.DataType.INT8,
    "i32": ir.DataType.INT32,
    "i64": ir.DataType.INT64,
    "u8": ir.DataType.UINT8,
    "bool": ir.DataType.BOOL,
}


def run_operator(op: str, mode: str, *arrays: Any, opset: int = 17) -> Any:
    """One memo operator in ONNX Runtime: its standard body (`stock`) or its kernel (`native`)."""
    session = _operator_session(op, mode, opset)
    feeds = {t.name: np.asarray(a) for t, a in zip(OPERATORS[op].inputs, arrays, strict=True)}
    results = session.run(None, feeds)
    return results[0] if len(results) == 1 else results


@functools.cache
def _operator_session(op: str, mode: str, opset: int) -> ort.InferenceSession:
    return open_model(operator_model(op, opset), native=mode == "native")


def operator_model(op: str, opset: int) -> ir.Model:
    """A model of one memo operator; its inputs and outputs are the operator's."""
    inputs = [
        ir.val(t.name, ELEMENTS[t.element], None if "..." in t.shape else [None] * len(t.shape))
        for t in OPERATORS[op].inputs
    ]
    node = ir.node(op, inputs, domain=DOMAIN, num_outputs=len(OPERATORS[op].outputs))
    for value, tensor in zip(node.outputs, OPERATORS[op].outputs, strict=True):
        value.name, value.type = tensor.name, ir.TensorType(ELEMENTS[tensor.element])
    functions = [f for f in operator_functions(opset) if f.name == op]
    return model_of_nodes(inputs, [node], node.outputs, opset, functions)


def model_of_nodes(
    inputs: Sequence[ir.Value],
    nodes: Sequence[ir.Node],
    outputs: Sequence[ir.Value],
    opset: int,
    functions: Sequence[ir.Function] = (),
) -> ir.Model:
    """A model whose graph consists of these nodes."""
    imports = {"": opset, DOMAIN: VERSION}
    graph = ir.Graph(inputs, outputs, nodes=nodes, opset_imports=imports, name="nodes")
    return ir.Model(graph, ir_version=10, functions=functions)


def open_nodes(
    inputs: Sequence[ir.Value],
    nodes: Sequence[ir.Node],
    outputs: Sequence[ir.Value],
    opset: int,
    functions: Sequence[ir.Function] = (),
    native: bool = False,
) -> ort.InferenceSession:
    """A session on a graph that consists of these nodes."""
    return open_model(model_of_nodes(inputs, nodes, outputs, opset, functions), native)


def open_model(model: ir.Model, native: bool = False) -> ort.InferenceSession:
    """A session on a model in memory, that logs nothing."""
    options = onnx_memo.session_options(native=native, threads=1)
    options.log_severity_level = 4
    content = ir.to_proto(model).SerializeToString()
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


# ---- Changed models


def changed(name: str, path: Path, change: Callable[[ir.Model], None]) -> Path:
    """A copy of a fixture at `path`, after `change` was done to it."""
    model = ir.load(fixture(name))
    change(model)
    ir.save(model, path)
    return path


def fix_sizes(model: ir.Model, length: int, batch: int | None = None) -> None:
    """Fix the length of a model's token inputs, and its batch if one is given, as static exports do."""
    for value in model.graph.inputs:
        first, *others = value.shape
        value.shape = ir.Shape([batch or first, *([length] if len(others) == 1 else others)])


def scoring(model: ir.Model) -> None:
    """One number, `score` [B, 1]: the difference of two of the first token's states."""
    (states,) = model.graph.outputs
    first = ir.node("Constant", [], {"value": ir.tensor(np.asarray(0))})
    token = ir.node("Gather", [states, first.outputs[0]], {"axis": 1})
    weights = np.zeros((32, 1), np.float32)
    weights[3], weights[7] = 1, -1
    made = ir.node("Constant", [], {"value": ir.tensor(weights)})
    score = ir.node("MatMul", [token.outputs[0], made.outputs[0]])
    score.outputs[0].name, score.outputs[0].type = "score", states.type
    score.outputs[0].shape = ir.Shape([None, 1])
    model.graph.extend([first, token, made, score])
    model.graph.outputs[0] = score.outputs[0]


def mixing_rows(model: ir.Model) -> None:
    """Add to each row between the first and the second layer of BERT the mean of all rows."""
    states = node_named(model, "/encoder/layer.0/output/LayerNorm/LayerNormalization").outputs[0]
    readers = list(states.uses())
    mean = ir.node("ReduceMean", [states], {"axes": [1], "keepdims": 1})
    mixed = ir.node("Add", [states, mean.outputs[0]])
    for node in (mean, mixed):
        node.name = node.outputs[0].name = f"/{node.op_type}/mixed"
    for reader, at in readers:
        reader.replace_input_with(at, mixed.outputs[0])
    model.graph.insert_after(states.producer(), [mean, mixed])


def change_mask(model: ir.Model, name: str, dtype: ir.DataType = ir.DataType.INT64) -> None:
    """Give the input `attention_mask` another name, and another type."""
    mask = input_named(model, "attention_mask")
    mask.name = name
    if dtype == ir.DataType.INT64:
        return
    mask.type = ir.TensorType(dtype)
    readers = list(mask.uses())
    cast = ir.node("Cast", [mask], {"to": ir.DataType.INT64.value})
    cast.outputs[0].name = f"{name}/integers"
    for reader, at in readers:
        reader.replace_input_with(at, cast.outputs[0])
    model.graph.insert_before(model.graph[0], cast)


def count_mask(model: ir.Model) -> None:
    """Take as many positions for tokens as the mask has ones, from the first on."""
    mask = input_named(model, "attention_mask")
    readers, b = list(mask.uses()), Builder("counted", model.opset_imports[""])
    one = b.op("Add", b.op("Mul", mask, b.const(0, np.int64)), b.const(1, np.int64))  # with the mask's shape
    places = b.op("CumSum", one, b.const(1, np.int64))
    ones = b.op("LessOrEqual", places, b.op("ReduceSum", mask, b.i64(1), keepdims=1))
    counted = b.op("Cast", ones, to=ir.DataType.INT64.value)
    model.graph.insert_before(model.graph[0], b.nodes)
    for reader, at in readers:
        reader.replace_input_with(at, counted)


def input_named(model: ir.Model, name: str) -> ir.Value:
    (value,) = (value for value in model.graph.inputs if value.name == name)
    return value


def node_named(model: ir.Model, name: str) -> ir.Node:
    (node,) = (node for node in model.graph if node.name == name)
    return node
