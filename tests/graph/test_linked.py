"""Several spans in one model: which there are, what they read, and what is in none."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
from support import FIXTURES
from support_encoder import two_sequences

from onnx_memo.graph.linked import Linked
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.graph.shapes import ShapeTable
from onnx_memo.graph.sites import find_sites
from onnx_memo.graph.span import find_span

FORMS = FIXTURES / "forms"


def ends(linked: Linked) -> list[tuple[str | None, str | None, tuple[int, ...]]]:
    """From where to where each span goes, and which it reads."""
    return [(span.input.name, span.output.name, span.reads) for span in linked.spans]


def linked_of(path: Path, **options: object) -> Linked:
    return OpenedModel(two_sequences(path / "m.onnx", **options)).linked


def test_two_towers_are_two_spans(tmp_path):
    linked = linked_of(
        tmp_path, cross=False, outputs=", float[B, L, 8] states", behind="  states = Identity (h3_1)\n"
    )
    assert ends(linked) == [("hidden_0", "states", ()), ("hidden_1", "other_states", ())]
    first, second = linked.spans
    assert first.mask is not None and second.mask is None
    assert first.given == {"input_ids", "attention_mask"} and second.given == {"other_ids"}
    assert linked.left == ()


def test_a_decoder_reads_the_result_of_its_encoder(tmp_path):
    linked = linked_of(tmp_path)
    assert ends(linked) == [("hidden_0", "h3_1", ()), ("hidden_1", "other_states", (0,))]
    softmaxes = {node.name for node in linked.spans[1].region if node.op_type == "Softmax"}
    assert softmaxes == {"/p_2", "/p_3", "/p_4"}  # its cross-attention is inside


def test_cross_attention_behind_the_last_block_of_a_decoder_is_inside():
    for form in ("bart-dynamo", "bart-dynamo-23"):
        linked = OpenedModel(FORMS / f"{form}.onnx").linked
        assert [span.output.name for span in linked.spans][1] == "last_hidden_state"
        assert [span.reads for span in linked.spans] == [(), (0,)]


def test_two_spans_of_the_plain_form_are_better_than_one_tower_of_the_model_itself():
    opened = OpenedModel(FORMS / "clip-dynamo-23.onnx")
    table = ShapeTable(opened.model)
    alone = find_span(opened.model, find_sites(opened.model, table), table)
    assert alone is not None and alone.operators == 1
    assert opened.span is None and opened.linked.operators == 2
    assert [(span.width, span.output_width, span.per_row) for span in opened.linked.spans] == [
        (16, 16, 16)
    ] * 2


def test_regions_are_apart_and_give_their_results_alone(tmp_path):
    for cross in (False, True):
        spans = linked_of(tmp_path, cross=cross).spans
        first, second = ({*span.region} for span in spans)
        assert first and second and first.isdisjoint(second)
        for span in spans:
            for node in span.region:
                for value in node.outputs:
                    if value is not span.output:
                        assert {reader for reader, _ in value.uses()} <= {*span.region}


def test_an_encoder_whose_inner_values_are_read_is_left_and_what_does_not_read_them_is_not(tmp_path):
    """A branch would hide them. The decoder's layers begin and end beside its cross-attention."""
    model = ir.load(two_sequences(tmp_path / "m.onnx"))
    values = {value.name: value for node in model.graph for value in node.outputs}
    keys = values["k0_4"].producer()
    keys.replace_input_with(0, values["h3_0"])
    ir.save(model, tmp_path / "inner.onnx")
    linked = OpenedModel(tmp_path / "inner.onnx").linked
    assert ends(linked) == [("hidden_1", "h3_2", ()), ("h3_4", "other_states", ())]
    assert linked.left == ("attention.0", "attention.1")


def test_what_is_drawn_at_random_is_in_no_span(tmp_path):
    drawn = "  d0 = RandomNormalLike (h3_1)\n  states = Add (d0, h3_1)\n"
    linked = linked_of(tmp_path, cross=False, outputs=", float[B, L, 8] states", behind=drawn)
    assert ends(linked) == [("hidden_0", "h3_1", ()), ("hidden_1", "other_states", ())]


def test_a_tower_that_more_decides_than_its_input_is_left_and_said(tmp_path):
    """The other tower is taken all the same."""
    model = ir.load(two_sequences(tmp_path / "m.onnx", cross=False))
    values = {value.name: value for node in model.graph for value in node.outputs}
    inner = values["h3_2"]
    inner.shape, inner.type = ir.Shape(["C", "M", 8]), ir.TensorType(ir.DataType.FLOAT)
    model.graph.outputs.append(inner)
    ir.save(model, tmp_path / "inner.onnx")
    linked = OpenedModel(tmp_path / "inner.onnx").linked
    assert linked.left
    assert linked.notes() == [
        f"in no span of which the level 'rows' could reuse repeats: {', '.join(linked.left)}"
    ]


def test_of_a_model_without_any_nothing_is_said():
    linked = Linked(left=("attention.0",))
    assert linked.notes() == []


def test_a_model_of_one_span_has_no_others():
    assert OpenedModel(FIXTURES / "bert.onnx").linked == Linked()


def test_the_plain_form_of_a_model_gives_spans_of_the_model_itself():
    opened = OpenedModel(FORMS / "bart-dynamo-23.onnx")
    own = set(opened.model.graph)
    assert opened.searched is not opened.model
    assert all({*span.region} <= own for span in opened.linked.spans)
