"""What is lost between texts and tokens is said, and a tokenizer that does not know the text is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from onnx_memo import MemoError
from onnx_memo.data.given import Data
from onnx_memo.data.readers import read_samples
from onnx_memo.data.samples import ModelInput, Samples
from onnx_memo.data.tokens import load_tokenizer

IDS = ModelInput("input_ids", np.dtype(np.int64), (None, None))


def read(folder: Path, tokenizer: Path, *lines: str, allow_unknown: bool = False) -> Samples:
    path = folder / "data.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return read_samples(path, [IDS], tokenizer, allow_unknown=allow_unknown)


def read_records(folder: Path, tokenizer: Path, records: Sequence[dict[str, object]]) -> Samples:
    path = folder / "data.jsonl"
    path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return read_samples(path, [IDS], tokenizer)


def test_nothing_is_said_where_nothing_is_lost(tmp_path, tokenizer):
    assert read(tmp_path, tokenizer, "a b", "c", "a b").notes == []
    assert read_records(tmp_path, tokenizer, [{"text": "a"}]).notes == []


# ---- Unknown tokens


def test_few_unknown_tokens_are_counted_among_those_of_the_text(tmp_path, tokenizer):
    """The tokenizer's own `[CLS]` is no token of the text."""
    samples = read(tmp_path, tokenizer, *["a b c d"] * 3, "", "a b f e e e f e", "a")
    (note,) = samples.notes
    told = "2 of 21 tokens (9.52 %), in 1 input, are unknown to the tokenizer, first line 5: "
    assert note.startswith(told)


def test_more_than_a_tenth_is_refused_unless_it_is_allowed(tmp_path, tokenizer):
    lines = ["a a a a b b b b b", "A"]
    assert len(read(tmp_path, tokenizer, *lines)) == 2
    lines = ["a a a a b b b b", "A"]
    with pytest.raises(
        MemoError, match=r"1 of 9 tokens \(11\.1 %\), in 1 input, is unknown .* --allow-unknown"
    ):
        read(tmp_path, tokenizer, *lines)
    samples = read(tmp_path, tokenizer, *lines, allow_unknown=True)
    assert (len(samples), len(samples.notes)) == (2, 1)


WORDS = {"[CLS]": 0, "a": 1, "?": 2}
UNKNOWING = {
    "WordLevel": models.WordLevel(WORDS, unk_token="?"),
    "WordPiece": models.WordPiece(WORDS, unk_token="?"),
    "BPE": models.BPE(WORDS, [], unk_token="?"),
    "Unigram": models.Unigram([("[CLS]", 0.0), ("a", -1.0), ("?", -9.0)], unk_id=2),
}


@pytest.mark.parametrize("kind", UNKNOWING)
def test_every_kind_of_model_has_its_unknown_token(tmp_path, kind):
    made = Tokenizer(UNKNOWING[kind])
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(MemoError, match=r"1 of 3 tokens \(33\.3 %\)"):
        read(tmp_path, tmp_path / "tokenizer.json", "a x a")


def test_a_tokenizer_of_bytes_knows_everything(tmp_path):
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: at for at, letter in enumerate(letters)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel()
    made.save(str(tmp_path / "tokenizer.json"))
    assert read(tmp_path, tmp_path / "tokenizer.json", "a \N{SNOWMAN} \x7f").notes == []


def test_the_unknown_token_may_serve_as_a_special_one(tmp_path):
    made = Tokenizer(models.WordLevel({"?": 0, "a": 1}, unk_token="?"))
    made.post_processor = processors.TemplateProcessing(single="? $A ?", special_tokens=[("?", 0)])
    made.save(str(tmp_path / "tokenizer.json"))
    samples = read(tmp_path, tmp_path / "tokenizer.json", "a")
    assert samples.arrays[0]["input_ids"].tolist() == [[0, 1, 0]]
    assert samples.notes == []


# ---- Another model's tokenizer


