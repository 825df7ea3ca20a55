"""Signals end a run with nothing left and one true line; those that come too late change nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import (
    contents,
    copied,
    fixture,
    nothing_left_in,
    original,
    random_samples,
    write_samples,
)

from onnx_memo import build, tables
from onnx_memo.store import bundle, publish

BERT = fixture("bert")
COMMAND = [sys.executable, "-c", "from onnx_memo.cli import main; main()"]


@pytest.fixture
def copy(made, tmp_path: Path) -> Path:
    """A bundle that may be replaced."""
    return copied(made("bert").bundle, tmp_path / "bundle")


@pytest.fixture
def data(made) -> Path:
    return made("bert").data


@pytest.fixture(scope="module")
def much_data(tmp_path_factory) -> Path:
    """Enough inputs to keep `optimize` busy for a while."""
    samples = random_samples(original(BERT), [50] * 20_000, seed=5)
    return write_samples(tmp_path_factory.mktemp("much") / "data.npz", samples)


def interrupted(arguments: list[object], folder: Path, number: signal.Signals) -> subprocess.CompletedProcess:
    """Run a command, and send it a signal when it has begun to write below `folder`."""
    before = set(folder.rglob("*"))
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 300  # of a machine that is busy
    while time.monotonic() < deadline and process.poll() is None:
        if any(path.suffix == ".means" for path in set(folder.rglob("*")) - before):
            break
        time.sleep(0.02)
    assert process.poll() is None, f"ended before it could be interrupted: {process.communicate()}"
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess([], process.returncode, out, err)


SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("exists", [False, True], ids=["new", "replacing"])
def test_an_interrupt_leaves_nothing_and_keeps_what_was(tmp_path, made, much_data, number, exists):
    output = tmp_path / "bundle"
    if exists:
        copied(made("bert").bundle, output)
    before = contents(tmp_path)
    arguments = ["optimize", BERT, "--data", much_data, "-o", output, "--force"]
    ended = interrupted(arguments, tmp_path, number)
    assert (ended.returncode, ended.stdout) == (128 + number, "")
    assert ended.stderr == "onnx-memo: interrupted: no bundle was written\n"
    assert contents(tmp_path) == before


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("exists", [False, True], ids=["new", "replacing"])
@pytest.mark.parametrize("at", ["its place", "the folder on the disk", "the old one is removed", "the end"])
def test_an_interrupt_that_comes_too_late_changes_nothing(
    cli, copy, data, tmp_path, monkeypatch, number, exists, at
):
    """The bundle is there, and so it is said; nobody is told that none was written."""
    output = copy if exists else tmp_path / "new"
    module, name = {
        "its place": (publish, "_replace"),
        "the folder on the disk": (publish, "sync_folder"),
        "the old one is removed": (publish.shutil, "rmtree"),
        "the end": (tables, "bundle_tables"),
    }[at]
    real = getattr(module, name)

    def interrupted(*given: object, **named: object) -> object:
        if at != "the old one is removed" or Path(str(given[0])).name.startswith("."):
            os.kill(os.getpid(), number)
        return real(*given, **named)

    monkeypatch.setattr(module, name, interrupted)
    outcome = cli("optimize", BERT, "--data", data, "-o", output, "--force", "--level", "probs")
    assert (outcome.code, outcome.err) == (0, "")
    assert "12 inputs of bert.onnx stored" in " ".join(outcome.out.split())
    assert {site.level for site in bundle.read_bundle(output).sites} == {"probs"}


@pytest.mark.parametrize("first", SIGNALS)
def test_a_second_interrupt_changes_nothing(cli, data, tmp_path, monkeypatch, first):
    """It comes while what was begun is being removed, and when that is said."""
    rmtree = shutil.rmtree

    def again(*given: object, **named: object) -> None:
        for number in SIGNALS:
            os.kill(os.getpid(), number)
        rmtree(*given, **named)

    def begun(*_: object) -> None:
        monkeypatch.setattr(publish.shutil, "rmtree", again)
        os.kill(os.getpid(), first)

    monkeypatch.setattr(build, "check_room", begun)
    with nothing_left_in(tmp_path):
        outcome = cli("optimize", BERT, "--data", data, "-o", tmp_path / "new")
    assert (outcome.code, outcome.out) == (128 + first, "")
    assert outcome.err == "onnx-memo: interrupted: no bundle was written\n"


def test_an_interrupt_that_a_destructor_swallowed_is_raised_again(cli, data, tmp_path, monkeypatch):
    class Dying:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(build, "check_room", lambda *_: Dying() and None)
    with nothing_left_in(tmp_path):
        outcome = cli("optimize", BERT, "--data", data, "-o", tmp_path / "new")
    assert (outcome.code, outcome.err) == (130, "onnx-memo: interrupted: no bundle was written\n")


def test_signals_that_are_ignored_stay_ignored(cli, data, tmp_path, monkeypatch):
    """So nohup goes on after its terminal is gone."""
    monkeypatch.setattr(build, "check_room", lambda *_: os.kill(os.getpid(), signal.SIGHUP))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert cli("optimize", BERT, "--data", data, "-o", tmp_path / "new").code == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", SIGNALS)
def test_an_interrupt_before_anything_is_loaded_is_silent(tmp_path, number):
    """The command loads its libraries for half a second: their tracebacks are nobody's business."""
    program = (
        "import os, sys; sys.argv[1:] = ['--version']\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == 'onnx_ir': os.kill(os.getpid(), {int(number)})\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from onnx_memo.__main__ import main; main()"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (-number, b"", b"")
