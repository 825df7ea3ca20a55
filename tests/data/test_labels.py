"""True labels: which column they are read from, what they mean, and how each misfit is answered."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_memo.data.labels import LabelColumn, check_labels, label_column
from onnx_memo.data.readers import read_samples
from onnx_memo.data.samples import Labels, ModelInput, Samples
from onnx_memo.errors import MemoError
from onnx_memo.proof.decisions import Label
from onnx_memo.proof.values import label_value

IDS = ModelInput("input_ids", np.dtype(np.int64), (None, None))
MASK = ModelInput("attention_mask", np.dtype(np.int64), (None, None), mask=True)
NAMES = {"cat": 0, "dog": 1, "7": 2}
COLUMN = LabelColumn("kind", NAMES)
PATH = "'data.jsonl'"  # as messages name it


def samples_of(*ids: int) -> Samples:
    return Samples([{"input_ids": np.asarray([[one]])} for one in ids], [1] * len(ids), None, texts=["a"])


def classes_of(values, column: LabelColumn = COLUMN) -> list[int]:
    made = column.beside(samples_of(*range(len(values))), PATH, dict(enumerate(values, 1)))
    assert made.labels is not None
    assert made.labels.column == column.name
    return made.labels.classes


def refused(because: str, call, *arguments, **named) -> None:
    with pytest.raises(MemoError, match=because) as caught:
        call(*arguments, **named)
    assert "\n" not in str(caught.value)


# ---- What labels mean


@given(st.lists(st.sampled_from(sorted(NAMES)), min_size=1))
def test_names_are_those_of_the_model(names):
    assert classes_of(names) == [NAMES[name] for name in names]


@given(st.lists(st.integers(), min_size=1))
def test_whole_numbers_are_the_classes(numbers):
    assert classes_of(numbers) == numbers


def test_numbers_in_text_and_whole_floats_are_numbers_and_a_name_goes_first():
    assert classes_of(["3", 4.0, "7", 7]) == [3, 4, 2, 7]


@pytest.mark.parametrize("value", [None, "", float("nan")])
def test_a_line_without_a_label_is_named(value):
    refused(r"'data.jsonl' line 2 has no label in 'kind': label it", classes_of, ["cat", value])


@pytest.mark.parametrize(
    "value", ["Cat", "cat ", "-1", "1.0", "9" * 5000, "٣", True, 0.5, float("inf"), ["cat"], {"a": 1}]
)
def test_what_is_no_class_is_named_with_what_is_known(value):
    because = (
        r"line 1 holds .{1,43} in 'kind', which is no class of the model; config.json knows 'cat', 'dog'"
    )
    refused(because, classes_of, [value])


def test_without_names_it_is_said_where_they_would_be_read():
    because = "holds 'cat' in 'kind', which is no number of a class; names are known only by 'id2label' in a "
    refused(f"{because}config.json beside", classes_of, ["cat"], LabelColumn("kind", {}))


def test_of_many_names_some_are_told():
    many = LabelColumn("kind", {f"n{number}": number for number in range(9)})
    refused("knows 'n0', 'n1', 'n2', 'n3', 'n4' and 4 more: write", classes_of, ["x"], many)


# ---- The names beside a model


def config(folder: Path, content: object) -> Path:
    (folder / "config.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder / "model.onnx"


def test_names_stand_in_the_configuration_beside_the_model(tmp_path):
    model = config(tmp_path, {"id2label": {"0": "cat", "1": "dog"}, "other": 1})
    assert label_column("kind", model) == LabelColumn("kind", {"cat": 0, "dog": 1})
    assert label_column("kind", tmp_path) == LabelColumn("kind", {"cat": 0, "dog": 1})
    assert label_column(None, model) is None


@pytest.mark.parametrize("content", [None, {}, {"id2label": None}, {"id2label": {}}])
def test_without_names_there_are_numbers(tmp_path, content):
    model = tmp_path / "model.onnx" if content is None else config(tmp_path, content)
    assert label_column("kind", model) == LabelColumn("kind", {})


@pytest.mark.parametrize(
    "content", ["{", "[" * 100_000, [1], {"id2label": ["cat"]}, {"id2label": {"cat": 0, "x": "y"}}]
)
def test_a_damaged_configuration_is_told_where_names_are_wanted(tmp_path, content):
    model = config(tmp_path, content)
    refused("config.json' names no classes in 'id2label'.*: mend it", label_column, "kind", model)
    assert label_column(None, model) is None


def test_two_classes_of_one_name_are_told_apart_by_nobody(tmp_path):
    model = config(tmp_path, {"id2label": {"0": "cat", "1": "cat"}})
    refused("gives several classes one name", label_column, "kind", model)


# ---- Columns of files


def lines(folder: Path, *records: object) -> Path:
    path = folder / "data.jsonl"
    path.write_text("\n\n".join(map(json.dumps, records)))
    return path


def test_a_field_beside_the_text_holds_labels(tmp_path, tokenizer):
    data = lines(tmp_path, {"text": "a", "kind": "dog", "id": 5}, {"text": "b c", "kind": "cat"})
    samples = read_samples(data, [IDS], tokenizer, labels=COLUMN)
    assert samples.labels == Labels("kind", [1, 0])
    assert samples.take([1]).labels == Labels("kind", [0])
    assert [list(arrays) for arrays in samples.arrays] == [["input_ids"]] * 2
    assert samples.notes == ["only 'text' and 'kind' are read; of 2 records there is also 'id' in 1"]


def test_labels_are_read_only_where_they_are_wanted(tmp_path, tokenizer):
    samples = read_samples(lines(tmp_path, {"text": "a", "kind": "bird"}), [IDS], tokenizer)
    assert samples.labels is None
    assert samples.take([0]).labels is None


def test_a_line_without_the_field_is_named_by_its_number_in_the_file(tmp_path, tokenizer):
    data = lines(tmp_path, {"text": "a", "kind": 0}, {"text": "b"})
    refused(r"line 3 has no label in 'kind'", read_samples, data, [IDS], tokenizer, labels=COLUMN)


@pytest.mark.parametrize(
    ("column", "because"),
    [
        ("knid", "no line of .* has the field 'knid' that --labels names; beside 'text' there is 'kind'"),
        ("text", "--labels 'text' names the text itself"),
    ],
)
def test_a_field_that_holds_no_labels(tmp_path, tokenizer, column, because):
    data = lines(tmp_path, {"text": "a", "kind": 0})
    refused(because, read_samples, data, [IDS], tokenizer, labels=LabelColumn(column, {}))


def test_texts_alone_have_no_labels(tmp_path, tokenizer):
    (tmp_path / "data.txt").write_text("a\n")
    because = "holds texts alone, and --labels 'kind' names a column: .* as .jsonl"
    refused(because, read_samples, tmp_path / "data.txt", [IDS], tokenizer, labels=COLUMN)


def arrays(folder: Path, **content: object) -> Path:
    np.savez(folder / "data.npz", **{name: np.asarray(value) for name, value in content.items()})
    return folder / "data.npz"


@pytest.mark.parametrize("truth", [["dog", "cat", "dog"], [1, 0, 1], [1.0, 0.0, 1.0], ["1", "0", "1"]])
def test_an_array_holds_labels_and_those_of_inputs_left_out_go_with_them(tmp_path, truth):
    mask = [[1, 0], [0, 1], [1, 1]]
    data = arrays(tmp_path, input_ids=[[5, 0], [5, 5], [6, 7]], attention_mask=mask, kind=truth)
    samples = read_samples(data, [IDS, MASK], None, labels=COLUMN)
    assert samples.labels == Labels("kind", [1, 1])
    assert not any("kind" in one for one in (*samples.arrays, *samples.notes))


@pytest.mark.parametrize(
    ("column", "truth", "because"),
    [
        ("kind", [[0], [1]], r"'kind' in .* has shape \[2, 1\]; --labels takes one label a sample"),
        ("kind", [0, 1, 1], "hold different numbers of samples: {'input_ids': 2, 'kind': 3}"),
        ("kind", [0, np.nan], "input 2 has no label in 'kind'"),
        ("kind", [True, False], "input 1 holds True in 'kind', which is no class"),
        ("other", [0, 1], r"has no array 'other' that --labels names \(it holds: input_ids, kind\)"),
        ("input_ids", [0, 1], "--labels 'input_ids' is an input of the model"),
    ],
)
def test_an_array_that_holds_no_labels(tmp_path, column, truth, because):
    data = arrays(tmp_path, input_ids=[[5], [6]], kind=truth)
    refused(because, read_samples, data, [IDS], None, labels=LabelColumn(column, NAMES))


def test_equal_inputs_under_other_labels_are_counted(tmp_path):
    data = arrays(tmp_path, input_ids=[[5], [6], [5], [6], [5]], kind=[0, 1, 0, 0, 1])
    assert read_samples(data, [IDS], None, labels=COLUMN).notes == [
        "2 inputs repeat others under another label, first input 2 and input 4: no model gets both right"
    ]


# ---- What the model decides


def labelled(*classes: int) -> Samples:
    return LabelColumn("kind", {}).beside(samples_of(*classes), PATH, dict(enumerate(classes, 1)))


def test_labels_have_to_be_among_the_classes():
    decision = Label(label_value("logits"), 3)
    check_labels(labelled(0, 2, 1), decision)
    check_labels(samples_of(9), decision)
    for beyond in (3, -1):
        because = (
            f"line 2 of the data has the class {beyond} in 'kind', and output 'logits' has the classes 0 to 2"
        )
        refused(re.escape(because), check_labels, labelled(0, beyond), decision)


def test_one_label_says_nothing_of_several_tokens():
    because = "--labels takes one label a request, and output 'tags' gives a class for each token"
    refused(because, check_labels, labelled(0), Label(label_value("tags")))