def test_tokens_beyond_the_models_embedding_are_another_tokenizers(tmp_path, tokenizer):
    few, enough = replace(IDS, rows=4), replace(IDS, rows=7)
    data = tmp_path / "data.txt"
    data.write_text("a b c\nd\n")
    assert read_samples(data, [enough], tokenizer).notes == []
    with pytest.raises(MemoError, match=r"makes the token 4 \('.*data.txt' line 2\).* in 4 rows") as refused:
        read_samples(data, [few], tokenizer)
    assert str(tokenizer) in str(refused.value)
    data.write_text("a b c\n")
    (note,) = read_samples(data, [few], tokenizer).notes
    assert note == "the tokenizer has 7 tokens, and the model's embedding 4 rows: is it the model's own?"


def test_more_tokens_than_the_model_has_positions(tmp_path, tokenizer):
    data = tmp_path / "data.txt"
    data.write_text("a b c\na b c d\n")
    positions = ModelInput("position_ids", np.dtype(np.int64), (None, None), rows=4)
    for inputs in ([IDS, positions], [replace(IDS, longest=4)]):
        samples = read_samples(data, inputs, tokenizer)
        assert samples.lengths == [4, 4]
        assert samples.notes[0] == (
            "1 input was cut to the 4 tokens that the model has positions for, first line 2"
        )
        because = "--max-length 5 is more than the 4 tokens that the model has positions for"
        with pytest.raises(MemoError, match=because):
            read_samples(Data(data, max_length=5), inputs, tokenizer)


def test_the_user_may_allow_more_than_the_tokenizer_and_fewer(tmp_path, tokenizer):
    limited = load_tokenizer(tokenizer)
    limited.enable_truncation(3)
    limited.save(str(tokenizer))
    data = tmp_path / "data.txt"
    data.write_text("a b c d e\na\n")
    asked = read_samples(Data(data, max_length=5), [IDS], tokenizer)
    assert (asked.lengths, asked.notes) == (
        [5, 2],
        ["1 input was cut to the 5 tokens that --max-length allows, first line 1"],
    )
    assert read_samples(Data(data, max_length=2), [IDS], tokenizer).lengths == [2, 2]
    assert read_samples(Data(data, max_length=6), [IDS], tokenizer).notes == []
    with pytest.raises(MemoError, match="1 token leaves no room for text, to which the tokenizer adds 1"):
        read_samples(Data(data, max_length=1), [IDS], tokenizer)


def test_the_configuration_beside_a_tokenizer_limits_it(tmp_path, tokenizer):
    config = tmp_path / "tokenizer_config.json"
    config.write_text('{"model_max_length": 4}')
    samples = read(tmp_path, tokenizer, "a b c", "a b c d")
    assert samples.lengths == [4, 4]
    assert samples.notes[0] == (
        "1 input was cut to the 4 tokens that tokenizer_config.json allows, first line 2"
    )
    for none in ("1e30", "null", "true", "-1", '"4"'):
        config.write_text(f'{{"model_max_length": {none}}}')
        assert read(tmp_path, tokenizer, "a b c d").lengths == [5]
    for content in ("{", "[]"):
        config.write_text(content)
        with pytest.raises(MemoError, match=r"tokenizer_config\.json' is not readable"):
            read(tmp_path, tokenizer, "a")


def test_what_sentence_transformers_says_stands_in_place_of_the_tokenizers_limits(tmp_path, tokenizer):
    """It puts its own into the tokenizer when it loads it, so that is what will be served."""
    limited = load_tokenizer(tokenizer)
    limited.enable_truncation(3)
    limited.save(str(tokenizer))
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 4}')
    config = tmp_path / "sentence_bert_config.json"
    config.write_text('{"max_seq_length": 5}')
    samples = read(tmp_path, tokenizer, "a b c d", "a b c d e")
    assert samples.lengths == [5, 5]
    assert samples.notes[0] == (
        "1 input was cut to the 5 tokens that sentence_bert_config.json allows, first line 2"
    )
    few = replace(IDS, longest=4)
    assert read_samples(tmp_path / "data.txt", [few], tokenizer).lengths == [4, 4], "the model has no more"
    config.write_text('{"max_seq_length": null}')
    assert read(tmp_path, tokenizer, "a b c d").lengths == [3]
    config.write_text("[]")
    with pytest.raises(MemoError, match=r"sentence_bert_config\.json' is not readable"):
        read(tmp_path, tokenizer, "a")


