"""Whenever a run is killed, the bundle's name stands for nothing, the old bundle or the new one, whole."""

from __future__ import annotations

import random
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import (
    Arrays,
    assert_identical,
    contents,
    fixture,
    memoized,
    original,
    random_samples,
    write_samples,
)
from support_faults import KILLS, Ended, Kill, Runs, seeds

from onnx_memo.store.bundle import is_bundle, read_bundle

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(sys.platform == "win32", reason="nothing is forked there"),
]


@dataclass(frozen=True)
class Whole:
    """What runs without faults make: an old bundle, the new one and its answers; how long that takes."""

    line: tuple[object, ...]
    old: Path
    new: Path
    samples: list[Arrays]
    seconds: float
    changes: int

    def answers(self, bundle: Path) -> list:
        session = memoized(bundle, "stock")
        return [output for request in self.samples for output in session.run(None, request)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    samples = random_samples(original(fixture("bert")), (3, 9), seed=1)
    data = write_samples(folder / "data.npz", samples)
    line = ("optimize", fixture("bert"), "--data", data, "--force", "-o")
    runs = Runs(tmp_path_factory.mktemp("run"))
    assert runs(*line, folder / "old", "--level", "output").code == 0
    start = time.monotonic()
    assert runs(*line, folder / "new").code == 0
    return Whole(line, folder / "old", folder / "new", samples, time.monotonic() - start, runs.changes)


def kill_of(seed: int, whole: Whole) -> Kill:
    """Every signal in its turn; half of them at a random time, half at a random change of the file system."""
    r = random.Random(seed)
    number = KILLS[seed % 4]
    if seed // 4 % 2:
        return Kill(number, seconds=r.uniform(0, 1.1 * whole.seconds))
    return Kill(number, change=r.randint(1, whole.changes + 6))  # replacing changes a few more


def said_is_true(ended: Ended, published: bool) -> bool:
    """Whether a run that lived to speak told what it did."""
    if ended.code == 0:
        return published
    return ended.code < 0 or ("no bundle was written" in ended.err) != published


@pytest.mark.parametrize("replacing", [False, True], ids=["new", "replacing"])
@seeds(short=8, full=100)
def test_a_killed_run_publishes_nothing_wrong_and_the_next_leaves_nothing(tmp_path, whole, seed, replacing):
    (tmp_path / "run").mkdir()
    runs, output = Runs(tmp_path / "run"), tmp_path / "out" / "bundle"
    output.parent.mkdir()
    if replacing:
        shutil.copytree(whole.old, output)
    old, new = contents(whole.old), contents(whole.new)
    ended = runs(*whole.line, output, kill=kill_of(seed, whole))
    ended.check()
    if ended.code >= 0:
        assert said_is_true(ended, is_bundle(output) and contents(output) == new), ended
    if replacing and not is_bundle(output):
        assert ended.code < 0, "set aside, by one that was killed"
    assert runs("clean", output.parent).code == 0
    assert {path.name for path in output.parent.iterdir()} <= {"bundle"}
    assert output.exists() or not replacing
    if output.exists():
        read_bundle(output)
        found = contents(output)
        assert found == new or (replacing and found == old)
    assert runs(*whole.line, output).code == 0
    assert [path.name for path in output.parent.iterdir()] == ["bundle"]
    read_bundle(output)
    assert_identical(whole.answers(output), whole.answers(whole.new))
