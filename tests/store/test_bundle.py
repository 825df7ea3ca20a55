"""The bundle comes into being all at once, and damage to it is seen."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support import contents, copied, nothing_left_in

from onnx_memo import MemoError
from onnx_memo.store import bundle, publish
from onnx_memo.store.bundle import is_bundle, read_bundle, write_manifest
from onnx_memo.store.data import memo_data, write_store
from onnx_memo.store.exchange import exchange
from onnx_memo.store.manifest import Manifest
from onnx_memo.store.publish import check_output, publishing

# ---- Publishing


def manifest() -> Manifest:
    return Manifest(version="0", source="m.onnx", entries=1, tokens=2, sites=[], notes=[], files={})


EMPTY = f"memo-{hashlib.sha256(bytes(4096)).hexdigest()[:16]}.data"
PUBLISHED = ["bundle", "bundle/manifest.json", f"bundle/{EMPTY}", "bundle/model.onnx"]


def make(output: Path, content: str) -> None:
    with publishing(output) as folder:
        (folder / "model.onnx").write_text(content)
        write_store(folder, [])
        write_manifest(folder, manifest())


@pytest.fixture(params=["exchanged", "set aside"])
def way(request, monkeypatch) -> str:
    """How one bundle takes another's place: as systems can, and as all can."""
    if request.param == "set aside":
        monkeypatch.setattr(publish, "exchange", lambda one, other: False)
    return request.param


