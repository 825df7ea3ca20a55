"""Files of weights share their blocks where the file system can, and are the bundle's own everywhere."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from support import fixture, memoized, original, random_samples, write_samples

import onnx_memo
from onnx_memo import files
from onnx_memo.files import take_file
from onnx_memo.store.bundle import read_bundle

WEIGHTS = "model.onnx.data"


# ---- One file


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other calls")
def test_blocks_are_shared_where_the_file_system_can(tmp_path, monkeypatch):
    """What the kernel does there."""
    asked = []

    def share(to: int, request: int, source: int) -> int:
        asked.append(request)
        os.write(to, os.pread(source, 100, 0))
        return 0

    monkeypatch.setattr(files.fcntl, "ioctl", share)
    (tmp_path / "file").write_bytes(b"weights")
    take_file(tmp_path / "file", tmp_path / "taken")
    assert asked == [files.FICLONE]
    assert (tmp_path / "taken").read_bytes() == b"weights"


def test_else_a_file_is_copied_and_never_another_name_of_it(tmp_path, monkeypatch):
    """Also what a link leads to, as in the cache of a hub."""
    monkeypatch.setattr(files, "fcntl", None)
    (tmp_path / "blob").write_bytes(b"weights")
    (tmp_path / "name").symlink_to("blob")
    take_file(tmp_path / "name", tmp_path / "taken")
    assert (tmp_path / "taken").read_bytes() == b"weights"
    assert not (tmp_path / "taken").is_symlink()
    assert not (tmp_path / "taken").samefile(tmp_path / "blob")


def test_what_is_there_stays(tmp_path):
    (tmp_path / "file").write_bytes(b"weights")
    (tmp_path / "taken").write_bytes(b"kept")
    with pytest.raises(FileExistsError):
        take_file(tmp_path / "file", tmp_path / "taken")
    assert (tmp_path / "taken").read_bytes() == b"kept"


# ---- A bundle


@pytest.fixture
def model(tmp_path) -> Path:
    """A model whose weights lie in a file beside it."""
    path = tmp_path / "original" / "model.onnx"
    path.parent.mkdir()
    ir.save(ir.load(fixture("bert")), path, external_data=WEIGHTS)
    assert path.with_name(WEIGHTS).stat().st_size > 10_000
    return path


@pytest.fixture
def bundle(tmp_path, model) -> Path:
    samples = random_samples(original(fixture("bert")), (3, 5, 9), seed=1)
    data = write_samples(tmp_path / "data.npz", samples)
    return onnx_memo.optimize(model, data, tmp_path / "bundle").path


def answers(session: ort.InferenceSession) -> list[bytes]:
    feeds = random_samples(session, (7,), seed=2)[0]
    return [output.tobytes() for output in session.run(None, feeds)]


def test_a_bundle_outlives_what_it_was_made_of(bundle, model):
    want = answers(original(model))
    shutil.rmtree(model.parent)
    read_bundle(bundle)
    assert answers(memoized(bundle, "stock")) == want


def test_what_writes_into_the_original_does_not_reach_the_bundle(bundle, model):
    want = answers(original(model))
    with open(model.with_name(WEIGHTS), "r+b") as file:
        file.write(b"other")
    read_bundle(bundle)
    assert answers(memoized(bundle, "stock")) == want


def test_onnx_reads_a_bundle_with_its_weights(bundle):
    """It refuses files of several names."""
    onnx.load(bundle / "model.onnx")
