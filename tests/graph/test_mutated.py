"""Models that something was done to: each is read, or refused in one line, and ONNX Runtime is the judge."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from support import fixture, original, random_samples, write_samples
from support_faults import count

import onnx_memo
from onnx_memo import MemoError
from onnx_memo.data.samples import model_inputs
from onnx_memo.graph.encoder import NoEncoder
from onnx_memo.graph.opened import OpenedModel

Mutation = Callable[[random.Random, onnx.ModelProto], object]


def copies(items: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    return [onnx.NodeProto.FromString(item.SerializeToString()) for item in items]


def reorder(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    del graph.node[:]
    graph.node.extend(nodes)


def shuffle(r: random.Random, model: onnx.ModelProto) -> None:
    nodes = copies(model.graph.node)
    reorder(model.graph, r.sample(nodes, len(nodes)))


def reverse(r: random.Random, model: onnx.ModelProto) -> None:
    reorder(model.graph, copies(model.graph.node)[::-1])


def swap(r: random.Random, model: onnx.ModelProto) -> None:
    nodes = copies(model.graph.node)
    a, b = r.randrange(len(nodes)), r.randrange(len(nodes))
    nodes[a], nodes[b] = nodes[b], nodes[a]
    reorder(model.graph, nodes)


def node(r: random.Random, model: onnx.ModelProto) -> onnx.NodeProto:
    return r.choice(model.graph.node)


def value(r: random.Random, model: onnx.ModelProto) -> str:
    """The name of something in the graph, or of nothing."""
    graph = model.graph
    some = (graph.input[0].name, graph.output[0].name, graph.initializer[0].name)
    made = next(iter(node(r, model).output), "")
    return r.choice([made, made, made, *some, "", "nowhere"])


def weight(r: random.Random, model: onnx.ModelProto) -> onnx.TensorProto:
    return r.choice(model.graph.initializer)


def attribute(r: random.Random, model: onnx.ModelProto) -> onnx.AttributeProto:
    return r.choice([a for n in model.graph.node for a in n.attribute])


def given(r: random.Random, model: onnx.ModelProto) -> onnx.ValueInfoProto:
    return r.choice(model.graph.input)


def call_function(r: random.Random, model: onnx.ModelProto) -> None:
    """Functions that may call each other, or nothing that there is."""
    for name, calls in (("F", r.choice(["G", "F", "Identity"])), ("G", r.choice(["F", "Identity", "None"]))):
        function = model.functions.add(name=name, domain="own", input=["a"], output=["b"])
        function.opset_import.extend([helper.make_opsetid("", 17), helper.make_opsetid("own", 1)])
        function.node.append(
            helper.make_node(calls, ["a"], ["b"], domain="" if calls == "Identity" else "own")
        )
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.graph.node.append(helper.make_node("F", [value(r, model)], ["called"], domain="own"))


def branch(r: random.Random, model: onnx.ModelProto) -> None:
    branches = {}
    for name in ("then_branch", "else_branch"):
        made = r.choice(["inner", value(r, model)])
        result = helper.make_tensor_value_info(made, TensorProto.FLOAT, None)
        inner = helper.make_node("Identity", [value(r, model)], [made])
        branches[name] = helper.make_graph([inner], r.choice(["", name]), [], [result])
    condition = helper.make_node("Constant", [], ["true"], value=helper.make_tensor("t", 9, [], [True]))
    model.graph.node.extend([condition, helper.make_node("If", ["true"], ["chosen"], **branches)])


def sparse(r: random.Random, model: onnx.ModelProto) -> None:
    places = helper.make_tensor("places", TensorProto.INT64, [1], [r.choice([0, 9, -1])])
    numbers = helper.make_tensor("numbers", TensorProto.FLOAT, [1], [1.0])
    model.graph.sparse_initializer.add(values=numbers, indices=places, dims=[4])


def odd_input(r: random.Random, model: onnx.ModelProto) -> None:
    kinds = ("sequence_type", "optional_type", "map_type")
    kind = getattr(model.graph.input.add(name="odd").type, r.choice(kinds))
    if kind.DESCRIPTOR.name == "Map":
        kind.key_type = TensorProto.INT64
        kind.value_type.tensor_type.elem_type = TensorProto.FLOAT
    else:
        kind.elem_type.tensor_type.elem_type = TensorProto.FLOAT


MUTATIONS: dict[str, Mutation] = {
    "shuffled nodes": shuffle,
    "reversed nodes": reverse,
    "swapped nodes": swap,
    "node gone": lambda r, m: m.graph.node.remove(node(r, m)),
    "node twice": lambda r, m: m.graph.node.add().CopyFrom(node(r, m)),
    "names of nodes twice": lambda r, m: setattr(node(r, m), "name", node(r, m).name),
    "no names of nodes": lambda r, m: [n.ClearField("name") for n in m.graph.node],
    "odd name": lambda r, m: setattr(node(r, m), "name", r.choice(["a\0b", "x" * 5000, "'\n"])),
    "domain that is not imported": lambda r, m: setattr(node(r, m), "domain", "own"),
    "domain": lambda r, m: (
        setattr(node(r, m), "domain", "own"),
        m.opset_import.append(helper.make_opsetid("own", 1)),
    ),
    "ai.onnx": lambda r, m: [setattr(n, "domain", "ai.onnx") for n in m.graph.node],
    "ai.onnx imported": lambda r, m: setattr(m.opset_import[0], "domain", "ai.onnx"),
    "operator": lambda r, m: setattr(
        node(r, m), "op_type", r.choice(["Own", "", "Gelu", "MatMul", "Softmax", "Shape", "If", "Loop"])
    ),
    "attribute gone": lambda r, m: [n.attribute.pop() for n in [node(r, m)] if n.attribute],
    "attribute twice": lambda r, m: [
        n.attribute.add().CopyFrom(n.attribute[0]) for n in m.graph.node if n.attribute
    ],
    "attribute of no operator": lambda r, m: node(r, m).attribute.add(name="own", i=3, type=2),
    "type of an attribute": lambda r, m: setattr(attribute(r, m), "type", r.randrange(15)),
    "reference of an attribute": lambda r, m: setattr(attribute(r, m), "ref_attr_name", "own"),
    "number of an attribute": lambda r, m: setattr(attribute(r, m), "i", r.choice([-99, 99, 2**62])),
    "input of a node": lambda r, m: [n.input.__setitem__(0, value(r, m)) for n in [node(r, m)] if n.input],
    "output of a node": lambda r, m: node(r, m).output.__setitem__(0, value(r, m)),
    "input gone": lambda r, m: [n.input.pop() for n in [node(r, m)] if n.input],
    "input more": lambda r, m: node(r, m).input.append(value(r, m)),
    "output more": lambda r, m: node(r, m).output.append("more"),
    "no output": lambda r, m: node(r, m).ClearField("output"),
    "weight twice": lambda r, m: m.graph.initializer.add().CopyFrom(weight(r, m)),
    "weight gone": lambda r, m: m.graph.initializer.remove(weight(r, m)),
    "name of a weight": lambda r, m: setattr(weight(r, m), "name", value(r, m)),
    "shape of a weight": lambda r, m: weight(r, m).dims.__setitem__(0, r.choice([0, -1, 2**40, 3])),
    "rank of a weight": lambda r, m: weight(r, m).dims.append(1),
    "type of a weight": lambda r, m: setattr(weight(r, m), "data_type", r.choice([0, 7, 8, 10, 16, 22, 99])),
    "end of a weight": lambda r, m: [setattr(w, "raw_data", w.raw_data[:-1]) for w in [weight(r, m)]],
    "second content of a weight": lambda r, m: weight(r, m).float_data.append(1),
    "weight that is an input": lambda r, m: [
        m.graph.input.append(helper.make_tensor_value_info(w.name, w.data_type, [*w.dims]))
        for w in [weight(r, m)]
    ],
    "sparse weight": sparse,
    "input twice": lambda r, m: m.graph.input.add().CopyFrom(given(r, m)),
    "input gone from the graph": lambda r, m: m.graph.input.remove(given(r, m)),
    "input without type": lambda r, m: given(r, m).ClearField("type"),
    "input without shape": lambda r, m: given(r, m).type.tensor_type.ClearField("shape"),
    "type of an input": lambda r, m: setattr(
        given(r, m).type.tensor_type, "elem_type", r.choice([0, 1, 6, 8, 9, 10, 16, 99])
    ),
    "size of an input": lambda r, m: setattr(
        given(r, m).type.tensor_type.shape.dim[r.randrange(2)], "dim_value", r.choice([-1, 0, 1, 7, 2**40])
    ),
    "name of an input": lambda r, m: setattr(given(r, m), "name", value(r, m)),
    "odd input": odd_input,
    "output twice": lambda r, m: m.graph.output.add().CopyFrom(m.graph.output[0]),
    "output without type": lambda r, m: m.graph.output[0].ClearField("type"),
    "name of an output": lambda r, m: setattr(m.graph.output[0], "name", value(r, m)),
    "no outputs": lambda r, m: m.graph.ClearField("output"),
    "wrong type of a value": lambda r, m: m.graph.value_info.append(
        helper.make_tensor_value_info(value(r, m), r.choice([1, 7]), r.choice([[1, 2, 3], [], None]))
    ),
    "value without type": lambda r, m: m.graph.value_info.add(name=value(r, m)),
    "metadata twice": lambda r, m: [m.metadata_props.add(key="k", value="v") for _ in range(2)],
    "ir version": lambda r, m: setattr(m, "ir_version", r.choice([1, 2, 3, 4, 7, 11, 13, 99])),
    "opset": lambda r, m: setattr(m.opset_import[0], "version", r.choice([0, 1, 13, 18, 20, 26, 27, 999])),
    "opset twice": lambda r, m: m.opset_import.append(helper.make_opsetid(r.choice(["", "ai.onnx"]), 18)),
    "no opset": lambda r, m: m.ClearField("opset_import"),
    "no name of the graph": lambda r, m: m.graph.ClearField("name"),
    "training": lambda r, m: m.training_info.add(),
    "quantization": lambda r, m: m.graph.quantization_annotation.add(tensor_name=value(r, m)),
    "functions": call_function,
    "branches": branch,
}


def mutated(seed: int, name: str, path: Path) -> Path:
    """A fixture to which one or two things were done."""
    r = random.Random(seed)
    model = onnx.load(fixture(name))
    for mutation in r.choices([*MUTATIONS.values()], k=r.choice([1, 1, 1, 2])):
        with contextlib.suppress(IndexError, ValueError):  # the first left nothing for the second
            mutation(r, model)
    path.write_bytes(model.SerializeToString())
    return path


def loads(path: Path) -> bool:
    options = onnx_memo.session_options(native=False)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception:
        return False
    return True


def answer(path: Path) -> OpenedModel | str:
    """The model, searched for all there is to find, or the line with which it is refused."""
    try:
        opened = OpenedModel(path)
        model_inputs(opened)
        opened.copy()
        with contextlib.suppress(NoEncoder):
            _ = opened.encoder
    except MemoError as refused:
        return str(refused)
    return opened


@pytest.mark.faults
@pytest.mark.parametrize("name", ["bert", "bert_dynamo", "distilbert"])
def test_whatever_is_done_to_a_model_it_is_read_or_refused_in_one_line(tmp_path, name):
    read = 0
    made = count(short=50, full=250)
    for seed in range(made):
        told = answer(mutated(seed, name, tmp_path / "model.onnx"))
        check(told, seed)
        read += not isinstance(told, str)
    assert 0.2 < read / made < 0.8


def check(told: OpenedModel | str, seed: int) -> None:
    if isinstance(told, str):
        assert "\n" not in told, seed
        assert len(told) < 700, seed


@pytest.mark.faults
def test_bytes_that_are_changed_or_cut_off(tmp_path):
    path, whole = tmp_path / "model.onnx", fixture("bert").read_bytes()
    for seed in range(count(short=50, full=250)):
        r, content = random.Random(seed), bytearray(whole)
        for _ in range(r.choice([1, 3, 30])):
            content[r.randrange(len(content))] = r.randrange(256)
        path.write_bytes(content[: r.choice([len(content), r.randrange(len(content))])])
        check(answer(path), seed)


# What ONNX's checker refuses and ONNX Runtime does not mind.
HARMLESS = (
    "shuffled nodes",
    "reversed nodes",
    "no names of nodes",
    "ai.onnx",
    "ai.onnx imported",
    "weight twice",
    "second content of a weight",
    "output without type",
    "metadata twice",
    "no name of the graph",
    "training",
)


NEWER_MINDS = ("bert_dynamo", "weight twice")  # since version 10 of the format


@pytest.mark.parametrize(
    ("name", "what"),
    [(name, what) for name in ("bert", "bert_dynamo") for what in HARMLESS if (name, what) != NEWER_MINDS],
)
def test_what_onnx_runtime_loads_is_found_whole(tmp_path, name, what):
    model, path = onnx.load(fixture(name)), tmp_path / "model.onnx"
    MUTATIONS[what](random.Random(0), model)
    path.write_bytes(model.SerializeToString())
    assert loads(path)
    have, want = OpenedModel(path), OpenedModel(fixture(name))
    assert [site.share for site in have.findings.sites] == [site.share for site in want.findings.sites]
    assert len(have.encoder.cores) == len(want.encoder.cores)
    assert {*have.model.opset_imports} == {*want.model.opset_imports}
    assert model_inputs(have) == model_inputs(want)


@pytest.mark.parametrize("what", ["reversed nodes", "ai.onnx imported", "weight twice"])
def test_and_becomes_a_bundle(tmp_path, what):
    """Which is checked: with nothing reused every bit is that of the model as it came."""
    model, path = onnx.load(fixture("bert")), tmp_path / "model.onnx"
    MUTATIONS[what](random.Random(0), model)
    path.write_bytes(model.SerializeToString())
    data = write_samples(tmp_path / "data.npz", random_samples(original(fixture("bert")), [5, 9], seed=0))
    checked = onnx_memo.optimize(path, data, tmp_path / "bundle").manifest.checked
    assert checked is not None
    assert checked["requests"] >= 2


def test_order_that_is_right_stays(tmp_path):
    model = OpenedModel(fixture("bert_dynamo")).model
    own = [n.output[0] for n in onnx.load(fixture("bert_dynamo")).graph.node]
    kept = [n.outputs[0].name for n in model.graph]
    assert kept == [name for name in own if name in kept]
