"""What is found of an encoder's products and of what follows them, however it is written."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import onnx
import pytest
from support import fixture
from support_precision import HEADS, LAST, MERGE, PLAIN, chains_of, names, small_encoder
from support_rows import CORES, opened

from onnx_memo.precision import chains as finder
from onnx_memo.precision.chains import Chain, find_chains
from onnx_memo.precision.form import Form

# ---- The fixtures

# Of each layer: products in chains, activation, normalizations; projections, and rows of the tasks' widths.
LAYERS = {
    "bert": (3, 6, "Gelu", 1e-12, 1),
    "bert_dynamo": (2, 6, "Gelu", 1e-12, 1),
    "distilbert": (2, 6, "Gelu", 1e-12, 1),
    "vit": (2, 6, "Gelu", 1e-12, 1),
    "gpt2": (2, 4, "GeluTanh", 1e-5, 1),  # queries, keys and values are made by one product
    "xlm": (2, 6, "Gelu", 1e-12, 1),
    "mpnet": (2, 6, "Gelu", 1e-12, 1),
    "llama": (2, 7, "Silu", None, 0),  # no projections, since queries and keys turn; its normalization is RMS
}


@pytest.mark.parametrize("name", CORES)
def test_all_of_a_fixture_is_found(name):
    layers, products, activation, epsilon, projections = LAYERS[name]
    encoder, found = opened(fixture(name)).encoder, find_chains(opened(fixture(name)))
    chains = list(found.chains.values())
    assert len(chains) == layers * products
    assert Counter(chain.activation for chain in chains) == {
        None: layers * (products - 1),
        activation: layers,
    }
    norms = [chain.norm.epsilon for chain in chains if chain.norm]
    assert norms == ([] if epsilon is None else [epsilon] * 2 * layers)
    assert list(found.projections) == [core.context for core in encoder.cores][: projections * layers]
    assert list(dict.fromkeys(found.contexts.values())) == list(encoder.cores)
    assert all(found.chains[end].end is end for end in found.chains)


@pytest.mark.parametrize("name", CORES)
def test_the_form_of_a_layer_is_a_product_of_each_kind(name):
    layers = LAYERS[name][0]
    encoder, found = opened(fixture(name)).encoder, find_chains(opened(fixture(name)))
    widths = [sum(len(part.columns) for part in task.parts) for task in Form(encoder, found).tasks()]
    llama = [32, 16, 16, 32, 64, 64, 32]  # keys and values are those of two heads at a time
    assert widths == layers * (llama if name == "llama" else [96, 32, 64, 32])


@pytest.mark.parametrize("name", ["bert", "bert_dynamo", "distilbert", "vit", "gpt2"])
def test_projections_read_columns_times_the_exporters_factor(name):
    """The square root of 1 / sqrt(8) goes to the queries and to the keys."""
    for projection in find_chains(opened(fixture(name))).projections.values():
        assert [len(part.columns) for part in projection.parts] == [32, 32, 32]
        assert [part.factor for part in projection.parts] == pytest.approx([8**-0.25, 8**-0.25, 1])
        begins = [0, 32, 64] if name == "gpt2" else [0, 0, 0]
        for part, begin in zip(projection.parts, begins, strict=True):
            np.testing.assert_array_equal(part.columns, begin + np.arange(32))


@pytest.mark.parametrize("name", ["bert", "bert_dynamo", "distilbert", "vit", "gpt2"])
def test_a_residual_is_what_came_before_the_layer(name):
    found = find_chains(opened(fixture(name)))
    with_norm = [chain for chain in found.chains.values() if chain.norm]
    known = {opened(fixture(name)).encoder.input}
    known |= {value for chain in with_norm for value in (chain.sum, chain.end)}
    assert all(chain.residual in known for chain in with_norm)
    for before, after in pairwise(with_norm):
        read = before.sum if name in ("vit", "gpt2") else before.end  # pre-norm, or post-norm
        assert after.residual is read


# ---- Linear steps


def linear_steps(path) -> dict[str, Chain]:
    """The chains by their ends' names; those of attention left out."""
    found = chains_of(path).chains
    return {str(end.name): chain for end, chain in found.items() if str(end.name) not in ("q0", "k0", "v0")}


