"""What killed runs leave is removed by the next one, and a bundle that they were replacing is put back."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from onnx_memo.errors import MemoError
from onnx_memo.store.publish import clean, publishing

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nothing is locked there")

# A process that builds in a folder until it is killed; `{0}` is the bundle's place.
BUILDING = """
import sys, time
from pathlib import Path
from onnx_memo.store.publish import publishing
with publishing(Path(sys.argv[1])) as folder:
    (folder / "memo.data").write_bytes(bytes(1000))
    print("ready", flush=True)
    time.sleep(60)
"""


def builder(output: Path) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, "-c", BUILDING, str(output)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_builds_stays(tmp_path):
    killed, living = builder(tmp_path / "bundle"), builder(tmp_path / "bundle")
    assert len(list(tmp_path.iterdir())) == 2
    assert clean(tmp_path) == [], "both live"
    killed.kill()
    killed.wait()
    assert len(clean(tmp_path)) == 1
    (left,) = tmp_path.iterdir()
    assert (left / "memo.data").stat().st_size == 1000
    living.kill()
    living.wait()
    with publishing(tmp_path / "other") as folder:
        (folder / "x").touch()
    assert left.exists(), "it is of another name"
    assert clean(tmp_path, "bundle") == [left]
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_a_bundle_that_was_set_aside_is_put_back(tmp_path):
    aside = tmp_path / ".bundle.old.abcd_123" / "bundle"
    aside.mkdir(parents=True)
    (aside / "manifest.json").write_text("{}")
    clean(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert (tmp_path / "bundle" / "manifest.json").is_file()


def test_a_bundle_that_was_replaced_already_is_not_put_back(tmp_path):
    aside = tmp_path / ".bundle.old.abcd_123" / "bundle"
    aside.mkdir(parents=True)
    (aside / "manifest.json").write_text("old")
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "manifest.json").write_text("new")
    clean(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert (tmp_path / "bundle" / "manifest.json").read_text() == "new"


@pytest.mark.parametrize(
    "name", [".bundle.abcd_123", "bundle.building.abcd_123", ".bundle.building.x", ".git"]
)
def test_folders_of_other_names_are_nobodys_business(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / ".link.building.abcd_123").symlink_to(tmp_path / name)
    assert clean(tmp_path) == []
    assert (tmp_path / name).is_dir()


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_disk_that_does_not_confirm_is_told_of_and_the_bundle_is_there(tmp_path, monkeypatch, number):
    """It took its place already: that nothing was written would not be true."""

    def fail(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    def publish() -> None:
        with publishing(tmp_path / "bundle") as folder:
            (folder / "file").write_text("whole")
            monkeypatch.setattr(os, "fsync", fail)

    with pytest.raises(MemoError, match=r"bundle' is written, but the disk does not confirm"):
        publish()
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert (tmp_path / "bundle" / "file").read_text() == "whole"


def test_a_file_system_that_cannot_sync_folders_is_none(tmp_path, monkeypatch):
    def cannot(handle: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    with publishing(tmp_path / "bundle"):
        monkeypatch.setattr(os, "fsync", cannot)
    assert (tmp_path / "bundle").is_dir()
