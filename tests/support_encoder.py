"""Small transformer encoders, written node by node, with the features that the exported fixtures lack."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import parser

WIDTH, HEADS, HEAD, POSITIONS = 8, 2, 4, 64

HEADER = """<ir_version: 8, opset_import: ["" : 17]>
encoder (int64[B, L] input_ids, int64[B, L] attention_mask) => (float[B, L, 8] last_hidden_state) {
  two = Constant <value = float {2.0}> ()
  minus = Constant <value = float {-10000.0}> ()
  one = Constant <value = float {1.0}> ()
  split = Constant <value = int64[4] {0, 0, 2, 4}> ()
  join = Constant <value = int64[3] {0, 0, 8}> ()
  i0 = Constant <value = int64[1] {0}> ()
  i1 = Constant <value = int64[1] {1}> ()
  i2 = Constant <value = int64[1] {2}> ()
  i4 = Constant <value = int64[1] {4}> ()
  last = Constant <value = int64[1] {-1}> ()
  i12 = Constant <value = int64[2] {1, 2}> ()
  mask = Cast <to = 1> (attention_mask)
  unreal = Sub (one, mask)
  negative = Mul (unreal, minus)
  bias = Unsqueeze (negative, i12)
  hidden_0 = Gather (words, input_ids)
"""

# Cosines and sines of the positions, in each of two layouts; the length is that of the mask.
ROTARY = """
  first = Slice (attention_mask, i0, i1, i0)
  none = Mul (first, zero)
  ones = Add (none, step)
  positions = CumSum (ones, step)
  cos0 = Gather (cosines, positions)
  sin0 = Gather (sines, positions)
  cos = Unsqueeze (cos0, {axis})
  sin = Unsqueeze (sin0, {axis})
"""
# The same, computed in the graph from the length of the hidden states.
COMPUTED = """
  sizes = Shape (hidden_0)
  length = Gather <axis = 0> (sizes, step)
  range = Range (zero, length, step)
  positions = Cast <to = 1> (range)
  column = Unsqueeze (positions, i1)
  angles = Mul (column, frequencies)
  table = Unsqueeze (angles, i01)
  cos = Cos (table)
  sin = Sin (table)
"""
# The same, cut from what is stored for all positions.
CUT = """
  sizes = Shape <start = 1, end = 2> (hidden_0)
  cos0 = Slice (cosines, i0, sizes, i0)
  sin0 = Slice (sines, i0, sizes, i0)
  cos = Unsqueeze (cos0, i01)
  sin = Unsqueeze (sin0, i01)
"""
TABLES = {"[1, 1, L, d]": ("i1", 2), "[1, L, 1, d]": ("i2", 1), "computed": ("", 2), "cut": ("", 2)}

ROTATE = """
  {x}a_{n} = Slice ({x}_{n}, i0, i2, last)
  {x}b_{n} = Slice ({x}_{n}, i2, i4, last)
  {x}c_{n} = Neg ({x}b_{n})
  {x}d_{n} = Concat <axis = -1> ({x}c_{n}, {x}a_{n})
  {x}e_{n} = Mul ({x}_{n}, cos)
  {x}f_{n} = Mul ({x}d_{n}, sin)
  {x}g_{n} = Add ({x}e_{n}, {x}f_{n})
"""

LAYER = """
  q0_{n} = MatMul ({from_}, wq_{n})
  k0_{n} = MatMul ({from_}, wk_{n})
  v0_{n} = MatMul ({from_}, wv_{n})
  {early}
  kt_{n} = Transpose <perm = [0, 1, 3, 2]> ({k}_{n})
  s0_{n} = MatMul ({q}_{n}, kt_{n})
  {scale}
  {softmax}
  c_{n} = MatMul (p_{n}, v_{n})
  m0_{n} = Transpose <perm = [0, 2, 1, 3]> (c_{n})
  m1_{n} = Reshape (m0_{n}, join)
  m2_{n} = MatMul (m1_{n}, wo_{n})
  m3_{n} = Add (m2_{n}, {from_})
  h0_{n} = MatMul (m3_{n}, w1_{n})
  h1_{n} = Tanh (h0_{n})
  h2_{n} = MatMul (h1_{n}, w2_{n})
  h3_{n} = Add (h2_{n}, m3_{n})
"""

SOFTMAX = "p_{n} = Softmax <axis = -1> (s2_{n})"
SCALE = """
  s1_{n} = Div (s0_{n}, two)
  s2_{n} = Add (s1_{n}, bias)
"""


def _heads(x: str, n: int) -> str:
    return f"""
  {x}1_{n} = Reshape ({x}0_{n}, split)
  {x}_{n} = Transpose <perm = [0, 2, 1, 3]> ({x}1_{n})
"""


def _rotated(x: str, n: int, layout: str) -> str:
    """Queries or keys, rotated before or after the heads come to the front."""
    if layout != "[1, L, 1, d]":
        return _heads(x, n) + ROTATE.format(x=x, n=n)
    split = f"  {x}1_{n} = Reshape ({x}0_{n}, split)\n"
    rotate = ROTATE.format(x=f"{x}1", n=n)
    return f"{split}{rotate}  {x}_{n} = Transpose <perm = [0, 2, 1, 3]> ({x}1g_{n})\n"


def encoder_model(
    path: Path,
    *,
    layers: int = 2,
    rotary: str | None = None,
    scale: str = SCALE,
    softmax: bool = True,
    between: str = "",
    tail: str = "",
    constants: dict[str, np.ndarray] | None = None,
) -> Path:
    """Write an encoder.

    Args:
        path: where to.
        layers: how many.
        rotary: how the rotary tables come, one of `TABLES`, or `constant`: `cos` and `sin` are among the
            constants; None: no positions at all.
        scale: what leads from the scores `s0_{n}` to the softmax's input `s2_{n}`,
        softmax: or, if it is not the softmax that follows, to the probabilities `p_{n}`.
        between: what leads from `h3_0`, behind the first layer, to `between`, before the second.
        tail: what leads from `final` to `last_hidden_state`.
        constants: weights that these parts need.
    """
    text = HEADER
    if rotary and rotary != "constant":
        text += {"computed": COMPUTED, "cut": CUT}.get(rotary, ROTARY.replace("{axis}", TABLES[rotary][0]))
    previous = "hidden_0"
    for n in range(layers):
        early = "".join(_rotated(x, n, rotary) if rotary else _heads(x, n) for x in "qk") + _heads("v", n)
        rotated = "q" if rotary in (None, "[1, L, 1, d]") else "qg"
        text += LAYER.format(
            n=n,
            from_=previous,
            early=early,
            q=rotated,
            k=rotated.replace("q", "k"),
            scale=scale.format(n=n),
            softmax=SOFTMAX.format(n=n) if softmax else "",
        )
        previous = f"h3_{n}"
        if between and n == 0:
            text += between
            previous = "between"
    text += tail.replace("final", previous) or f"  last_hidden_state = Identity ({previous})\n"
    if rotary:
        angles = np.arange(POSITIONS + 1)[:, None] * np.asarray([[1.0, 0.1, 1.0, 0.1]])
        tables = {"cosines": np.cos(angles).astype(np.float32), "sines": np.sin(angles).astype(np.float32)}
        constants = tables | (constants or {})
    return write_model(path, text, layers, constants or {})


def write_model(path: Path, text: str, layers: int, constants: dict[str, np.ndarray]) -> Path:
    """Write the model of a text, without its last brace, with random weights for so many layers."""
    model = parser.parse_model(text + "}")
    rng = np.random.default_rng(0)
    weights: dict[str, np.ndarray] = {"words": rng.standard_normal((64, WIDTH)).astype(np.float32)}
    for n in range(layers):
        for name, shape in (("wq", 8), ("wk", 8), ("wv", 8), ("wo", 8), ("w1", 16), ("w2", 8)):
            rows = 16 if name == "w2" else WIDTH
            weights[f"{name}_{n}"] = (rng.standard_normal((rows, shape)) / 3).astype(np.float32)
    weights |= {
        "zero": np.asarray(0, np.int64),
        "step": np.asarray(1, np.int64),
        "i01": np.asarray([0, 1], np.int64),
        "frequencies": np.asarray([[1.0, 0.1, 1.0, 0.1]], np.float32),
    }
    weights |= constants
    for node in model.graph.node:
        node.name = f"/{node.output[0]}"
    used = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(array, name) for name, array in weights.items() if name in used
    )
    onnx.checker.check_model(model)
    onnx.save_model(model, path)
    return path


UNMASKED = "  s2_{n} = Div (s0_{n}, two)\n"
OTHER_MASK = """
  real = Cast <to = 1> (other_mask)
  padding = Sub (one, real)
  lowered = Mul (padding, minus)
  other_bias = Unsqueeze (lowered, i12)
"""


def two_sequences(
    path: Path, *, cross: bool = True, outputs: str = "", behind: str = "", masked: bool = False
) -> Path:
    """Write a model of two sequences, with two layers each.

    The tokens `input_ids` go through layers 0 and 1, from `hidden_0` to `h3_1`, padding shut out; those of
    `other_ids`, of any length, through layers 2 and 3, from `hidden_1` to `h3_3`.

    Args:
        path: where to.
        cross: whether between layers 2 and 3 cross-attention, layer 4, takes keys and values from `h3_1`.
        outputs: those of the model beside `other_states`, which is `h3_3`.
        behind: what makes them.
        masked: whether the second sequence has a mask as well, `other_mask`.
    """
    given = f"int64[B, L] attention_mask, int64[C, M] other_ids{', int64[C, M] other_mask' * masked})"
    scale = SCALE.replace("bias", "other_bias") if masked else UNMASKED
    text = HEADER.replace("int64[B, L] attention_mask)", given)
    text = text.replace("float[B, L, 8] last_hidden_state", f"float[C, M, 8] other_states{outputs}")
    text += _layer(0, "hidden_0", SCALE) + _layer(1, "h3_0", SCALE)
    text += f"{OTHER_MASK * masked}  hidden_1 = Gather (words, other_ids)\n" + _layer(2, "hidden_1", scale)
    if cross:
        attention = _layer(4, "h3_2", SCALE)
        for x in "kv":
            attention = attention.replace(f"{x}0_4 = MatMul (h3_2", f"{x}0_4 = MatMul (h3_1")
        text += attention
    text += _layer(3, "h3_4" if cross else "h3_2", scale) + behind + "  other_states = Identity (h3_3)\n"
    return write_model(path, text, 5, {})


def _layer(n: int, previous: str, scale: str) -> str:
    early = "".join(_heads(x, n) for x in "qkv")
    parts = {"scale": scale.format(n=n), "softmax": SOFTMAX.format(n=n)}
    return LAYER.format(n=n, from_=previous, early=early, q="q", k="k", **parts)


# ---- Attention that is no core: what leads from the scores to the softmax's input

# Terms of each query and each key with what is learned of their distance, as DeBERTa has them; the length is
# read from the scores.
DISTANCES = """
  ls_{n} = Shape <start = 2, end = 3> (s0_{n})
  l_{n} = Squeeze (ls_{n}, i0)
  r_{n} = Range (zero, l_{n}, step)
  u_{n} = Unsqueeze (r_{n}, i1)
  d0_{n} = Sub (u_{n}, r_{n})
  d1_{n} = Add (d0_{n}, i4)
  d2_{n} = Clip (d1_{n}, zero, seven)
  sizes_{n} = Shape (s0_{n})
  d_{n} = Expand (d2_{n}, sizes_{n})
  qd_{n} = MatMul (q_{n}, of_keys)
  qt_{n} = GatherElements <axis = -1> (qd_{n}, d_{n})
  kd_{n} = MatMul (k_{n}, of_queries)
  ks_{n} = GatherElements <axis = -1> (kd_{n}, d_{n})
  kt2_{n} = Transpose <perm = [0, 1, 3, 2]> (ks_{n})
  a0_{n} = Add (s0_{n}, qt_{n})
  a1_{n} = Add (a0_{n}, kt2_{n})
  s1_{n} = Div (a1_{n}, two)
  s2_{n} = Add (s1_{n}, bias)
"""
SCORES = {
    "bent": "  s1_{n} = Tanh (s0_{n})\n  s2_{n} = Add (s1_{n}, bias)\n",
    # Of each query's own width; the length is read from the scores.
    "with terms of queries": """
  t_{n} = ReduceMean <axes = [-1], keepdims = 1> (q_{n})
  a_{n} = Add (s0_{n}, t_{n})
  l_{n} = Shape <start = 3, end = 4> (a_{n})
  f_{n} = Cast <to = 1> (l_{n})
  g_{n} = Sqrt (f_{n})
  s1_{n} = Div (a_{n}, g_{n})
  s2_{n} = Add (s1_{n}, bias)
""",
    "with terms of distances": DISTANCES,
    # The same columns, counted from the last one.
    "with distances that count back": DISTANCES.replace(
        "d_{n} = Expand (d2_{n},", "d3_{n} = Sub (d2_{n}, eight)\n  d_{n} = Expand (d3_{n},"
    ),
}


def mixing_model(path: Path, scores: str, *, layers: int = 2) -> Path:
    """An encoder with attention that is no core, by the name or the text of its scores."""
    rng = np.random.default_rng(3)
    tables = {
        name: rng.standard_normal((1, HEADS, HEAD, 8)).astype(np.float32)
        for name in ("of_keys", "of_queries")
    }
    constants = tables | {"seven": np.asarray(7, np.int64), "eight": np.asarray(8, np.int64)}
    return encoder_model(path, layers=layers, scale=SCORES.get(scores, scores), constants=constants)
