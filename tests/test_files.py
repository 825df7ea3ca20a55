"""Files are written whole, or not at all, however the disk fills up."""

from __future__ import annotations

import errno
import io
import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support import contents, fixture, nothing_left_in, original, random_samples, variants, write_samples
from support_faults import count

import onnx_memo
from onnx_memo import files
from onnx_memo.files import BUFFER, NewFile, copy_file, new_file, write_file
from onnx_memo.store.bundle import read_bundle


class Disk:
    """Fills up at one write: for a moment, for good, or so that it takes a byte. Counts what is written."""

    def __init__(self, at: int | None, how: str) -> None:
        self.at, self.how, self.count = at, how, 0

    def write(self, file: io.FileIO, data: memoryview) -> int:
        """The next write."""
        self.count += 1
        past = -1 if self.at is None else self.count - 1 - self.at
        if self.how == "short" and past == 0:
            return io.FileIO.write(file, data[:1])
        if past == 0 or (past > 0 and self.how == "for good"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return io.FileIO.write(file, data)


@pytest.fixture
def disk(monkeypatch):
    """Let the disk fill up at a write."""

    def set_up(at: int | None = None, how: str = "once") -> Disk:
        disk = Disk(at, how)
        monkeypatch.setattr(files.RawFile, "write", lambda file, data: disk.write(file, data))
        return disk

    return set_up


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(st.sampled_from(["f2", "f4", "i8", "u1", "?"]), hnp.array_shapes(min_dims=0, min_side=0)))
def test_an_array_is_written_row_by_row(tmp_path_factory, array):
    path = tmp_path_factory.mktemp("f") / "file"
    with new_file(path) as file:
        file.array(array)
        file.array(array.T)
    assert path.read_bytes() == array.tobytes() + array.T.tobytes()


def test_a_large_array_is_written_whole(tmp_path):
    array = np.arange(BUFFER, dtype=np.float32).reshape(-1, 64)[:, ::2]
    with new_file(tmp_path / "file") as file:
        file.array(array)
    assert (tmp_path / "file").read_bytes() == array.tobytes()


def test_writes_that_are_cut_short_go_on(tmp_path, monkeypatch):
    """As a disk may do: it takes some bytes, then some more."""
    write = files.io.FileIO.write
    monkeypatch.setattr(files.RawFile, "write", lambda file, data: write(file, data[:7]))
    write_file(tmp_path / "file", bytes(range(100)))
    assert (tmp_path / "file").read_bytes() == bytes(range(100))


def test_a_file_that_is_there_stays(tmp_path):
    (tmp_path / "file").write_text("kept")
    for write in (lambda path: write_file(path, b"new"), lambda path: copy_file(tmp_path / "file", path)):
        with pytest.raises(FileExistsError):
            write(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize("size", [1, 100, 5000, BUFFER + 1])
def test_a_full_disk_is_an_error_however_little_is_written(tmp_path, disk, size):
    disk(at=0, how="for good")
    with pytest.raises(OSError, match="No space left"):
        write_file(tmp_path / "file", bytes(size))
    with pytest.raises(OSError, match="No space left"), NewFile(tmp_path / "other") as file:
        file.array(np.zeros(size, np.uint8))


@pytest.mark.usefixtures("everything_pays")
@pytest.mark.parametrize("options", [{}, {"level": "output"}, {"tolerance": 0.3}], ids=str)
@pytest.mark.faults
@pytest.mark.parametrize("how", ["once", "for good", "short"])
def test_wherever_the_disk_fills_up_nothing_wrong_is_published(tmp_path, cli, disk, options, how):
    if options.get("tolerance"):
        samples = variants(200, seed=1)
    else:
        samples = random_samples(original(fixture("bert")), (3, 7, 9), seed=1)
    data = write_samples(tmp_path / "data.npz", samples)
    line = ["optimize", fixture("bert"), "--data", data, "--json"]
    line += [part for name, value in options.items() for part in (f"--{name}", value)]
    counted = disk()
    whole = cli(*line, "-o", tmp_path / "whole")
    assert whole.code == 0
    want = contents(tmp_path / "whole")

    def check(bundle):
        assert read_bundle(bundle).entries == json.loads(whole.out)["entries"]
        if not options.get("tolerance"):
            assert contents(bundle) == want

    for at in np.unique(np.linspace(0, counted.count - 1, count(8, 24)).astype(int)).tolist():
        disk(at, how)
        if how == "short":  # the rest is taken by the next write
            assert cli(*line, "-o", tmp_path / "bundle").code == 0, at
            check(tmp_path / "bundle")
            shutil.rmtree(tmp_path / "bundle")
            continue
        with nothing_left_in(tmp_path):
            outcome = cli(*line, "-o", tmp_path / "bundle")
            assert outcome.code == 2, (at, outcome)
            assert outcome.err.count("\n") == 1
            assert "No space left on device" in outcome.err
    disk(counted.count + 5, how)
    assert cli(*line, "-o", tmp_path / "bundle").code == 0
    check(tmp_path / "bundle")


def test_bundles_of_one_input_are_the_same_to_the_last_byte(tmp_path):
    data = write_samples(tmp_path / "data.npz", random_samples(original(fixture("bert")), (3, 9), seed=1))
    made = [contents(onnx_memo.optimize(fixture("bert"), data, tmp_path / name).path) for name in ("a", "b")]
    assert made[0] == made[1]
