"""The bundle comes into being all at once, and damage to it is seen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support import contents, nothing_left_in

from onnx_memo import MemoError
from onnx_memo.store import bundle
from onnx_memo.store.bundle import is_bundle, read_bundle, write_manifest
from onnx_memo.store.manifest import Manifest
from onnx_memo.store.publish import check_output, publishing

# ---- Publishing


def manifest() -> Manifest:
    return Manifest(version="0", source="m.onnx", entries=1, tokens=2, sites=[], notes=[], files={})


PUBLISHED = ["bundle", "bundle/manifest.json", "bundle/memo.data", "bundle/model.onnx"]


def publish(output: Path, content: str) -> None:
    with publishing(output) as folder:
        (folder / "model.onnx").write_text(content)
        (folder / "memo.data").write_bytes(b"")
        write_manifest(folder, manifest())


def test_a_bundle_appears_whole_and_alone(tmp_path):
    publish(tmp_path / "bundle", "new")
    assert sorted(contents(tmp_path)) == PUBLISHED
    assert read_bundle(tmp_path / "bundle").entries == 1
    assert (tmp_path / "bundle").stat().st_mode & 0o777 == 0o755


def test_until_its_end_nothing_stands_in_its_place(tmp_path):
    with publishing(tmp_path / "bundle") as folder:
        assert folder.parent == tmp_path
        assert not (tmp_path / "bundle").exists()
        write_manifest(folder, manifest())


def test_parents_are_made(tmp_path):
    publish(tmp_path / "some" / "where" / "bundle", "new")
    assert is_bundle(tmp_path / "some" / "where" / "bundle")


def test_a_bundle_takes_the_place_of_another(tmp_path):
    publish(tmp_path / "bundle", "old")
    (tmp_path / "bundle" / "extra").write_text("of the old one")
    publish(tmp_path / "bundle", "new")
    assert (tmp_path / "bundle" / "model.onnx").read_text() == "new"
    assert sorted(contents(tmp_path)) == PUBLISHED


def fail_while_publishing(output: Path, failure: type[BaseException]) -> None:
    with publishing(output) as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text("half")
        raise failure


@pytest.mark.parametrize("failure", [RuntimeError, MemoError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("place", ["bundle", "some/where/bundle"])
def test_a_failure_leaves_nothing(tmp_path, failure, place):
    with nothing_left_in(tmp_path), pytest.raises(failure):
        fail_while_publishing(tmp_path / place, failure)


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_bundle(tmp_path, failure):
    publish(tmp_path / "bundle", "old")
    with nothing_left_in(tmp_path), pytest.raises(failure):
        fail_while_publishing(tmp_path / "bundle", failure)


@pytest.mark.parametrize("failure", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("which", [1, 2])
def test_a_failure_while_bundles_change_places_leaves_one_of_them(
    tmp_path, monkeypatch, failure, when, which
):
    """Of the two renames each may fail, or be interrupted when it is done."""
    publish(tmp_path / "bundle", "old")
    rename, calls = Path.rename, []

    def failing(self: Path, target: Path) -> Path:
        calls.append(self)
        if len(calls) == which and when == "before":
            raise failure
        result = rename(self, target)
        if len(calls) == which and when == "after":
            raise failure
        return result

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(failure):
        publish(tmp_path / "bundle", "new")
    monkeypatch.undo()
    read_bundle(tmp_path / "bundle")
    content = (tmp_path / "bundle" / "model.onnx").read_text()
    assert content == ("new" if (when, which) == ("after", 2) else "old")
    assert len(list(tmp_path.iterdir())) == 1


# ---- Where a bundle may go


def test_a_new_place_is_fine(tmp_path):
    check_output(tmp_path / "new", force=False)


@pytest.mark.parametrize("force", [False, True])
def test_what_is_no_bundle_is_never_overwritten(tmp_path, force):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("file", "folder", "dangling"):
        with pytest.raises(MemoError, match=f"{name}' exists and is no bundle: choose another place with -o"):
            check_output(tmp_path / name, force)


def test_a_bundle_is_replaced_by_force_alone(tmp_path):
    publish(tmp_path / "bundle", "old")
    check_output(tmp_path / "bundle", force=True)
    with pytest.raises(MemoError, match="holds a bundle already: replace it with --force"):
        check_output(tmp_path / "bundle", force=False)


# ---- Damage


@pytest.fixture
def copy(made, tmp_path: Path) -> Path:
    """A bundle that may be damaged."""
    return shutil.copytree(made("bert").bundle, tmp_path / "bundle")


def refused(path: Path, because: str) -> None:
    with pytest.raises(MemoError, match=because) as caught:
        read_bundle(path)
    assert "\n" not in str(caught.value)


def edit_manifest(path: Path, **changes: object) -> None:
    content = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(content | changes))


def test_a_bundle_reads_back_wherever_it_is_copied(copy, made):
    assert read_bundle(copy) == read_bundle(made("bert").bundle)
    told = read_bundle(copy)
    assert set(told.files) == {"model.onnx", "memo.data"}
    assert [site.name for site in told.sites] == ["attention.0", "attention.1", "attention.2"]
    assert told.source == "bert.onnx"


@pytest.mark.parametrize("name", ["model.onnx", "memo.data"])
@pytest.mark.parametrize("where", [0, 0.5, 0.9999])
def test_one_flipped_bit_is_seen(copy, name, where):
    content = bytearray((copy / name).read_bytes())
    content[int(where * len(content))] ^= 1
    (copy / name).write_bytes(content)
    refused(copy, f"{name}' is damaged or was changed: copy the bundle again")


@pytest.mark.parametrize("name", ["model.onnx", "memo.data"])
def test_a_truncated_file_is_seen(copy, name):
    (copy / name).write_bytes((copy / name).read_bytes()[:-1])
    refused(copy, f"{name}' is damaged")


@pytest.mark.parametrize("name", ["model.onnx", "memo.data"])
def test_a_missing_file_is_seen(copy, name):
    (copy / name).unlink()
    refused(copy, f"lacks its file '{name}': copy it again, whole")


def test_a_folder_without_a_manifest_is_no_bundle(copy):
    (copy / "manifest.json").unlink()
    refused(copy, "is no bundle .* make one with 'onnx-memo optimize'")
    refused(copy / "model.onnx", "is no bundle")
    refused(copy / "nowhere", "is no bundle")


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"\xff\xfe", b"[]", b"5", b"null", b"{}", b'{"format": 1}', b"[" * 100_000),
        b'{"format": 1, "sites": [], "files": {}, "unknown": 1}',
    ],
)
def test_a_manifest_that_is_none(copy, content):
    (copy / "manifest.json").write_bytes(content)
    refused(copy, "manifest.json' is damaged")


@pytest.mark.parametrize("files", [None, [], "model.onnx", {"model.onnx": 5}, {"model.onnx": {}}])
def test_a_manifest_whose_list_of_files_is_none(copy, files):
    edit_manifest(copy, files=files)
    refused(copy, "manifest.json' is damaged")


@pytest.mark.parametrize("sites", [None, 5, [5], [{"name": "x"}]])
def test_a_manifest_whose_list_of_sites_is_none(copy, sites):
    edit_manifest(copy, sites=sites)
    refused(copy, "manifest.json' is damaged")


def test_a_truncated_manifest(copy):
    content = (copy / "manifest.json").read_text()
    (copy / "manifest.json").write_text(content[: len(content) // 2])
    refused(copy, "manifest.json' is damaged")


def test_a_huge_manifest_is_not_read(copy):
    with open(copy / "manifest.json", "r+b") as file:
        file.truncate(bundle.MANIFEST_LIMIT + 1)
    refused(copy, "too large")


@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "/etc/passwd", ".."])
def test_a_manifest_that_names_files_outside(copy, name):
    (copy.parent / "outside").write_text("secret")
    edit_manifest(copy, files={name: {"bytes": 6, "sha256": "0"}})
    refused(copy, "outside the bundle")


def test_a_bundle_of_another_format(copy):
    edit_manifest(copy, format=2)
    refused(copy, "is a bundle of format 2; this version reads 1")


def test_a_manifest_without_a_model(copy):
    edit_manifest(copy, files={})
    refused(copy, "names no 'model.onnx'")
