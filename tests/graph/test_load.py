"""Files that come from anywhere: each that is unfit is refused with a reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import ATTENTION, changed, fixture

from onnx_memo import MemoError
from onnx_memo.graph.convert import CONVERTED, MIN_OPSET, OLDEST_OPSET, TARGET
from onnx_memo.graph.external import external_files
from onnx_memo.graph.load import MAX_OPSET, load_model
from onnx_memo.graph.opened import OpenedModel


@pytest.mark.parametrize("name", ATTENTION)
def test_every_fixture_loads(name):
    assert len(load_model(fixture(name)).graph) > 0


def refused(path: Path, because: str) -> None:
    with pytest.raises(MemoError, match=because) as caught:
        load_model(path)
    assert str(path.parent) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path):
    refused(tmp_path / "none.onnx", "is not a file")


def test_a_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", "is not a file")


@pytest.mark.parametrize(
    "content",
    [b"", b"not a model", b"\x00" * 64, b"PK\x03\x04" * 20, b'{"model": 1}', bytes(range(256))],
    ids=["empty", "text", "zeros", "zip", "json", "binary"],
)
def test_what_is_not_onnx(tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    refused(path, "is not an ONNX model")


def test_a_pointer_of_git_lfs(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    refused(path, "is a pointer of Git LFS, not the model itself: fetch it with git lfs pull")


@pytest.mark.parametrize("keep", [0.01, 0.5, 0.999])
def test_a_truncated_file(tmp_path, keep):
    whole = fixture("bert").read_bytes()
    path = tmp_path / "model.onnx"
    path.write_bytes(whole[: int(len(whole) * keep)])
    refused(path, "not an ONNX model|not a valid ONNX model")


def test_a_graph_without_nodes(tmp_path):
    model = helper.make_model(helper.make_graph([], "empty", [], []))
    onnx.save(model, tmp_path / "model.onnx")
    refused(tmp_path / "model.onnx", "holds no graph")


def test_an_invalid_graph(tmp_path):
    node = helper.make_node("MatMul", ["nowhere", "neither"], ["y"])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    onnx.save(helper.make_model(helper.make_graph([node], "g", [], [output])), tmp_path / "model.onnx")
    refused(tmp_path / "model.onnx", "is not a valid ONNX model")


# ---- Weights in other files


def with_external_weights(folder: Path) -> Path:
    """A model of one `MatMul` whose weight, 64 bytes, lies in `weights/w.bin`."""
    weight = numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / "weights").mkdir()
    path = folder / "model.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="weights/w.bin", size_threshold=0)
    return path


def pointing_to(path: Path, **entries: str) -> Path:
    """The same model, its weight's place changed."""
    model = onnx.load(path, load_external_data=False)
    weight = model.graph.initializer[0]
    old = {entry.key: entry.value for entry in weight.external_data}
    del weight.external_data[:]
    for key, value in (old | entries).items():
        weight.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    return path


def test_external_weights_are_found(tmp_path):
    assert external_files(load_model(with_external_weights(tmp_path))) == {"weights/w.bin"}


def test_missing_external_weights(tmp_path):
    path = with_external_weights(tmp_path)
    (tmp_path / "weights" / "w.bin").unlink()
    refused(path, "'weights/w.bin', which is missing: copy it")


def test_external_weights_that_end_too_soon(tmp_path):
    path = with_external_weights(tmp_path)
    (tmp_path / "weights" / "w.bin").write_bytes(bytes(63))
    refused(path, "too short for the weight 'w'")


@pytest.mark.parametrize("location", ["../w.bin", "weights/../../w.bin", "/etc/passwd", "."])
def test_external_weights_outside_the_folder(tmp_path, location):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "w.bin").write_bytes(bytes(64))
    refused(pointing_to(with_external_weights(folder), location=location), "outside its folder")


@pytest.mark.parametrize(
    "entries", [{"offset": "64"}, {"length": "65"}, {"offset": "-64"}, {"length": "-64"}, {"offset": "x"}]
)
def test_external_weights_beyond_their_file(tmp_path, entries):
    refused(pointing_to(with_external_weights(tmp_path), **entries), "weight 'w'|not a valid ONNX model")


