"""Exporting a model directory in a process of its own: what comes of it, and what becomes of its chatter.

Optimum is made up here; `tests/hub` runs the real one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support import fixture, nothing_left_in, variants, write_samples

import onnx_memo

CHATTER = """
    print("chatter on standard output")
    print("chatter on standard error", file=sys.stderr)
    os.write(1, b"chatter of a library\\n")
"""
MAKES = f"""
    {CHATTER}
    to = Path(options["output"])
    to.mkdir()
    (to / "model.onnx").write_bytes(Path({str(fixture("bert"))!r}).read_bytes())
    (to / "config.json").write_text('{{"made": "by the exporter"}}')
    (to / "vocab.txt").write_text("made of the model's vocabulary")
    (to / "notes.md").write_text("nothing that a library loads")
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_text('{"architectures": ["BertForMaskedLM"]}')
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_samples(tmp_path / "data.npz", variants(12, seed=1))


def test_that_it_is_exported_is_told_as_it_begins(fake_optimum, directory, data, tmp_path):
    fake_optimum(MAKES)
    told: list[object] = []

    def progress(step: str, parts: int) -> Callable[[], None]:
        told.append((step, parts))
        return lambda: told.append(step)

    onnx_memo.optimize(directory, data, tmp_path / "bundle", progress=progress)
    assert told[:2] == [("exporting for fill-mask", 1), "exporting for fill-mask"]


def test_what_the_exporter_prints_stays_out_of_the_terminal(cli, fake_optimum, directory, data, tmp_path):
    fake_optimum(MAKES)
    outcome = cli("optimize", directory, "--data", data, "-o", tmp_path / "bundle", "--json")
    assert outcome.code == 0
    assert outcome.err == ""
    made = json.loads(outcome.out)
    assert (made["task"], made["source_file"], made["source_sha256"]) == ("fill-mask", None, None)
    said = "exported by optimum for 'fill-mask', as its architecture 'BertForMaskedLM' says"
    assert f"{said}; outputs: 'last_hidden_state'" in made["notes"]


def test_files_of_the_directory_go_before_those_that_the_exporter_makes(
    fake_optimum, directory, data, tmp_path
):
    fake_optimum(MAKES)
    made = onnx_memo.optimize(directory, data, tmp_path / "bundle")
    assert (made.path / "config.json").read_bytes() == (directory / "config.json").read_bytes()
    assert (made.path / "vocab.txt").read_text() == "made of the model's vocabulary"
    assert not (made.path / "notes.md").exists()


def test_a_task_that_is_named_is_exported_whatever_there_is_and_so_does_bench(
    fake_optimum, directory, data, tmp_path
):
    (directory / "model.onnx").write_bytes(b"not looked at")
    fake_optimum(f"assert options['task'] == 'feature-extraction'\n{MAKES}".replace("\n    ", "\n"))
    made = onnx_memo.optimize(directory, data, tmp_path / "bundle", task="feature-extraction")
    assert made.manifest.task == "feature-extraction"
    assert onnx_memo.bench(directory, made.path, data, rounds=1).hit_rate == 1


FAILURES = {
    "an error": ("raise ValueError('outside') from KeyError('the first cause')", "the first cause"),
    "other files": (
        "Path(options['output']).mkdir(); Path(options['output'], 'encoder.onnx').touch()",
        "encoder.onnx",
    ),
    "nothing": ("pass", "other files: none"),
    "it asks": ("input('run code of the model? [y/N]')", "EOF"),
    "it is killed": ("os.kill(os.getpid(), 9)", "ended with code -9"),
    "it exits": ("os._exit(0)", "other files: none"),
}


@pytest.mark.parametrize(("body", "reason"), FAILURES.values(), ids=FAILURES)
def test_an_export_that_fails_says_why_in_one_line(
    cli, fake_optimum, directory, data, tmp_path, body, reason
):
    (directory / "model_O2.onnx").write_bytes(b"")
    fake_optimum(f"{CHATTER}    {body}")
    with nothing_left_in(tmp_path):
        outcome = cli("optimize", directory, "--data", data, "-o", tmp_path / "bundle")
    assert (outcome.code, outcome.out) == (2, "")
    (line,) = outcome.err.splitlines()
    assert "optimum cannot export" in line
    assert reason in line
    assert "'model_O2.onnx'" in line
    assert "chatter" not in line


def test_debug_shows_what_the_exporter_printed_before_it_failed(fake_optimum, directory):
    fake_optimum(f"{CHATTER}    raise ValueError('why')")
    command = [sys.executable, "-m", "onnx_memo", "inspect", str(directory), "--debug"]
    ended = subprocess.run(command, capture_output=True, text=True)
    for text in ("chatter on standard output", "chatter on standard error", "chatter of a library", "why"):
        assert text in ended.stderr
