"""Small models whose attention is not understood, written node by node."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import parser

WIDTH = 8

# Rows lie in columns, [B, d, L], and all projections are convolutions, as in SqueezeBERT.
COLUMNS = """<ir_version: 8, opset_import: ["" : 17]>
columns (int64[B, L] input_ids, int64[B, L] attention_mask) => (float[B, L, 8] last_hidden_state) {
  minus = Constant <value = float {-10000.0}> ()
  one = Constant <value = float {1.0}> ()
  i1 = Constant <value = int64[1] {1}> ()
  mask = Cast <to = 1> (attention_mask)
  unreal = Sub (one, mask)
  negative = Mul (unreal, minus)
  bias = Unsqueeze (negative, i1)
  embedded = Gather (table, input_ids)
  hidden = Tanh (embedded)
  x_0 = Transpose <perm = [0, 2, 1]> (hidden)
  LAYERS
  last_hidden_state = Transpose <perm = [0, 2, 1]> (x_2)
}"""
COLUMNS_LAYER = """
  q_{n} = Conv (x_{n}, wq_{n})
  k_{n} = Conv (x_{n}, wk_{n})
  v_{n} = Conv (x_{n}, wv_{n})
  qt_{n} = Transpose <perm = [0, 2, 1]> (q_{n})
  s_{n} = MatMul (qt_{n}, k_{n})
  t_{n} = Add (s_{n}, bias)
  p_{n} = Softmax <axis = -1> (t_{n})
  pt_{n} = Transpose <perm = [0, 2, 1]> (p_{n})
  c_{n} = MatMul (v_{n}, pt_{n})
  o_{n} = Conv (c_{n}, wo_{n})
  x_{next} = Add (o_{n}, x_{n})
"""

# Windows of 4 patches attend within themselves; then 4 rows become one, twice as wide, as in Swin.
WINDOWS = """<ir_version: 8, opset_import: ["" : 17]>
windows (float[B, 3, 16, 16] pixel_values) => (float[B, 4, 16] last_hidden_state) {
  flat = Constant <value = int64[3] {0, 8, 16}> ()
  apart = Constant <value = int64[4] {0, 4, 4, 8}> ()
  together = Constant <value = int64[3] {0, 16, 8}> ()
  four = Constant <value = int64[3] {0, 4, 32}> ()
  patches = Conv <strides = [4, 4]> (pixel_values, patch)
  lined = Reshape (patches, flat)
  hidden = Transpose <perm = [0, 2, 1]> (lined)
  w = Reshape (hidden, apart)
  q = MatMul (w, wq)
  v = MatMul (w, wv)
  k = Transpose <perm = [0, 1, 3, 2]> (w)
  s = MatMul (q, k)
  p = Softmax <axis = -1> (s)
  c = MatMul (p, v)
  o = Reshape (c, together)
  x = Add (o, hidden)
  merged = Reshape (x, four)
  last_hidden_state = MatMul (merged, reduction)
}"""


def columns_model(path: Path, layers: int = 2) -> Path:
    """Write a model of [B, L] tokens and mask."""
    text = "".join(COLUMNS_LAYER.format(n=n, next=n + 1) for n in range(layers))
    shapes = {f"w{kind}_{n}": (WIDTH, WIDTH, 1) for n in range(layers) for kind in "qkvo"}
    return _written(COLUMNS.replace("LAYERS", text), path, {"table": (64, WIDTH)} | shapes)


def windows_model(path: Path) -> Path:
    """Write a model of pictures, which has 16 rows of 8 numbers, and in the end 4 of 16."""
    square = (WIDTH, WIDTH)
    return _written(
        WINDOWS, path, {"patch": (WIDTH, 3, 4, 4), "wq": square, "wv": square, "reduction": (32, 16)}
    )


def _written(text: str, path: Path, shapes: dict[str, tuple[int, ...]]) -> Path:
    model, rng = parser.parse_model(text), np.random.default_rng(0)
    for node in model.graph.node:
        node.name = f"/{node.output[0]}"
    for name, shape in shapes.items():
        weight = (rng.standard_normal(shape) / 3).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(weight, name))
    onnx.checker.check_model(model)
    onnx.save_model(model, path)
    return path
