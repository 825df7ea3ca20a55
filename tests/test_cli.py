"""The command line: tables and JSON on standard output, one line and exit code 2 for what users can mend."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import onnx
import pytest
from support import (
    changed,
    copied,
    fixture,
    nothing_left_in,
    original,
    random_samples,
    write_samples,
)
from tokenizers import Tokenizer, models

import onnx_memo
from onnx_memo import build, pipeline
from onnx_memo.store import bundle
from onnx_memo.store.data import memo_data

BERT = fixture("bert")


@pytest.fixture
def copy(made, tmp_path: Path) -> Path:
    """A bundle that may be changed."""
    return copied(made("bert").bundle, tmp_path / "bundle")


@pytest.fixture
def data(made) -> Path:
    return made("bert").data


# ---- What goes well


def test_version(cli):
    assert cli("--version").out.strip() == onnx_memo.__version__


def test_inspect_shows_a_models_attention(cli):
    shown = cli("inspect", BERT)
    assert shown.code == 0
    assert shown.err == ""
    for text in ("attention.0", "attention.2", "18.2%", "probs, output"):
        assert text in shown.out


def test_inspect_says_why_a_softmax_is_no_attention(cli):
    shown = " ".join(cli("inspect", fixture("no_attention")).out.replace("│", " ").split())
    assert "No attention found" in shown
    assert "[batch, heads, rows, columns]" in shown


def one_object(outcome) -> dict:
    assert outcome.code == 0
    assert outcome.err == ""
    return json.loads(outcome.out)


def test_inspect_as_json(cli, copy):
    assert [site["name"] for site in one_object(cli("inspect", BERT, "--json"))["sites"]] == [
        "attention.0",
        "attention.1",
        "attention.2",
    ]
    assert one_object(cli("inspect", copy, "--json"))["entries"] == 12


def test_inspect_shows_a_bundle(cli, copy):
    shown = cli("inspect", copy)
    assert "12 inputs of bert.onnx stored" in " ".join(shown.out.split())


def test_optimize_writes_a_bundle(cli, tmp_path, data):
    told = one_object(cli("optimize", BERT, "--data", data, "-o", tmp_path / "b", "--sites", "1", "--json"))
    assert [site["name"] for site in told["sites"]] == ["attention.1"]
    assert told == bundle.read_bundle(tmp_path / "b").as_json()


def test_optimize_replaces_a_bundle_by_force(cli, copy, data):
    told = one_object(
        cli("optimize", BERT, "--data", data, "-o", copy, "--level", "probs", "--force", "--json")
    )
    assert {site["level"] for site in told["sites"]} == {"probs"}


def test_bench_as_json(cli, copy, data):
    report = one_object(cli("bench", BERT, copy, "--data", data, "--rounds", 1, "--stock", "--json"))
    assert report["hit_rate"] == 1.0
    assert report["library"] == "stock"


def test_bench_shows_tables(cli, copy, data):
    shown = cli("bench", BERT, copy, "--data", data, "--rounds", 1, "--batch", 4, "--threads", 2)
    assert shown.code == 0
    assert "100.0%" in shown.out
    assert "last_hidden_state" in shown.out


# ---- The texts of requests


@pytest.fixture
def lines(tmp_path) -> list[str]:
    """Texts that differ in one word, with a mark that no other output has."""
    words = ["a", "b", "c", "d", "e"]
    rng = np.random.default_rng(0)
    return [f"a b c SECRET{number} d {' '.join(rng.choice(words, 3))}" for number in range(240)]


@pytest.fixture
def secret(lines, tmp_path) -> Path:
    return written(tmp_path / "secret.txt", "\n\n".join(lines))


def texts_in(*parts: str) -> set[str]:
    return set(re.findall("SECRET[0-9]+", " ".join(parts)))


@pytest.mark.usefixtures("everything_pays")
@pytest.mark.parametrize("show", [False, True])
@pytest.mark.parametrize("form", [[], ["--json"]], ids=["tables", "json"])
def test_a_report_shows_texts_with_leave_alone(cli, secret, lines, tokenizer, tmp_path, show, form):
    path = tmp_path / "bundle"
    line = ["--data", secret, "--tokenizer", tokenizer, "--allow-unknown", *form]
    options = ["--tolerance", 0.3, "--level", "output", *(["--show-inputs"] if show else [])]
    made = cli("optimize", BERT, *line, *options, "-o", path)
    assert (made.code, made.err) == (0, "")
    others = [cli("inspect", path, *form), cli("bench", BERT, path, *line, "--rounds", 1)]
    manifest, report = ((path / name).read_text() for name in ("manifest.json", "report.html"))
    assert not texts_in(made.out, manifest, *(part for run in others for part in (run.out, run.err)))
    assert bool(texts_in(report)) == show
    place = re.search("at line ([0-9]+) of the data, of length 9", report)
    assert place is not None
    assert int(place[1]) % 2, "every other line is blank"
    if show:
        assert lines[(int(place[1]) - 1) // 2] in report


@pytest.mark.usefixtures("everything_pays")
@pytest.mark.parametrize("show", [False, True])
def test_what_is_told_of_a_bundle_that_does_not_pay_shows_texts_with_leave_alone(
    cli, secret, tokenizer, tmp_path, monkeypatch, show
):
    monkeypatch.setattr(pipeline, "PAYS", 0.0)
    line = ["--data", secret, "--tokenizer", tokenizer, "--allow-unknown", "--tolerance", 0.3, "--json"]
    outcome = cli("optimize", BERT, *line, "-o", tmp_path / "b", *(["--show-inputs"] if show else []))
    assert outcome.code == 3
    assert bool(texts_in(outcome.out)) == show
    places = [request["place"] for request in json.loads(outcome.out)["requests"]]
    assert len(set(places)) == len(places) == 72
    assert all(place.startswith("line ") for place in places)


# ---- Bad input


def complaint(outcome) -> str:
    """The one line of a refusal."""
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.startswith("onnx-memo: ")
    assert outcome.err.count("\n") == 1
    assert outcome.err.endswith("\n")
    assert "Traceback" not in outcome.err
    return outcome.err


@pytest.fixture
def optimize(cli, tmp_path, data):
    """Run a doomed `optimize`; nothing may be left behind."""

    def run(model: Path = BERT, inputs: Path = data, *options: object) -> str:
        with nothing_left_in(tmp_path):
            return complaint(
                cli("optimize", model, "--data", inputs, "-o", tmp_path / "new" / "bundle", *options)
            )

    return run


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("content", [b"", b"hello", b"\x08\x08garbage"])
def test_a_file_that_is_not_onnx(optimize, cli, tmp_path, content):
    model = written(tmp_path / "model.onnx", content)
    assert "is not an ONNX model" in optimize(model)
    assert "is not an ONNX model" in complaint(cli("inspect", model))


def test_a_truncated_model(optimize, cli, tmp_path):
    model = written(tmp_path / "model.onnx", BERT.read_bytes()[:-1000])
    assert "export or copy it again" in optimize(model)
    assert "export or copy it again" in complaint(cli("inspect", model))


def test_missing_external_data(optimize, tmp_path):
    onnx.save_model(onnx.load(BERT), tmp_path / "model.onnx", save_as_external_data=True, location="w.bin")
    (tmp_path / "w.bin").unlink()
    assert "takes its weights from 'w.bin', which is missing" in optimize(tmp_path / "model.onnx")


@pytest.mark.parametrize("name", ["no_attention", "cross_attention"])
def test_a_model_without_attention(optimize, name):
    line = optimize(fixture(name))
    assert "has no attention that can be memoized. Looked for: a softmax over square scores" in line


def test_arrays_that_do_not_fit_the_models_inputs(optimize, tmp_path):
    ids = np.ones((2, 4), np.int64)
    full = {"input_ids": ids, "attention_mask": ids, "token_type_ids": ids}
    cases = [
        ({k: v for k, v in full.items() if k != "token_type_ids"}, "has no array 'token_type_ids'"),
        (full | {"input_ids": ids.astype(np.float32)}, "is float32; the model wants input_ids int64[?, ?]"),
        (full | {"input_ids": ids[0]}, "has shape [4]; the model wants input_ids int64[?, ?]"),
    ]
    for at, (arrays, because) in enumerate(cases):
        np.savez(tmp_path / f"{at}.npz", **arrays)
        assert because in optimize(BERT, tmp_path / f"{at}.npz")


@pytest.mark.parametrize("name", ["data.txt", "data.jsonl"])
def test_empty_data(optimize, tmp_path, tokenizer, name):
    data = written(tmp_path / name, "\n\n")
    assert "holds no input that can be used" in optimize(BERT, data, "--tokenizer", tokenizer)


def test_text_without_a_tokenizer(optimize, tmp_path):
    assert "--tokenizer" in optimize(BERT, written(tmp_path / "data.txt", "hello"))


def test_a_tokenizer_that_is_none(optimize, tmp_path):
    data = written(tmp_path / "data.txt", "hello")
    line = optimize(BERT, data, "--tokenizer", written(tmp_path / "tokenizer.json", "{}"))
    assert "is not a tokenizer" in line


def test_text_that_the_tokenizer_does_not_know(cli, optimize, tmp_path, tokenizer):
    """It is refused, unless one says that it is meant, and then counted."""
    data = written(tmp_path / "data.txt", "a b\nA B\nA C\na c")
    assert "4 of 8 tokens (50 %), in 2 inputs, are unknown" in optimize(BERT, data, "--tokenizer", tokenizer)
    bundle = tmp_path / "bundle"
    line = ("--data", data, "--allow-unknown", "--level", "output", "--sites", 0)
    notes = one_object(cli("optimize", BERT, *line, "--tokenizer", tokenizer, "-o", bundle, "--json"))[
        "notes"
    ]
    assert notes[0].startswith("4 of 8 tokens")
    assert notes[1].startswith("1 input differs from others in its text, but not in the tokens")
    assert notes[2].startswith("1 input repeats another and is stored once")
    assert "--allow-unknown" in complaint(cli("bench", BERT, bundle, "--data", data))
    shown = cli("bench", BERT, bundle, "--data", data, "--allow-unknown", "--rounds", 1).out
    assert f"note: {notes[0]}" in " ".join(shown.split())


@pytest.mark.parametrize("options", [[], ["--force"]])
def test_an_output_directory_that_is_no_bundle(cli, tmp_path, data, options):
    (tmp_path / "mine").mkdir()
    written(tmp_path / "mine" / "file", "precious")
    with nothing_left_in(tmp_path):
        line = complaint(cli("optimize", BERT, "--data", data, "-o", tmp_path / "mine", *options))
    assert "exists and is no bundle: choose another place with -o" in line


def test_a_bundle_that_exists(cli, copy, data):
    with nothing_left_in(copy.parent):
        assert "--force" in complaint(cli("optimize", BERT, "--data", data, "-o", copy))


def test_a_failing_force_keeps_the_bundle(cli, copy, tmp_path):
    """The data is read before; a model that fails on it fails in the midst of writing."""
    long = write_samples(tmp_path / "long.npz", random_samples(original(BERT), [5, 65], seed=0))
    with nothing_left_in(tmp_path):
        complaint(cli("optimize", BERT, "--data", long, "-o", copy, "--force"))


def test_an_input_longer_than_the_model_allows(optimize, tmp_path):
    line = optimize(
        BERT, write_samples(tmp_path / "long.npz", random_samples(original(BERT), [5, 71], seed=0))
    )
    assert "cannot run input 2 (input_ids [1, 71]" in line
    assert "it is longer than the model allows: 71 tokens, and the model runs at most 64;" in line


def test_another_models_tokenizer(optimize, tmp_path):
    made = Tokenizer(models.WordLevel({"a": 0, "b": 99}, unk_token="a"))
    made.save(str(tmp_path / "other.json"))
    line = optimize(BERT, written(tmp_path / "data.txt", "a\nb\n"), "--tokenizer", tmp_path / "other.json")
    assert "other.json' is not the model's tokenizer: it makes the token 99" in line
    assert "looks 'input_ids' up in 64 rows" in line


def test_a_disk_without_room(optimize, monkeypatch):
    usage = namedtuple("usage", "total used free")(10**9, 10**9, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(build, "write_store", lambda *_: pytest.fail("written all the same"))
    assert "0 MiB free" in optimize()


def test_a_disk_that_fills_up_all_the_same(optimize, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "memo")

    monkeypatch.setattr(build, "write_store", full)
    assert "'memo': No space left on device" in optimize()


@pytest.mark.parametrize("options", [("--level", "heads"), ("--threshold", "-1"), ("--threshold", "nan")])
def test_options_without_sense(optimize, data, options):
    assert optimize(BERT, data, *options)


@pytest.mark.parametrize("sites", ["9", "0-3", "a", "", "1-0", "-1", "0,,1"])
def test_sites_that_are_not_there(optimize, data, sites):
    assert "--sites" in optimize(BERT, data, f"--sites={sites}")


def test_a_damaged_bundle(cli, copy, data):
    data_file = memo_data(copy)
    content = bytearray(data_file.read_bytes())
    content[5000] ^= 1
    written(data_file, bytes(content))
    assert f"{data_file.name}' is damaged" in complaint(cli("inspect", copy))
    assert f"{data_file.name}' is damaged" in complaint(cli("bench", BERT, copy, "--data", data))


def test_a_folder_that_is_no_bundle(cli, tmp_path, data):
    named = "without config.json, and without model.onnx or onnx/model.onnx: name an ONNX file"
    assert named in complaint(cli("inspect", tmp_path))
    (tmp_path / "model.onnx").touch()
    assert f"'{tmp_path / 'model.onnx'}' " in complaint(cli("inspect", tmp_path))
    assert "is no bundle" in complaint(cli("bench", BERT, tmp_path, "--data", data))


def test_an_unknown_command_or_option(cli):
    for arguments in (["opt"], ["inspect"], ["inspect", BERT, "--nothing"]):
        outcome = cli(*arguments)
        assert outcome.code == 2
        assert "Traceback" not in outcome.err


@pytest.mark.parametrize("place", ["before", "after"])
def test_debug_shows_the_traceback(tmp_path, place):
    arguments = ["inspect", str(tmp_path / "none.onnx")]
    arguments = ["--debug", *arguments] if place == "before" else [*arguments, "--debug"]
    ended = subprocess.run([sys.executable, "-m", "onnx_memo", *arguments], capture_output=True, text=True)
    assert ended.returncode != 0
    assert "Traceback" in ended.stderr
    assert "MemoError" in ended.stderr


def test_changed_names_with_brackets_are_shown_as_they_are(cli, tmp_path):
    """Rich would take them for markup."""

    def rename(model) -> None:
        (softmax,) = (node for node in model.graph if node.op_type == "Softmax")
        softmax.name = "soft[/bold]max"

    path = changed("no_attention", tmp_path / "model.onnx", rename)
    assert "soft[/bold]max" in cli("inspect", path).out


# ---- What is not accepted in silence


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("metric", "cosine", "a tolerance means: give --tolerance too"),
        ("within", "0.9", "a tolerance means: give --tolerance too"),
        ("confidence", "0.9", "--tolerance or --keep means: give one of these"),
        ("output", "x", "--tolerance or --keep means: give one of these"),
        ("decision", "label", "--keep keeps: give --keep too"),
        ("slack", "1.2", "--keep keeps: give --keep too"),
    ],
)
def test_what_a_goal_means_without_a_goal(optimize, data, name, value, what):
    assert f"--{name} says what {what}" in optimize(BERT, data, f"--{name}", value)


def test_an_output_that_is_not_there_is_named_before_anything_is_computed(optimize, data):
    line = optimize(BERT, data, "--tolerance", "0.1", "--output", "nope")
    assert "the model has no output 'nope': it has last_hidden_state" in line


@pytest.mark.parametrize("options", [("--threshold", "inf"), ("--sites", "0-"), ("--sites", "-")])
def test_options_that_were_taken_for_something_else(optimize, data, options):
    assert optimize(BERT, data, *options)


@pytest.mark.parametrize(
    "line",
    [
        ("optimize",),
        ("optimize", BERT),
        ("optimize", BERT, "--data", "x", "-o", "y", "--nonsense"),
        ("optimize", BERT, "--data", "x", "-o", "y", "--tolerance", "little"),
        ("bench", BERT, "b", "--data", "x", "--threads", "0"),
        ("bench", BERT, "b", "--data", "x", "--threads", "many"),
        ("nonsense",),
    ],
    ids=str,
)
def test_a_line_that_cannot_be_parsed_is_answered_in_one(cli, line):
    outcome = cli(*line)
    assert outcome.code == 2
    assert outcome.err.startswith("onnx-memo: ")
    assert outcome.err.count("\n") == 1
    assert outcome.out == ""


@pytest.mark.parametrize(
    "line",
    [
        ("inspect", "nowhere.onnx", "--json"),
        ("optimize", BERT, "--data", "nowhere.txt", "-o", "nowhere", "--json"),
        ("bench", BERT, "nowhere", "--data", "nowhere.txt", "--json"),
        ("optimize", BERT, "--json", "--nonsense"),
    ],
    ids=str,
)
def test_errors_are_objects_for_machines(cli, line):
    outcome = cli(*line)
    told = json.loads(outcome.out)
    assert told["exit_code"] == outcome.code == 2
    assert outcome.err == f"onnx-memo: {told['error']}\n"


def test_without_a_command_there_is_help_and_a_line(cli):
    outcome = cli()
    assert (outcome.code, outcome.err) == (2, "onnx-memo: name a command (--help shows what there is)\n")
    assert "optimize" in outcome.out


def test_help_is_no_error(cli):
    for line in (("--help",), ("optimize", "--help"), ("--version",)):
        outcome = cli(*line)
        assert (outcome.code, outcome.err) == (0, "")
        assert outcome.out


def test_a_bundle_is_no_model(made, optimize, data, cli, tmp_path):
    bundle_ = made("bert").bundle
    assert "is a bundle: name the original model" in optimize(bundle_, data)
    assert "guarded already: name the original model" in optimize(bundle_ / "model.onnx", data)
    outcome = cli("bench", bundle_, bundle_, "--data", data)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)


def test_a_bundle_is_compared_with_the_model_that_it_was_made_from(made, cli, tmp_path):
    source = made("bert")
    other = changed("bert", tmp_path / "other.onnx", lambda model: setattr(model, "producer_name", "other"))
    outcome = cli("bench", other, source.bundle, "--data", source.data)
    assert outcome.code == 2
    assert "was made from another model, 'bert.onnx'" in outcome.err


def test_more_threads_than_cores_are_not_taken(made):
    source = made("bert")
    report = onnx_memo.bench(source.model, source.bundle, source.data, rounds=1, threads=100_000)
    assert report.threads == os.cpu_count()


def test_a_log_is_text_and_endings_have_no_case(tmp_path, optimize_text):
    for name in ("lines.log", "LINES.TXT"):
        assert optimize_text(tmp_path / name).code == 0


@pytest.fixture
def optimize_text(cli, tokenizer, tmp_path):
    def run(path):
        path.write_text("a b c\nd e\n")
        line = ("optimize", BERT, "--data", path, "--tokenizer", tokenizer, "--force")
        return cli(*line, "-o", tmp_path / "bundle")

    return run