def test_a_fixed_length_is_not_made_of_text(tmp_path, tokenizer):
    (tmp_path / "data.txt").write_text("a b c\nd\n")
    fixed = replace(IDS, shape=(None, 4))
    with pytest.raises(MemoError, match=r"line 2 has 2 tokens, and the model takes input_ids int64\[\?, 4\]"):
        read_samples(tmp_path / "data.txt", [fixed], tokenizer)


# ---- What is cut off, or left out


def test_what_a_tokenizer_cuts_off_is_said(tmp_path, tokenizer):
    limited = load_tokenizer(tokenizer)
    limited.enable_truncation(3)
    limited.save(str(tokenizer))
    samples = read(tmp_path, tokenizer, "a b", "a b c", "d", "a e d c b a")
    assert samples.lengths == [3, 3, 2, 3]
    assert samples.notes[0] == "2 inputs were cut to the 3 tokens that the tokenizer allows, first line 2"


def test_texts_without_a_token_are_left_out_and_counted(tmp_path, tokenizer):
    bare = load_tokenizer(tokenizer)
    bare.post_processor = processors.Sequence([])
    bare.pre_tokenizer = pre_tokenizers.Split("b", "removed")
    bare.save(str(tokenizer))
    samples = read(tmp_path, tokenizer, "a", "b", "c", "bb")
    assert (len(samples), samples.texts) == (2, ["a", "c"])
    assert samples.place(1) == "line 3"
    assert samples.notes == ["2 inputs left out: no token is left of them, first line 2"]


# ---- What looks the same


def test_texts_that_are_alike_only_as_tokens_are_told_from_real_repeats(tmp_path, tokenizer):
    samples = read(tmp_path, tokenizer, "a b", "a  b", "c", "a b", "c ", "a   b", allow_unknown=True)
    (note,) = samples.notes
    assert note == "2 inputs differ from others in their texts, but not in the tokens, first lines 1 and 2"


# ---- What is not read


def test_fields_beside_the_text_are_said_to_be_left_out(tmp_path, tokenizer):
    records = [{"text": "a", "passage": "b"}, {"text": "b"}, {"text": "c", "passage": "b", "id": 1}]
    assert read_records(tmp_path, tokenizer, records).notes == [
        "only 'text' is read; of 3 records there is also 'passage' in 2, 'id' in 1"
    ]


def test_of_many_and_odd_fields_a_few_are_named(tmp_path, tokenizer):
    (note,) = read_records(
        tmp_path, tokenizer, [{"text": "a", "\ud800": 0, "x" * 99: 0} | dict.fromkeys("pq", 0)]
    ).notes
    assert note.encode()
    assert note.endswith("and 1 more")
    assert len(note) < 200


def test_objects_in_a_text_are_said_to_be_text(tmp_path, tokenizer):
    notes = read(tmp_path, tokenizer, *["a b c d e a b c d"] * 9, '{"a": "b"}', allow_unknown=True).notes
    assert notes[0] == (
        "1 line looks like JSON, first line 10: to have only their texts read, call the file .jsonl"
    )


def test_columns_in_a_text_are_said_to_be_one_text(tmp_path, tokenizer):
    assert read(tmp_path, tokenizer, "a\tb", "c\t", "d\te").notes == [
        "2 lines hold tabs, first line 1: a line is one text, not columns or a pair"
    ]
