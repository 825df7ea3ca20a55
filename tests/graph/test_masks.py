"""The padding mask is known by what it does, whatever it is called."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest
from support import change_mask, changed, count_mask, fixture, input_named, node_named

from onnx_memo import MemoError
from onnx_memo.graph.build import Builder
from onnx_memo.graph.opened import OpenedModel

MASKED = ("bert", "bert_dynamo", "distilbert", "gpt2", "deberta_v2", "llama")
FIRST = "/encoder/layer.0/attention/self"


def renamed(name: str, folder: Path, to: str) -> Path:
    return changed(name, folder / "model.onnx", lambda model: change_mask(model, to))


def read_through(model: ir.Model, *steps: tuple[str, object]) -> None:
    """What reads the mask gets it after some steps, each an operator with its second input."""
    mask = input_named(model, "attention_mask")
    readers, value, nodes = list(mask.uses()), mask, []
    for at, (op, operand) in enumerate(steps):
        constant = ir.node("Constant", [], {"value_int": operand})
        nodes += [constant, ir.node(op, [constant.outputs[0], value])]
        constant.outputs[0].name, nodes[-1].outputs[0].name = f"operand.{at}", f"made.{at}"
        value = nodes[-1].outputs[0]
    model.graph.insert_before(model.graph[0], nodes)
    for reader, at in readers:
        reader.replace_input_with(at, value)


def also_read(model: ir.Model) -> None:
    """The mask is multiplied with the context of the first layer as well."""
    node = node_named(model, f"{FIRST}/Reshape_3")
    cast = ir.node("Cast", [input_named(model, "attention_mask")], {"to": ir.DataType.FLOAT.value})
    axes = ir.node("Constant", [], {"value_ints": [2]})
    wide = ir.node("Unsqueeze", [cast.outputs[0], axes.outputs[0]])
    product = ir.node("Mul", [node.outputs[0], wide.outputs[0]])
    for added in (cast, axes, wide, product):
        added.outputs[0].name = f"also/{added.op_type}"
    node.outputs[0].replace_all_uses_with(product.outputs[0])
    product.replace_input_with(0, node.outputs[0])
    model.graph.insert_after(node, [cast, axes, wide, product])


def masks(opened: OpenedModel) -> list[str | None]:
    return [site.mask.name if site.mask else None for site in opened.findings.sites]


# ---- What it does


@pytest.mark.parametrize("name", MASKED)
@pytest.mark.parametrize("called", ["pad", "valid", "attn"])
def test_a_mask_is_found_under_any_name(tmp_path, name, called):
    opened = OpenedModel(renamed(name, tmp_path, called))
    assert set(masks(opened)) == {called}
    assert opened.findings.notes == []
    assert opened.findings.mask == called


@pytest.mark.parametrize("dtype", [ir.DataType.FLOAT, ir.DataType.BOOL, ir.DataType.INT32, ir.DataType.UINT8])
def test_a_mask_may_be_of_any_type(tmp_path, dtype):
    path = changed("bert", tmp_path / "model.onnx", lambda model: change_mask(model, "valid", dtype))
    assert set(masks(OpenedModel(path))) == {"valid"}


@pytest.mark.parametrize("named", [None, "attention_mask"])
def test_a_mask_that_is_1_for_padding_is_none(tmp_path, named):
    """Whatever it is called, and whatever the user says: what is stored would be for the wrong tokens."""
    inverted = changed("bert", tmp_path / "model.onnx", lambda model: read_through(model, ("Sub", 1)))
    findings = OpenedModel(inverted, named).findings
    assert findings.sites == []
    assert "a 0 in it does not just shut its position out" in findings.refusals[0].reason


def test_a_mask_that_is_inverted_twice_is_one(tmp_path):
    twice = changed("bert", tmp_path / "m.onnx", lambda model: read_through(model, ("Sub", 1), ("Sub", 1)))
    assert set(masks(OpenedModel(twice))) == {"attention_mask"}


def test_a_mask_that_only_weakens_is_none(tmp_path):
    """A score that is lowered a bit leaves some attention."""

    def weaken(model: ir.Model) -> None:
        add = node_named(model, f"{FIRST}/Add")
        (wide,) = (value for value in add.inputs if "MatMul" not in value.name and "Div" not in value.name)
        share = ir.node("Constant", [], {"value_float": 1e-38})
        weak = ir.node("Mul", [wide, share.outputs[0]])
        share.outputs[0].name, weak.outputs[0].name = "share", "weak"
        model.graph.insert_before(add, [share, weak])
        add.replace_input_with(list(add.inputs).index(wide), weak.outputs[0])

    findings = OpenedModel(changed("bert", tmp_path / "model.onnx", weaken)).findings
    assert [site.softmax.name for site in findings.sites] == [
        f"/encoder/layer.{layer}/attention/self/Softmax" for layer in (1, 2)
    ]
    assert "it is no padding mask" in findings.refusals[0].reason


def test_a_mask_that_moves_attention_elsewhere_is_none(tmp_path):
    """Each real token adds to the score of its neighbour, beside what the mask does."""

    def favour_neighbours(model: ir.Model) -> None:
        mask = input_named(model, "attention_mask")
        numbers = {"one": [1], "zero": [0], "end": [2**31], "last": [1], "axes": [1, 2]}
        given = {key: ir.node("Constant", [], {"value_ints": ints}) for key, ints in numbers.items()}
        one, zero, end, axis, axes = (node.outputs[0] for node in given.values())
        late = ir.node("Slice", [mask, one, end, axis])
        early = ir.node("Slice", [mask, zero, one, axis])
        turned = ir.node("Concat", [late.outputs[0], early.outputs[0]], {"axis": 1})
        floats = ir.node("Cast", [turned.outputs[0]], {"to": ir.DataType.FLOAT.value})
        wide = ir.node("Unsqueeze", [floats.outputs[0], axes])
        softmax = node_named(model, f"{FIRST}/Softmax")
        total = ir.node("Add", [softmax.inputs[0], wide.outputs[0]])
        added = [*given.values(), late, early, turned, floats, wide, total]
        for at, node in enumerate(added):
            node.outputs[0].name = f"turned/{at}"
        softmax.replace_input_with(0, total.outputs[0])
        model.graph.insert_before(softmax, added)

    findings = OpenedModel(changed("bert", tmp_path / "model.onnx", favour_neighbours)).findings
    assert len(findings.sites) == 2
    assert "it is no padding mask" in findings.refusals[0].reason


# ---- Masks of which the ones are counted


@pytest.mark.parametrize("name", MASKED)
@pytest.mark.parametrize("called", ["valid", "attention_mask"])
def test_a_mask_may_be_counted_and_that_is_noted(tmp_path, name, called):
    def change(model: ir.Model) -> None:
        count_mask(model)
        change_mask(model, called)

    opened = OpenedModel(changed(name, tmp_path / "model.onnx", change))
    assert set(masks(opened)) == {called}
    assert opened.findings.counted
    (note,) = opened.findings.notes
    assert note == (
        f"the model counts the ones of its mask '{called}': requests with a 0 before a 1 run the original"
    )


@pytest.mark.parametrize("name", MASKED)
def test_other_masks_are_not_counted(name):
    assert not OpenedModel(fixture(name)).findings.counted


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_a_count_of_zeros_is_none(tmp_path, name):
    def change(model: ir.Model) -> None:
        count_mask(model)
        read_through(model, ("Sub", 1))

    findings = OpenedModel(changed(name, tmp_path / "model.onnx", change)).findings
    assert (findings.sites, findings.counted) == ([], False)


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_a_mask_of_which_only_the_first_number_tells_is_none(tmp_path, name):
    """The last position goes with it, but others do not."""

    def change(model: ir.Model) -> None:
        count_mask(model)
        (count,) = (
            node for node in model.graph if node.name.startswith("counted") and node.op_type == "ReduceSum"
        )
        mask = input_named(model, "attention_mask")
        b = Builder("first", model.opset_imports[""])
        first = b.op("Slice", mask, b.i64(0), b.i64(1), b.i64(1))
        total = b.op("Add", first, b.op("Sub", b.dim(mask, 1), b.i64(1)))
        count.outputs[0].replace_all_uses_with(total)
        model.graph.insert_after(count, b.nodes)

    findings = OpenedModel(changed(name, tmp_path / "model.onnx", change)).findings
    assert (findings.sites, findings.counted) == ([], False)


def test_other_inputs_with_mask_in_their_names_do_not_matter(tmp_path):
    def add_masks(model: ir.Model) -> None:
        mask = input_named(model, "attention_mask")
        for name in ("global_mask", "mask_of_nothing"):
            model.graph.inputs.append(ir.val(name, ir.DataType.INT64, mask.shape))
        (output,) = model.graph.outputs
        sizes = ir.node("Cast", [model.graph.inputs[-2]], {"to": ir.DataType.FLOAT.value})
        sum_ = ir.node("ReduceSum", [sizes.outputs[0]], {"keepdims": 0})
        scaled = ir.node("Mul", [output, sum_.outputs[0]])
        for node in (sizes, sum_, scaled):
            node.outputs[0].name = f"global/{node.op_type}"
        scaled.outputs[0].type, scaled.outputs[0].shape = output.type, output.shape
        for node in (sizes, sum_, scaled):
            model.graph.append(node)
        model.graph.outputs[0] = scaled.outputs[0]
        change_mask(model, "valid")

    assert OpenedModel(changed("bert", tmp_path / "model.onnx", add_masks)).findings.mask == "valid"


# ---- What cannot be told


def test_a_mask_that_is_read_elsewhere_too_is_known_by_its_name_and_that_is_said(tmp_path):
    findings = OpenedModel(changed("bert", tmp_path / "model.onnx", also_read)).findings
    assert (len(findings.sites), findings.mask) == (3, "attention_mask")
    (note,) = findings.notes
    assert "'attention_mask' is taken for the padding mask for its name" in note


def test_or_by_the_users_word(tmp_path):
    def change(model: ir.Model) -> None:
        also_read(model)
        change_mask(model, "valid")

    path = changed("bert", tmp_path / "model.onnx", change)
    findings = OpenedModel(path).findings
    assert masks(OpenedModel(path)) == ["valid"] * 2
    assert "if it is the padding mask, 1 for real tokens, say so with --mask" in findings.refusals[0].reason
    assert masks(OpenedModel(path, "valid")) == ["valid"] * 3
    assert OpenedModel(path, "valid").findings.notes == []


# ---- The user's word


def test_what_is_no_input_is_no_mask():
    with pytest.raises(
        MemoError, match="has no input 'pad': its mask is one of input_ids, attention_mask, tok"
    ):
        OpenedModel(fixture("bert"), "pad")


def test_what_is_not_of_batch_and_length_is_no_mask():
    with pytest.raises(
        MemoError, match=r"'pixel_values' of .* has the shape .*; a padding mask is \[batch, le"
    ):
        OpenedModel(fixture("vit"), "pixel_values")


def test_what_attention_does_not_read_is_no_mask(tmp_path):
    def unmask(model: ir.Model) -> None:
        for layer in range(3):
            add = node_named(model, f"/encoder/layer.{layer}/attention/self/Add")
            softmax = node_named(model, f"/encoder/layer.{layer}/attention/self/Softmax")
            softmax.replace_input_with(0, add.inputs[0])

    path = changed("bert", tmp_path / "model.onnx", unmask)
    assert OpenedModel(path).findings.mask is None
    with pytest.raises(MemoError, match="does not read 'attention_mask': leave --mask out, or name another"):
        _ = OpenedModel(path, "attention_mask").findings
    findings = OpenedModel(fixture("bert"), "token_type_ids").findings
    assert "past its hidden states" in findings.refusals[0].reason
    assert "(the mask is 'token_type_ids';" in findings.refusals[0].reason
