"""Bundles from anywhere: whatever is in them, `inspect` and `bench` read them or refuse them in one line."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support import MODES, contents
from support_faults import Ended, Runs, changed_at, places, seeds

import onnx_memo
from onnx_memo.store.bundle import MANIFEST, sha256

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(sys.platform == "win32", reason="nothing is forked there"),
]


def put(file: Path, content: bytes) -> None:
    """A new file of that name: the old one may be read-only."""
    file.unlink()
    file.write_bytes(content)


def flip(r: random.Random, file: Path) -> None:
    content = bytearray(file.read_bytes())
    for _ in range(r.choice([1, 1, 5, 50])):
        content[r.randrange(len(content))] ^= r.randint(1, 255)
    put(file, bytes(content))


def overwrite(r: random.Random, file: Path) -> None:
    """A number of eight bytes: a size or an offset, it may be."""
    content = bytearray(file.read_bytes())
    at = r.randrange(max(len(content) - 8, 1)) // 8 * 8
    content[at : at + 8] = r.choice([-1, 2**63 - 1, 2**40, 10**6]).to_bytes(8, "little", signed=True)
    put(file, bytes(content))


def swap(r: random.Random, file: Path) -> None:
    other = r.choice([part for part in file.parent.iterdir() if part != file])
    kept = other.read_bytes()
    put(other, file.read_bytes())
    put(file, kept)


def link(r: random.Random, file: Path, to: Path | str) -> None:
    file.unlink()
    file.symlink_to(to)


def link_outside(r: random.Random, file: Path) -> None:
    """To the same content."""
    outside = file.parent.parent / "outside"
    outside.write_bytes(file.read_bytes())
    link(r, file, outside)


def folder(r: random.Random, file: Path) -> None:
    file.unlink()
    file.mkdir()


def pipe(r: random.Random, file: Path) -> None:
    """Whoever opens it to read, waits for ever."""
    file.unlink()
    os.mkfifo(file)


MUTATIONS: dict[str, Callable[[random.Random, Path], object]] = {
    "bytes changed": flip,
    "a number changed": overwrite,
    "cut off": lambda r, file: put(file, file.read_bytes()[: r.randrange(file.stat().st_size)]),
    "emptied": lambda r, file: put(file, b""),
    "zeros": lambda r, file: put(file, bytes(file.stat().st_size)),
    "noise": lambda r, file: put(file, r.randbytes(file.stat().st_size)),
    "longer": lambda r, file: put(file, file.read_bytes() + r.randbytes(r.choice([1, 5000]))),
    "swapped": swap,
    "gone": lambda r, file: file.unlink(),
    "a folder": folder,
    "a pipe": pipe,
    "linked outside": link_outside,
    "linked to itself": lambda r, file: link(r, file, file.name),
    "linked to its folder": lambda r, file: link(r, file, "."),
    "linked to a device": lambda r, file: link(r, file, "/dev/zero"),
}


def sign(bundle: Path, before: bytes) -> None:
    """Let the manifest, as it was before, name what is there: damage that no digest tells."""
    file, manifest = bundle / MANIFEST, json.loads(before)
    for name, told in manifest["files"].items():
        if (bundle / name).is_file():
            told |= {"bytes": (bundle / name).stat().st_size, "sha256": sha256(bundle / name)}
    put(file, json.dumps(manifest).encode())


@pytest.fixture
def judged(made, tmp_path):
    """Run `inspect` and `bench` on a copy of a bundle to which something was done."""
    (tmp_path / "run").mkdir()
    runs = Runs(tmp_path / "run")

    def judge(r: random.Random, harm: Callable[[Path], object]) -> list[Ended]:
        source = made("bert", r.choice(["output", "probs", "rows"]))
        bundle = shutil.copytree(source.bundle, tmp_path / "bundle")
        harm(bundle)
        options = r.choice([[], ["--stock"]]) if len(MODES) > 1 and onnx_memo.library_path() else ["--stock"]
        bench = ["bench", source.model, bundle, "--data", source.data, "--rounds", 1, *options]
        ended = [runs("inspect", bundle), runs(*bench)]
        for one in ended:
            one.check()
        return ended

    return judge


@seeds(short=15, full=200)
def test_damage_is_told_in_one_line(judged, seed):
    r = random.Random(seed)
    names = list(MUTATIONS)
    what = names[seed % len(names)]
    told = True

    def harm(bundle: Path) -> None:
        nonlocal told
        before, file = contents(bundle), r.choice(sorted(bundle.iterdir()))
        MUTATIONS[what](r, file)
        if what not in ("a pipe", "linked to a device"):  # these cannot be read, and are no files
            told = contents(bundle) != before
        if file.name == MANIFEST and what in ("bytes changed", "a number changed"):
            told = False  # no digest is about it: a letter of a note, say, may be another one

    ended = judged(r, harm)
    if told:
        assert [one.code for one in ended] == [2, 2], what


@seeds(short=15, full=200)
def test_damage_under_digests_that_are_right_is_no_crash(judged, seed):
    r = random.Random(seed)
    names = [name for name in MUTATIONS if name not in ("gone", "a folder", "a pipe")]

    def harm(bundle: Path) -> None:
        files = sorted(part for part in bundle.iterdir() if part.name != MANIFEST)
        before = (bundle / MANIFEST).read_bytes()
        MUTATIONS[names[seed % len(names)]](r, r.choice(files))
        sign(bundle, before)

    judged(r, harm)


VALUES = (
    None,
    True,
    -1,
    0,
    2**70,
    1e308,
    float("nan"),
    "",
    "a\x1b[2Jb\n",
    "../" * 9 + "etc/passwd",
    "/dev/zero",
)
VALUES += ("x" * 10**5, [], {}, [[]] * 50, {"model.onnx": None})


@seeds(short=15, full=200)
def test_hostile_manifests(judged, seed):
    r = random.Random(seed)

    def harm(bundle: Path) -> None:
        file = bundle / MANIFEST
        content = json.loads(file.read_bytes())
        for _ in range(r.choice([1, 1, 2])):
            place = r.choice(list(places(content)))
            if place and r.random() < 0.2 and isinstance(place[-1], str):  # another name of a field, or file
                content = renamed(content, place, r.choice([v for v in VALUES if isinstance(v, str)]))
            else:
                content = changed_at(content, place, r.choice(VALUES))
        text = json.dumps(content).encode()
        put(file, r.choice([text, text, text, b"\xef\xbb\xbf" + text, b"[" * 10**5 + text, text + b"\0"]))

    judged(r, harm)


def renamed(content: object, place: tuple, name: str) -> object:
    """A copy in which a field has another name."""
    parent: object = content
    for key in place[:-1]:
        parent = parent[key]  # type: ignore[index]
    assert isinstance(parent, dict)
    return changed_at(content, place[:-1], {name if k == place[-1] else k: v for k, v in parent.items()})