def written_out(tmp_path, out: str, last: str = LAST, **constants) -> dict[str, Chain]:
    return linear_steps(small_encoder(tmp_path / "m.onnx", out=out, last=last, constants=constants))


@pytest.mark.parametrize("add", ["Add (bo, o0)", "Add (o0, bo)"])
@pytest.mark.parametrize("shape", [(8,), (1, 8), (1, 1, 8)])
def test_a_bias_may_stand_on_either_side_in_any_shape(tmp_path, add, shape):
    bias = np.arange(8, dtype=np.float32).reshape(shape)
    found = written_out(tmp_path, f"o0 = MatMul (merged, wo)\n attended = {add}\n", bo=bias)
    assert list(found) == ["attended"]
    linear = found["attended"].linear
    assert (linear.x.name, linear.bias.name, linear.width) == ("merged", "bo", 8)


def test_a_bias_may_be_missing(tmp_path):
    (chain,) = written_out(tmp_path, "attended = MatMul (merged, wo)\n").values()
    assert chain.linear.bias is None
    assert (chain.activation, chain.norm, chain.residual) == (None, None, None)


def test_one_number_is_no_bias(tmp_path):
    """It is added by itself."""
    found = written_out(tmp_path, "o0 = MatMul (merged, wo)\n attended = Add (o0, one)\n")
    assert list(found) == ["o0"]


GEMM = """
  flat = Reshape (merged, rows)
  o0 = Gemm {options} (flat, wo{bias})
  shape = Shape (merged)
  lead = Slice (shape, i0, i2, i0)
  sizes = Concat <axis = 0> (lead, twelve)
  wide = Reshape (o0, sizes)
  attended = MatMul (wide, wn)
"""
ROWS = np.asarray([-1, 8])


@pytest.mark.parametrize(("options", "turned"), [("", False), ("<transB = 1>", True)])
@pytest.mark.parametrize("bias", ["", ", bo"])
def test_gemm_is_a_linear_step_up_to_the_batch(tmp_path, options, turned, bias):
    weight = np.random.default_rng(0).standard_normal((12, 8) if turned else (8, 12)).astype(np.float32)
    constants = {
        **{"rows": ROWS, "twelve": np.asarray([12]), "wo": weight},
        **{"bo": np.ones(12, np.float32), "wn": np.ones((12, 8), np.float32)},
    }
    out = GEMM.format(options=options, bias=bias)
    found = written_out(tmp_path, out, **constants)
    assert list(found) == ["wide", "attended"]
    linear = found["wide"].linear
    assert (linear.x.name, linear.turned, linear.width) == ("flat", turned, 12)
    assert (linear.bias is None) == (bias == "")


@pytest.mark.parametrize("options", ["<alpha = 0.5>", "<beta = 2.0>"])
def test_a_gemm_with_factors_stays_in_floats(tmp_path, options):
    out = f"""
      flat = Reshape (merged, rows)
      o0 = Gemm {options} (flat, wo, bo)
      shape = Shape (merged)
      attended = Reshape (o0, shape)
    """
    assert written_out(tmp_path, out, rows=ROWS, bo=np.ones(8, np.float32)) == {}


def test_a_product_of_rows_that_are_no_multiple_of_four_stays_in_floats(tmp_path):
    out = "narrow = MatMul (merged, w8x6)\n attended = MatMul (narrow, w6x8)\n"
    w = np.ones((8, 6), np.float32)
    assert list(written_out(tmp_path, out, w8x6=w, w6x8=w.T.copy())) == ["narrow"]


