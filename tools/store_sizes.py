"""A bundle of the level `rows` with many more entries, to see what finding one costs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.store.data import StoredTensor, write_store
from onnx_memo.store.index import EXACT_SEARCH, build_index

FOLDER = "sized"  # beside the model, since that is where its data is looked for


def sized(bundle: Path, entries: int) -> Path:
    """A model like the bundle's, whose inputs all have one length, with this many entries.

    They are its own ones, and more with keys scattered like theirs, which share the payloads of its own.
    """
    model = ir.load(bundle / "model.onnx")
    values = model.graph.initializers

    def stored(name: str) -> npt.NDArray[Any]:
        tensor = values[name].const_value
        assert tensor is not None
        return tensor.numpy()

    keys = stored("memo/encoder/keys").T[:entries]
    rng = np.random.default_rng(0)
    spread = np.linalg.cholesky(np.cov(keys.T) + 1e-9 * np.eye(keys.shape[1]))
    more = rng.standard_normal((entries - len(keys), keys.shape[1])) @ spread.T + keys.mean(axis=0)
    own = np.arange(entries) % len(keys)
    keys = np.concatenate([keys, more]).astype(np.float32)
    arrays = {
        name: stored(name)[own] for name in ("memo/lengths", "memo/offsets/rows", "memo/offsets/squares")
    }
    folder = bundle / FOLDER
    shutil.rmtree(folder, ignore_errors=True)  # of another size
    folder.mkdir()
    index = np.zeros(0, np.uint8)
    if entries > EXACT_SEARCH:
        index = build_index(keys, arrays["memo/lengths"], folder / "index")
    arrays |= {"memo/encoder/keys": np.ascontiguousarray(keys.T), "memo/encoder/index": index}
    for name, tensor in write_store(folder, [StoredTensor.of(n, a) for n, a in arrays.items()]).items():
        placed = ir.ExternalTensor(
            f"{FOLDER}/{tensor.location}",
            tensor.offset,
            tensor.length,
            tensor.dtype,
            shape=ir.Shape(arrays[name].shape),
            name=name,
            base_dir=bundle,
        )
        values[name].const_value, values[name].shape = placed, placed.shape
    ir.save(model, bundle / f"{FOLDER}.onnx")
    return bundle / f"{FOLDER}.onnx"
