"""A cross-encoder and pairs of texts in two columns, from the command line to the ranking of unseen pairs."""

from __future__ import annotations

import csv
import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest
from support import changed, memoized, original, scoring
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import onnx_memo
from onnx_memo.proof.ranking import pairs_in_order

MODES = ["stock"] if onnx_memo.library_path() is None else ["stock", "native"]
WORDS = {"[CLS]": 0, "[SEP]": 1} | {f"w{at}": at for at in range(2, 64)}
COLUMNS = ("--column", "query", "--column", "passage")
Pair = tuple[str, str]


def tokenizer(path: Path) -> Path:
    """Of the fixture's 64 words; a pair is `[CLS] query [SEP] passage [SEP]`, the passage of type 1."""
    made = Tokenizer(models.WordLevel(WORDS, unk_token="[SEP]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 0), ("[SEP]", 1)],
    )
    made.save(str(path))
    return path


def pairs(count: int, seed: int) -> list[Pair]:
    """Three queries, and passages of a template with one word in another place each time."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(count):
        query = f"w2 w3 w{4 + rng.integers(3)}"
        words = [f"w{10 + at}" for at in range(8)]
        words[rng.integers(8)] = f"w{rng.integers(20, 64)}"
        found.append((query, " ".join(words)))
    return found


def write_pairs(path: Path, rows: list[Pair]) -> Path:
    with gzip.open(path, "wt", newline="") as file:
        csv.writer(file).writerows([("query", "passage"), *rows])
    return path


def feeds(query: str, passage: str) -> dict[str, np.ndarray]:
    """A pair as the model takes it, written down without a tokenizer."""
    first, second = ([WORDS[word] for word in text.split()] for text in (query, passage))
    ids = [0, *first, 1, *second, 1]
    types = [0] * (len(first) + 2) + [1] * (len(second) + 1)
    arrays = {"input_ids": ids, "attention_mask": [1] * len(ids), "token_type_ids": types}
    return {name: np.asarray([numbers], np.int64) for name, numbers in arrays.items()}


def scores(session, rows: list[Pair]) -> np.ndarray:
    return np.asarray([session.run(None, feeds(*row))[0].item() for row in rows])


@pytest.fixture
def model(tmp_path):
    """A cross-encoder, with its tokenizer beside it."""
    tokenizer(tmp_path / "tokenizer.json")
    return changed("bert", tmp_path / "model.onnx", scoring)


@pytest.mark.usefixtures("everything_pays")
def test_the_ranking_of_unseen_pairs_is_kept_as_it_is_promised(tmp_path, model, cli):
    data = write_pairs(tmp_path / "pairs.csv.gz", pairs(400, seed=1))
    bundle = tmp_path / "bundle"
    done = cli("optimize", model, "--data", data, *COLUMNS, "--keep", "0.95", "-o", bundle, "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert (told["promised"]["metric"], told["promised"]["within"]) == ("ranking", 0.95)
    (proof,) = (n for n in told["notes"] if n.startswith("held out, pairs of requests stay in order"))
    assert float(proof.split(": ")[1].split("%")[0]) >= 95
    assert not any("not read" in note or "cut" in note for note in told["notes"])
    unseen = [row for row in pairs(200, seed=2) if row not in set(pairs(400, seed=1))]
    before = scores(original(model), unseen)
    for mode in MODES:
        after = scores(memoized(bundle, mode), unseen)
        kept, of = pairs_in_order(before, after)
        assert of > 1000
        assert kept / of >= 0.95
        assert np.any(before != after), "else nothing was saved"


def test_without_a_tolerance_the_ranking_is_the_originals(tmp_path, model, cli):
    stored, unseen = pairs(60, seed=1), pairs(40, seed=2)
    data = write_pairs(tmp_path / "pairs.csv.gz", stored)
    done = cli("optimize", model, "--data", data, *COLUMNS, "-o", tmp_path / "bundle")
    assert done.code == 0, done.err
    for mode in MODES:
        bundle = memoized(tmp_path / "bundle", mode)
        new = [row for row in unseen if row not in set(stored)]
        np.testing.assert_array_equal(scores(bundle, new), scores(original(model), new))
        np.testing.assert_allclose(scores(bundle, stored), scores(original(model), stored), atol=1e-5)


def test_all_commands_take_pairs(tmp_path, model, cli):
    data = write_pairs(tmp_path / "pairs.csv.gz", pairs(30, seed=1))
    bundle = tmp_path / "bundle"
    assert cli("optimize", model, "--data", data, *COLUMNS, "-o", bundle).code == 0
    for command in (
        ("bench", model, bundle, "--data", data, *COLUMNS, "--rounds", "1"),
        ("compare", model, bundle, "--data", data, *COLUMNS, "--rounds", "2"),
        ("explain", bundle, "--data", data, *COLUMNS, "--line", "2", "--sample", data),
        ("explain", bundle, "--data", data, *COLUMNS),
    ):
        done = cli(*command)
        assert done.code == 0, done.err
    assert "w2 w3 w" in cli("explain", bundle, "--data", data, *COLUMNS, "--line", "2", "--sample", data).out
    few = cli("advise", model, "--data", data, *COLUMNS)
    assert (few.code, few.err.count("\n")) == (2, 1)
    assert "inputs are too few for this promise" in few.err


def test_a_pair_is_explained_from_the_command_line_as_from_a_file(tmp_path, model, cli):
    rows = pairs(30, seed=1)
    data = write_pairs(tmp_path / "pairs.csv.gz", rows)
    bundle = tmp_path / "bundle"
    assert cli("optimize", model, "--data", data, *COLUMNS, "-o", bundle).code == 0

    def told(*options: object) -> dict[str, object]:
        done = cli("explain", bundle, *options, "--json")
        assert done.code == 0, done.err
        return {name: said for name, said in json.loads(done.out).items() if name not in ("place", "notes")}

    for query, passage in [rows[4], (rows[5][0], "w9 w8 w7")]:
        one = write_pairs(tmp_path / "one.csv.gz", [(query, passage)])
        for more in ((), ("--max-length", "9")):
            typed = told("--text", query, "--text", passage, *more)
            assert typed == told("--data", one, *COLUMNS, "--line", "2", *more)
    query, passage = rows[4]
    assert told("--text", query, "--text", passage)["outcome"] == "repeat"
    assert told("--text", f"{query} {passage}")["outcome"] != "repeat", "it is one text"
    cut = onnx_memo.explain(bundle, text=(query, passage), max_length=9)
    assert cut.notes[0].endswith("cut to the 9 tokens that --max-length allows, first line 1")


def test_a_wrong_request_to_explain_gets_one_line(tmp_path, model, cli):
    bundle = tmp_path / "bundle"
    data = write_pairs(tmp_path / "pairs.csv.gz", pairs(30, seed=1))
    assert cli("optimize", model, "--data", data, *COLUMNS, "-o", bundle).code == 0
    two = ("--text", "w2", "--text", "w3")
    for options, because in (
        ((*two, "--text", "w4"), "--text takes one text, or the two of a pair, not 3"),
        ((*two, "--data", data, "--line", "2"), "name one request"),
        ((*two, "--column", "query"), "--column says how --data or --sample is read, and neither is there"),
        ((*two, "--image-processor", "x.json"), "--image-processor says how --data or --sample is read"),
        ((*two, "--max-length", "3"), "3 tokens leave no room for text, to which the tokenizer adds 3"),
    ):
        done = cli("explain", bundle, *options)
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
        assert because in done.err


@pytest.mark.parametrize(
    ("name", "content", "options", "because"),
    [
        ("x.csv", b"query,passage\na,b\n", ["--column", "answer"], "has no column 'answer'"),
        ("x.csv", b"query,passage\na\n", COLUMNS, "line 2 has 1 column, and the first line 2"),
        ("x.csv.gz", b"query,passage\na,b\n", COLUMNS, "is no whole gzip file"),
        ("x.parquet", b"none", COLUMNS, "is no readable Parquet file|needs the package pyarrow"),
        ("x.csv", b"query,passage\na,b\n", [*COLUMNS, "--max-length", "65"], "model has positions for"),
        ("x.txt", b"w2\n", ["--image-processor", "p.json"], "is for a folder of images"),
    ],
)
def test_wrong_inputs_get_one_line_and_leave_nothing_behind(
    tmp_path, model, cli, name, content, options, because
):
    (tmp_path / name).write_bytes(content)
    done = cli("optimize", model, "--data", tmp_path / name, *options, "-o", tmp_path / "bundle")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert re.search(because, done.err)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.usefixtures("everything_pays")
def test_the_command_that_advise_recommends_names_the_columns(tmp_path, model, cli):
    data = write_pairs(tmp_path / "pairs.csv.gz", pairs(250, seed=1))
    done = cli("advise", model, "--data", data, *COLUMNS, "--max-length", "32", "--json")
    assert done.code == 0, done.err
    command = json.loads(done.out)["command"]
    assert command is None or "--column query --column passage --max-length 32" in command