def test_a_product_of_rows_that_are_too_wide_stays_in_floats(tmp_path, monkeypatch):
    monkeypatch.setattr(finder, "MOST_INNER", 8)
    out = "wide = MatMul (merged, w8x12)\n attended = MatMul (wide, w12x8)\n"
    w = np.ones((8, 12), np.float32)
    assert list(written_out(tmp_path, out, w8x12=w, w12x8=w.T.copy())) == ["wide"]


@pytest.mark.parametrize("told", [True, False])
def test_a_weight_may_be_made_of_constants_if_the_file_tells_its_shape(tmp_path, told):
    out = "wt = Transpose <perm = [1, 0]> (wo)\n attended = MatMul (merged, wt)\n"
    path = small_encoder(tmp_path / "m.onnx", out=out)
    if told:
        onnx.save(onnx.shape_inference.infer_shapes(onnx.load(path)), path)
    assert list(linear_steps(path)) == (["attended"] if told else [])


# ---- Activations

GELU = """
  a0 = Div (h0, root)
  a1 = Erf (a0)
  a2 = Add (a1, one)
  a3 = Mul (h0, a2)
  act = Mul (a3, half)
"""
ACTIVATIONS = {
    "Gelu": GELU,
    "Relu": "act = Relu (h0)\n",
    "Silu": "a0 = Sigmoid (h0)\n act = Mul (a0, h0)\n",
    "GeluTanh": """
  a0 = Mul (h0, h0)
  a1 = Mul (a0, h0)
  a2 = Mul (cubic, a1)
  a3 = Add (h0, a2)
  a4 = Mul (a3, steep)
  a5 = Tanh (a4)
  a6 = Add (a5, one)
  a7 = Mul (h0, half)
  act = Mul (a7, a6)
""",
}
NUMBERS = {
    "root": np.float32(np.sqrt(2)),
    "half": np.float32([0.5]),
    "cubic": np.float32(0.044715),
    "steep": np.float32(np.sqrt(2 / np.pi)),
    "quick": np.float32(1.702),
}
LINEAR = "h0 = MatMul (merged, w1)\n"
NEXT = "attended = MatMul (act, w2)\n"


def activations(found: dict[str, Chain]) -> dict[str, str]:
    return {name: chain.activation for name, chain in found.items() if chain.activation}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("linear", [LINEAR, "h1 = MatMul (merged, w1)\n h0 = Add (h1, b1)\n"])
def test_an_activation_belongs_to_its_linear_step(tmp_path, name, linear):
    found = written_out(tmp_path, linear + ACTIVATIONS[name] + NEXT, **NUMBERS)
    assert activations(found) == {"act": name}
    assert found["act"].linear.end.name == "h0"
    assert set(found) == {"act", "attended"}


@pytest.mark.parametrize(
    "other",
    [
        "a0 = Mul (h0, quick)\n a1 = Sigmoid (a0)\n act = Mul (h0, a1)\n",
        "act = LeakyRelu <alpha = 0.01> (h0)\n",
        "act = Tanh (h0)\n",
        "act = Mul (h0, b1)\n",
    ],
)
def test_another_function_is_left_as_it_is(tmp_path, other):
    found = written_out(tmp_path, LINEAR + other + NEXT, **NUMBERS)
    assert activations(found) == {}
    assert set(found) == {"h0", "attended"}


def test_an_activation_of_its_own_for_each_column_is_none(tmp_path):
    other = "a0 = Relu (h0)\n act = Mul (a0, b1)\n"
    found = written_out(tmp_path, LINEAR + other + NEXT)
    assert activations(found) == {"a0": "Relu"}


def test_a_linear_step_that_is_read_twice_has_no_activation(tmp_path):
    """Its numbers are used elsewhere."""
    out = LINEAR + ACTIVATIONS["Relu"] + "n0 = MatMul (act, w2)\n attended = Add (n0, h0)\n"
    found = written_out(tmp_path, out, **NUMBERS)
    assert activations(found) == {}
    assert set(found) == {"h0", "n0"}


