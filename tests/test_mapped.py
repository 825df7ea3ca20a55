"""What ONNX Runtime packs of large weights lies in files, with the same bits."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx import parser
from support import fixture, original, random_samples, write_samples

import onnx_memo
from onnx_memo import mapped

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
    pytest.mark.skipif(onnx_memo.library_path() is None, reason="the native library has the allocator"),
]

MEBIBYTE = 2**20
SIZE, COUNT = 1024, 8  # of square weights: 32 MiB in all
# Opens a model, in files or not, runs it, and says how much memory is no file's, and what came.
OPEN = """
import json, sys
from pathlib import Path
import numpy as np
from onnx_memo import mapped
from onnx_memo.runtime import session_options
from onnx_memo.sessions import open_file
model, weights, output = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
def anonymous():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("RssAnon"))) * 1024
with mapped.mapped_sessions(weights, output):
    open_file(model, session_options(native=False, threads=1))  # what is loaded once
    before = anonymous()
    session = open_file(model, session_options(native=False, threads=1))
x = np.random.default_rng(0).standard_normal((3, 1024)).astype(np.float32)
came = [session.run(None, {"x": x})[0].tobytes().hex()[:4096] for _ in range(2)]
more = anonymous() - before
kept = [] if "proc" in output.parts else sorted(path.name for path in output.parent.iterdir())
del session
print(json.dumps([more, came, kept, open("/proc/self/maps").read().count("(deleted)")]))
"""


@pytest.fixture
def model(tmp_path) -> Path:
    """A chain of products."""
    steps = "\n".join(f"y{n + 1} = MatMul (y{n}, w{n})" for n in range(COUNT))
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    chain (float[B, {SIZE}] x) => (float[B, {SIZE}] y) {{
      y0 = Identity (x)
      {steps}
      y = Identity (y{COUNT})
    }}"""
    made = ir.from_proto(parser.parse_model(text))
    rng = np.random.default_rng(0)
    for n in range(COUNT):
        weight = (rng.standard_normal((SIZE, SIZE)) / 32).astype(np.float32)
        value = next(node for node in made.graph if node.outputs[0].name == f"y{n + 1}").inputs[1]
        value.const_value = ir.tensor(weight, name=value.name)
        made.graph.register_initializer(value)
    folder = tmp_path / "model"
    folder.mkdir()
    ir.save(made, folder / "model.onnx", external_data="weights")
    return folder / "model.onnx"


def opened(model: Path, weights: int, output: Path):
    line = [sys.executable, "-c", OPEN, str(model), str(weights), str(output)]
    return json.loads(subprocess.run(line, check=True, capture_output=True, text=True).stdout)


def test_a_large_model_is_packed_into_files(tmp_path, model):
    """And its answers have the same bits; a file has no name, and goes with its session."""
    (tmp_path / "out").mkdir()
    plain, same, _, _ = opened(model, 0, tmp_path / "out" / "bundle")
    more, came, kept, left = opened(model, 2**40, tmp_path / "out" / "bundle")
    assert plain > COUNT * 4 * MEBIBYTE * 0.9
    assert more < 4 * MEBIBYTE
    assert came == same
    assert (kept, left) == ([], 0)


def test_where_files_cannot_be_made_it_is_packed_into_memory(tmp_path, model):
    """As on a file system without nameless files."""
    more, came, _, _ = opened(model, 2**40, Path("/proc/self/bundle"))
    assert more > COUNT * 4 * MEBIBYTE * 0.9
    assert came == opened(model, 0, tmp_path / "bundle")[1]


class Watched:
    """Takes the library's place, and says that files cannot be had."""

    def __init__(self) -> None:
        self.folders: list[bytes | None] = []

    def onnx_memo_map_memory(self, folder: bytes | None) -> bool:
        self.folders.append(folder)
        return False


@pytest.mark.parametrize("large", [True, False])
def test_optimize_asks_for_it_where_the_model_is_large(tmp_path, monkeypatch, large):
    model = tmp_path / "original" / "model.onnx"
    model.parent.mkdir()
    ir.save(ir.load(fixture("bert")), model, external_data="weights")
    data = write_samples(tmp_path / "data.npz", random_samples(original(fixture("bert")), (3, 5), seed=1))
    size = model.with_name("weights").stat().st_size
    library = Watched()
    monkeypatch.setattr(mapped, "_library", lambda: library)
    monkeypatch.setattr(mapped, "LARGE", size // 2 if large else 2 * size)
    onnx_memo.optimize(model, data, tmp_path / "new" / "bundle")
    assert set(library.folders) == ({os.fsencode(tmp_path)} if large else set()), "there is no 'new' yet"
    sessions = 5 if large else 0  # padding, capture; original, stock, native
    assert len(library.folders) == sessions


def memory_of(array: object) -> object:
    """What an array is a view of in the end."""
    while (below := getattr(array, "base", None)) is not None:
        array = below
    return array.obj if isinstance(array, memoryview) else array


@pytest.mark.parametrize(("weights", "folder"), [(2**40, None), (0, None), (2**40, "/proc/self")])
def test_large_arrays_of_a_large_model_lie_in_files(tmp_path, weights, folder):
    """Else, and where files cannot be made, in memory."""
    in_files = weights > 0 and folder is None
    with mapped.mapped_sessions(weights, Path(folder or tmp_path) / "bundle"):
        large, small = mapped.zeros([(4, MEBIBYTE), (2, 3)], np.float64)
        empty, none = mapped.zeros([(0, 5)], np.int8), mapped.zeros([], np.int8)
    assert not large.any() and not small.any()
    large[...] = 1
    assert isinstance(memory_of(large), mmap.mmap) == in_files
    assert not small.any(), "they do not overlap"
    assert (large.shape, small.shape, empty[0].shape, none) == ((4, MEBIBYTE), (2, 3), (0, 5), [])
    assert [*tmp_path.iterdir()] == [], "a file has no name"