def test_a_link_out_of_the_folder(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    path = with_external_weights(folder)
    (folder / "weights" / "w.bin").rename(tmp_path / "w.bin")
    (folder / "weights" / "w.bin").symlink_to(tmp_path / "w.bin")
    refused(path, "'weights/w.bin', a link out of its folder: copy the file itself")


def test_a_model_that_is_a_link_as_in_the_cache_of_a_hub(tmp_path):
    """Its weights are links as well, to files under other names beside what it leads to."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "main" / "onnx"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    path = with_external_weights(blobs)
    wanted = load_model(path).graph.initializers["w"].const_value.numpy().copy()
    (blobs / "weights" / "w.bin").rename(blobs / "5f3a")
    path.rename(blobs / "c07e")
    (snapshot / "weights").mkdir()
    (snapshot / "weights" / "w.bin").symlink_to(blobs / "5f3a")
    (snapshot / "model.onnx").symlink_to(blobs / "c07e")
    opened = OpenedModel(snapshot / "model.onnx")
    np.testing.assert_array_equal(opened.model.graph.initializers["w"].const_value.numpy(), wanted)
    assert opened.folder == blobs
    (blobs / "5f3a").rename(tmp_path / "elsewhere")
    (snapshot / "weights" / "w.bin").unlink()
    (snapshot / "weights" / "w.bin").symlink_to(tmp_path / "elsewhere")
    refused(snapshot / "model.onnx", "a link out of its folder")


def test_a_model_that_is_a_link_beside_its_weights(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    path = with_external_weights(folder)
    path.rename(tmp_path / "blob")
    path.symlink_to(tmp_path / "blob")
    assert external_files(load_model(path)) == {"weights/w.bin"}


def test_what_a_constant_or_a_branch_takes_from_a_file_is_checked_too(tmp_path):
    path = with_external_weights(tmp_path)
    model = onnx.load(path, load_external_data=False)
    (weight,) = model.graph.initializer
    outside = onnx.TensorProto()
    outside.CopyFrom(weight)
    outside.external_data[0].value = "../w.bin"
    then, other = (
        helper.make_graph([helper.make_node("Constant", [], [name], value=outside)], name, [], [])
        for name in ("a", "b")
    )
    model.graph.node.append(helper.make_node("If", ["x"], ["z"], then_branch=then, else_branch=other))
    path.write_bytes(model.SerializeToString())
    refused(path, "takes the weight 'w' from '../w.bin', outside its folder")


@pytest.mark.parametrize("name", ["bert", "bert_dynamo", "llama"])
def test_small_constants_come_from_the_models_folder_wherever_one_works(tmp_path, name, monkeypatch):
    """Exporters keep sizes and scales as external data, too; in the folder one works in others may lie."""
    model = onnx.load(fixture(name))
    path = tmp_path / "model" / "model.onnx"
    path.parent.mkdir()
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            node.attribute[0].t.name = node.output[0]
    options = {"size_threshold": 0, "convert_attribute": True, "location": "weights"}
    onnx.save_model(model, path, save_as_external_data=True, **options)
    (tmp_path / "weights").write_bytes(bytes((path.parent / "weights").stat().st_size))
    monkeypatch.chdir(tmp_path)
    whole, split = OpenedModel(fixture(name)), OpenedModel(path)
    assert len(split.findings.sites) == len(whole.findings.sites) > 0
    for have, want in zip(split.encoder.cores, whole.encoder.cores, strict=True):
        assert (have.scale, have.heads, have.key_width) == (want.scale, want.heads, want.key_width)


# ---- Opsets


def of_opset(path: Path, opset: int) -> Path:
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Relu", ["x"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        ),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=8,
    )
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("opset", [MIN_OPSET, MAX_OPSET])
def test_opsets_from_the_oldest_to_the_newest_load(tmp_path, opset):
    assert (MIN_OPSET, MAX_OPSET) == (13, 26)
    model = load_model(of_opset(tmp_path / "model.onnx", opset))
    assert model.opset_imports[""] == opset
    assert CONVERTED not in model.meta


@pytest.mark.parametrize("opset", [OLDEST_OPSET, MIN_OPSET - 1])
def test_older_ones_are_converted(tmp_path, opset):
    model = load_model(of_opset(tmp_path / "model.onnx", opset))
    assert model.opset_imports[""] == TARGET
    assert model.meta[CONVERTED] == opset


def test_weights_in_other_files_are_converted_as_well(tmp_path):
    model = onnx.load(fixture("bert_opset11"))
    onnx.save_model(
        model, tmp_path / "model.onnx", save_as_external_data=True, location="w.data", size_threshold=64
    )
    values = load_model(tmp_path / "model.onnx").graph.initializers
    assert not any(isinstance(value.const_value, ir.ExternalTensor) for value in values.values())
    assert len(values) > 30


def test_what_onnx_does_not_convert_is_refused(tmp_path, monkeypatch):
    def fails(*_):
        raise RuntimeError("no adapter")

    monkeypatch.setattr("onnx.version_converter.convert_version", fails)
    refused(of_opset(tmp_path / "model.onnx", 11), "of opset 11, .* does not bring it to 14 .*no adapter")


@pytest.mark.parametrize("opset", [OLDEST_OPSET - 1, MAX_OPSET + 1])
def test_still_older_and_newer_opsets_are_refused(tmp_path, opset):
    refused(of_opset(tmp_path / "model.onnx", opset), f"opset {opset}|not a valid ONNX model")


def test_functions_of_the_model_are_inlined(tmp_path):
    def move_into_a_function(model: ir.Model) -> None:
        x, y = ir.val("x"), ir.val("y")
        body = ir.Graph([x], [y], nodes=[ir.Node("", "Identity", [x], outputs=[y])], opset_imports={"": 17})
        model.functions["local", "Same", ""] = ir.Function("local", "Same", graph=body, attributes=[])
        model.opset_imports["local"] = 1
        (output,) = model.graph.outputs
        call = ir.node("Same", [output], domain="local")
        call.outputs[0].name = "same"
        call.outputs[0].type, call.outputs[0].shape = output.type, output.shape
        model.graph.append(call)
        model.graph.outputs[0] = call.outputs[0]

    model = load_model(changed("bert", tmp_path / "model.onnx", move_into_a_function))
    assert not model.functions
    assert {node.domain for node in model.graph} == {""}
    assert [output.name for output in model.graph.outputs] == ["same"]


@pytest.mark.parametrize("element", [0, onnx.TensorProto.STRING, 99])
def test_a_weight_elsewhere_whose_type_has_no_size_is_refused(tmp_path, element):
    model = onnx.load(fixture("bert"))
    onnx.save(
        model, tmp_path / "model.onnx", save_as_external_data=True, location="w.data", size_threshold=64
    )
    model = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    tensor = next(one for one in model.graph.initializer if one.data_location == onnx.TensorProto.EXTERNAL)
    tensor.data_type = element
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(MemoError, match="its type has no size: export it again"):
        load_model(tmp_path / "model.onnx")
