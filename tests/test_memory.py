"""A store is mapped, not loaded: large payloads cost address space, not memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from support import copied

from onnx_memo.store.bundle import MODEL

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

GIBIBYTE = 2**30
MEBIBYTE = 2**20
MEASURE = """
import json, sys
import numpy as np, onnx_memo, onnxruntime as ort
model, data, native = sys.argv[1:]
session = ort.InferenceSession(model, onnx_memo.session_options(native=native == "native", threads=1))
arrays = np.load(data)
for run in range(100):
    at = run % len(arrays["input_ids"])
    feeds = {value.name: arrays[value.name][at : at + 1] for value in session.get_inputs()}
    outputs = session.run(None, feeds)
lines = open("/proc/self/status").read().splitlines()
print(json.dumps(int(next(line.split()[1] for line in lines if line.startswith("RssAnon"))) * 1024))
"""


def spread_payloads(bundle: Path, size: int) -> None:
    """Move every payload into a file of its own of `size` bytes, the entries far apart (sparse on disk)."""
    model = ir.load(bundle / MODEL)
    values = model.graph.initializers
    lengths, offsets = (values[f"memo/{name}"].const_value.numpy() for name in ("lengths", "offsets/output"))
    spread = None
    for name in [name for name in values if name.endswith("/payload")]:
        old = values[name].const_value.numpy()
        rows = size // (old.itemsize * old.shape[1])
        spread = np.linspace(0, rows - lengths.max(), len(lengths)).astype(np.int64)
        location = name.replace("/", ".")
        with open(bundle / location, "wb") as file:
            file.truncate(size)
        new = np.memmap(bundle / location, np.float16, "r+", shape=(rows, old.shape[1]))
        for entry, length in enumerate(lengths):
            new[spread[entry] : spread[entry] + length] = old[offsets[entry] : offsets[entry] + length]
        new.flush()
        values[name].const_value = ir.ExternalTensor(
            location, 0, size, ir.DataType.FLOAT16, shape=ir.Shape(new.shape), name=name, base_dir=bundle
        )
        values[name].shape = ir.Shape(new.shape)
    values["memo/offsets/output"].const_value = ir.tensor(spread, name="memo/offsets/output")
    ir.save(model, bundle / MODEL)


def anonymous_memory(model: Path, data: Path, mode: str) -> int:
    """Bytes of anonymous memory of a process that opened `model` and ran 100 requests."""
    command = [sys.executable, "-c", MEASURE, str(model), str(data), mode]
    return int(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def test_a_gibibyte_of_payload_costs_no_memory(made, tmp_path, mode):
    origin = made("bert")
    bundle = copied(origin.bundle, tmp_path / "bundle")
    spread_payloads(bundle, GIBIBYTE)
    # The same number of tokens in every request, so that all fit into one array; all are stored.
    sample = next(sample for sample in origin.samples if sample["input_ids"].shape[1] == 23)
    np.savez(tmp_path / "data.npz", **sample)
    before = anonymous_memory(origin.model, tmp_path / "data.npz", "stock")
    after = anonymous_memory(bundle / MODEL, tmp_path / "data.npz", mode)
    assert after - before <= 64 * MEBIBYTE