def test_what_lies_within_an_activation_may_not_be_read_elsewhere(tmp_path):
    out = LINEAR + GELU + "n0 = MatMul (act, w2)\n attended = Add (n0, a1)\n"
    assert activations(written_out(tmp_path, out, **NUMBERS)) == {}


def test_a_gate_reads_the_activation_of_one_linear_step(tmp_path):
    last = """
      h0 = MatMul (attended, w1)
      a0 = Sigmoid (h0)
      act = Mul (a0, h0)
      up = MatMul (attended, w2)
      gated = Mul (act, up)
      last_hidden_state = MatMul (gated, wo)
    """
    found = written_out(tmp_path, "attended = MatMul (merged, wo)\n", last)
    assert activations(found) == {"act": "Silu"}
    assert set(found) == {"attended", "act", "up", "last_hidden_state"}


# ---- Residuals and normalizations

NORM = """
  mean = ReduceMean <axes = [-1]> (sum)
  centred = Sub (sum, mean)
  square = Mul (centred, centred)
  variance = ReduceMean <axes = [-1]> (square)
  safe = Add (variance, epsilon)
  deviation = Sqrt (safe)
  even = Div (centred, deviation)
  scaled = Mul (even, gamma)
  last_hidden_state = Add (scaled, beta)
"""
EPSILON = np.float32(1e-5)
RESIDUAL = "sum = Add (attended, hidden_0)\n"
OPERATOR = "last_hidden_state = LayerNormalization <epsilon = {epsilon}> (sum, gamma, beta)\n"


def norm_of(tmp_path, last: str, out: str = "attended = MatMul (merged, wo)\n", **constants) -> Chain | None:
    found = written_out(tmp_path, out, last, epsilon=EPSILON, **constants)
    chains = [chain for chain in found.values() if chain.norm]
    return chains[0] if chains else None


@pytest.mark.parametrize("add", [RESIDUAL, "sum = Add (hidden_0, attended)\n"])
@pytest.mark.parametrize("norm", [NORM, OPERATOR.format(epsilon=1e-5)])
def test_a_residual_and_a_normalization_belong_to_a_linear_step(tmp_path, add, norm):
    chain = norm_of(tmp_path, add + norm)
    assert chain is not None and chain.norm is not None
    read = (chain.linear.end.name, chain.residual.name, chain.sum.name, chain.end.name)
    assert read == ("attended", "hidden_0", "sum", "last_hidden_state")
    assert chain.norm.epsilon == 1e-5
    rng = np.random.default_rng(0)
    rng.standard_normal((64, 8))
    gamma, beta = np.float32(chain.norm.gamma), np.float32(chain.norm.beta)
    assert gamma.shape == beta.shape == (8,) and gamma.std() > 0.1


def test_a_normalization_may_do_without_factors(tmp_path):
    norm = NORM[: NORM.index("even =")] + "last_hidden_state = Div (centred, deviation)\n"
    chain = norm_of(tmp_path, RESIDUAL + norm)
    assert chain is not None
    np.testing.assert_allclose(chain.norm.gamma, 1, rtol=1e-4)
    np.testing.assert_allclose(chain.norm.beta, 0, atol=1e-5)


def test_the_sum_may_be_read_again_as_the_next_residual(tmp_path):
    last = RESIDUAL + NORM.replace("last_hidden_state", "normal") + "n0 = MatMul (normal, w1)\n"
    chain = norm_of(tmp_path, last + "last_hidden_state = Add (n0, sum)\n")
    assert chain is not None and chain.end.name == "normal"


@pytest.mark.parametrize("inner", ["mean", "centred", "variance"])
def test_what_lies_within_a_normalization_may_not_be_read_elsewhere(tmp_path, inner):
    last = RESIDUAL + NORM.replace("last_hidden_state", "normal")
    assert norm_of(tmp_path, last + f"last_hidden_state = Add (normal, {inner})\n") is None