@pytest.fixture
def umask():
    """Set the process's own."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def test_a_bundle_appears_whole_and_alone(tmp_path):
    make(tmp_path / "bundle", "new")
    assert sorted(contents(tmp_path)) == PUBLISHED
    assert read_bundle(tmp_path / "bundle").entries == 1


@pytest.mark.parametrize(
    ("mask", "file", "folder"), [(0o022, 0o444, 0o755), (0o027, 0o440, 0o750), (0o077, 0o400, 0o700)]
)
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_its_files_are_read_only_and_the_umask_says_for_whom(tmp_path, umask, mask, file, folder):
    umask(mask)
    make(tmp_path / "bundle", "new")
    assert (tmp_path / "bundle").stat().st_mode & 0o777 == folder
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "bundle").iterdir()} == {file}


def test_until_its_end_nothing_stands_in_its_place(tmp_path):
    with publishing(tmp_path / "bundle") as folder:
        assert folder.parent == tmp_path
        assert not (tmp_path / "bundle").exists()
        write_manifest(folder, manifest())


def test_parents_are_made(tmp_path):
    make(tmp_path / "some" / "where" / "bundle", "new")
    assert is_bundle(tmp_path / "some" / "where" / "bundle")


@pytest.mark.usefixtures("way")
def test_a_bundle_takes_the_place_of_another(tmp_path):
    make(tmp_path / "bundle", "old")
    (tmp_path / "bundle" / "extra").write_text("of the old one")
    make(tmp_path / "bundle", "new")
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
    make(tmp_path / "bundle", "old")
    with nothing_left_in(tmp_path), pytest.raises(failure):
        fail_while_publishing(tmp_path / "bundle", failure)


def test_whoever_looks_always_finds_a_whole_bundle(tmp_path):
    """Another thread reads it, all the time while it is replaced."""
    output, found, stop = tmp_path / "bundle", [], threading.Event()
    make(output, "0")
    if not exchange(output, output):
        pytest.skip("this system cannot exchange folders")

    def look() -> None:
        while not stop.is_set():
            found.append((output / "model.onnx").read_text())

    problems = []
    threads = [threading.Thread(target=lambda: catching(look, problems)) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(1, 100):
            make(output, str(number))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not problems
    assert len(set(found)) > 10
    assert "" not in found
    assert sorted(contents(tmp_path)) == PUBLISHED


@pytest.mark.parametrize("failure", [OSError, KeyboardInterrupt])
def test_a_failure_right_after_the_exchange_leaves_the_new_bundle(tmp_path, monkeypatch, failure):
    make(tmp_path / "bundle", "old")

    def failing(one: Path, other: Path) -> bool:
        assert exchange(one, other)
        raise failure

    monkeypatch.setattr(publish, "exchange", failing)
    with pytest.raises(failure):
        make(tmp_path / "bundle", "new")
    assert (tmp_path / "bundle" / "model.onnx").read_text() == "new"
    assert sorted(contents(tmp_path)) == PUBLISHED


def test_what_cannot_be_exchanged_stays(tmp_path, monkeypatch):
    (tmp_path / "one").mkdir()
    assert not exchange(tmp_path / "one", tmp_path / "none")
    assert not exchange(tmp_path / "none", tmp_path / "one")
    assert sorted(contents(tmp_path)) == ["one"]
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())  # a C library without the call
    assert not exchange(tmp_path / "one", tmp_path / "one")


@pytest.mark.parametrize("failure", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("which", [1, 2])
def test_a_failure_while_bundles_change_places_leaves_one_of_them(
    tmp_path, monkeypatch, failure, when, which
):
    """Where they cannot be exchanged: of the two renames each may fail, or be interrupted when it is done."""
    monkeypatch.setattr(publish, "exchange", lambda one, other: False)
    make(tmp_path / "bundle", "old")
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
        make(tmp_path / "bundle", "new")
    monkeypatch.undo()
    read_bundle(tmp_path / "bundle")
    content = (tmp_path / "bundle" / "model.onnx").read_text()
    assert content == ("new" if (when, which) == ("after", 2) else "old")
    assert len(list(tmp_path.iterdir())) == 1


def catching(work: Callable[[], None], problems: list[Exception]) -> None:
    """Do some work in a thread, and keep what it raises."""
    try:
        work()
    except Exception as problem:
        problems.append(problem)


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
    make(tmp_path / "bundle", "old")
    check_output(tmp_path / "bundle", force=True)
    with pytest.raises(MemoError, match="holds a bundle already: replace it with --force"):
        check_output(tmp_path / "bundle", force=False)


def test_a_link_to_a_bundle_is_left_to_who_made_it(tmp_path):
    """What it names stays, to go back to."""
    make(tmp_path / "v1", "old")
    (tmp_path / "current").symlink_to("v1")
    for force in (False, True):
        with pytest.raises(MemoError, match="is a link to a bundle: write to a new folder"):
            check_output(tmp_path / "current", force)


# ---- Damage


@pytest.fixture
def copy(made, tmp_path: Path) -> Path:
    """A bundle that may be damaged."""
    return copied(made("bert").bundle, tmp_path / "bundle")


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
    assert set(told.files) == {"model.onnx", memo_data(copy).name}
    assert [site.name for site in told.sites] == ["attention.0", "attention.1", "attention.2"]
    assert told.source == "bert.onnx"


@pytest.fixture(params=["model", "memo data"])
def part(request, copy) -> Path:
    """A file of the bundle."""
    return copy / "model.onnx" if request.param == "model" else memo_data(copy)


@pytest.mark.parametrize("where", [0, 0.5, 0.9999])
def test_one_flipped_bit_is_seen(copy, part, where):
    content = bytearray(part.read_bytes())
    content[int(where * len(content))] ^= 1
    part.write_bytes(content)
    refused(copy, f"{part.name}' is damaged or was changed: copy the bundle again")


def test_a_truncated_file_is_seen(copy, part):
    part.write_bytes(part.read_bytes()[:-1])
    refused(copy, f"{part.name}' is damaged")


def test_a_missing_file_is_seen(copy, part):
    part.unlink()
    refused(copy, f"lacks its file '{part.name}': copy it again, whole")


def test_a_folder_without_a_manifest_is_no_bundle(copy):
    (copy / "manifest.json").unlink()
    refused(copy, "is no bundle .* make one with 'onnx-memo optimize'")
    refused(copy / "model.onnx", "is no bundle")
    refused(copy / "nowhere", "is no bundle")


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"\xff\xfe", b"[]", b"5", b"null", b"{}", b'{"format": 2}', b"[" * 100_000),
        b'{"format": 2, "sites": [], "files": {}, "unknown": 1}',
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


@pytest.mark.parametrize(
    "name",
    [
        *(
            "../outside",
            "a/../../outside",
            "/etc/passwd",
            "..",
            ".",
            "",
            "deep//file",
            "deep/",
            "C:\\file",
            "a\0b",
        ),
        *("line\n", "\ud800", "x" * 256),
    ],
)
def test_a_manifest_that_names_files_outside(copy, name):
    (copy.parent / "outside").write_text("secret")
    edit_manifest(copy, files={name: {"bytes": 6, "sha256": "0"}})
    refused(copy, "outside the bundle")


def test_a_manifest_that_names_a_file_in_a_folder(copy):
    files = json.loads((copy / "manifest.json").read_text())["files"]
    edit_manifest(copy, files={**files, "deep/file": {"bytes": 6, "sha256": "0"}})
    refused(copy, "lacks its file 'deep/file'")


@pytest.mark.parametrize("number", [1, 3])
def test_a_bundle_of_another_format(copy, number):
    edit_manifest(copy, format=number)
    refused(copy, f"is a bundle of format {number}, and this version reads 2: build it again")


def test_a_manifest_without_a_model(copy):
    edit_manifest(copy, files={})
    refused(copy, "names no 'model.onnx'")


def files_of(path: Path) -> dict[str, dict[str, object]]:
    return json.loads((path / "manifest.json").read_text())["files"]


def test_a_manifest_without_memo_data(copy):
    data = memo_data(copy)
    edit_manifest(copy, files={name: file for name, file in files_of(copy).items() if name != data.name})
    refused(copy, "names 0 files of memo data in place of one")


def test_a_manifest_with_two_files_of_memo_data(copy):
    (copy / EMPTY).write_bytes(bytes(4096))
    more = {EMPTY: {"bytes": 4096, "sha256": hashlib.sha256(bytes(4096)).hexdigest()}}
    edit_manifest(copy, files=files_of(copy) | more)
    refused(copy, "names 2 files of memo data in place of one")


@pytest.mark.parametrize("kind", ["memo", "weights"])
def test_a_data_file_whose_name_is_not_that_of_its_content(copy, kind):
    name = f"{kind}-{'0' * 16}.data"
    (copy / name).write_bytes(bytes(4096))
    more = {name: {"bytes": 4096, "sha256": hashlib.sha256(bytes(4096)).hexdigest()}}
    edit_manifest(copy, files=files_of(copy) | more)
    refused(copy, f"says of '{name}' that it holds something else")


def test_what_lies_beside_the_files_of_a_bundle_is_ignored(copy, made):
    """As the memo data of a bundle that this one was copied over."""
    (copy / EMPTY).write_bytes(bytes(4096))
    assert read_bundle(copy) == read_bundle(made("bert").bundle)
