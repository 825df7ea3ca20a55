"""Encoders in 8 bits, built from the pieces; and small encoders whose products are written in many ways."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx import parser
from support import Arrays, memoized, original, random_samples, run_operator
from support_encoder import HEADER, WIDTH
from support_rows import opened as search
from support_rows import samples_of

from onnx_memo.files import sha256
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.levels.inserter import STRICTNESS
from onnx_memo.levels.int8.blueprint import Int8Blueprint
from onnx_memo.precision.chains import Chains, find_chains
from onnx_memo.precision.products import round_products
from onnx_memo.precision.whole import APART, Whole
from onnx_memo.progress import silent
from onnx_memo.store.data import write_store

LENGTHS = (3, 5, 9, 9, 16, 23)
MOST_APART = 64  # channels that `MemoProduct` takes in floats


def exact_products(mode: str) -> bool:
    """Whether products of bytes are exact here, so that the form runs."""
    return bool(run_operator("MemoExact", mode, np.float32(1)))


def never_exact(bundle: Path) -> None:
    """Change a bundle to find what it finds in stock ONNX Runtime on processors without VNNI."""
    model = ir.load(bundle / "model.onnx")
    body = next(function for function in model.functions.values() if function.name == "MemoExact")
    never = ir.node("Constant", [], {"value": ir.tensor(np.asarray(False))})
    body.append(never)
    body.outputs[0] = never.outputs[0]
    ir.save(model, bundle / "model.onnx")
    told = json.loads((bundle / "manifest.json").read_text())
    size = (bundle / "model.onnx").stat().st_size
    told["files"]["model.onnx"] = {"bytes": size, "sha256": sha256(bundle / "model.onnx")}
    (bundle / "manifest.json").write_text(json.dumps(told))


# ---- Small encoders

HEADS = """
  q1 = Reshape (q0, split)
  q = Transpose <perm = [0, 2, 1, 3]> (q1)
  k1 = Reshape (k0, split)
  k = Transpose <perm = [0, 2, 3, 1]> (k1)
  v1 = Reshape (v0, split)
  v = Transpose <perm = [0, 2, 1, 3]> (v1)
"""
PLAIN = """
  q0 = MatMul (hidden_0, wq)
  k0 = MatMul (hidden_0, wk)
  v0 = MatMul (hidden_0, wv)
"""
CORE = """
  s0 = MatMul (q, k)
  s1 = Div (s0, two)
  s2 = Add (s1, bias)
  p = Softmax <axis = -1> (s2)
  context = MatMul (p, v)
"""
MERGE = """
  m0 = Transpose <perm = [0, 2, 1, 3]> (context)
  merged = Reshape (m0, join)
"""
OUT = """
  attended = MatMul (merged, wo)
"""
LAST = """
  last_hidden_state = Add (attended, hidden_0)
"""


def small_encoder(
    path: Path,
    *,
    qkv: str = PLAIN,
    heads: str = HEADS,
    core: str = CORE,
    merge: str = MERGE,
    out: str = OUT,
    last: str = LAST,
    constants: dict[str, np.ndarray] | None = None,
    opset: int = 17,
) -> Path:
    """Write an encoder of one layer, 8 wide, of 2 heads. Its values:

    `hidden_0`, by `qkv` `q0`, `k0` and `v0`, by `heads` `q` [B, 2, L, 4], `k` [B, 2, 4, L] and `v`, by `core`
    `context`, by `merge` `merged` [B, L, 8], by `out` `attended`, and by `last` `last_hidden_state`.
    """
    header = HEADER.replace('"" : 17', f'"" : {opset}')
    model = parser.parse_model(header + qkv + heads + core + merge + out + last + "}")
    rng = np.random.default_rng(0)
    weights: dict[str, np.ndarray] = {"words": rng.standard_normal((64, WIDTH)).astype(np.float32)}
    for name in ("wq", "wk", "wv", "wo", "w1", "w2"):
        weights[name] = (rng.standard_normal((WIDTH, WIDTH)) / 3).astype(np.float32)
    for name in ("bq", "bk", "bv", "b1", "gamma", "beta"):
        weights[name] = rng.standard_normal(WIDTH).astype(np.float32)
    weights |= constants or {}
    for node in model.graph.node:
        node.name = f"/{node.output[0]}"
    used = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(array, name) for name, array in weights.items() if name in used
    )
    onnx.checker.check_model(model)
    onnx.save_model(model, path)
    return path


@functools.cache
def opened(path: Path) -> OpenedModel:
    """A model that is searched once. Its file stays as it is."""
    return search(path)


def chains_of(path: Path) -> Chains:
    return find_chains(opened(path))


def names(values: object) -> set[str]:
    return {str(value.name) for value in values}  # type: ignore[attr-defined]


# ---- Guarded models


@dataclass(frozen=True)
class Int8Pair:
    """The original and the model that is guarded, both open."""

    before: ort.InferenceSession
    after: ort.InferenceSession
    masked: bool  # whether padding is left out

    def want(self, request: Arrays) -> np.ndarray:
        return self.before.run(None, request)[0]

    def ask(self, request: Arrays, strictness: float = 1.0) -> np.ndarray:
        extra = {STRICTNESS: np.asarray(strictness, np.float32)}
        return self.after.run(None, request | extra)[0]


def build_int8(model: Path, folder: Path, apart: int | None = None, coarse: bool = False) -> None:
    """Write the guarded model and its memo data. `apart`: so many channels stay in floats."""
    source: OpenedModel = opened(model)
    (folder / "scratch").mkdir(parents=True)
    samples = samples_of(model, random_samples(original(model), LENGTHS, seed=1), folder / "scratch")
    chains = find_chains(source)
    count = 0 if coarse else APART[0] if apart is None else apart
    rounded = round_products(source, chains, samples, count, silent)
    whole = Whole(chains, rounded, coarse)
    blueprint = Int8Blueprint(source.encoder, whole)
    external = write_store(folder, blueprint.tensors(folder / "scratch", []))
    guarded = source.copy()
    blueprint.insert(guarded, external)
    ir.save(guarded.model, folder / "model.onnx")


def int8_pair(
    model: Path,
    folder: Path,
    mode: str,
    apart: int | None = None,
    threads: int = 1,
    coarse: bool = False,
) -> Int8Pair:
    """The original, and the guarded model in `folder`, which is built there if it is not there yet."""
    if not (folder / "model.onnx").exists():
        build_int8(model, folder, apart, coarse)
    masked = opened(model).encoder.mask is not None
    return Int8Pair(original(model), _session(folder, mode, threads), masked)


@functools.cache
def _session(folder: Path, mode: str, threads: int) -> ort.InferenceSession:
    return memoized(folder, mode, threads)