def test_another_epsilon_is_left_as_it_is(tmp_path):
    assert norm_of(tmp_path, RESIDUAL + OPERATOR.format(epsilon=0.003)) is None


def test_a_normalization_without_the_mean_is_left_as_it_is(tmp_path):
    norm = NORM.replace("Sub (sum, mean)", "Identity (sum)")
    assert norm_of(tmp_path, RESIDUAL + norm) is None


def test_a_normalization_without_a_residual_is_left_as_it_is(tmp_path):
    assert norm_of(tmp_path, NORM.replace("sum", "attended")) is None


@pytest.mark.parametrize("shape", [(8,), (1, 1, 8)])
def test_a_second_bias_is_no_residual(tmp_path, shape):
    out = "o0 = MatMul (merged, wo)\n attended = Add (o0, b1)\n"
    last = "sum = Add (attended, more)\n" + NORM
    assert norm_of(tmp_path, last, out, more=np.ones(shape, np.float32)) is None


def test_a_residual_of_another_shape_is_none(tmp_path):
    """One column, that is added to all."""
    last = "thin = MatMul (hidden_0, w8x1)\n sum = Add (attended, thin)\n" + NORM
    assert norm_of(tmp_path, last, w8x1=np.ones((8, 1), np.float32)) is None


def test_a_linear_step_that_is_read_beside_its_residual_keeps_its_numbers(tmp_path):
    last = RESIDUAL + NORM.replace("last_hidden_state", "normal")
    assert norm_of(tmp_path, last + "last_hidden_state = Add (normal, attended)\n") is None


def test_of_two_linear_steps_in_one_sum_one_has_the_other_as_its_residual(tmp_path):
    last = "other = MatMul (hidden_0, w1)\n sum = Add (attended, other)\n" + NORM
    chain = norm_of(tmp_path, last)
    assert chain is not None
    assert {chain.linear.end.name, chain.residual.name} == {"attended", "other"}


# ---- Projections


def projection_of(tmp_path, qkv: str, heads: str = HEADS, **constants):
    found = chains_of(small_encoder(tmp_path / "m.onnx", qkv=qkv, heads=heads, constants=constants))
    (projection,) = found.projections.values() or [None]
    return projection


def columns(projection) -> list[list[int]]:
    return [part.columns.tolist() for part in projection.parts]


EIGHT = [*range(8)]


def test_three_products_of_the_same_rows_are_a_projection(tmp_path):
    projection = projection_of(tmp_path, PLAIN)
    assert projection.x.name == "hidden_0"
    assert columns(projection) == [EIGHT, EIGHT, EIGHT]
    assert [part.factor for part in projection.parts] == [1, 1, 1]
    assert [part.linear.weight.name for part in projection.parts] == ["wq", "wk", "wv"]


def test_biases_belong_to_a_projection(tmp_path):
    qkv = PLAIN.replace("0 = Mat", "b = Mat")
    qkv += "".join(f"  {x}0 = Add (b{x}, {x}b)\n" for x in "qk") + "  v0 = Identity (vb)\n"
    projection = projection_of(tmp_path, qkv)
    assert [part.linear.bias and part.linear.bias.name for part in projection.parts] == ["bq", "bk", None]


@pytest.mark.parametrize(
    ("scaled", "factor"), [("Mul (qs, two)", 2), ("Mul (two, qs)", 2), ("Div (qs, two)", 0.5)]
)
def test_a_scale_of_the_queries_is_a_factor(tmp_path, scaled, factor):
    projection = projection_of(tmp_path, PLAIN.replace("q0", "qs") + f"  q0 = {scaled}\n")
    assert [part.factor for part in projection.parts] == [factor, 1, 1]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (("q0 = MatMul", "qs = MatMul", "q0 = Mul (qs, b1)\n"), "factors of their own for each column"),
        (("q0 = MatMul", "qs = MatMul", "q0 = Tanh (qs)\n"), "what is not linear"),
        (("q0 = MatMul", "qs = MatMul", "q0 = Div (two, qs)\n"), "an inverse"),
        (("q0 = MatMul", "qs = MatMul", "q0 = Mul (qs, nought)\n"), "a factor of 0"),
    ],
)
def test_queries_that_are_made_otherwise_are_no_projection(tmp_path, change, what):
    old, new, more = change
    qkv = PLAIN.replace(old, new) + more
    assert projection_of(tmp_path, qkv, nought=np.float32(0)) is None, what


