"""How many tokens a model has positions for, by its graph: with so many it runs, with more it does not."""

from __future__ import annotations

import numpy as np
import pytest
from support import FIXTURES, fixture, original, sample

from onnx_memo.graph.opened import OpenedModel

LONGEST = {
    "bert": 64,
    "bert_dynamo": 64,
    "bert_opset11": 64,
    "distilbert": 64,
    "mpnet": 64,
    "xlm": 64,
    "forms/bert-fused": 64,
    "forms/bert-int8": 64,
    "forms/bert-dynamo-23": 64,
    "forms/mpnet-optimum": 62,  # of 64 rows; positions begin at 2
    "gpt2": None,  # positions are an input, with the rows of their table
    "llama": None,
    "deberta_v2": None,
    "vit": None,
    "no_attention": None,
}


@pytest.mark.parametrize("name", LONGEST)
def test_the_graph_tells_how_many_positions_there_are(name):
    assert OpenedModel(FIXTURES / f"{name}.onnx").longest == LONGEST[name]


@pytest.mark.parametrize("name", [name for name, longest in LONGEST.items() if longest is not None])
def test_with_more_the_model_does_not_run(name):
    session = original(FIXTURES / f"{name}.onnx")
    longest, rng = LONGEST[name], np.random.default_rng(0)
    session.run(None, sample(session, longest, rng))
    with pytest.raises(Exception, match=r"(?i)invalid|out of|broadcast|dimension"):
        session.run(None, sample(session, longest + 1, rng))


def test_texts_are_cut_to_it(tmp_path, cli, tokenizer):
    (tmp_path / "x.txt").write_text("a b c\n" + "a b c d e " * 20 + "\n")
    done = cli(
        "optimize",
        fixture("bert"),
        "--data",
        tmp_path / "x.txt",
        "-o",
        tmp_path / "b",
        "--tokenizer",
        tokenizer,
    )
    assert done.code == 0, done.err
    told = cli("explain", tmp_path / "b", "--data", tmp_path / "x.txt")
    assert told.code == 0, told.err
    for out in (done.out, told.out):
        said = " ".join(out.split())
        assert "1 input was cut to the 64 tokens that the model has positions for, first line 2" in said


@pytest.mark.parametrize(
    ("config", "name"),
    [("tokenizer_config.json", "model_max_length"), ("sentence_bert_config.json", "max_seq_length")],
)
def test_a_bundle_cuts_texts_where_its_original_did(tmp_path, cli, tokenizer, config, name):
    (tmp_path / config).write_text(f'{{"{name}": 7}}')
    (tmp_path / "x.txt").write_text("a b c\n" + "a b c d e " * 20 + "\n")
    arguments = ("--data", tmp_path / "x.txt", "--rounds", "1")
    made = cli("optimize", fixture("bert"), *arguments[:2], "-o", tmp_path / "b", "--tokenizer", tokenizer)
    assert made.code == 0, made.err
    done = cli("bench", fixture("bert"), tmp_path / "b", *arguments)
    for out in (made.out, done.out):
        assert f"1 input was cut to the 7 tokens that {config} allows" in " ".join(out.split())
