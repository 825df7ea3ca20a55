"""The forms that are kept as files for the tests: one of each family, very small."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import onnx_ir

from tools.forms.form import Form, Kitchen, Scale

FOLDER = Path(__file__).parents[2] / "tests" / "fixtures" / "forms"
SCALE = Scale(width=16, heads=2, intermediate=32)
MOST_BYTES = 60_000
LAYERS = dict.fromkeys(
    ("clip-torchscript", "clip-dynamo-23", "bart-dynamo", "bart-dynamo-23"), 1
)  # of each tower
KEPT = (
    "bert-fused",
    "bert-fused-mha",
    "bert-fused-fp16",
    "bert-fp16",
    "bert-saved-extended",
    "bert-dynamo-23",
    "bert-torchscript-11",
    "bert-torchscript-float16",
    "bert-nbits-4",
    "bert-nbits-4-qdq",
    "bert-bnb4-nf4",
    "bert-int8",
    "bert-int8-extended",
    "bert-int8-products",
    "bert-qdq",
    "bert-qoperator",
    "bert-torchscript-normalized",
    "gpt-neox-optimum",
    "llama-optimum",
    "mpnet-optimum",
    "deberta-v2-dynamo",
    "clip-torchscript",
    "clip-dynamo-23",
    "bart-dynamo",
    "bart-dynamo-23",
)


def make_fixtures(forms: dict[str, Form], names: list[str]) -> int:
    """Make the named fixtures, all by default; print name, bytes and SHA-256 of each."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in names or KEPT:
            scale = replace(SCALE, layers=LAYERS.get(name, SCALE.layers))
            kitchen = Kitchen(forms, scale, Path(folder))
            path = FOLDER / f"{name}.onnx"
            shutil.copyfile(kitchen.made(name), path)
            _shorten(path)
            size = path.stat().st_size
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            print(f"{path.name} {size} bytes sha256 {digest}", flush=True)
            assert size <= MOST_BYTES, f"{path.name} is too large to be kept"
    return 0


def _shorten(path: Path) -> None:
    """Leave out notes, and shorten the names of nodes and values, which are half of such a file."""
    model = onnx_ir.load(path)
    graph = model.graph
    ends = {*graph.inputs, *graph.outputs}
    for thing in (model, graph):
        thing.doc_string = None
        thing.metadata_props.clear()
    for number, (name, value) in enumerate(list(graph.initializers.items())):
        del graph.initializers[name]
        value.name = f"w{number}"
        assert value.const_value is not None
        value.const_value.name = value.name
        graph.initializers.add(value)
    for number, node in enumerate(graph.all_nodes()):
        node.name, node.doc_string = f"{node.op_type}.{number}", None
        node.metadata_props.clear()
        for at, value in enumerate(value for value in node.outputs if value.name and value not in ends):
            value.name = f"v{number}.{at}"
    onnx_ir.save(model, path)