def test_queries_of_other_rows_are_no_projection(tmp_path):
    qkv = "other = Tanh (hidden_0)\n" + PLAIN.replace("MatMul (hidden_0, wq)", "MatMul (other, wq)")
    assert projection_of(tmp_path, qkv) is None


W24 = np.random.default_rng(7).standard_normal((8, 24)).astype(np.float32)


def test_one_product_may_make_all_three(tmp_path):
    qkv = "qkv = MatMul (hidden_0, w24)\n q0, k0, v0 = Split <axis = -1> (qkv, eights)\n"
    projection = projection_of(tmp_path, qkv, w24=W24, eights=np.asarray([8, 8, 8]))
    assert columns(projection) == [EIGHT, [*range(8, 16)], [*range(16, 24)]]


def test_columns_may_be_interleaved_by_heads(tmp_path):
    """Of each head its queries, keys and values, side by side."""
    qkv = """
      all = MatMul (hidden_0, w24)
      parted = Reshape (all, bysplit)
      turned = Transpose <perm = [0, 2, 1, 3]> (parted)
      q, k1, v = Split <axis = -1> (turned, fours)
      k = Transpose <perm = [0, 1, 3, 2]> (k1)
    """
    constants = {"bysplit": np.asarray([0, 0, 2, 12]), "fours": np.asarray([4, 4, 4])}
    projection = projection_of(tmp_path, qkv, "", w24=W24, **constants)
    q = [0, 1, 2, 3, 12, 13, 14, 15]
    assert columns(projection) == [q, [c + 4 for c in q], [c + 8 for c in q]]


def test_columns_may_be_permuted_within_heads(tmp_path):
    """The width of a head comes first: neighbouring columns belong to other heads."""
    heads = HEADS.replace("q1 = Reshape (q0, split)", "q2 = Reshape (q0, bywidth)").replace(
        "q = Transpose <perm = [0, 2, 1, 3]> (q1)", "q = Transpose <perm = [0, 3, 1, 2]> (q2)"
    )
    projection = projection_of(tmp_path, PLAIN, heads, bywidth=np.asarray([0, 0, 4, 2]))
    assert columns(projection) == [[0, 2, 4, 6, 1, 3, 5, 7], EIGHT, EIGHT]


# ---- Merged contexts


def test_heads_side_by_side_are_a_merged_context(tmp_path):
    found = chains_of(small_encoder(tmp_path / "m.onnx"))
    assert names(found.contexts) == {"merged"}


def test_every_value_with_the_heads_side_by_side_is_one(tmp_path):
    merge = MERGE.replace("merged", "m1") + "m2 = Identity (m1)\n merged = Reshape (m2, join)\n"
    found = chains_of(small_encoder(tmp_path / "m.onnx", merge=merge))
    assert names(found.contexts) == {"m1", "m2", "merged"}


@pytest.mark.parametrize(
    "merge",
    [
        "m0 = Transpose <perm = [0, 2, 3, 1]> (context)\n merged = Reshape (m0, join)\n",
        MERGE.replace("merged", "m1") + "merged = Mul (m1, two)\n",
    ],
)
def test_heads_in_another_order_or_changed_are_none(tmp_path, merge):
    found = chains_of(small_encoder(tmp_path / "m.onnx", merge=merge))
    assert "merged" not in names(found.contexts)
