"""Files of weights are linked rather than copied, and what that means for a bundle."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from support import fixture, memoized, original, random_samples, write_samples

import onnx_memo
from onnx_memo import files
from onnx_memo.errors import MemoError
from onnx_memo.files import Taken, take_file
from onnx_memo.sessions import place_weights
from onnx_memo.store.bundle import read_bundle
from onnx_memo.store.data import take_weights
from onnx_memo.store.publish import publishing

WEIGHTS = "model.onnx.data"


@pytest.fixture(autouse=True)
def no_reflinks(monkeypatch):
    """As most file systems are."""
    monkeypatch.setattr(files, "_reflinked", lambda source, to: False)


@pytest.fixture
def other_file_system(monkeypatch):
    def refuse(self: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(self))

    monkeypatch.setattr(Path, "hardlink_to", refuse)


# ---- One file


def test_a_link_is_taken_and_leads_to_the_file_itself(tmp_path):
    """As in the cache of a hub, where names are links to what they name."""
    (tmp_path / "blob").write_bytes(b"weights")
    (tmp_path / "name").symlink_to("blob")
    assert take_file(tmp_path / "name", tmp_path / "taken") is Taken.LINK
    assert (tmp_path / "taken").samefile(tmp_path / "blob")
    assert not (tmp_path / "taken").is_symlink()


@pytest.mark.usefixtures("other_file_system")
def test_from_another_file_system_it_is_copied(tmp_path):
    (tmp_path / "file").write_bytes(b"weights")
    assert take_file(tmp_path / "file", tmp_path / "taken") is Taken.COPY
    assert not (tmp_path / "taken").samefile(tmp_path / "file")
    assert (tmp_path / "taken").read_bytes() == b"weights"


def test_where_it_may_not_be_linked_it_is_copied(tmp_path):
    (tmp_path / "file").write_bytes(b"weights")
    assert take_file(tmp_path / "file", tmp_path / "taken", link=False) is Taken.COPY
    assert not (tmp_path / "taken").samefile(tmp_path / "file")


def test_what_is_there_stays(tmp_path):
    (tmp_path / "file").write_bytes(b"weights")
    (tmp_path / "taken").write_bytes(b"kept")
    for link in (True, False):
        with pytest.raises(FileExistsError):
            take_file(tmp_path / "file", tmp_path / "taken", link)
    assert (tmp_path / "taken").read_bytes() == b"kept"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other calls")
def test_shared_blocks_are_preferred_and_make_a_file_of_its_own(tmp_path, monkeypatch):
    """What the kernel does where the file system can."""
    monkeypatch.undo()

    def share(to: int, request: int, source: int) -> int:
        assert request == files.FICLONE
        os.write(to, os.pread(source, 100, 0))
        return 0

    monkeypatch.setattr(files.fcntl, "ioctl", share)
    (tmp_path / "file").write_bytes(b"weights")
    assert take_file(tmp_path / "file", tmp_path / "taken") is Taken.REFLINK
    assert not (tmp_path / "taken").samefile(tmp_path / "file")
    assert (tmp_path / "taken").read_bytes() == b"weights"


def test_two_names_of_one_file_become_one(tmp_path):
    """Of two names of one file, renaming one to the other leaves both."""
    values = []
    np.ones(2, np.float32).tofile(tmp_path / "a.bin")
    (tmp_path / "b.bin").hardlink_to(tmp_path / "a.bin")
    (tmp_path / "to").mkdir()
    for name in ("a.bin", "b.bin"):
        tensor = ir.ExternalTensor(
            *(name, 0, 8, ir.DataType.FLOAT), shape=ir.Shape([2]), name=name, base_dir=tmp_path
        )
        values.append(ir.Value(name=name, const_value=tensor, shape=tensor.shape, type=ir.TensorType(1)))
    graph = ir.Graph([], [], nodes=[], initializers=values, name="g")
    notes = take_weights(ir.Model(graph, ir_version=10), tmp_path, tmp_path / "to")
    assert len(list((tmp_path / "to").iterdir())) == 1
    assert [note.split("'")[1] for note in notes] == ["a.bin", "b.bin"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_the_modes_of_the_users_files_stay(tmp_path):
    (tmp_path / "theirs").write_bytes(b"weights")
    (tmp_path / "theirs").chmod(0o644)
    with publishing(tmp_path / "bundle") as folder:
        take_file(tmp_path / "theirs", folder / "linked")
        (folder / "own").write_bytes(b"memo")
    assert (tmp_path / "theirs").stat().st_mode & 0o777 == 0o644
    assert not (tmp_path / "bundle" / "own").stat().st_mode & 0o222


def test_a_model_on_trial_has_its_weights_linked(tmp_path, model):
    """They have to lie in one folder with what is stored."""
    (tmp_path / "scratch").mkdir()
    for _ in range(2):  # the second time they are there
        place_weights(ir.load(model), model.parent, tmp_path / "scratch")
        assert (tmp_path / "scratch" / WEIGHTS).samefile(model.with_name(WEIGHTS))


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
def data(tmp_path) -> Path:
    return write_samples(tmp_path / "data.npz", random_samples(original(fixture("bert")), (3, 5, 9), seed=1))


def weights_of(bundle: Path) -> Path:
    (file,) = bundle.glob("weights-*.data")
    return file


def answers(session: ort.InferenceSession) -> list[bytes]:
    feeds = random_samples(session, (7,), seed=2)[0]
    return [output.tobytes() for output in session.run(None, feeds)]


def test_a_bundle_outlives_what_it_was_made_of(tmp_path, model, data):
    want = answers(original(model))
    made = onnx_memo.optimize(model, data, tmp_path / "bundle")
    assert weights_of(tmp_path / "bundle").samefile(model.with_name(WEIGHTS))
    assert sum("a hard link" in note for note in made.manifest.notes) == 1
    replaced = tmp_path / "new"
    replaced.write_bytes(bytes(100))
    replaced.replace(model.with_name(WEIGHTS))
    read_bundle(tmp_path / "bundle")
    assert answers(memoized(tmp_path / "bundle", "stock")) == want
    shutil.rmtree(model.parent)
    read_bundle(tmp_path / "bundle")
    assert answers(memoized(tmp_path / "bundle", "stock")) == want


@pytest.mark.parametrize("copied", [False, True])
def test_what_writes_into_the_original_is_noticed_or_does_not_matter(tmp_path, model, data, copied):
    made = onnx_memo.optimize(model, data, tmp_path / "bundle", copy_weights=copied)
    assert any("are a copy" in note for note in made.manifest.notes) == copied
    with open(model.with_name(WEIGHTS), "r+b") as file:
        file.write(b"other")
    if copied:
        read_bundle(tmp_path / "bundle")
    else:
        with pytest.raises(MemoError, match="damaged or was changed"):
            read_bundle(tmp_path / "bundle")


@pytest.mark.usefixtures("other_file_system")
def test_a_bundle_on_another_file_system_has_a_copy(tmp_path, model, data):
    made = onnx_memo.optimize(model, data, tmp_path / "bundle")
    assert not weights_of(tmp_path / "bundle").samefile(model.with_name(WEIGHTS))
    assert sum("are a copy" in note for note in made.manifest.notes) == 1
    assert answers(memoized(tmp_path / "bundle", "stock")) == answers(original(model))
