"""A bundle in the oldest ONNX Runtime that we claim, native and stock.

`make test` brings that version to `.cache/`, beside the environment's own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import LEVELS, MODES, ROOT, original, random_samples

import onnx_memo

OLDEST = "1.20.1"
OLDEST_PATH = ROOT / ".cache" / f"onnxruntime-{OLDEST}"

COMPARE = """
import sys
import numpy as np, onnxruntime

folder, model, bundle, library = sys.argv[1:]
assert onnxruntime.__version__ == OLDEST, onnxruntime.__version__


def session(path, library):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if library:
        options.register_custom_ops_library(library)
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


before, after = session(model, ""), session(bundle + "/model.onnx", library)
for kind in ("hit", "miss"):
    feeds = dict(np.load(f"{folder}/{kind}.npz"))
    want, have = before.run(None, feeds)[0], after.run(None, feeds)[0]
    error = np.linalg.norm(have - want) / np.linalg.norm(want)
    print(kind, want.tobytes() == have.tobytes(), error <= 0.003)
"""


@pytest.mark.skipif(
    not OLDEST_PATH.is_dir(), reason=f"no ONNX Runtime {OLDEST} in .cache: `make test` brings it"
)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ["bert", "gpt2", "vit"])
def test_a_bundle_in_the_oldest_onnxruntime(made, name, level, mode, tmp_path: Path):
    source = made(name, level)
    np.savez(tmp_path / "hit.npz", **source.samples[6])
    np.savez(tmp_path / "miss.npz", **random_samples(original(source.model), [16], seed=1000)[0])
    library = onnx_memo.library_path() if mode == "native" else ""
    script = f"OLDEST = '{OLDEST}'\n{COMPARE}"
    ended = subprocess.run(
        [sys.executable, "-c", script, *map(str, (tmp_path, source.model, source.bundle, library))],
        env=os.environ | {"PYTHONPATH": str(OLDEST_PATH)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == ["hit False True", "miss True True"]
