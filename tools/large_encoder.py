"""An encoder of BERT's form and of any size with random weights, written layer by layer.

    python -m tools.large_encoder FOLDER [--layers 34] [--width 1280] [--samples 12]

writes model.onnx, its weights in model.onnx.data, and inputs.npz. With 34 layers of 1,280 the weights take
2.5 GiB, of which the making holds one matrix at a time. Matrices are scaled as at the start of a training, so
that states neither vanish nor explode.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from onnx_memo.files import NewFile, new_file

MODEL, WEIGHTS, INPUTS = "model.onnx", "model.onnx.data", "inputs.npz"
HEAD, VOCABULARY, OPSET = 64, 3000, 17
LAYERS, WIDTH, SAMPLES = 34, 1280, 12
SHORTEST, LONGEST = 8, 24  # tokens


def write_encoder(folder: Path, layers: int = LAYERS, width: int = WIDTH) -> Path:
    """Write the model to `folder`, and return its path; it takes token ids and a mask, i64[B, L] both."""
    with new_file(folder / WEIGHTS) as file:
        graph = _Graph(file)
        _add_encoder(graph, layers, width)
    ids, mask = (
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
        for name in ("input_ids", "attention_mask")
    )
    states = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", "length", width])
    made = helper.make_graph(graph.nodes, "encoder", [ids, mask], [states], graph.initializers)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    path = folder / MODEL
    onnx.save_model(model, path)
    return path


def write_inputs(folder: Path, samples: int = SAMPLES) -> Path:
    """Write short inputs of several lengths to `folder`, padded on the right, and return the file's path."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(SHORTEST, LONGEST + 1, samples)
    mask = (np.arange(LONGEST) < lengths[:, None]).astype(np.int64)
    ids = rng.integers(0, VOCABULARY, mask.shape) * mask
    path = folder / INPUTS
    np.savez(path, input_ids=ids, attention_mask=mask)
    return path


class _Graph:
    """Nodes, and initializers whose content goes to a file at once."""

    def __init__(self, file: NewFile) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._file, self._rng = file, np.random.default_rng(0)

    def op(self, kind: str, *inputs: str, name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=f"/{name}", **attributes))
        return name

    def constant(self, name: str, array: npt.NDArray[Any]) -> str:
        """In the model itself."""
        self.initializers.append(onnx.numpy_helper.from_array(array, name))
        return name

    def weight(self, name: str, *shape: int) -> str:
        """Random numbers of the variance 1 / `shape[0]`, in the file."""
        numbers = self._rng.standard_normal(shape, np.float32) / np.float32(np.sqrt(shape[0]))
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
        tensor.data_location = TensorProto.EXTERNAL
        place = {"location": WEIGHTS, "offset": self._file.tell(), "length": numbers.nbytes}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        self._file.array(numbers)
        self.initializers.append(tensor)
        return name

    def linear(self, value: str, rows: int, columns: int, name: str) -> str:
        product = self.op(
            "MatMul", value, self.weight(f"{name}.weight", rows, columns), name=f"{name}/product"
        )
        bias = self.constant(f"{name}.bias", self._small(columns))
        return self.op("Add", product, bias, name=name)

    def norm(self, value: str, width: int, name: str) -> str:
        scale = self.constant(f"{name}.scale", 1 + self._small(width))
        shift = self.constant(f"{name}.shift", self._small(width))
        return self.op("LayerNormalization", value, scale, shift, name=name, axis=-1, epsilon=1e-5)

    def _small(self, count: int) -> npt.NDArray[np.float32]:
        return np.float32(0.02) * self._rng.standard_normal(count, np.float32)


def _add_encoder(g: _Graph, layers: int, width: int) -> None:
    lowest = g.constant("lowest", np.asarray(np.finfo(np.float32).min))
    one = g.constant("one", np.asarray(1, np.float32))
    for name, axes in {"split": [0, 0, width // HEAD, HEAD], "join": [0, 0, width], "places": [1, 2]}.items():
        g.constant(name, np.asarray(axes, np.int64))
    g.constant("scale", np.asarray(np.sqrt(HEAD), np.float32))
    g.constant("root", np.asarray(np.sqrt(2), np.float32))
    g.constant("half", np.asarray(0.5, np.float32))
    real = g.op("Cast", "attention_mask", name="real", to=TensorProto.FLOAT)
    padding = g.op("Sub", one, real, name="padding")
    shut = g.op("Mul", padding, lowest, name="shut")
    bias = g.op("Unsqueeze", shut, "places", name="bias")
    words = g.op("Gather", g.weight("words", VOCABULARY, width), "input_ids", name="embeddings")
    states = g.norm(words, width, "first")
    for layer in range(layers):
        states = _add_layer(g, states, bias, width, f"layer.{layer}")
    g.op("Identity", states, name="last_hidden_state")


def _add_layer(g: _Graph, states: str, bias: str, width: int, name: str) -> str:
    def heads(of: str, perm: Sequence[int]) -> str:
        made = g.linear(states, width, width, f"{name}.{of}")
        split = g.op("Reshape", made, "split", name=f"{name}.{of}/split")
        return g.op("Transpose", split, name=f"{name}.{of}/heads", perm=perm)

    query, keys, values = (
        heads("query", [0, 2, 1, 3]),
        heads("key", [0, 2, 3, 1]),
        heads("value", [0, 2, 1, 3]),
    )
    scores = g.op("MatMul", query, keys, name=f"{name}/scores")
    scaled = g.op("Div", scores, "scale", name=f"{name}/scaled")
    masked = g.op("Add", scaled, bias, name=f"{name}/masked")
    weights = g.op("Softmax", masked, name=f"{name}/probabilities", axis=-1)
    context = g.op("MatMul", weights, values, name=f"{name}/context")
    turned = g.op("Transpose", context, name=f"{name}/turned", perm=[0, 2, 1, 3])
    joined = g.op("Reshape", turned, "join", name=f"{name}/joined")
    attended = g.linear(joined, width, width, f"{name}.output")
    added = g.op("Add", attended, states, name=f"{name}/added")
    inner = g.norm(added, width, f"{name}.norm")
    wide = g.linear(inner, width, 4 * width, f"{name}.wide")
    error = g.op("Erf", g.op("Div", wide, "root", name=f"{name}/root"), name=f"{name}/erf")
    share = g.op("Add", error, "one", name=f"{name}/share")
    product = g.op("Mul", wide, share, name=f"{name}/product")
    activated = g.op("Mul", product, "half", name=f"{name}/activated")
    narrow = g.linear(activated, 4 * width, width, f"{name}.narrow")
    return g.norm(g.op("Add", narrow, inner, name=f"{name}/sum"), width, f"{name}.last")


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--width", type=int, default=WIDTH, help=f"a multiple of {HEAD}")
    parser.add_argument("--samples", type=int, default=SAMPLES)
    given = parser.parse_args()
    given.folder.mkdir(parents=True)
    write_encoder(given.folder, given.layers, given.width)
    write_inputs(given.folder, given.samples)


if __name__ == "__main__":
    main()
