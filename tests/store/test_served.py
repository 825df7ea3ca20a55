"""A bundle that is served: whatever is copied over it, or takes its place, its answers stay the same."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from support import Arrays, original, random_samples, sample, write_samples

import onnx_memo
from onnx_memo.store.bundle import read_bundle

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="no file that is mapped can be replaced there"
)

# Opens a bundle, then answers, line by line, the requests whose files it is given the names of.
SERVE = """
import sys
import numpy as np, onnxruntime as ort, onnx_memo
options = onnx_memo.session_options(native=sys.argv[2] == "native", threads=1)
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
print("ready", flush=True)
for line in sys.stdin:
    file = line.strip()
    np.save(file + ".npy", session.run(None, dict(np.load(file)))[0])
    print("done", flush=True)
"""

Ask = Callable[[Arrays], np.ndarray]


@contextmanager
def served(bundle: Path, mode: str, folder: Path) -> Iterator[Ask]:
    """A process that serves a bundle, as a function that asks it."""
    command = [sys.executable, "-c", SERVE, str(bundle / "model.onnx"), mode]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None

        def heard() -> str:
            return process.stdout.readline() or f"gone: {process.wait()}"

        def ask(request: Arrays) -> np.ndarray:
            np.savez(folder / "request.npz", **request)
            print(folder / "request.npz", file=process.stdin, flush=True)
            assert heard() == "done\n"
            return np.load(folder / "request.npz.npy")

        assert heard() == "ready\n"
        yield ask
        process.stdin.close()


@pytest.fixture
def bundles(made, tmp_path) -> list[Path]:
    """Two bundles of two models of one form, whose weights lie in files of one name."""
    found = []
    for number, factor in enumerate((1, 2)):
        model = ir.load(made("bert").model)
        for value in model.graph.initializers.values():
            if value.const_value.dtype == ir.DataType.FLOAT and value.const_value.size > 100:
                value.const_value = ir.tensor(value.const_value.numpy() * np.float32(factor), name=value.name)
        folder = tmp_path / str(number)
        folder.mkdir()
        ir.save(model, folder / "model.onnx", external_data="weights.bin", size_threshold_bytes=0)
        samples = random_samples(original(made("bert").model), [60] * 40, seed=number)
        data = write_samples(folder / "data.npz", samples)
        found.append(onnx_memo.optimize(folder / "model.onnx", data, folder / "bundle").path)
    return found


def copy_over(source: Path, to: Path) -> None:
    """As one does who knows that files are read-only."""
    subprocess.run(["cp", "-r", "-f", f"{source}/.", str(to)], check=True)


def take_place(source: Path, to: Path) -> None:
    """As `optimize --force` does."""
    from onnx_memo.store.publish import publishing

    with publishing(to) as folder:
        copy_over(source, folder)


@pytest.mark.parametrize("update", [copy_over, take_place])
def test_a_server_goes_on_with_what_it_opened(bundles, tmp_path, mode, update):
    old, new = bundles
    stored = random_samples(original(tmp_path / "0" / "model.onnx"), [60] * 40, seed=0)
    fresh = [sample(original(tmp_path / "0" / "model.onnx"), 60, np.random.default_rng(9)) for _ in range(2)]
    with served(old, mode, tmp_path) as ask:
        want = {at: ask(stored[at]) for at in (0, 1)}
        update(new, old)
        for at, answer in want.items():
            assert ask(stored[at]).tobytes() == answer.tobytes()
        first = original(tmp_path / "0" / "model.onnx")
        for request in [*stored[2:], *fresh]:  # whose pages nobody has touched before
            np.testing.assert_allclose(ask(request), first.run(None, request)[0], rtol=0, atol=1e-5)
    assert read_bundle(old) == read_bundle(new)
    with served(old, mode, tmp_path) as ask:
        second = original(tmp_path / "1" / "model.onnx")
        for request in [*stored[:2], *fresh]:
            np.testing.assert_allclose(ask(request), second.run(None, request)[0], rtol=0, atol=1e-5)


def test_both_bundles_can_be_gone_back_to(bundles):
    """Copied over each other, the data files of both are there; of each, its manifest names its own."""
    old, new = bundles
    names = [json.loads((bundle / "manifest.json").read_text())["files"].keys() for bundle in bundles]
    assert names[0] & names[1] == {"model.onnx"}
    copy_over(old, new)
    assert {file.name for file in new.iterdir()} == names[0] | names[1] | {"manifest.json"}
    assert read_bundle(new) == read_bundle(old)
